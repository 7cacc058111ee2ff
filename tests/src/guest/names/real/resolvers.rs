//! Resolvers of Debian's, run as they are, and the ways in which programs of this host come to ask them.

use std::{
    fs,
    net::UdpSocket,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::far::{AUTHORITY, Far, RESOLVER, UPSTREAM};

/// How names are resolved on this host.
pub struct Way {
    pub name: &'static str,
    /// The one in resolv.conf.
    pub server: &'static str,
    /// Words behind `hosts:` in nsswitch.conf.
    pub hosts: &'static str,
    /// By nscd(8), where a program asks its C library.
    pub nscd: bool,
    /// Tried in a hurry too.
    pub quick: bool,
    /// A benchmark asks it for all its names.
    pub long: bool,
    /// Gives out what it has kept without a packet.
    pub keeps: bool,
}

const SHORT: Way = Way {
    name: "",
    server: "127.0.0.1",
    hosts: "files dns",
    nscd: false,
    quick: true,
    long: false,
    keeps: false,
};

pub const WAYS: [Way; 8] = [
    Way { name: "dnsmasq at 127.0.0.1", long: true, ..SHORT },
    Way { name: "dnsmasq at ::1", server: "::1", quick: false, ..SHORT },
    Way { name: "dnsmasq over a wire", server: RESOLVER[0], quick: false, ..SHORT },
    Way { name: "dnsmasq over a wire, IPv6", server: RESOLVER[1], ..SHORT },
    Way { name: "unbound at 127.0.0.56", server: UNBOUND, ..SHORT },
    Way { name: "systemd-resolved's stub", server: "127.0.0.53", long: true, ..SHORT },
    // Who asks by the C library sends nothing, who asks by himself is at the stub.
    Way {
        name: "nss-resolve",
        server: "127.0.0.53",
        hosts: "files resolve [!UNAVAIL=return] dns",
        long: true,
        keeps: true,
        ..SHORT
    },
    Way { name: "nscd, dnsmasq", nscd: true, ..SHORT },
];

const UNBOUND: &str = "127.0.0.56";
const UNBOUND_FILE: &str = "/run/names-unbound.conf";
const RESOLVED: &str = "/lib/systemd/systemd-resolved";
const RESOLVED_FILES: &str = "/run/systemd/resolve";
const RESOLVED_SETTINGS: &str = "/etc/systemd/resolved.conf.d/names.conf";
const NSSWITCH: &str = "/etc/nsswitch.conf";

/// All resolvers at work.
pub struct Resolvers {
    processes: Vec<Child>,
    /// systemd runs systemd-resolved.
    unit: bool,
    nsswitch: String,
}

impl Resolvers {
    pub fn start() -> Result<Self> {
        let mut all = Self { processes: Vec::new(), unit: false, nsswitch: fs::read_to_string(NSSWITCH)? };
        all.run(dnsmasq(&mut Command::new("dnsmasq"), ["127.0.0.1", "::1"]), "127.0.0.1:53")?;
        let over_there = &mut Far::command(&["dnsmasq"]);
        all.run(dnsmasq(over_there, RESOLVER), &format!("{}:53", RESOLVER[0]))?;
        fs::write(UNBOUND_FILE, unbound())?;
        all.run(Command::new("unbound").args(["-d", "-p", "-c", UNBOUND_FILE]), &format!("{UNBOUND}:53"))?;
        fs::create_dir_all("/etc/systemd/resolved.conf.d")?;
        fs::write(
            RESOLVED_SETTINGS,
            format!("[Resolve]\nDNS={}\nFallbackDNS=\nLLMNR=no\nMulticastDNS=no\n", UPSTREAM.join(" ")),
        )?;
        if fs::exists("/run/systemd/system")? {
            // The image keeps it from starting by itself.
            fs::remove_file("/etc/systemd/system/systemd-resolved.service")?;
            systemctl(&["daemon-reload"])?;
            all.unit = true;
            systemctl(&["start", "systemd-resolved"])?;
            wait(RESOLVED, "127.0.0.53:53")?;
        } else {
            // As its unit makes it.
            let owner = ["-o", "systemd-resolve", "-g", "systemd-resolve"];
            let made = Command::new("install").arg("-d").args(owner).arg(RESOLVED_FILES).status()?;
            ensure!(made.success(), "systemd-resolved's directory cannot be made");
            all.run(&mut Command::new(RESOLVED), "127.0.0.53:53")?;
        }
        Ok(all)
    }

    /// Starts one that is told where to look for it, and waits until it answers.
    fn run(&mut self, command: &mut Command, at: &str) -> Result<()> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.processes.push(child.with_context(|| format!("start {command:?}"))?);
        wait(&format!("{command:?}"), at)
    }

    /// Makes the host resolve in this way.
    pub fn choose(&mut self, way: &Way) -> Result<Option<Nscd>> {
        fs::write("/etc/resolv.conf", format!("options timeout:10 attempts:1\nnameserver {}\n", way.server))?;
        let lines = self.nsswitch.lines().map(|line| match line.starts_with("hosts:") {
            true => format!("hosts: {}\n", way.hosts),
            false => format!("{line}\n"),
        });
        fs::write(NSSWITCH, lines.collect::<String>())?;
        way.nscd.then(Nscd::start).transpose()
    }
}

impl Drop for Resolvers {
    fn drop(&mut self) {
        for child in &mut self.processes {
            drop(child.kill());
            drop(child.wait());
        }
        if self.unit {
            drop(systemctl(&["stop", "systemd-resolved"]));
        }
        // Its servers would go on to count as the host's.
        drop(fs::remove_dir_all(RESOLVED_FILES));
        drop(fs::remove_file(RESOLVED_SETTINGS));
        drop(fs::remove_file(UNBOUND_FILE));
        drop(fs::write(NSSWITCH, &self.nsswitch));
        drop(fs::remove_file("/etc/resolv.conf"));
    }
}

fn dnsmasq<'a>(command: &'a mut Command, listen: [&str; 2]) -> &'a mut Command {
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root"]);
    command.args(["--no-resolv", "--no-hosts", "--bind-interfaces"]);
    command.args(listen.map(|address| format!("--listen-address={address}")));
    command.args(AUTHORITY.map(|address| format!("--server={address}")))
}

/// Without DNSSEC, which the tests' server does not have; by itself it knows that there is nothing below `test`.
fn unbound() -> String {
    let [v4, v6] = AUTHORITY;
    format!(
        "server:\n interface: {UNBOUND}\n username: \"\"\n chroot: \"\"\n directory: \"/\"\n use-syslog: no\n \
         module-config: iterator\n local-zone: \"test.\" nodefault\nforward-zone:\n name: \".\"\n \
         forward-addr: {v4}\n forward-addr: {v6}\n"
    )
}

fn wait(who: &str, at: &str) -> Result<()> {
    let end = Instant::now() + ANSWERS_MAX;
    while !answers(at) {
        ensure!(Instant::now() < end, "{who} does not answer at {at}");
    }
    Ok(())
}

fn systemctl(words: &[&str]) -> Result<()> {
    let status = Command::new("systemctl").args(words).status().context("run systemctl")?;
    ensure!(status.success(), "systemctl {words:?} ended with {status}");
    Ok(())
}

/// Whether a server answers a question for a name that no role has.
fn answers(at: &str) -> bool {
    let question = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x05ready\x04test\0\0\x01\0\x01";
    let ask = || -> std::io::Result<usize> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(200)))?;
        socket.connect(at)?;
        socket.send(question)?;
        socket.recv(&mut [0; 512])
    };
    let answered = ask().is_ok();
    if !answered {
        std::thread::sleep(Duration::from_millis(50));
    }
    answered
}

/// The name service cache, while it is wanted: every program of the C library asks it where its socket is.
pub struct Nscd(Child);

const NSCD_SOCKET: &str = "/run/nscd/socket";

impl Nscd {
    fn start() -> Result<Self> {
        fs::create_dir_all("/run/nscd")?;
        let mut command = Command::new("nscd");
        let child =
            command.arg("--foreground").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let nscd = Self(child.spawn().context("start nscd")?);
        let end = Instant::now() + ANSWERS_MAX;
        while !fs::exists(NSCD_SOCKET)? {
            ensure!(Instant::now() < end, "nscd makes no socket");
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(nscd)
    }
}

impl Drop for Nscd {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
        drop(fs::remove_file(NSCD_SOCKET));
    }
}

const ANSWERS_MAX: Duration = Duration::from_secs(20);
