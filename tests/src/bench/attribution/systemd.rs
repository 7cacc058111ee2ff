//! The cases that need a booted system: logins, cron, at, units, the user's own manager.

use std::{fs, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    handed,
    score::{Seen, Who},
    stage::{HOME, Stage},
};
use crate::harness::Daemon;

/// Ways in; what init starts to go them, or a person at a terminal.
const WAYS_IN: &[WayIn] = &[
    WayIn("ssh with a command", Who::Human, From::System, "ALICE ssh -o BatchMode=yes localhost LEAF"),
    WayIn("ssh with a terminal", Who::Human, From::System, "ALICE ssh -tt -o BatchMode=yes localhost LEAF"),
    WayIn("ssh as root", Who::Human, From::System, "ssh -o BatchMode=yes localhost LEAF"),
    WayIn(
        "ssh, left behind",
        Who::Human,
        From::System,
        "ALICE ssh -o BatchMode=yes localhost setsid --fork LEAF",
    ),
    WayIn("ssh, sudo within", Who::Human, From::System, "ALICE ssh -o BatchMode=yes localhost sudo LEAF"),
    WayIn(
        "ssh, systemd-run --scope within",
        Who::Human,
        From::System,
        "ssh -o BatchMode=yes localhost systemd-run --scope LEAF",
    ),
    WayIn(
        "ssh, tmux within",
        Who::Human,
        From::System,
        "ALICE ssh -tt -o BatchMode=yes localhost \"tmux -L by-ssh -f /dev/null new-session -d 'LEAF'; sleep 900\"",
    ),
    WayIn(
        "ssh that starts an agent",
        Who::Agent,
        From::System,
        "ALICE ssh -o BatchMode=yes localhost HOME/bot CASE",
    ),
    WayIn(
        "ssh with a terminal that starts an agent",
        Who::Agent,
        From::System,
        "ALICE ssh -tt -o BatchMode=yes localhost HOME/native CASE",
    ),
    WayIn(
        "login on a terminal",
        Who::Human,
        From::System,
        "{ while sleep 2; do echo 'LEAF; exit'; done; } | script -qfc 'login -p -f alice' /dev/null",
    ),
    WayIn("su, login shell, by the system", Who::System, From::System, "su - alice -c 'LEAF'"),
    WayIn("su, login shell, by a person", Who::Human, From::Person, "su - alice -c 'LEAF'"),
    WayIn("systemd-run by the system", Who::System, From::System, "systemd-run LEAF"),
    WayIn("systemd-run by a person", Who::System, From::Person, "systemd-run LEAF"),
    WayIn("systemd-run --scope by a person", Who::Human, From::Person, "systemd-run --scope LEAF"),
    WayIn("systemd-run --scope by an agent", Who::Agent, From::Agent, "systemd-run --scope LEAF"),
    WayIn("systemd-run of an agent", Who::Agent, From::System, "systemd-run HOME/bot CASE"),
    WayIn(
        "systemd-run of an agent as a user",
        Who::Agent,
        From::System,
        "systemd-run --uid=alice HOME/native CASE",
    ),
    WayIn("service of the user's manager", Who::System, From::System, "MANAGER systemd-run --user LEAF"),
    WayIn(
        "agent as a service of the user's manager",
        Who::Agent,
        From::System,
        "MANAGER systemd-run --user HOME/bot CASE",
    ),
    WayIn("at", Who::System, From::System, "echo 'LEAF' | at now"),
    WayIn("at by a person", Who::System, From::Person, "echo 'LEAF' | at now"),
    WayIn("at starts an agent", Who::Agent, From::System, "echo 'HOME/bot CASE' | at now"),
];

/// Its name, whose doing what comes of it is, who goes it, and how.
struct WayIn(&'static str, Who, From, &'static str);

/// Key exchanges are slow where the processor is emulated.
const AT_A_TIME: usize = 8;

/// Who goes the way in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From {
    System,
    Person,
    Agent,
}

/// Logins and services, with cron's work begun before.
pub fn cases(stage: &mut Stage, daemon: &mut Daemon) -> Result<(Vec<Seen>, Vec<Value>)> {
    run("loginctl", &["enable-linger", "alice"])?;
    let mut seen = Vec::new();
    seen.extend(logins(stage, daemon)?);
    seen.extend(unit(stage, daemon)?);
    let (by_cron, handed) = cron(stage, daemon)?;
    seen.extend(by_cron);
    Ok((seen, handed))
}

/// Every way in.
pub fn logins(stage: &mut Stage, daemon: &Daemon) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for ways in WAYS_IN.chunks(AT_A_TIME) {
        seen.extend(go(stage, daemon, ways)?);
    }
    drop(Command::new("runuser").args(["-u", "alice", "--", "tmux", "-L", "by-ssh", "kill-server"]).output());
    Ok(seen)
}

fn go(stage: &mut Stage, daemon: &Daemon, ways: &[WayIn]) -> Result<Vec<Seen>> {
    let mut lines = Vec::new();
    for WayIn(name, who, from, text) in ways {
        let agent = match (who, from) {
            (Who::Agent, _) if text.contains("native") => "native",
            (Who::Agent, _) => "bot",
            _ => "",
        };
        let text = text.replace("ALICE", "runuser -u alice --").replace(
            "MANAGER",
            "until [ -S /run/user/1000/bus ]; do sleep 0.2; done; runuser -u alice -- env XDG_RUNTIME_DIR=/run/user/1000",
        );
        // With CASE the file is the agent's, and another one holds the way to it.
        let file = if text.contains("CASE") {
            let case = stage.case(name, *who, agent, "LEAF; true")?;
            let file = format!("{case}.start");
            fs::write(&file, text.replace("CASE", &case).replace("HOME", HOME))?;
            file
        } else {
            stage.case(name, *who, agent, &text)?
        };
        match from {
            From::System => stage.background(&format!("exec /bin/bash {file}"))?,
            From::Person => lines.push(format!("/bin/bash {file}")),
            From::Agent => lines.push(format!("{HOME}/bot {file}")),
        }
    }
    stage.terminal(&lines)?;
    stage.look(daemon)
}

/// An agent that is a unit: at its first start, when it is started again, and a person who comes into its cgroup.
pub fn unit(stage: &mut Stage, daemon: &Daemon) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for time in ["started", "started again"] {
        let leaf = stage.leaf(format!("unit {time}"), Who::Agent, "unit");
        let below = stage.leaf(format!("unit {time}, its child"), Who::Agent, "unit");
        start_unit(&format!("{below} & exec {leaf}"))?;
        stage.see(daemon)?;
        let case = stage.case(
            "a person who comes into a unit's cgroup",
            Who::Human,
            "",
            &format!("echo $$ > /sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs; LEAF; true"),
        )?;
        stage.terminal(&[format!("/bin/bash {case}")])?;
        seen.extend(stage.look(daemon)?);
        run("systemctl", &["stop", UNIT])?;
    }
    Ok(seen)
}

/// Starts the unit, whose main process is bash with this line.
pub fn start_unit(line: &str) -> Result<()> {
    let text = format!("[Service]\nExecStart=/bin/bash -c '{line}'\n");
    fs::write(format!("/run/systemd/system/{UNIT}"), text).context("write the unit")?;
    run("systemctl", &["daemon-reload"])?;
    run("systemctl", &["restart", UNIT])
}

/// The system's and a person's tables, an agent in them, and an agent that writes one.
pub fn cron(stage: &mut Stage, daemon: &mut Daemon) -> Result<(Vec<Seen>, Vec<Value>)> {
    daemon.settle()?;
    let from = daemon.seen.len();
    let system = stage.leaf("cron, the system's table", Who::System, "");
    let person = stage.leaf("cron, a person's table", Who::System, "");
    let bot = stage.case("cron starts an agent", Who::Agent, "bot", "LEAF; true")?;
    // It is what cron makes of it that is looked at; whose doing it was is told apart below.
    let handed = stage.leaf("cron, a table that an agent has written", Who::System, "");
    let tables = format!("* * * * * root {system}\n* * * * * root {HOME}/bot {bot}\n");
    fs::write("/etc/cron.d/attribution", tables).context("write cron's table")?;
    fs::write(format!("{HOME}/alice.cron"), format!("* * * * * {person}\n"))?;
    run("crontab", &["-u", "alice", &format!("{HOME}/alice.cron")])?;
    fs::write(format!("{HOME}/agent.cron"), format!("* * * * * {handed}\n"))?;
    fs::write(format!("{HOME}/agent.sh"), format!("crontab {HOME}/agent.cron\n"))?;
    let done = Command::new(format!("{HOME}/bot")).arg(format!("{HOME}/agent.sh")).status()?;
    ensure!(done.success(), "the agent's crontab ended with {done}");
    // cron looks at its tables once a minute.
    let seconds = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() % 60;
    thread::sleep(Duration::from_secs(61 - seconds));
    let seen = stage.see(daemon)?;
    for table in [&["-r"][..], &["-u", "alice", "-r"]] {
        run("crontab", table)?;
    }
    fs::remove_file("/etc/cron.d/attribution")?;
    stage.clear();
    let got = seen.iter().find(|seen| seen.case.ends_with("has written")).map(|seen| seen.got.clone());
    let told = handed::outcome(daemon, from, "cron", "cron", got.as_deref().unwrap_or("absent"))?;
    let seen = seen.into_iter().filter(|seen| !seen.case.ends_with("has written")).collect();
    Ok((seen, vec![told]))
}

pub fn run(program: &str, words: &[&str]) -> Result<()> {
    let output = Command::new(program).args(words).output().with_context(|| format!("start {program}"))?;
    ensure!(output.status.success(), "{program} {words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

pub const UNIT: &str = "attribution-agent.service";
