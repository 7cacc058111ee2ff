//! The machine at the other end of a wire: the name server that knows every name, a resolver, and what is connected to.
//!
//! A network namespace with every address of two prefixes, so that each name has its own.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr, TcpStream},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

/// Port that is connected to.
pub const PORT: u16 = 443;
/// The resolver over there.
pub const RESOLVER: [&str; 2] = ["10.77.0.53", "fd77::53"];
/// The server that resolvers ask.
pub const AUTHORITY: [&str; 2] = ["10.77.0.54", "fd77::54"];
/// The same for systemd-resolved, whose servers count as the host's: what others are told is not to count for that.
pub const UPSTREAM: [&str; 2] = ["10.77.0.55", "fd77::55"];

const NAMESPACE: &str = "chaperone-far";
const WIRE: &str = "ch-far0";

/// Each line for ip(8).
const MAKE: &[&str] = &[
    "netns add chaperone-far",
    "link add ch-far0 type veth peer name ch-far1 netns chaperone-far",
    "addr add 10.77.0.1/24 dev ch-far0",
    "addr add fd77::1/64 dev ch-far0 nodad",
    "link set ch-far0 up",
    "-n chaperone-far link set lo up",
    "-n chaperone-far addr add 10.77.0.53/24 dev ch-far1",
    "-n chaperone-far addr add 10.77.0.54/24 dev ch-far1",
    "-n chaperone-far addr add 10.77.0.55/24 dev ch-far1",
    "-n chaperone-far addr add fd77::53/64 dev ch-far1 nodad",
    "-n chaperone-far addr add fd77::54/64 dev ch-far1 nodad",
    "-n chaperone-far addr add fd77::55/64 dev ch-far1 nodad",
    "-n chaperone-far link set ch-far1 up",
    "-n chaperone-far route add local 10.80.0.0/12 dev lo",
    "-n chaperone-far -6 route add local fd78::/64 dev lo",
    "route add 10.80.0.0/12 via 10.77.0.53",
    "-6 route add fd78::/64 via fd77::53",
];

pub struct Far {
    processes: Vec<Child>,
    arriving: mpsc::Receiver<IpAddr>,
}

impl Far {
    /// Makes it, with all that it runs.
    pub fn set() -> Result<Self> {
        let (said, arriving) = mpsc::channel();
        let mut far = Self { processes: Vec::new(), arriving };
        for line in MAKE {
            let output = Command::new("ip").args(line.split(' ')).output().context("run ip")?;
            ensure!(output.status.success(), "ip {line}: {}", String::from_utf8_lossy(&output.stderr));
        }
        let this = std::env::current_exe()?;
        let this = this.to_str().context("this program's path")?;
        for [v4, v6] in [AUTHORITY, UPSTREAM] {
            for listen in [format!("{v4}:53"), format!("[{v6}]:53")] {
                far.begin(&[this, "act", "dns", "--listen", &listen])?;
            }
        }
        let arrivals = far.begin(&[this, "act", "arrivals", "--port", &PORT.to_string()])?;
        thread::spawn(move || {
            for address in arrivals.lines().map_while(Result::ok).filter_map(|line| line.parse().ok()) {
                if said.send(address).is_err() {
                    break;
                }
            }
        });
        Ok(far)
    }

    /// Starts a program over there that says when it listens.
    fn begin(&mut self, words: &[&str]) -> Result<BufReader<std::process::ChildStdout>> {
        let mut child = Self::command(words).stdout(Stdio::piped()).spawn().context("run ip netns")?;
        let output = child.stdout.take().context("its output")?;
        self.processes.push(child);
        let (mut output, mut line) = (BufReader::new(output), String::new());
        output.read_line(&mut line)?;
        ensure!(line.trim() == "listening", "{words:?} said {line:?}");
        Ok(output)
    }

    /// A command that runs over there.
    pub fn command(words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", NAMESPACE]).args(words);
        command
    }

    /// Addresses that somebody has connected to since it was asked last.
    pub fn arrived(&self) -> Result<BTreeSet<IpAddr>> {
        TcpStream::connect((LAST, PORT)).context("connect to the other end")?;
        let mut all = BTreeSet::new();
        loop {
            match self.arriving.recv_timeout(ARRIVES_MAX).context("nothing is told by the other end")? {
                // They are told in their order.
                IpAddr::V4(LAST) => return Ok(all),
                address => all.insert(address),
            };
        }
    }
}

/// An address over there that no name has.
const LAST: Ipv4Addr = Ipv4Addr::new(10, 95, 255, 254);
const ARRIVES_MAX: Duration = Duration::from_secs(20);

impl Drop for Far {
    fn drop(&mut self) {
        for child in &mut self.processes {
            drop(child.kill());
            drop(child.wait());
        }
        for words in [["link", "del", WIRE], ["netns", "del", NAMESPACE]] {
            drop(Command::new("ip").args(words).output());
        }
    }
}
