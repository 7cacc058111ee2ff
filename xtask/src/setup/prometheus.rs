//! Brings Prometheus and promtool, which say whether alerts and dashboards are good: out of Debian's package, which is not installed,
//! since that would start a Prometheus.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::packages;
use crate::cache::Cache;
use crate::step::step;

/// The package's programs that are kept.
const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// The directory with `promtool` and `prometheus`.
pub fn ensure(cache: &Cache) -> Result<PathBuf> {
    if let Some(entry) = cache.find(ENTRY) {
        return Ok(entry);
    }
    step("bringing promtool", || cache.ensure(ENTRY, unpack))
}

fn unpack(entry: &Path) -> Result<()> {
    let work = tempfile::tempdir().context("make a directory for the download")?;
    packages::unpack("prometheus", work.path())?;
    for program in PROGRAMS {
        let place = entry.join(program);
        fs::copy(work.path().join("usr/bin").join(program), &place)
            .with_context(|| format!("take {program}"))?;
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

const ENTRY: &str = "prometheus-1";
