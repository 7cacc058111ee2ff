//! Program images by exec id, so that later events of a process can name its executable.

use std::collections::VecDeque;

use super::ids::IdMap;
use crate::event::Name;

/// What a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub exe: Name,
    pub script: Option<Name>,
    /// The process that executed it; its children may run it too.
    pub pid: u32,
}

impl Image {
    /// What was executed: the script where there is one.
    #[must_use]
    pub fn program(&self) -> Name {
        self.script.as_ref().unwrap_or(&self.exe).clone()
    }
}

/// Images that live processes run, and the latest of those that ended.
#[derive(Debug, Default)]
pub struct Images {
    by_exec: IdMap<u64, Image>,
    /// Exec ids whose own process ended; children that it forked may still run the image, so it stays for a while.
    ended: VecDeque<u64>,
}

impl Images {
    /// Notes the image of an exec.
    pub fn insert(&mut self, exec_id: u64, image: Image) {
        if self.by_exec.len() >= IMAGES_MAX {
            // Exits were lost. Whose image is forgotten has no `exe` in its next events: nothing depends on it.
            self.by_exec.clear();
            self.ended.clear();
        }
        self.by_exec.insert(exec_id, image);
    }

    /// Notes that a process ended.
    pub fn ended(&mut self, exec_id: u64, pid: u32) {
        if self.by_exec.get(&exec_id).is_some_and(|image| image.pid == pid) {
            self.ended.push_back(exec_id);
        }
        while self.ended.len() > ENDED_MAX {
            if let Some(oldest) = self.ended.pop_front() {
                self.by_exec.remove(&oldest);
            }
        }
    }

    /// The image of this exec id.
    #[must_use]
    pub fn of(&self, exec_id: u64) -> Option<&Image> {
        self.by_exec.get(&exec_id)
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_exec.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_exec.is_empty()
    }
}

/// As many as a large host has processes; about 150 bytes each.
pub const IMAGES_MAX: usize = 131_072;

/// Images kept after their process ended.
const ENDED_MAX: usize = 8_192;
