//! Whose doing processes are, where nothing but the tree of them tells it.

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{Shared, systemd::all_right};
use crate::{
    bench::attribution::{cases, older, stage::Stage, trees},
    case::{Case, Outcome, case},
    harness::{Daemon, Start},
};

pub const CASES: &[Case<Shared>] = &[case("random trees are followed to their last process", trees)];

/// What the process family's own cases see of the kernel's part, at a larger scale.
pub const FURTHER: &[Case<Shared>] = &[
    case("processes that are older than the daemon keep their origin", older_ones),
    case("who enters an agent's container is not the agent", container),
    case("a process id that is used again brings nothing along", reused),
];

fn older_ones(shared: &mut Shared) -> Result<Outcome> {
    let mut stage = Stage::set()?;
    older::before(&mut stage)?;
    let daemon = start(shared)?;
    all_right(&older::after(&mut stage, &daemon)?)
}

fn container(shared: &mut Shared) -> Result<Outcome> {
    let mut stage = Stage::set()?;
    let daemon = start(shared)?;
    all_right(&cases::container(&mut stage, &daemon)?)
}

fn reused(shared: &mut Shared) -> Result<Outcome> {
    let mut stage = Stage::set()?;
    let daemon = start(shared)?;
    all_right(&cases::reused(&mut stage, &daemon)?)
}

fn trees(shared: &mut Shared) -> Result<Outcome> {
    all_followed(&trees::run(NODES, 1, &shared.mode, None)?)
}

fn start(shared: &Shared) -> Result<Daemon> {
    Daemon::start(&Start {
        documents: Stage::documents(),
        mode: Some(shared.mode.clone()),
        ..Start::default()
    })
}

fn all_followed(report: &Value) -> Result<Outcome> {
    ensure!(report["wrong"] == 0 && report["unseen"] == 0, "{report}");
    ensure!(report["inside"].as_u64().is_some_and(|inside| inside > 0), "no tree began at a root: {report}");
    Ok(Outcome::Held)
}

const NODES: u64 = 5_000;
