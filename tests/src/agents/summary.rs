//! The numbers of a run, as one JSON object.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::seen::Seen;
use crate::case::Tally;

/// One agent's row; what was not seen is null.
pub fn row(seen: &Seen, mode: &str) -> Value {
    let agent = seen.ran.agent;
    let first = seen.first().ok();
    let tree = seen.tree_of_agent().unwrap_or_default();
    let children = tree.iter().skip(1);
    let own =
        children.clone().filter(|exec| exec["origin"] == "agent" && exec["agent"] == agent.name).count();
    let attempts = seen.attempts().unwrap_or_default();
    json!({
        "agent": agent.title,
        "mode": mode,
        "version": agent.version(),
        "recognised_by": first.map(|exec| &exec["recognised"]),
        "execs": tree.len(),
        "children_agent_percent": percent(own, children.count()),
        "connects": attempts.len(),
        "refused": attempts.iter().filter(|event| event["verdict"] == "deny").count(),
        "seconds": (f64::from(seen.ran.seconds) * 10.0).round() / 10.0,
    })
}

/// Prints the object and leaves it where a benchmark's result is looked for.
pub fn tell(tally: &Tally, rows: &[Value]) -> Result<()> {
    let text = json!({ "held": tally.held, "failed": tally.failed, "rows": rows }).to_string();
    fs::write("/tmp/bench.json", &text).context("write /tmp/bench.json")?;
    println!("{text}");
    Ok(())
}

fn percent(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64 * 1000.0).round() / 10.0)
}
