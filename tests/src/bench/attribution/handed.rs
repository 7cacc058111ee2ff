//! Work that an agent gives to something outside its tree: which event tells it, and what the work is labelled as.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{
    score::Who,
    stage::{HOME, Stage},
};
use crate::harness::Daemon;

/// A way out of the tree.
struct Way {
    name: &'static str,
    /// What is there before, outside the tree: started by the system, or typed by a person.
    broker: Broker,
    /// What the agent does.
    text: &'static str,
    systemd: bool,
    /// What stands in `handed_off`; empty where no event tells it today.
    told: &'static str,
}

enum Broker {
    Running,
    System(&'static str),
    Person(&'static str),
}

const WAYS: &[Way] = &[
    Way {
        name: "a daemon's unix socket (docker.sock)",
        broker: Broker::System("exec socat UNIX-LISTEN:/run/docker.sock,fork,unlink-early SYSTEM:'LEAF'"),
        text: "until [ -S /run/docker.sock ]; do sleep 0.1; done; sleep 900 | socat - UNIX-CONNECT:/run/docker.sock",
        systemd: false,
        told: "docker",
    },
    Way {
        name: "a person's tmux server",
        broker: Broker::Person("tmux -L shared -f /dev/null new-session -d 'sleep 900'"),
        text: "until [ -S /tmp/tmux-0/shared ]; do sleep 0.1; done; tmux -L shared new-window -d 'LEAF'",
        systemd: false,
        told: "tmux",
    },
    Way {
        name: "the kernel's own helpers (core_pattern)",
        broker: Broker::Running,
        text: "echo '|/bin/bash LEAF' > /proc/sys/kernel/core_pattern; bash -c 'ulimit -c unlimited; kill -SEGV $$'",
        systemd: false,
        told: "",
    },
    Way {
        name: "a file that somebody else executes",
        broker: Broker::System("until [ -e HOME/dropped ]; do sleep 0.2; done; exec bash HOME/dropped"),
        text: "echo LEAF > HOME/dropped.new; mv HOME/dropped.new HOME/dropped",
        systemd: false,
        told: "",
    },
    Way { name: "at", broker: Broker::Running, text: "echo 'LEAF' | at now", systemd: true, told: "at" },
    Way {
        name: "systemd-run",
        broker: Broker::Running,
        text: "systemd-run LEAF",
        systemd: true,
        told: "systemd",
    },
    Way {
        name: "systemd-run with a terminal",
        broker: Broker::Running,
        text: "systemd-run --pty LEAF",
        systemd: true,
        told: "systemd",
    },
    Way {
        name: "D-Bus",
        broker: Broker::Running,
        text: "set -- LEAF; busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 \
               org.freedesktop.systemd1.Manager StartTransientUnit 'ssa(sv)a(sa(sv))' by-dbus.service replace 1 \
               ExecStart 'a(sasb)' 1 $1 2 $1 $2 false 0",
        systemd: true,
        told: "dbus",
    },
    Way {
        name: "ssh to localhost",
        broker: Broker::Running,
        text: "ssh -o BatchMode=yes localhost LEAF",
        systemd: true,
        told: "ssh",
    },
    Way {
        name: "ssh to localhost, with a terminal",
        broker: Broker::Running,
        text: "ssh -tt -o BatchMode=yes alice@localhost LEAF",
        systemd: true,
        told: "ssh",
    },
];

/// Goes every way, and tells what is known of each afterwards.
pub fn ways(stage: &mut Stage, daemon: &mut Daemon) -> Result<Vec<Value>> {
    let pattern = fs::read_to_string(CORE_PATTERN).unwrap_or_default();
    let mut told = Vec::new();
    for way in WAYS.iter().filter(|way| has_systemd() || !way.systemd) {
        told.push(go(stage, daemon, way)?);
        drop(fs::write(CORE_PATTERN, pattern.trim_end()));
    }
    drop(Command::new("tmux").args(["-L", "shared", "kill-server"]).output());
    drop(fs::remove_file("/run/docker.sock"));
    Ok(told)
}

fn go(stage: &mut Stage, daemon: &mut Daemon, way: &Way) -> Result<Value> {
    daemon.settle()?;
    let from = daemon.seen.len();
    let leaf = stage.leaf(way.name, Who::Agent, "bot");
    let case = format!("{HOME}/cases/handed.sh");
    fs::write(&case, way.text.replace("LEAF", &leaf).replace("HOME", HOME))?;
    match way.broker {
        Broker::Running => {}
        Broker::System(text) => stage.background(&text.replace("LEAF", &leaf).replace("HOME", HOME))?,
        Broker::Person(text) => {
            let file = format!("{case}.person");
            fs::write(&file, text)?;
            stage.terminal(&[format!("/bin/bash {file}")])?;
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(700));
    stage.terminal(&[format!("{HOME}/bot {case}")])?;
    let seen = stage.look(daemon)?;
    let Some(seen) = seen.first() else { bail!("nothing was looked at") };
    outcome(daemon, from, way.name, way.told, &seen.got)
}

/// The event that tells it, and what the work is labelled as.
pub fn outcome(daemon: &mut Daemon, from: usize, way: &str, told: &str, got: &str) -> Result<Value> {
    daemon.settle()?;
    let event = daemon.seen[from..].iter().find(|event| {
        !told.is_empty() && event["handed_off"].as_str() == Some(told) && event["origin"] == "agent"
    });
    let event = event.map(|event| {
        json!({
            "kind": event["kind"],
            "handed_off": event["handed_off"],
            "verdict": event["verdict"],
            "to": event["unix"]["path"].as_str().or(event["network"]["address"].as_str()).or(event["exe"].as_str()),
        })
    });
    let note = match (&event, got) {
        (_, "agent") => "followed",
        (_, "absent") => "the work was never done: nothing is known",
        (Some(_), _) => "the asking is told; the work itself is labelled as its new parent's",
        (None, _) => "no event tells it",
    };
    Ok(
        json!({ "way": way, "broker": told, "event": event, "attributed": got == "agent", "labelled": got, "note": note }),
    )
}

#[must_use]
pub fn has_systemd() -> bool {
    Path::new("/run/systemd/system").exists()
}

const CORE_PATTERN: &str = "/proc/sys/kernel/core_pattern";
