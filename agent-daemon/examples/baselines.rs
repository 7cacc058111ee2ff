//! What learning costs: a million events, 100,000 endpoints, 50 roles; events per second, memory, size of the store.
//!
//! `cargo run --release -p agent-daemon --example baselines [EVENTS]`; prints one JSON object.

#[path = "../tests/baseline/events.rs"]
mod events;

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use chaperone::baseline::{
    Baselines,
    compare::{Rules, compare},
    context::Context,
    replay::Replay,
    store::Store,
};
use events::{Events, Plan};
use serde_json::json;

fn main() -> Result<()> {
    let lines: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse()).context("EVENTS")?;
    let plan = Plan { roles: 50, endpoints: 2_000, acts: 200, second_step: 1 };
    let (mut events, mut text) = (Events::new(plan, 7), String::new());
    let directory = std::env::temp_dir().join(format!("chaperone-baselines-{}", std::process::id()));
    let path = directory.join("baseline.db");
    let mut store = Store::open(&path)?;
    let mut baselines = Baselines::default();
    let (mut read, mut learn, mut write) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut bytes = 0;
    let memory_before = memory_kib("VmRSS")?;
    for _ in 0..lines / PART {
        text.clear();
        (0..PART).for_each(|_| events.line(&mut text));
        bytes += text.len();
        let began = Instant::now();
        let seen = observations(&text)?;
        read += began.elapsed();
        let began = Instant::now();
        seen.iter().for_each(|seen| drop(baselines.learn(seen)));
        learn += began.elapsed();
        let began = Instant::now();
        store.flush(&mut baselines, &[])?;
        write += began.elapsed();
    }
    let memory = memory_kib("VmRSS")?;
    text.clear();
    (0..PART).for_each(|_| events.line(&mut text));
    let (seen, rules, mut context) = (observations(&text)?, Rules::default(), Context::default());
    let began = Instant::now();
    let found: usize =
        seen.iter().map(|seen| compare(&baselines, &rules, seen, &context.behaviours(seen)).len()).sum();
    let compared = began.elapsed();
    let size = fs::metadata(&path)?.len();
    drop(store);
    let began = Instant::now();
    let loaded = Store::open_existing(&path)?.load()?;
    let load = began.elapsed();
    let sum = |of: fn(&chaperone::baseline::Model) -> u64| loaded.models.values().map(of).sum::<u64>();
    let rate = |count: u64, took: Duration| (count as f64 / took.as_secs_f64()) as u64;
    let report = json!({
        "events": lines,
        "bytes": bytes,
        "events_per_s": rate(lines, read + learn + write),
        "read_per_s": rate(lines, read),
        "learn_per_s": rate(lines, learn),
        "write_s": write.as_secs_f64(),
        "compare_per_s": rate(PART, compared),
        "findings_per_thousand": found as u64 * 1_000 / PART,
        "load_s": load.as_secs_f64(),
        "memory_kib": memory.saturating_sub(memory_before),
        "memory_max_kib": memory_kib("VmHWM")?,
        "store_bytes": size,
        "roles": loaded.models.len(),
        "behaviours": sum(|model| model.len() as u64),
        "folded": sum(|model| model.tally.folded),
        "left_out": sum(|model| model.tally.left_out),
    });
    println!("{report}");
    fs::remove_dir_all(directory)?;
    Ok(())
}

fn observations(text: &str) -> Result<Vec<chaperone::baseline::Observation>> {
    let mut replay = Replay::new(text.as_bytes(), "made", 0, 0);
    let mut all = Vec::new();
    while let Some((_, seen)) = replay.step()? {
        all.push(seen);
    }
    anyhow::ensure!(replay.faults.told.is_empty(), "{:?}", replay.faults);
    Ok(all)
}

fn memory_kib(field: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .context("no such field")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// Events between two writes.
const PART: u64 = 50_000;
