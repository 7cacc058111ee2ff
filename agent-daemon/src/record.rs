//! Where events go: the file, those who follow, and the counters.

pub mod file;
pub mod followers;
pub mod metrics;
pub mod progress;
pub mod scope;

use self::{file::File, followers::Followers, metrics::Metrics};
use crate::event::{Event, local::UNDECODABLE};

/// All sinks, written to by the pipeline alone.
#[derive(Debug)]
pub struct Recorder {
    pub file: Option<File>,
    pub followers: Followers,
    pub metrics: Metrics,
    seq: u64,
    line: Vec<u8>,
}

impl Recorder {
    /// With no file, events go to followers and counters only.
    #[must_use]
    pub fn new(file: Option<File>) -> Self {
        Self {
            file,
            followers: Followers::default(),
            metrics: Metrics::default(),
            seq: 0,
            line: Vec::with_capacity(4096),
        }
    }

    /// Numbers the event and hands it to every sink; whether the file did not have it already, of a daemon before. What
    /// has to reach the disk does so at [`Recorder::flush`].
    pub fn append(&mut self, event: &mut Event) -> bool {
        self.seq += 1;
        event.seq = self.seq;
        self.metrics.recorded += 1;
        self.line.clear();
        event.write_line(&mut self.line);
        let is_new = self.file.as_mut().is_none_or(|file| file.append(&self.line));
        self.followers.offer(event, &self.line);
        is_new
    }

    /// Hands an event to every sink if the file takes it, and at once; whether it did.
    pub fn append_if_written(&mut self, event: &mut Event) -> bool {
        event.seq = self.seq + 1;
        self.line.clear();
        event.write_line(&mut self.line);
        if self.file.as_mut().is_some_and(|file| !file.write_alone(&self.line)) {
            return false;
        }
        self.seq += 1;
        self.metrics.recorded += 1;
        self.followers.offer(event, &self.line);
        true
    }

    /// Counts a record that could not be decoded.
    pub fn undecodable(&mut self, reason: &str) {
        let Some(at) = UNDECODABLE.iter().position(|known| *known == reason) else { return };
        self.metrics.undecodable[at] += 1;
        if let Some(file) = &mut self.file {
            file.progress().change(|account| account.undecodable[at] += 1);
        }
    }

    /// Ends a batch: what was appended is written.
    pub fn flush(&mut self) {
        if let Some(file) = &mut self.file {
            file.flush();
        }
    }
}
