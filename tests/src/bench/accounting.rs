//! Accounting: what a storm performed is recorded or counted as lost, to the unit; nobody else's events go with it.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::harness::{Daemon, Start, program, script};

/// How large a storm, and what others do meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Storm {
    pub forks: u64,
    pub connects: u64,
    /// What the other agent and the person do of each, with a pause after each.
    pub others: u64,
    /// The daemon does not read: events are lost for certain.
    pub stopped: bool,
}

/// What came of a storm.
#[derive(Debug, Serialize)]
pub struct Account {
    pub rows: Vec<Row>,
    /// Births and acts of processes without a label.
    pub unlabelled: u64,
    /// Connects that were not refused.
    pub missed: u64,
    /// Events of the other agent and of the person that were lost.
    pub lost_of_others: u64,
}

/// One kind of event.
#[derive(Debug, Serialize)]
pub struct Row {
    pub stopped: bool,
    pub kind: &'static str,
    pub performed: u64,
    pub recorded: u64,
    pub lost: u64,
}

impl Row {
    #[must_use]
    pub fn adds_up(&self) -> bool {
        self.performed == self.recorded + self.lost
    }
}

/// 20,000 of each, with the daemon reading and with the daemon stopped.
pub fn run(mode: &str) -> Result<Value> {
    let (mut rows, mut unlabelled, mut missed, mut others) = (Vec::new(), 0, 0, Vec::new());
    for stopped in [false, true] {
        let account = Storm { forks: 20_000, connects: 20_000, others: 200, stopped }.account(mode)?;
        others.push(json!({ "stopped": stopped, "lost": account.lost_of_others }));
        rows.extend(account.rows);
        unlabelled += account.unlabelled;
        missed += account.missed;
    }
    let wrong = rows.iter().filter(|row| !row.adds_up()).count();
    Ok(
        json!({ "rows": rows, "unlabelled": unlabelled, "missed": missed, "wrong": wrong, "of_others": others }),
    )
}

impl Storm {
    /// Makes the storm and counts.
    pub fn account(self, mode: &str) -> Result<Account> {
        for launcher in [STORM, OTHER] {
            script(launcher.as_ref(), "#!/bin/sh\nexec \"$@\"\n")?;
        }
        let documents = [agent("storm", STORM), agent("other", OTHER)].concat();
        let mut daemon =
            Daemon::start(&Start { documents, mode: Some(mode.to_owned()), ..Start::default() })?;
        daemon.settle()?;
        let (from, before) = (daemon.seen.len(), unlabelled(&daemon)?);
        let pid = Pid::from_raw(i32::try_from(daemon.pid())?);
        if self.stopped {
            kill(pid, Signal::SIGSTOP).context("stop the daemon")?;
        }
        let told = self.perform();
        if self.stopped {
            kill(pid, Signal::SIGCONT).context("let the daemon go on")?;
        }
        let [storms, others, people] = told?;
        daemon.settle()?;
        // Losses are told once a second.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        daemon.settle()?;
        let seen = &daemon.seen[from..];
        let performed = performed(&[&storms, &others].map(Vec::as_slice).concat(), &people);
        let (recorded, lost) = (recorded(seen, |_| true), lost(seen)?);
        let row = |kind: &'static str| Row {
            stopped: self.stopped,
            kind,
            performed: performed[kind],
            recorded: recorded.get(kind).copied().unwrap_or_default(),
            lost: lost.get(kind).copied().unwrap_or_default(),
        };
        let of_others: u64 = self::performed(&others, &people).values().sum();
        let told: u64 = recorded_sum(seen, |event| event["agent"] != "storm");
        let refused = |told: &Told| told.asked - told.errnos.get("EPERM").copied().unwrap_or_default();
        let connects =
            |all: &[Told]| -> u64 { all.iter().filter(|t| t.storm == "connects").map(refused).sum() };
        Ok(Account {
            rows: KINDS.into_iter().map(row).collect(),
            unlabelled: unlabelled(&daemon)? - before,
            missed: connects(&storms) + connects(&others),
            lost_of_others: of_others.saturating_sub(told),
        })
    }

    /// The storm's two actors at full speed, and beside them the other agent's and the person's.
    fn perform(self) -> Result<[Vec<Told>; 3]> {
        let slow = |what: &str| {
            [what, &self.others.to_string(), "--to", NOWHERE, "--pause-ms", "10"].map(str::to_owned)
        };
        let fast = |what: &str, count: u64| [what, &count.to_string(), "--to", NOWHERE].map(str::to_owned);
        let others = [actor(&[OTHER], &slow("--forks"))?, actor(&[OTHER], &slow("--connects"))?];
        let tests = program("chaperone-tests")?.display().to_string();
        let terminal = [&*tests, "act", "shape", "pty", "--"];
        let people = [actor(&terminal, &slow("--forks"))?, actor(&terminal, &slow("--connects"))?];
        let storms = [
            actor(&[STORM], &fast("--forks", self.forks))?,
            actor(&[STORM], &fast("--connects", self.connects))?,
        ];
        Ok([told(storms)?, told(others)?, told(people)?])
    }
}

/// What an actor prints at its end.
#[derive(Debug, Clone, Deserialize)]
struct Told {
    storm: String,
    asked: u64,
    errnos: BTreeMap<String, u64>,
}

fn actor(before: &[&str], words: &[String]) -> Result<Child> {
    let tests = program("chaperone-tests")?;
    let mut command = Command::new(before[0]);
    command.args(&before[1..]).arg(tests).args(["act", "storm"]).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start an actor")
}

fn told(children: [Child; 2]) -> Result<Vec<Told>> {
    let told = |child: Child| {
        let output = child.wait_with_output()?;
        ensure!(output.status.success(), "an actor failed: {}", output.status);
        serde_json::from_slice(output.stdout.trim_ascii()).context("what an actor told")
    };
    children.into_iter().map(told).collect()
}

/// Events that must be: an agent's actor executes its launcher, the actor, and each fork its program; of people only
/// execs and connects are recorded.
fn performed(agents: &[Told], people: &[Told]) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::from(KINDS.map(|kind| (kind, 0)));
    let mut add = |kind, count| *sums.entry(kind).or_default() += count;
    for told in agents {
        let connects = told.storm == "connects";
        add("process_exec", 2);
        add("process_exit", 1);
        for kind in if connects { &KINDS[3..] } else { &KINDS[..3] } {
            add(kind, told.asked);
        }
    }
    for told in people {
        add("process_exec", 1);
        add(if told.storm == "connects" { "net_connect" } else { "process_exec" }, told.asked);
    }
    sums
}

fn recorded(seen: &[Value], whose: impl Fn(&Value) -> bool) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    let inside = |event: &&Value| event["origin"] == "agent" || event["origin"] == "human";
    for event in seen.iter().filter(inside).filter(|event| whose(event)) {
        if let Some(kind) = KINDS.into_iter().find(|kind| event["kind"] == *kind) {
            *sums.entry(kind).or_default() += 1;
        }
    }
    sums
}

fn recorded_sum(seen: &[Value], whose: impl Fn(&Value) -> bool) -> u64 {
    recorded(seen, whose).values().sum()
}

/// As the daemon told it, all places together. The ring buffer knows all connects as one kind, `net`.
fn lost(seen: &[Value]) -> Result<BTreeMap<String, u64>> {
    let mut sums: BTreeMap<String, u64> = BTreeMap::new();
    for event in seen.iter().filter(|event| event["kind"] == "events_lost") {
        for (kind, count) in event["lost"]["ring"].as_object().into_iter().flatten() {
            let kind = if kind == "net" { "net_connect" } else { kind };
            *sums.entry(kind.to_owned()).or_default() += count.as_u64().unwrap_or_default();
        }
        let elsewhere = event["lost"]["unwritten"].as_u64().unwrap_or_default();
        ensure!(elsewhere == 0 && event["lost"]["undecodable"].is_null(), "lost elsewhere: {event}");
    }
    Ok(sums)
}

fn unlabelled(daemon: &Daemon) -> Result<u64> {
    let metrics = daemon.metrics()?;
    let of = |name| metrics.counter(name);
    Ok(of("births_unlabelled")? + of("acts_unlabelled")? + of("label_allocation_failed")?)
}

fn agent(name: &str, launcher: &str) -> String {
    format!(
        "apiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: {name} }}\nspec: {{ owner: tests, role: {name}, match: \
         [ {{ exe: {launcher} }} ] }}\n---\napiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: {name} }}\nspec:\n  \
         mode: enforce\n  network:\n    default: deny\n    rules: []\n---\n"
    )
}

/// Instances of one process of many threads: how many exits and how many ends of the instance were told of each.
pub fn exits(mode: &str, threads: u32, times: u32) -> Result<Vec<(String, u64, u64)>> {
    script(STORM.as_ref(), "#!/bin/sh\nexec \"$@\"\n")?;
    let mut daemon = Daemon::start(&Start {
        documents: agent("storm", STORM),
        mode: Some(mode.to_owned()),
        ..Start::default()
    })?;
    daemon.settle()?;
    let from = daemon.seen.len();
    for _ in 0..times {
        let status = actor(&[STORM], &["--threads".to_owned(), threads.to_string()])?.wait()?;
        ensure!(status.success(), "the actor of many threads failed: {status}");
    }
    daemon.settle()?;
    // Each run is an instance of one process.
    let mut ends: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for event in &daemon.seen[from..] {
        let Some(instance) = event["instance"].as_str() else { continue };
        let (exits, closed) = ends.entry(instance.to_owned()).or_default();
        *exits += u64::from(event["kind"] == "process_exit");
        *closed += u64::from(event["exit"]["instance_ended"] == true);
    }
    ensure!(ends.len() == times as usize, "{} instances of {times} were told", ends.len());
    Ok(ends.into_iter().map(|(instance, (exits, closed))| (instance, exits, closed)).collect())
}

const KINDS: [&str; 4] = ["process_exec", "process_exit", "process_fork", "net_connect"];
const STORM: &str = "/opt/chaperone-storm";
const OTHER: &str = "/opt/chaperone-other";
/// Nobody listens there, and no role names it.
const NOWHERE: &str = "127.0.0.9:9";
