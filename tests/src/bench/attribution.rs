//! Attribution: whose doing a process is.

/// Runs the labelled cases and the random trees.
pub fn run(_mode: &str) -> anyhow::Result<serde_json::Value> {
    anyhow::bail!("not built yet")
}
