//! Where events go: the journal, those who follow, and the counters.

pub mod followers;
pub mod format;
pub mod journal;
pub mod metrics;
pub mod progress;
pub mod scope;
pub mod severity;
pub mod sinks;

use self::{followers::Followers, journal::Journal, metrics::Metrics};
use crate::event::{Event, local::UNDECODABLE};

/// All sinks, written to by the pipeline alone.
#[derive(Debug)]
pub struct Recorder {
    pub journal: Option<Journal>,
    pub followers: Followers,
    pub metrics: Metrics,
    /// Numbers events where there is no journal.
    seq: u64,
    line: Vec<u8>,
}

impl Recorder {
    /// With no journal, events go to followers and counters only.
    #[must_use]
    pub fn new(journal: Option<Journal>) -> Self {
        Self {
            journal,
            followers: Followers::default(),
            metrics: Metrics::default(),
            seq: 0,
            line: Vec::with_capacity(4096),
        }
    }

    /// Numbers the event and hands it to every sink; whether the journal did not have it already, of a daemon before.
    /// What has to reach the disk does so at [`Recorder::flush`].
    pub fn append(&mut self, event: &mut Event) -> bool {
        self.metrics.recorded += 1;
        match &mut self.journal {
            Some(journal) => {
                if !journal.append(event, &mut self.line) {
                    return false;
                }
                self.offer_own();
            }
            None => self.number(event),
        }
        self.followers.offer(event, &self.line);
        true
    }

    /// Hands an event to every sink if the journal takes it, and at once; whether it did.
    pub fn append_if_written(&mut self, event: &mut Event) -> bool {
        match &mut self.journal {
            Some(journal) => {
                if !journal.write_alone(event, &mut self.line) {
                    return false;
                }
                self.offer_own();
            }
            None => self.number(event),
        }
        self.metrics.recorded += 1;
        self.followers.offer(event, &self.line);
        true
    }

    /// What is to be done every second or so.
    pub fn tick(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.tick();
            self.offer_own();
        }
        self.followers.sweep();
    }

    /// The end, in order: the journal is signed and on the disk, and followers read the last records and then the end.
    pub fn end(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.end();
            self.offer_own();
        }
        self.followers = Followers::default();
    }

    fn number(&mut self, event: &mut Event) {
        self.seq += 1;
        event.seq = self.seq;
        self.line.clear();
        event.write_line(&mut self.line);
    }

    fn offer_own(&mut self) {
        let Some(journal) = &mut self.journal else { return };
        for (event, line) in journal.take_own() {
            self.metrics.recorded += 1;
            self.followers.offer(&event, &line);
        }
    }

    /// The number of the last recorded event, or the last in the file.
    #[must_use]
    pub fn newest(&self) -> u64 {
        self.journal.as_ref().map_or(self.seq, |journal| journal.standing_of_journal().seq)
    }

    /// Counts a record that could not be decoded.
    pub fn undecodable(&mut self, reason: &str) {
        let Some(at) = UNDECODABLE.iter().position(|known| *known == reason) else { return };
        self.metrics.undecodable[at] += 1;
        if let Some(journal) = &mut self.journal {
            journal.progress().change(|account| account.undecodable[at] += 1);
        }
    }

    /// Ends a batch: what was appended is written.
    pub fn flush(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.flush();
        }
    }
}
