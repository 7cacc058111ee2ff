//! What other people's clients say first, TLS and HTTP, over IPv4 and IPv6: the name that the role allows arrives, and
//! of the hello that says another one not a byte.

use std::{path::Path, process::Command, time::Instant};

use anyhow::{Result, ensure};

use super::{super::Stage, RULES, heard::Heard};
use crate::{case::Outcome, guest::Shared};

/// One hello or request. In `shell` stands `$N` for the name by which the address is known, and `$T` for the seconds
/// that it may take.
struct Saying {
    what: &'static str,
    shell: &'static str,
    /// What the other end hears behind the address, with `$N`; or what is found, and the name that is told.
    comes: Result<&'static str, (&'static str, &'static str)>,
    /// A file without which it cannot be tried.
    needs: &'static str,
}

const fn heard(what: &'static str, shell: &'static str, line: &'static str) -> Saying {
    Saying { what, shell, comes: Ok(line), needs: "/" }
}

const fn kept(what: &'static str, shell: &'static str, found: &'static str, name: &'static str) -> Saying {
    Saying { what, shell, comes: Err((found, name)), needs: "/" }
}

const NODE: &str = "/opt/agents/bin/node";

const SAYINGS: &[Saying] = &[
    heard("curl", "curl -ksS -m $T https://$N/", "tls $N"),
    kept(
        "curl by another name",
        "curl -ksS -m $T --connect-to evil.test:443:$N:443 https://evil.test/",
        "mismatch",
        "evil.test",
    ),
    heard("curl, resolved", "curl -ksS -m $T --resolve $N:443:$(address $N) https://$N/", "tls $N"),
    kept(
        "curl, another name resolved",
        "curl -ksS -m $T --resolve evil.test:443:$(address $N) https://evil.test/",
        "mismatch",
        "evil.test",
    ),
    heard("curl without TLS", "curl -sS -m $T http://$N:443/", "http $N:443"),
    kept(
        "curl without TLS for another host",
        "curl -sS -m $T -H 'Host: evil.test' http://$N:443/",
        "mismatch",
        "evil.test",
    ),
    kept("curl by a proxy", "curl -sS -m $T -x http://$N:443 http://evil.test/", "mismatch", "evil.test"),
    kept(
        "curl through a proxy",
        "curl -ksS -m $T -x http://$N:443 https://evil.test/",
        "mismatch",
        "evil.test",
    ),
    kept("HTTP/2 without TLS", "curl -sS -m $T --http2-prior-knowledge http://$N:443/", "unnamed", ""),
    heard("openssl", "by_openssl -servername $N", "tls $N"),
    kept("openssl by another name", "by_openssl -servername evil.test", "mismatch", "evil.test"),
    kept("openssl by no name", "by_openssl -noservername", "unnamed", ""),
    heard("openssl, TLS 1.2", "by_openssl -tls1_2 -servername $N", "tls $N"),
    kept("openssl, TLS 1.2", "by_openssl -tls1_2 -servername evil.test", "mismatch", "evil.test"),
    heard("python", "timeout $T python3 -c \"$BY_PYTHON\" $N $N", "tls $N"),
    kept(
        "python by another name",
        "timeout $T python3 -c \"$BY_PYTHON\" $N evil.test",
        "mismatch",
        "evil.test",
    ),
    Saying { needs: NODE, ..heard("node", "timeout $T $NODE -e \"$BY_NODE\" $N $N", "tls $N") },
    Saying {
        needs: NODE,
        ..kept(
            "node by another name",
            "timeout $T $NODE -e \"$BY_NODE\" $N evil.test",
            "mismatch",
            "evil.test",
        )
    },
];

/// What the sayings share.
const SHELL: &str = r#"
address() { getent ahosts "$1" | sed -n 's/ *STREAM.*//p' | head -1 | sed 's/.*:.*/[&]/'; }
by_openssl() { printf "GET / HTTP/1.0\\r\\n\\r\\n" | timeout $T openssl s_client -quiet -connect $N:443 "$@"; }
BY_PYTHON='
import socket, ssl, sys
tls = ssl.create_default_context()
tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
with socket.create_connection((sys.argv[1], 443)) as s, tls.wrap_socket(s, server_hostname=sys.argv[2]) as s:
    s.sendall(b"GET / HTTP/1.0\r\n\r\n")
    while data := s.recv(4096): print(data.decode())
'
NODE=/opt/agents/bin/node
BY_NODE='
const [host, servername] = process.argv.slice(1);
const s = require("tls").connect({ host, port: 443, servername, rejectUnauthorized: false },
    () => s.write("GET / HTTP/1.0\r\n\r\n"));
s.on("data", (data) => console.log(data.toString()));
'
"#;

pub fn clients(shared: &mut Shared) -> Result<Outcome> {
    tell(shared, |saying| Path::new(saying.needs).exists())
}

/// Those of Node alone, where it must be.
pub fn by_node(mode: &str) -> Result<Outcome> {
    tell(&Shared { mode: mode.to_owned() }, |saying| saying.needs == NODE)
}

fn tell(shared: &Shared, wanted: fn(&&Saying) -> bool) -> Result<Outcome> {
    let mut stage = Stage::with(shared, false, RULES)?;
    let heard = Heard::start()?;
    let mut wrong = Vec::new();
    let (mut met, mut unmet) = (0, 0);
    for (at, saying) in SAYINGS.iter().filter(wanted).enumerate() {
        for v6 in [false, true] {
            *(if saying.comes.is_ok() { &mut met } else { &mut unmet }) += 1;
            let (name, address) = place(at + 1, v6);
            if let Err(why) = saying.tried(&mut stage, &heard, &name, &address) {
                wrong.push(format!("{} to {address}: {why:#}", saying.what));
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("; "));
    let counted = (stage.counter("spoken_met")?, stage.counter("spoken_unmet")?);
    ensure!(
        counted == (met, unmet),
        "{met} said what they may and {unmet} did not; counted were {counted:?}"
    );
    Ok(Outcome::Held)
}

impl Saying {
    fn tried(&self, stage: &mut Stage, heard: &Heard, name: &str, address: &str) -> Result<()> {
        let from = stage.daemon.seen.len();
        let program = format!("T={LIMIT_S}; N={name}\n{SHELL}\n{}", self.shell);
        let start = Instant::now();
        let output = Command::new(&stage.bot).args(["bash", "-c", &program]).output()?;
        let took = start.elapsed();
        let answered = String::from_utf8_lossy(&output.stdout).contains("heard");
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(took.as_secs() < LIMIT_S - 1, "it took {took:?} ({error})");
        let lines = heard.lines()?;
        let came = lines.iter().filter_map(|line| line.strip_prefix(address)?.strip_prefix(' '));
        let came: Vec<&str> = came.collect();
        let (finding, other) = match self.comes {
            Ok(line) => {
                let whole = answered && came == ["bytes", &line.replace("$N", name)];
                ensure!(whole, "answered: {answered}, the other end heard {came:?} ({error})");
                return Ok(());
            }
            Err(found) => found,
        };
        ensure!(!answered && came.is_empty(), "answered: {answered}, the other end heard {came:?}");
        let event = stage.daemon.wait(from, self.what, |event| {
            event["kind"] == "spoken" && event["network"]["address"] == address
        })?;
        let told = event["tls"]["server_name"].as_str().or(event["http"]["host"].as_str());
        ensure!(
            event["spoken"]["finding"] == finding
                && told.unwrap_or_default() == other
                && event["verdict"] == "deny"
                && event["agent"] == "bot",
            "{event}"
        );
        Ok(())
    }
}

/// A client that waits so long has not been told that its connection is no more.
const LIMIT_S: u64 = 20;

/// A name, and its address as it is told.
fn place(at: usize, v6: bool) -> (String, String) {
    let name = if v6 { format!("six{at}-127-73-1-{at}") } else { format!("v{at}-127-73-0-{at}") };
    let address = if v6 { format!("fd78::7f49:1{at:02x}") } else { format!("127.73.0.{at}") };
    (format!("{name}.erp.example.test"), address)
}
