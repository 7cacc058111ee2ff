//! Gaps: an agent tries what its role refuses without pause, while the daemon is killed, restarted, reloaded and
//! replaced. No attempt may pass, neither of an agent that runs nor of one that is just started.

mod agents;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use self::agents::{Agents, Attempts};
use crate::harness::{Daemon, Start};

/// One thing that happened to the daemon, and what the agents tried meanwhile.
#[derive(Debug, Serialize)]
pub struct Row {
    pub case: &'static str,
    /// Connects of agents that ran all the time.
    pub attempts: u64,
    /// Agents that were started, each of which connects once.
    pub started: u64,
    pub passed: u64,
}

/// How much is done.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// How often each thing is done to the daemon.
    pub rounds: u32,
    /// Attempts that every case waits for.
    pub attempts: u64,
}

/// What `cargo xtask bench gaps` does: at least 100,000 attempts in all.
const BENCH: Effort = Effort { rounds: 8, attempts: 15_000 };

/// All cases and the time that a change of policy takes, as one object.
pub fn run(mode: &str) -> Result<Value> {
    let (rows, changes) = perform(mode, BENCH)?;
    let (detached, tried) = rows.split_last().context("no case was tried")?;
    let wrong: u64 = tried.iter().map(|row| row.passed).sum::<u64>() + u64::from(detached.passed == 0);
    let attempts: u64 = tried.iter().map(|row| row.attempts + row.started).sum();
    Ok(
        json!({ "mode": mode, "attempts": attempts, "wrong": wrong, "rows": rows, "policy_change_ms": changes }),
    )
}

/// Does everything; every case under `effort`. The last row is the proof that an attempt can pass at all.
pub fn perform(mode: &str, effort: Effort) -> Result<(Vec<Row>, Value)> {
    let mut agents = Agents::set()?;
    let mut daemon = Daemon::start(&Start {
        documents: documents("deny", ""),
        mode: Some(mode.to_owned()),
        pinned: true,
        // There are more of them than a guest's disk holds.
        settings: "  record: { agent: { processes: false, network: false, argv: false } }\n".to_owned(),
        ..Start::default()
    })?;
    agents.start()?;
    let mut rows = Vec::new();
    for (case, act) in CASES {
        let before = agents.attempts();
        for round in 0..effort.rounds {
            act(&mut daemon, round).with_context(|| format!("{case}, round {}", round + 1))?;
        }
        rows.push(row(case, &agents, before, effort.attempts)?);
    }
    let changes = changes(&mut daemon)?;
    daemon.crash()?;
    let detach = daemon.cli(&["detach"])?;
    ensure!(detach.status.success(), "detach: {}", String::from_utf8_lossy(&detach.stderr));
    let before = agents.attempts();
    let end = Instant::now() + ATTEMPTS_MAX;
    while agents.attempts().passed == before.passed {
        ensure!(Instant::now() < end, "nothing passes without Chaperone either: these agents prove nothing");
        thread::sleep(Duration::from_millis(20));
    }
    rows.push(row("detached, where all passes", &agents, before, 100)?);
    Ok((rows, changes))
}

fn row(case: &'static str, agents: &Agents, before: Attempts, wanted: u64) -> Result<Row> {
    let end = Instant::now() + ATTEMPTS_MAX;
    loop {
        let now = agents.attempts();
        let (attempts, started) = (now.running - before.running, now.started - before.started);
        if attempts >= wanted && started > 0 {
            return Ok(Row { case, attempts, started, passed: now.passed - before.passed });
        }
        ensure!(
            Instant::now() < end,
            "{case}: the agents got to {attempts} attempts and {started} starts only"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

type Act = fn(&mut Daemon, u32) -> Result<()>;

const CASES: &[(&str, Act)] = &[
    ("undisturbed", |_, _| Ok(())),
    ("kill -9", |daemon, _| {
        daemon.crash()?;
        thread::sleep(DEAD);
        daemon.restart(&[])
    }),
    ("restart", |daemon, _| {
        daemon.stop()?;
        daemon.restart(&[])
    }),
    ("kill -9 while it starts", |daemon, round| {
        daemon.crash()?;
        // Sooner and later in its start, the programs loaded anew so that there is something to be cut short.
        daemon.begin(&["--anew"])?;
        thread::sleep(CUT_SHORT * (round + 1));
        daemon.crash()?;
        daemon.restart(&[])
    }),
    ("reload, good files", |daemon, round| {
        daemon.rewrite(&documents("deny", &rules(round)))?;
        let from = daemon.seen.len();
        daemon.wait(from, "policy_changed", |event| event["kind"] == "policy_changed").map(drop)
    }),
    ("reload, bad files", |daemon, round| {
        let from = daemon.seen.len();
        daemon.rewrite(&BAD[round as usize % BAD.len()].replace("ROUND", &round.to_string()))?;
        daemon.wait(from, "policy_rejected", |event| event["kind"] == "policy_rejected").map(drop)
    }),
    ("kill -9 in a reload", |daemon, round| {
        daemon.rewrite(&documents("deny", &rules(round + 1000)))?;
        thread::sleep(Duration::from_millis(u64::from(round)));
        daemon.crash()?;
        daemon.restart(&[])
    }),
    ("changed while it was dead", |daemon, round| {
        daemon.crash()?;
        daemon.rewrite(&documents("deny", &rules(round + 2000)))?;
        daemon.restart(&[])
    }),
    ("restart, bad files", |daemon, round| {
        daemon.stop()?;
        daemon.rewrite(&BAD[round as usize % BAD.len()].replace("ROUND", &(round + 100).to_string()))?;
        daemon.restart(&[])
    }),
    ("upgrade", |daemon, _| {
        daemon.stop()?;
        daemon.restart(&["--anew"])
    }),
    ("upgrade to another contract", |daemon, _| {
        daemon.crash()?;
        daemon.restart_with_another_contract()
    }),
];

/// From the moment a file is written to the first attempt that meets the new policy, both ways, in milliseconds.
fn changes(daemon: &mut Daemon) -> Result<Value> {
    let mut took = Vec::new();
    for round in 0..CHANGES {
        for verdict in ["allow", "deny"] {
            let start = Instant::now();
            daemon.rewrite(&documents(verdict, &rules(round)))?;
            let wanted = verdict == "allow";
            while agents::connects()? != wanted {
                if start.elapsed() > ATTEMPTS_MAX {
                    bail!("the change to {verdict} is not in force after {} s", ATTEMPTS_MAX.as_secs());
                }
            }
            took.push(start.elapsed().as_secs_f64() * 1000.0);
        }
    }
    took.sort_by(f64::total_cmp);
    let at = |share: f64| (took[((took.len() - 1) as f64 * share) as usize] * 10.0).round() / 10.0;
    Ok(json!({ "changes": took.len(), "median": at(0.5), "worst": at(1.0) }))
}

/// Rules that change from round to round and never name what the agents try.
fn rules(round: u32) -> String {
    (0..20)
        .map(|n| format!("      - {{ to: \"10.{}.{n}.0/24:443\", verdict: allow }}\n", round % 250))
        .collect()
}

fn documents(default: &str, rules: &str) -> String {
    let rules = if rules.is_empty() { String::new() } else { format!("    rules:\n{rules}") };
    format!(
        "apiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: gaps }}\nspec: {{ owner: tests, role: gaps, match: \
         [ {{ exe: {} }} ] }}\n---\napiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: gaps }}\nspec:\n  mode: \
         enforce\n  network:\n    default: {default}\n{rules}",
        agents::PROGRAM
    )
}

/// Files that nothing may be put in force from; each differs from round to round, so that each is told.
const BAD: &[&str] = &[
    "apiVersion: chaperone/v1\nkind: Role\nmetadata: { name: gaps }\nspec: { mode: enforc, network: { default: deny } } # ROUND\n",
    "apiVersion: chaperone/v1\nkind: Agent\nmetadata: { name: gaps }\nspec: { owner: tests, role: nothing-ROUND, match: [ { exe: /bin/x } ] }\n",
    "apiVersion: chaperone/v1\nkind: Role\nmetadata: { name: gaps }\nspec:\n  network: { default: allow, rules: [ { to: 10.0.0.0/99 } ] } # ROUND\n",
    "kind: [ half written ROUND",
];

const DEAD: Duration = Duration::from_millis(200);
const CUT_SHORT: Duration = Duration::from_millis(250);
const ATTEMPTS_MAX: Duration = Duration::from_secs(120);
const CHANGES: u32 = 10;
