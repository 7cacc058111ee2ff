//! What Prometheus' own tool says of alerts and dashboards.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::steps::{Outcome, command};
use crate::cache::Cache;
use crate::product;
use crate::setup::prometheus;

/// Checks the rules, tests them, and checks every expression of every dashboard, as rules of their own.
pub fn perform(cache: &Cache) -> Result<Outcome> {
    let tool = prometheus::ensure(cache)?.join("promtool");
    let dashboards = product::root().join("dashboards");
    let work = tempfile::tempdir().context("make a directory for the dashboards' expressions")?;
    let shown = work.path().join("dashboards.rules.yaml");
    fs::write(&shown, rules(&dashboards)?).context("write the dashboards' expressions")?;

    let mut all = Outcome { passed: true, text: String::new() };
    let shown = shown.to_string_lossy();
    for arguments in
        [["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"], ["check", "rules", &shown]]
    {
        let one = command(Command::new(&tool).args(arguments).current_dir(&dashboards))?;
        all.passed &= one.passed;
        all.text += &one.text;
    }
    Ok(all)
}

/// The expressions of all panels as recording rules: JSON, which is YAML too.
fn rules(dashboards: &Path) -> Result<String> {
    let mut rules = Vec::new();
    for file in fs::read_dir(dashboards).context("read dashboards/")? {
        let path = file?.path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let board: Value = serde_json::from_str(&fs::read_to_string(&path)?)
            .with_context(|| format!("{} is no JSON", path.display()))?;
        for panel in board["panels"].as_array().into_iter().flatten() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expr = target["expr"].as_str().with_context(|| format!("{}: no expr", path.display()))?;
                rules.push(json!({ "record": format!("shown:{}", rules.len()), "expr": expr }));
            }
        }
    }
    Ok(serde_json::to_string_pretty(&json!({ "groups": [{ "name": "dashboards", "rules": rules }] }))?)
}
