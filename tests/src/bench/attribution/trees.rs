//! Random process trees, checked against what every node wrote down of itself.
//!
//! Each process that belongs to an instance tells its end, with the label it had. So every node below a root must have
//! such an end, with its root's instance; every node outside of all roots must have none.

use std::{collections::HashMap, fs, process::Command, time::Instant};

use anyhow::{Context as _, Result, ensure};
use nix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::{Value, json};

use super::stage::HOME;
use crate::{
    bench::clock,
    harness::{Daemon, Start, program},
};

/// Between two looks at the events: what the ring buffer and this program's memory hold with ease.
const BATCH: u64 = 2_000;
const ROOTS: [&str; 3] = ["oak", "elm", "fir"];
/// How far apart the clocks are read at worst: the daemon's two and ours may both have been disturbed.
const SLACK_NS: u64 = 20_000_000;

/// What a node wrote down.
#[derive(Debug, Deserialize)]
struct Node {
    #[serde(default)]
    pid: u32,
    /// ns since boot when it wrote: its end comes after, and the next that has its id has not been born.
    #[serde(default)]
    alive: u64,
    #[serde(default)]
    root: String,
    #[serde(default)]
    tree: u64,
    failed: Option<String>,
}

/// The end of a process that an agent's instance had.
#[derive(Debug)]
struct End {
    /// ns since boot.
    at: u64,
    instance: String,
    agent: String,
    claimed: bool,
}

#[derive(Debug, Default)]
struct Tally {
    nodes: u64,
    checked: u64,
    inside: u64,
    wrong: u64,
    unseen: u64,
    examples: Vec<String>,
}

/// Grows trees of so many processes in all, with process ids below `pid_max` if one is given.
pub fn run(nodes: u64, seed: u64, mode: &str, pid_max: Option<u32>) -> Result<Value> {
    let home = format!("{HOME}-trees");
    fs::create_dir_all(&home)?;
    let own = program("chaperone-tests")?;
    let mut documents = String::from(
        "apiVersion: chaperone/v1\nkind: Role\nmetadata: { name: watched }\nspec: { mode: observe, network: { default: \
         allow } }\n",
    );
    for root in ROOTS {
        fs::copy(&own, format!("{home}/{root}")).context("copy the tests' program")?;
        documents += &format!(
            "---\napiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: {root} }}\nspec: {{ owner: \
             tests@example.com, role: watched, match: [ {{ exe: {home}/{root} }} ] }}\n"
        );
    }
    let former = fs::read_to_string(PID_MAX)?;
    if let Some(max) = pid_max {
        fs::write(PID_MAX, max.to_string())?;
    }
    let start = Instant::now();
    let mut daemon = Daemon::start(&Start { documents, mode: Some(mode.to_owned()), ..Start::default() })?;
    let mut tally = Tally::default();
    let grown = (0..nodes.div_ceil(BATCH)).try_for_each(|batch| {
        let left = (nodes - batch * BATCH).min(BATCH);
        grow(&mut daemon, &home, seed.wrapping_add(batch), left, &mut tally)
    });
    fs::write(PID_MAX, former.trim())?;
    drop(fs::remove_dir_all(&home));
    grown?;
    Ok(json!({
        "nodes": tally.nodes,
        "checked": tally.checked,
        "inside": tally.inside,
        "wrong": tally.wrong,
        "unseen": tally.unseen,
        "examples": tally.examples,
        "seed": seed,
        "pid_max": pid_max,
        "seconds": start.elapsed().as_secs(),
    }))
}

fn grow(daemon: &mut Daemon, home: &str, seed: u64, nodes: u64, tally: &mut Tally) -> Result<()> {
    daemon.settle()?;
    daemon.seen.clear();
    let log = format!("{home}/log");
    drop(fs::remove_file(&log));
    let mut command = Command::new(program("chaperone-tests")?);
    command.args(["act", "tree", "--log", &log, "--seed", &seed.to_string(), "--nodes", &nodes.to_string()]);
    for root in ROOTS {
        command.args(["--root", &format!("{root}={home}/{root}")]);
    }
    let output = command.output().context("grow trees")?;
    ensure!(output.status.success(), "trees: {}", String::from_utf8_lossy(&output.stderr));
    let mut grown: Vec<Node> = Vec::new();
    for line in fs::read_to_string(&log)?.lines() {
        grown.push(serde_json::from_str(line).with_context(|| format!("a node wrote {line}"))?);
    }
    if let Some(failed) = grown.iter().find_map(|node| node.failed.as_deref()) {
        tally.fault(format!("a node could not be born: {failed}"));
    }
    grown.retain(|node| node.failed.is_none());
    daemon.settle()?;
    let lost = daemon.seen.iter().any(|event| event["kind"] == "events_lost");
    check(&grown, ends(&daemon.seen)?, lost, tally);
    Ok(())
}

/// The ends of agents' processes by process id, in the order of time.
fn ends(events: &[Value]) -> Result<HashMap<u32, Vec<End>>> {
    let boot = boot()?;
    let mut ends: HashMap<u32, Vec<End>> = HashMap::new();
    for event in events.iter().filter(|event| event["kind"] == "process_exit") {
        let time = event["time"].as_str().and_then(clock::unix_ns).context("an event without a time")?;
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let pid =
            event["pid"].as_u64().and_then(|pid| pid.try_into().ok()).context("an event without a pid")?;
        ends.entry(pid).or_default().push(End {
            at: time.wrapping_sub(boot),
            instance: text("instance"),
            agent: text("agent"),
            claimed: false,
        });
    }
    for ends in ends.values_mut() {
        ends.sort_by_key(|end| end.at);
    }
    Ok(ends)
}

fn check(grown: &[Node], mut ends: HashMap<u32, Vec<End>>, lost: bool, tally: &mut Tally) {
    let mut lives: HashMap<u32, Vec<&Node>> = HashMap::new();
    for node in grown {
        lives.entry(node.pid).or_default().push(node);
    }
    let mut known = Known::default();
    for (pid, mut nodes) in lives {
        nodes.sort_by_key(|node| node.alive);
        let mut none = Vec::new();
        let ends = ends.get_mut(&pid).unwrap_or(&mut none);
        for (at, node) in nodes.iter().enumerate() {
            tally.nodes += 1;
            let from = node.alive.saturating_sub(SLACK_NS);
            let until = nodes.get(at + 1).map_or(u64::MAX, |next| next.alive);
            let end = ends.iter_mut().find(|end| !end.claimed && (from..until).contains(&end.at));
            match (node.agent(), end) {
                (None, None) => tally.checked += 1,
                (None, Some(end)) => {
                    end.claimed = true;
                    tally.fault(format!("{node:?} is outside and ended as {end:?}"));
                }
                (Some(_), None) if lost => tally.unseen += 1,
                (Some(_), None) => tally.fault(format!("{node:?} has no end in any instance")),
                (Some(agent), Some(end)) => {
                    end.claimed = true;
                    tally.checked += 1;
                    tally.inside += 1;
                    if end.agent != agent || !known.fits(node, end) {
                        tally.fault(format!("{node:?} ended as {end:?}"));
                    }
                }
            }
        }
    }
    for (pid, ends) in ends {
        for end in ends.iter().filter(|end| !end.claimed) {
            tally.fault(format!("process {pid} is no node and ended as {end:?}"));
        }
    }
}

/// Which root has which instance.
#[derive(Default)]
struct Known {
    instances: HashMap<String, String>,
    /// Agent and tree of an instance. An agent that executes its own program stays in its instance, so two roots of
    /// one agent in one tree may share it; roots of different agents or trees never do.
    roots: HashMap<String, (String, u64)>,
}

impl Known {
    fn fits(&mut self, node: &Node, end: &End) -> bool {
        let instance = self.instances.entry(node.root.clone()).or_insert_with(|| end.instance.clone());
        let root = self.roots.entry(end.instance.clone()).or_insert_with(|| (end.agent.clone(), node.tree));
        *instance == end.instance && root.0 == end.agent && root.1 == node.tree
    }
}

impl Node {
    /// The agent whose instance it belongs to; none outside of all roots.
    fn agent(&self) -> Option<&str> {
        self.root.split_once('#').map(|(agent, _)| agent)
    }
}

impl Tally {
    fn fault(&mut self, what: String) {
        self.wrong += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(what);
        }
    }
}

/// When this host was booted, as the wall clock has it: of several looks the one that was least disturbed.
fn boot() -> Result<u64> {
    let mut best = (u64::MAX, 0);
    for _ in 0..50 {
        let before = nanoseconds(ClockId::CLOCK_BOOTTIME)?;
        let now = nanoseconds(ClockId::CLOCK_REALTIME)?;
        let after = nanoseconds(ClockId::CLOCK_BOOTTIME)?;
        let took = after.saturating_sub(before);
        best = best.min((took, now.wrapping_sub(before + took / 2)));
    }
    Ok(best.1)
}

fn nanoseconds(clock: ClockId) -> Result<u64> {
    let now = clock_gettime(clock).context("read a clock")?;
    Ok(now.tv_sec() as u64 * 1_000_000_000 + now.tv_nsec() as u64)
}

const EXAMPLES_MAX: usize = 20;
const PID_MAX: &str = "/proc/sys/kernel/pid_max";
