//! What builds with another contract have left when they refuse and follow no more: events that nobody has read, and
//! losses that nobody has told. Their pins go when both are recorded.

use std::{
    collections::BTreeMap,
    fs,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use agent_common::{event::Kind, progress::Progress};
use anyhow::{Context as _, Result};

use super::{
    raw::{self, Maps},
    ring::Ring,
};

/// The maps of another contract, to which nothing is attached any more.
pub struct Leftover {
    directory: PathBuf,
    /// Unread events, if the ring buffer can be read.
    pub ring: Option<Ring>,
    /// Event kind → lost in the kernel.
    pub lost: BTreeMap<Kind, u64>,
    /// What its daemon noted, where that has the form of our own note.
    pub progress: Option<OwnedFd>,
}

impl Leftover {
    /// Opens the maps of a contract's pin directory; one that is not there has nothing to say.
    ///
    /// # Errors
    /// When one that is there cannot be opened.
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let pinned = directory.join("maps");
        let mut maps = Maps::Pinned(&pinned);
        let is_there = |name: &str| pinned.join(name).exists();
        let ring = is_there("EVENTS").then(|| maps.take("EVENTS").and_then(Ring::open)).transpose()?;
        let counts = is_there("LOST").then(|| raw::Counts::take(&mut maps, "LOST")).transpose()?;
        // A kind that the other build does not count has no slot there.
        let of =
            |kind: Kind| counts.as_ref().and_then(|counts| counts.get(kind as u32).ok()).unwrap_or_default();
        let lost = Kind::ALL.iter().map(|kind| (*kind, of(*kind))).collect();
        let progress = raw::mappable(&mut maps, "PROGRESS", size_of::<Progress>()).ok();
        Ok(Self { directory: directory.into(), ring, lost, progress })
    }

    /// Lets go of the maps.
    ///
    /// # Errors
    /// When they cannot be unlinked.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.directory).with_context(|| format!("remove {}", self.directory.display()))
    }
}
