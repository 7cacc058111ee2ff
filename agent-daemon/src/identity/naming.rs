//! Files as the kernel names them: a path to device and inode, and the directories where a new one may appear.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{File, OpenOptions},
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use agent_common::identity::FileKey;
use anyhow::{Context as _, Result};

/// A file that identifies an agent, as it lies there now.
#[derive(Clone, Debug)]
pub struct Found {
    /// Key of `FILES`.
    pub key: FileKey,
    /// `i_generation` where the file system shows it, else 0.
    pub generation: u32,
    /// The path with every symlink resolved.
    pub canonical: PathBuf,
}

/// Resolves paths in the host's mount namespace.
pub struct Files {
    /// Mount id → `s_dev` in the kernel's encoding. st_dev will not do: btrfs gives each subvolume its own.
    devices: HashMap<u64, u32>,
}

impl Files {
    /// Reads the mounts as they are now.
    pub fn now() -> Self {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let devices = text
            .lines()
            .filter_map(|line| {
                let mut fields = line.split(' ');
                let id = fields.next()?.parse().ok()?;
                let (major, minor) = fields.nth(1)?.split_once(':')?;
                Some((id, kernel_dev(major.parse().ok()?, minor.parse().ok()?)))
            })
            .collect();
        Self { devices }
    }

    /// Inode number and device of the file at a path, as `FILES` is keyed.
    #[must_use]
    pub fn identity(&self, path: &Path) -> Option<(u64, u32)> {
        self.found_at(path).map(|(identity, _)| identity)
    }

    /// Identity and path of the file that a process's argument names, below its own root and working directory.
    #[must_use]
    pub fn argument(&self, proc: &Path, argument: &str) -> Option<((u64, u32), PathBuf)> {
        let path = match argument.strip_prefix('/') {
            Some(below) => proc.join("root").join(below),
            None => proc.join("cwd").join(argument),
        };
        self.found_at(&path)
    }

    /// Identity and path, behind every symlink as an exec would find it.
    fn found_at(&self, path: &Path) -> Option<((u64, u32), PathBuf)> {
        // Not opened: it may be a device that acts on that, or a pipe that waits for its other end.
        let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH).open(path).ok()?;
        let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        Some(((metadata.ino(), self.device(&file, &metadata)), path))
    }

    fn device(&self, file: &File, metadata: &std::fs::Metadata) -> u32 {
        mount_id(file).and_then(|id| self.devices.get(&id).copied()).unwrap_or_else(|| {
            kernel_dev(nix::libc::major(metadata.dev()) as u32, nix::libc::minor(metadata.dev()) as u32)
        })
    }

    /// What identifies an open file, with its generation.
    #[must_use]
    pub fn of_open(&self, file: &File) -> Option<(FileKey, u32)> {
        let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let key = FileKey { ino: metadata.ino(), dev: self.device(file, &metadata), generation: 0 };
        Some((key, generation(file)))
    }

    /// The file at a path, symlinks followed; `None` when there is none.
    pub fn find(&self, path: &Path) -> Option<Found> {
        let file = File::open(path).ok()?;
        let (key, generation) = self.of_open(&file)?;
        let canonical = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        Some(Found { key, generation, canonical })
    }
}

/// MKDEV of linux/kdev_t.h.
fn kernel_dev(major: u32, minor: u32) -> u32 {
    (major << 20) | (minor & 0xf_ffff)
}

fn mount_id(file: &File) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

fn generation(file: &File) -> u32 {
    nix::ioctl_read!(get_version, b'v', 1, nix::libc::c_long);
    let mut version: nix::libc::c_long = 0;
    // SAFETY: FS_IOC_GETVERSION writes a number of at most this size.
    match unsafe { get_version(file.as_raw_fd(), &raw mut version) } {
        Ok(_) => version as u32,
        Err(_) => 0,
    }
}

/// Directories to watch so that a file which is replaced, appears, or is pointed at anew is seen: those of the path
/// as it was written and of every step of its symlinks.
pub fn directories(path: &Path) -> BTreeSet<PathBuf> {
    let mut directories = BTreeSet::new();
    let mut path = path.to_path_buf();
    for _ in 0..16 {
        if let Some(parent) = path.ancestors().skip(1).find(|parent| parent.is_dir()) {
            directories.insert(parent.to_path_buf());
        }
        match std::fs::read_link(&path) {
            Ok(to) if to.is_absolute() => path = to,
            Ok(to) => path = path.parent().unwrap_or(Path::new("/")).join(to),
            Err(_) => break,
        }
    }
    directories
}

/// Where the unified hierarchy is mounted.
pub fn cgroup_root() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").context("read /proc/self/mountinfo")?;
    mounts
        .lines()
        .filter(|line| line.split(" - ").nth(1).is_some_and(|tail| tail.starts_with("cgroup2 ")))
        .find_map(|line| line.split(' ').nth(4).map(PathBuf::from))
        .context("no cgroup v2 hierarchy is mounted: mount -t cgroup2 none /sys/fs/cgroup")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symlink_and_its_file_are_one() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("run");
        std::fs::write(&file, "x").unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let files = Files::now();
        assert_eq!(files.find(&file).unwrap().key, files.find(&link).unwrap().key);
        assert!(files.find(&directory.path().join("missing")).is_none());
        assert!(directories(&link).contains(directory.path()));
    }

    #[test]
    fn a_missing_directory_is_watched_from_the_nearest_one_above() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("later/bin/run");
        assert!(directories(&path).contains(directory.path()));
    }
}
