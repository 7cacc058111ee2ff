//! Disks of a case's own, which can be filled, made read-only, and frozen.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

/// Mounted at its place until it is dropped.
pub struct Disk(pub PathBuf);

impl Disk {
    /// 8 MiB.
    pub fn tmpfs() -> Result<Self> {
        Self::mount(&["-t", "tmpfs", "-o", "size=8m", "small"])
    }

    /// 64 MiB, on a file.
    pub fn ext4() -> Result<Self> {
        let image = "/run/chaperone-disk.img";
        File::create(image).and_then(|file| file.set_len(64 << 20)).context("make a disk")?;
        // Nobody makes the node that would have it loaded.
        run("modprobe", &["loop"])?;
        run("mke2fs", &["-q", "-F", "-t", "ext4", image])?;
        Self::mount(&["-t", "ext4", "-o", "loop", image])
    }

    fn mount(what: &[&str]) -> Result<Self> {
        let place = PathBuf::from("/run/chaperone-small");
        fs::create_dir_all(&place)?;
        let name = place.display().to_string();
        run("mount", &[what, &[&name]].concat())?;
        Ok(Self(place))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: what failed may still hold it.
        drop(run("umount", &["-l", &self.0.display().to_string()]));
    }
}

/// A file system that takes no write; it goes on when this is dropped.
pub struct Frozen<'a>(&'a Path);

impl<'a> Frozen<'a> {
    pub fn freeze(place: &'a Path) -> Result<Self> {
        run("fsfreeze", &["-f", &place.display().to_string()])?;
        Ok(Self(place))
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        drop(run("fsfreeze", &["-u", &self.0.display().to_string()]));
    }
}

/// Runs a program to its end, which must be a good one.
pub fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let status = Command::new(program).args(arguments).status().with_context(|| format!("run {program}"))?;
    ensure!(status.success(), "{program} {arguments:?} failed");
    Ok(())
}
