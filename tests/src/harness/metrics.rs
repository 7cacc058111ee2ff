//! What a daemon's metrics say at one moment.

use anyhow::{Context as _, Result, ensure};

use super::Daemon;

/// The text of a scrape.
pub struct Metrics(pub String);

impl Daemon {
    /// Asks for its metrics.
    pub fn metrics(&self) -> Result<Metrics> {
        let output = self.cli(&["metrics"])?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "metrics: {error}; the log: {}", self.log());
        Ok(Metrics(String::from_utf8(output.stdout)?))
    }
}

impl Metrics {
    /// The value of a series, written as `family{label="value"}` with all its labels.
    pub fn value(&self, series: &str) -> Result<f64> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.with_context(|| format!("no {series} in\n{}", self.0))?.parse().context("not a number")
    }

    /// The sum of a family's series.
    #[must_use]
    pub fn family(&self, name: &str) -> f64 {
        let of =
            |line: &str| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once(' ')?.1.parse::<f64>().ok();
        self.0.lines().filter_map(of).sum()
    }

    /// What a counter of the kernel side has counted.
    pub fn counter(&self, name: &str) -> Result<u64> {
        Ok(self.value(&format!("chaperone_kernel_total{{counter=\"{name}\"}}"))? as u64)
    }
}
