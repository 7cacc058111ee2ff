//! What an operator wants to know of a journal.

use super::Journal;

/// How it stands at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Standing {
    /// The last record.
    pub seq: u64,
    /// Records since the last checkpoint.
    pub unsigned: u64,
    pub sync_failures: u64,
    /// How often segments were removed before their time.
    pub removed_early: u64,
}

impl Journal {
    /// How it stands now.
    #[must_use]
    pub fn standing_of_journal(&self) -> Standing {
        Standing {
            seq: self.tail.seq,
            unsigned: self.tail.seq.saturating_sub(self.signed),
            sync_failures: self.sync.failures(),
            removed_early: self.removed_early,
        }
    }
}
