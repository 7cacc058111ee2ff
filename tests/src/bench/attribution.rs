//! Attribution: whose doing a process is.
//!
//! # Layout
//! - [`stage`] files, a terminal with a person, processes that wait; [`rows`] the table; [`score`] seen against true
//! - [`cases`] what runs in every guest, [`older`] than the daemon, [`workers`] of io_uring, [`systemd`] logins and
//!   services; [`handed`] work that is given to something outside the tree
//! - [`trees`] random process trees

pub mod cases;
pub mod handed;
pub mod older;
mod rows;
pub mod score;
pub mod stage;
pub mod systemd;
pub mod trees;
pub mod workers;

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::harness::{Daemon, Start};
use score::Seen;
use stage::Stage;

/// Runs the labelled cases and the random trees.
pub fn run(mode: &str) -> Result<Value> {
    let trees: u64 = match std::env::var("CHAPERONE_TREES") {
        Ok(text) => text.parse().context("CHAPERONE_TREES is a number of processes")?,
        Err(_) => NODES,
    };
    let (seen, handed) = labelled(mode)?;
    let mut report = score::report(&seen);
    eprintln!("cases: {report:#}\nhanded off: {:#}", json!(handed));
    report["handed_off"] = json!(handed);
    report["trees"] = if trees == 0 { Value::Null } else { trees::run(trees, SEED, mode, None)? };
    report["reused_ids"] =
        if trees == 0 { Value::Null } else { trees::run(trees / 20, SEED + 1, mode, Some(700))? };
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    report["kernel"] = json!(kernel.trim());
    report["mode"] = json!(mode);
    Ok(report)
}

/// All cases with known truth, and the ways out of the tree.
fn labelled(mode: &str) -> Result<(Vec<Seen>, Vec<Value>)> {
    let mut stage = Stage::set()?;
    older::before(&mut stage)?;
    let documents = Stage::documents();
    let mut daemon = Daemon::start(&Start { documents, mode: Some(mode.to_owned()), ..Start::default() })?;
    let own = daemon.label(std::process::id())?;
    ensure!(
        own["origin"] == "system",
        "this must be started by the system, outside every terminal, and is {own}"
    );
    let mut seen = step("older", || older::after(&mut stage, &daemon))?;
    seen.extend(step("pairs", || cases::pairs(&mut stage, &daemon))?);
    seen.extend(step("recognised", || cases::recognised(&mut stage, &mut daemon))?);
    seen.extend(step("container", || cases::container(&mut stage, &daemon))?);
    seen.extend(step("typed", || cases::typed(&mut stage, &daemon))?);
    seen.extend(step("reused", || cases::reused(&mut stage, &daemon))?);
    seen.extend(step("workers", || workers::cases(&mut stage, &mut daemon, mode == "lsm"))?);
    let mut handed = step("handed", || handed::ways(&mut stage, &mut daemon))?;
    if handed::has_systemd() {
        let (more, by_cron) = step("systemd", || systemd::cases(&mut stage, &mut daemon))?;
        seen.extend(more);
        handed.extend(by_cron);
    }
    if seen.iter().any(|seen| seen.got == "absent") {
        eprintln!("{}", Stage::complaints());
    }
    Ok((seen, handed))
}

/// One group of cases, left out where `CHAPERONE_CASES` names others.
fn step<T: Default>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    if std::env::var("CHAPERONE_CASES").is_ok_and(|wanted| wanted.split(',').all(|group| group != name)) {
        return Ok(T::default());
    }
    let start = std::time::Instant::now();
    let done = work().with_context(|| format!("the cases {name}"));
    eprintln!("{name}: {:.1} s", start.elapsed().as_secs_f32());
    done
}

const NODES: u64 = 100_000;
const SEED: u64 = 20;
