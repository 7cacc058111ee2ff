//! What outlives the daemon: maps and links, pinned in a BPF file system.
//!
//! ```text
//! /sys/fs/bpf/chaperone/            locked by the daemon that runs
//!   CONTRACT/maps/NAME              shared by all builds with this contract
//!   CONTRACT/links/BUILD/PROGRAM    what one build has attached
//! ```
//! A link keeps its program and the program's maps, so programs are not pinned themselves. What was pinned is in force
//! until it is unlinked, whoever lives; a daemon that dies half way leaves directories that the next one completes.

use std::{
    fs::{self, File},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use agent_common::identity::hash_bytes;
use anyhow::{Context as _, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

/// Where the kernel's documentation and everybody else mounts it.
const BPFFS: &str = "/sys/fs/bpf";

/// The pins belong to a daemon that runs.
#[derive(Debug, thiserror::Error)]
#[error("another daemon has what is pinned in {}; end it first", .0.display())]
pub struct Taken(PathBuf);

/// The pins of one contract and build.
pub struct Pins {
    root: PathBuf,
    contract: PathBuf,
    maps: PathBuf,
    links: PathBuf,
    /// Held while the daemon lives: two would fight over the links.
    _lock: Flock<File>,
}

impl Pins {
    /// Opens, or makes, the directories below `root`.
    ///
    /// # Errors
    /// When `root` is not in a BPF file system and none can be mounted, or another daemon has it.
    pub fn open(root: &Path, contract: u64, build: u64) -> Result<Self> {
        let lock = lock(root)?;
        let contract = root.join(format!("{contract:016x}"));
        let links = contract.join("links").join(format!("{build:016x}"));
        let maps = contract.join("maps");
        make(&maps)?;
        make(&links)?;
        Ok(Self { root: root.into(), contract, maps, links, _lock: lock })
    }

    pub fn map(&self, name: &str) -> PathBuf {
        // bpffs takes no dots, and has no reason to.
        self.maps.join(name)
    }

    /// The directory of the maps.
    pub fn maps(&self) -> &Path {
        &self.maps
    }

    pub fn link(&self, program: &str) -> PathBuf {
        self.links.join(program)
    }

    /// Whether anything is attached: by this build, by another, or by one with another contract.
    pub fn has_any(&self) -> bool {
        entries(&self.root)
            .iter()
            .any(|contract| entries(&contract.join("links")).iter().any(|build| !entries(build).is_empty()))
    }

    /// Unlinks what other builds with this contract have attached under a program's name, which this one now does.
    pub fn succeed(&self, program: &str) -> Result<()> {
        for build in entries(&self.contract.join("links")).iter().filter(|build| **build != self.links) {
            let link = build.join(program);
            if link.exists() {
                fs::remove_file(&link).with_context(|| format!("unlink {}", link.display()))?;
            }
        }
        Ok(())
    }

    /// Unlinks what is attached by other builds, and answers with the directories of other contracts, whose maps stay.
    pub fn retire_others(&self) -> Result<Vec<PathBuf>> {
        for build in entries(&self.contract.join("links")).iter().filter(|build| **build != self.links) {
            remove(build)?;
        }
        let mut others = entries(&self.root);
        others.retain(|contract| *contract != self.contract);
        for links in others.iter().map(|contract| contract.join("links")).filter(|links| links.exists()) {
            remove(&links)?;
        }
        Ok(others)
    }
}

/// Whether a program is attached by whatever build, of whatever contract.
pub fn holds(root: &Path, program: &str) -> bool {
    let links = entries(root).into_iter().map(|contract| contract.join("links"));
    links.flat_map(|links| entries(&links)).any(|build| build.join(program).exists())
}

/// Removes everything: from then on nothing is followed and nothing refused. Whether there was anything.
///
/// # Errors
/// When a daemon runs, or something cannot be unlinked.
pub fn remove_all(root: &Path) -> Result<bool> {
    if !root.exists() {
        return Ok(false);
    }
    let _lock = lock(root)?;
    remove(root)?;
    Ok(true)
}

/// A number for the build that attaches: its programs and all that they were given before loading.
pub fn build_number(parts: &[&[u8]]) -> u64 {
    let each: Vec<u8> = parts.iter().flat_map(|part| hash_bytes(part).to_le_bytes()).collect();
    hash_bytes(&each)
}

fn lock(root: &Path) -> Result<Flock<File>> {
    mount_below(root)?;
    make(root)?;
    let directory = File::open(root).with_context(|| format!("open {}", root.display()))?;
    Flock::lock(directory, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => Taken(root.into()).into(),
        other => anyhow::Error::new(other).context(format!("lock {}", root.display())),
    })
}

/// Sees to it that `root` is in a BPF file system.
fn mount_below(root: &Path) -> Result<()> {
    let mut there = root;
    while !there.exists() {
        there = there.parent().context("a pin directory has an absolute path")?;
    }
    let of = |path: &Path| statfs(path).with_context(|| format!("look at {}", path.display()));
    if of(there)?.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    if !root.starts_with(BPFFS) || !Path::new(BPFFS).exists() {
        bail!(
            "{} is not in a BPF file system: mount one there, or set pin_dir below {BPFFS}",
            root.display()
        );
    }
    mount_kernels_own("bpf", BPFFS, Some("mode=0700"))
}

/// Mounts one of the kernel's own file systems at its place.
pub fn mount_kernels_own(kind: &str, at: &str, options: Option<&str>) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some(kind), at, Some(kind), flags, options)
        .with_context(|| format!("mount a file system of type {kind} at {at}"))
}

fn make(directory: &Path) -> Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("make {}", directory.display()))
}

fn remove(directory: &Path) -> Result<()> {
    fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.path()).collect()
}
