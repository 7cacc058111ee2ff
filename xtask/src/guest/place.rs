//! The directory of one run: its initramfs, its disks, its sockets.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

const PREFIX: &str = "chaperone-guest-";

/// Makes one, gone when dropped; also removes those of runs that were killed.
pub fn make() -> Result<TempDir> {
    sweep();
    let prefix = format!("{PREFIX}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().context("make a directory for the run")
}

/// Best effort: what cannot be read or removed is somebody else's.
fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
