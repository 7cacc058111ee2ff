//! Every way of sending on a connection by name, whoever sends: what it says first is compared all the same.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::{super::Stage, RULES, heard::Heard};
use crate::{
    act::{
        ctx::Dest,
        ways::{self, Way},
    },
    case::Outcome,
    guest::Shared,
};

/// Beginnings of the names of ways by which an agent connects a TCP socket of its own.
const BY: &str = "tcp4 tcp6 uring-c uring-fixed uring-socket uring-forked uring-exec uring-sendmsg-f ia32-c ia32-socketcall-c";
/// Not those: source routing has a rule of its own, and a server never hears from a socket under repair.
const NOT: &str = "repair lsrr ssrr rthdr srh forked-sqpoll";

fn is_tcp(way: &Way) -> bool {
    matches!(way.to, Dest::V4 | Dest::V6)
        && BY.split(' ').any(|begins| way.name.starts_with(begins))
        && !NOT.split(' ').any(|word| way.name.contains(word))
}

pub fn every(shared: &mut Shared) -> Result<Outcome> {
    let mut stage = Stage::with(shared, false, RULES)?;
    let heard = Heard::start()?;
    let ways: Vec<&Way> = ways::all().filter(|way| is_tcp(way)).collect();
    ensure!(ways.len() > 30, "{} ways", ways.len());
    let this = std::env::current_exe()?.display().to_string();
    // All names at once; they live long enough.
    let names: String = (1..=ways.len())
        .flat_map(|at| SAID.map(|(third, _)| format!("'{at}-127-74-{third}-{at}.ttl900.erp.example.test',")))
        .collect();
    stage.bot(&format!("{ASK}\nfor name in [{names}]: asked('v' + name, 1), asked('six' + name, 28)"))?;
    let mut offered = vec![true; ways.len()];
    for (third, host) in SAID {
        for (at, way) in ways.iter().enumerate() {
            let to = address(way, third, at + 1);
            let words = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let output = Command::new(&stage.bot)
                .args([&this, "act", way.name, "--to", &to, "--bare", "--token", &words])
                .output()
                .context("run an act")?;
            offered[at] &= !String::from_utf8_lossy(&output.stdout).contains("\"unsupported\"");
        }
    }
    let lines = heard.lines()?;
    let mut wrong = Vec::new();
    for (third, host) in SAID {
        for (at, way) in ways.iter().enumerate() {
            let address = address(way, third, at + 1).replace(":443", "").replace(['[', ']'], "");
            let came = lines.iter().filter(|line| line.starts_with(&format!("{address} "))).count();
            let whole = lines.contains(&format!("{address} http {host}"));
            let right = if host == ALLOWED { whole || !offered[at] } else { came == 0 };
            if !right {
                wrong.push(format!("{} for {host}: {came} lines of {address}", way.name));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    let tried = offered.iter().filter(|offered| **offered).count();
    ensure!(tried > 20, "{tried} of {} ways are offered", ways.len());
    ensure!(stage.counter("spoken_unmet")? >= tried as u64, "not counted");
    repaired(&mut stage, &this)?;
    Ok(Outcome::Held)
}

/// A socket under repair goes on with a connection that another one has begun: what was said on that is not known.
fn repaired(stage: &mut Stage, this: &str) -> Result<()> {
    let name = "r-127-74-2-1.erp.example.test";
    stage.bot(&format!("{ASK}\nasked({name:?}, 1)"))?;
    let act = [this, "act", "tcp4-repair", "--to", "127.74.2.1:443", "--bare", "--token", "GET"];
    let output = Command::new(&stage.bot).args(act).output()?;
    let event = stage.daemon.wait(0, "a socket under repair", |event| {
        event["kind"] == "spoken" && event["network"]["address"] == "127.74.2.1"
    });
    let event = event.with_context(|| String::from_utf8_lossy(&output.stdout).into_owned())?;
    ensure!(event["spoken"]["finding"] == "unreadable" && event["verdict"] == "deny", "{event}");
    Ok(())
}

const ALLOWED: &str = "b.erp.example.test";

/// What is said, by the third number of the address.
const SAID: [(u8, &str); 2] = [(0, ALLOWED), (1, "evil.test")];

fn address(way: &Way, third: u8, at: usize) -> String {
    match way.to {
        Dest::V6 => format!("[fd78::7f4a:{:x}]:443", usize::from(third) << 8 | at),
        _ => format!("127.74.{third}.{at}:443"),
    }
}

const ASK: &str = "
def asked(name, kind):
    s = asker()
    s.sendto(question(name)[:-4] + struct.pack('>HH', kind, 1), ('127.0.0.77', 53))
    s.recv(2048)";

/// A socket that an agent has connected by name stays one of those, whoever gets it: another instance, or somebody who
/// is no agent.
pub fn passed(shared: &mut Shared) -> Result<Outcome> {
    super::with_server(shared, RULES, |stage| {
        for (who, launcher) in [("another instance", Some(stage.bot.clone())), ("nobody's process", None)] {
            for (host, wanted) in [("b.erp.example.test", "all"), ("evil.test", "0")] {
                let program = format!("{}\n{}{TAKES}", super::super::CLIENT, super::SAY);
                let mut taker = match &launcher {
                    Some(launcher) => Command::new(launcher),
                    None => Command::new("env"),
                };
                let mut taker = taker.args(["python3", "-c", &program, host]).spawn()?;
                let got = stage.bot(&format!("{}{GIVES}", super::SAY))?;
                taker.wait()?;
                ensure!(got == wanted, "{who} for {host}: {got}");
            }
        }
        stage.daemon.settle()?;
        let denied =
            stage.daemon.seen.iter().filter(|e| e["kind"] == "spoken" && e["verdict"] == "deny").count();
        ensure!(denied == 2, "{denied} of 2 are told");
        Ok(())
    })
}

/// Says on a socket that it is handed what its first word names, and hands back how much of it came again.
const TAKES: &str = "
where = '/run/spoken-passed'
if os.path.exists(where): os.unlink(where)
with socket.socket(socket.AF_UNIX) as s:
    s.bind(where); s.listen()
    c, _ = s.accept()
_, (fd,), _, _ = socket.recv_fds(c, 1, 1)
s = socket.socket(fileno=fd)
said = hello(sys.argv[1]); s.sendall(said); s.settimeout(4)
try: c.sendall(b'all' if s.recv(65536) == said else b'part')
except OSError: c.sendall(b'0')
";

const GIVES: &str = "
s = socket.create_connection(('p-127-75-0-1.erp.example.test', 443), 5)
u = socket.socket(socket.AF_UNIX)
for _ in range(100):
    try: u.connect('/run/spoken-passed'); break
    except OSError: time.sleep(0.1)
socket.send_fds(u, [b'x'], [s.fileno()])
print(u.recv(9).decode())";
