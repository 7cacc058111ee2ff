//! Endpoints: every way out.

/// Performs every way, named and not.
pub fn run(_mode: &str) -> anyhow::Result<serde_json::Value> {
    anyhow::bail!("not built yet")
}
