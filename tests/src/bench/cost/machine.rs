//! What is measured on: the daemon, running or stopped, the agent's launcher, and processes that just live.

use std::{
    fs,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use super::Who;
use crate::{
    act::cost::{Op, Round, processor_ns},
    bench::clock::unix_ns,
    harness::{Daemon, Start, program, script},
};

/// The agent: a script that executes what it is given.
pub const LAUNCHER: &str = "/opt/chaperone-cost";

/// The guest, with a daemon once it was started.
#[derive(Default)]
pub struct Machine {
    daemon: Option<Daemon>,
    stopped: bool,
}

/// Instructions per operation, the middle one of several measurements.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Everything that ran, until the daemon was idle again.
    pub whole: u64,
    /// The daemon's share.
    pub daemon: u64,
    /// How far the measurements lie apart.
    pub apart_percent: f64,
}

impl Machine {
    pub fn prepare() -> Result<Self> {
        script(LAUNCHER.as_ref(), "#!/bin/sh\nexec \"$@\"\n")?;
        Ok(Self::default())
    }

    /// Starts the daemon while an agent executes programs: when it was ready, and when the first of them was told.
    pub fn start(&mut self, documents: &str) -> Result<Value> {
        let over = Arc::new(AtomicBool::new(false));
        let agent = thread::spawn({
            let over = over.clone();
            move || {
                while !over.load(Ordering::Acquire) {
                    drop(Command::new(LAUNCHER).arg("true").status());
                    thread::sleep(Duration::from_millis(20));
                }
            }
        });
        let began = SystemTime::now();
        let daemon = Daemon::start(&Start { documents: documents.to_owned(), ..Start::default() });
        over.store(true, Ordering::Release);
        ensure!(agent.join().is_ok(), "the agent beside the start came to grief");
        let mut daemon = daemon?;
        daemon.settle()?;
        let began_ns = u64::try_from(began.duration_since(UNIX_EPOCH)?.as_nanos())?;
        let after = |kind: &str| {
            let event = daemon
                .seen
                .iter()
                .filter(|event| event["kind"] == kind)
                .min_by_key(|event| event["time"].to_string());
            let ns = event.and_then(|event| unix_ns(event["time"].as_str()?))?;
            Some(ns.saturating_sub(began_ns) as f64 / 1e9)
        };
        let told = json!({ "ready_s": after("daemon_started"), "first_exec_s": after("process_exec") });
        self.daemon = Some(daemon);
        Ok(told)
    }

    pub fn daemon(&mut self) -> Result<&mut Daemon> {
        self.daemon.as_mut().context("the daemon was not started")
    }

    /// Stops the daemon, or lets it go on.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        let pid = self.daemon()?.pid();
        self.stopped = signal == Signal::SIGSTOP;
        kill(Pid::from_raw(i32::try_from(pid)?), signal).context("signal the daemon")
    }

    /// Lets what is under way reach the file.
    pub fn settle(&self) {
        thread::sleep(Duration::from_millis(500));
    }

    /// What an operation takes now.
    pub fn measure(&mut self, who: Who, op: Op) -> Result<Measured> {
        let actor = program("chaperone-tests")?;
        let mut words = match who {
            Who::Other => Vec::new(),
            Who::Agent => vec![LAUNCHER.to_owned()],
        };
        let name = serde_json::to_value(op)?;
        words.extend([&actor.display().to_string(), "act", "cost"].map(str::to_owned));
        words.push(name.as_str().unwrap_or_default().to_owned());
        words.extend([
            "--times".to_owned(),
            times(op).to_string(),
            "--rounds".to_owned(),
            ROUNDS.to_string(),
        ]);
        if let Some(daemon) = self.daemon.as_ref().filter(|_| !self.stopped) {
            words.extend(["--beside".to_owned(), daemon.pid().to_string()]);
        }
        let output = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .output()
            .context("start the actor")?;
        ensure!(output.status.success(), "{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr));
        let rounds: Vec<Round> =
            serde_json::from_slice(&output.stdout).context("the actor's measurements")?;
        Ok(middle(&rounds))
    }

    /// Starts instances of the agent that do nothing, each a process of its own.
    pub fn crowd(&mut self, count: u32) -> Result<()> {
        let line = format!("for n in $(seq {count}); do {LAUNCHER} sleep 99999 & done");
        let status = Command::new("/bin/bash").args(["-c", &line]).stdin(Stdio::null()).status()?;
        ensure!(status.success(), "start {count} instances");
        // Each of them has to come as far as its exec.
        thread::sleep(Duration::from_secs(1) + Duration::from_millis(u64::from(count) * 10));
        self.daemon()?.read()
    }

    /// Puts other documents in force.
    pub fn replace(&mut self, documents: &str) -> Result<()> {
        self.daemon()?.read()?;
        let from = self.daemon()?.seen.len();
        self.daemon()?.rewrite(documents)?;
        self.daemon()?
            .wait(from, "a change of policy", |event| event["kind"] == "policy_changed")
            .map(drop)?;
        self.settle();
        Ok(())
    }

    /// Resident memory of the daemon, in kB: of its own, and with the pages of its program.
    pub fn resident(&mut self) -> Result<Value> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.daemon()?.pid()))?;
        let field = |name: &str| -> Option<u64> {
            status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
        };
        Ok(json!({ "all": field("VmRSS:"), "own": field("RssAnon:") }))
    }

    /// Kernel memory of the maps that the daemon holds, in kB.
    pub fn maps_kb(&mut self) -> Result<u64> {
        let mut maps = std::collections::BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{}/fdinfo", self.daemon()?.pid()))?.flatten() {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let field = |name: &str| -> Option<u64> {
                text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            };
            if let (Some(id), Some(bytes)) = (field("map_id:"), field("memlock:")) {
                maps.insert(id, bytes);
            }
        }
        Ok(maps.values().sum::<u64>() / 1024)
    }

    pub fn binary_kb(&self) -> Result<u64> {
        Ok(fs::metadata(program("chaperone")?)?.len() / 1024)
    }

    /// What the daemon takes in a second in which nothing happens.
    pub fn idle(&mut self) -> Result<u64> {
        let pid = self.daemon()?.pid();
        let (start, before) = (Instant::now(), processor_ns(pid));
        thread::sleep(Duration::from_secs(10));
        Ok((processor_ns(pid) - before) / start.elapsed().as_secs().max(1))
    }
}

/// So many that measurements agree, and that a stopped daemon's ring buffer has room for their events.
fn times(op: Op) -> u64 {
    match op {
        Op::Exec => 200,
        Op::Connect | Op::Hello => 2_000,
        Op::Bulk => 5_000,
        Op::Stream => 200,
        Op::Open => 10_000,
        Op::Getpid => 50_000,
    }
}

fn middle(rounds: &[Round]) -> Measured {
    let mut whole: Vec<f64> =
        rounds.iter().map(|round| (round.ns + round.deferred_ns) as f64 / round.times as f64).collect();
    let mut daemon: Vec<f64> = rounds
        .iter()
        .map(|round| (round.beside_ns + round.deferred_ns) as f64 / round.times as f64)
        .collect();
    whole.sort_by(f64::total_cmp);
    daemon.sort_by(f64::total_cmp);
    let of = |values: &[f64]| values.get(values.len() / 2).copied().unwrap_or_default();
    let apart = whole.last().copied().unwrap_or_default() - whole.first().copied().unwrap_or_default();
    Measured {
        whole: of(&whole).round() as u64,
        daemon: of(&daemon).round() as u64,
        apart_percent: (apart / of(&whole) * 10_000.0).round() / 100.0,
    }
}

const ROUNDS: u32 = 3;
