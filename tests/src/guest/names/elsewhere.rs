//! Another network namespace, as a container has one: its resolver is believed where the settings name it, and no other;
//! and what a forwarder in there, such as Docker's, is told by that resolver.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Stage;
use crate::{case::Outcome, guest::Shared};

const RULES: &str = r#"
      - { to: "10.77.0.0/24:53", verdict: allow }
      - { to: "127.0.0.11:53", verdict: allow }
      - { to: "*.erp.example.test:9", verdict: allow }
"#;

pub fn held(shared: &mut Shared) -> Result<Outcome> {
    // Two namespaces and a wire between: the agent's container, and where its resolver is.
    let words = "netns add agents; netns add servers; link add inside netns agents type veth peer name outside netns servers; \
                 -n agents addr add 10.77.0.1/16 dev inside; -n servers addr add 10.77.0.53/16 dev outside; \
                 -n servers addr add 10.77.0.54/16 dev outside; -n agents link set inside up; -n servers link set outside up; \
                 -n agents link set lo up";
    let made = words.split(';').try_for_each(|words| ip(words.split_whitespace()));
    let held = made.and_then(|()| in_container(shared));
    for name in ["agents", "servers"] {
        drop(ip(["netns", "del", name].into_iter()));
    }
    held.map(|()| Outcome::Held)
}

fn in_container(shared: &Shared) -> Result<()> {
    let mut stage = Stage::with_settings(shared, false, RULES, "  resolvers: [ 10.77.0.53 ]\n")?;
    for server in ["10.77.0.53:53", "10.77.0.54:53"] {
        stage.serve_in(&["ip", "netns", "exec", "servers"], server, &[])?;
    }
    let ask = |stage: &Stage, server: &str, last: u8| {
        let name = format!("e-10-77-1-{last}.erp.example.test");
        // Who is there answers at once that nobody listens, or not at all.
        stage.bot_by(
            &["ip", "netns", "exec", "agents"],
            &format!("ask({name:?}, {server:?})\nprint(connect('10.77.1.{last}'))"),
        )
    };
    let got = ask(&stage, "10.77.0.53", 1)?;
    ensure!(got != "refused", "by the resolver of the settings: {got}");
    let unconfigured = stage.counter("name_answers_unconfigured")?;
    let got = ask(&stage, "10.77.0.54", 2)?;
    ensure!(got == "refused", "by another server: {got}");
    ensure!(stage.counter("name_answers_unconfigured")? > unconfigured, "not counted");
    forwarded(&stage, &ask)?;
    // What is known there is nothing on the host.
    let got = stage.bot("print(connect('10.77.1.1'))")?;
    ensure!(got == "refused", "on the host: {got}");
    let told = stage.daemon.wait(0, "a question to another server", |e| {
        e["kind"] == "dns_query" && e["dns"]["resolver"] == "10.77.0.54"
    })?;
    ensure!(told["dns"]["configured"] == false, "{told}");
    Ok(())
}

/// A resolver in the container's namespace that somebody outside of it has put there, and that asks in turn from there:
/// what it is answered by one of the settings is known before it answers itself.
fn forwarded(stage: &Stage, ask: &dyn Fn(&Stage, &str, u8) -> Result<String>) -> Result<()> {
    for (upstream, last, refused) in [("10.77.0.53", 3, false), ("10.77.0.54", 4, true)] {
        let mut forwarder = Command::new("ip")
            .args(["netns", "exec", "agents", "python3", "-c", FORWARDER, upstream])
            .stdout(std::process::Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = forwarder.stdout.take() {
            std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)?;
        }
        let got = ask(stage, "127.0.0.11", last);
        forwarder.kill()?;
        forwarder.wait()?;
        let got = got?;
        ensure!((got == "refused") == refused, "by a forwarder that asks {upstream}: {got}");
    }
    Ok(())
}

const FORWARDER: &str = r#"
import socket, sys
here = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
here.bind(('127.0.0.11', 53))
print('listening', flush=True)
while True:
    asked, who = here.recvfrom(2048)
    there = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    there.settimeout(2)
    there.connect((sys.argv[1], 53))
    there.send(asked)
    try: here.sendto(there.recv(2048), who)
    except OSError: pass
"#;

fn ip<'a>(words: impl Iterator<Item = &'a str>) -> Result<()> {
    let words: Vec<&str> = words.collect();
    let output = Command::new("ip").args(&words).output().context("run ip")?;
    ensure!(output.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
