//! What was lost since it was last told, kind by kind.

use std::collections::BTreeMap;

use crate::{
    event::local::{Lost, UNDECODABLE},
    kernel::Counters,
};

/// Totals as they were told last.
#[derive(Debug, Default)]
pub struct Losses {
    ring: BTreeMap<String, u64>,
    undecodable: [u64; UNDECODABLE.len()],
    unwritten: u64,
}

impl Losses {
    /// Of a daemon that comes after others: what they have told is not told again.
    pub fn after(told: BTreeMap<String, u64>) -> Self {
        Self { ring: told, ..Self::default() }
    }

    /// Event kind → how many lost in the kernel have been told.
    pub fn told(&self) -> &BTreeMap<String, u64> {
        &self.ring
    }

    /// What the totals have grown by; they are remembered as told.
    pub fn since_last(
        &mut self,
        counters: &Counters,
        undecodable: &[u64; UNDECODABLE.len()],
        unwritten: u64,
    ) -> Lost {
        let mut lost = Lost { unwritten: unwritten.saturating_sub(self.unwritten), ..Lost::default() };
        for (kind, total) in &counters.lost {
            let more = total.saturating_sub(self.ring.get(kind).copied().unwrap_or_default());
            if more > 0 {
                lost.ring.insert(kind.as_str().into(), more);
            }
        }
        for (at, reason) in UNDECODABLE.iter().enumerate() {
            let more = undecodable[at].saturating_sub(self.undecodable[at]);
            if more > 0 {
                lost.undecodable.insert((*reason).into(), more);
            }
        }
        self.ring.clone_from(&counters.lost);
        self.undecodable = *undecodable;
        self.unwritten = unwritten;
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_loss_is_told_once_and_to_the_unit() {
        let mut losses = Losses::default();
        let mut counters = Counters::default();
        counters.lost.insert("process_exec".to_owned(), 3);
        let first = losses.since_last(&counters, &[0, 0, 1, 0, 0], 2);
        assert_eq!((first.ring["process_exec"], first.undecodable["kind"], first.unwritten), (3, 1, 2));
        assert!(losses.since_last(&counters, &[0, 0, 1, 0, 0], 2).is_empty());
        counters.lost.insert("process_exec".to_owned(), 5);
        assert_eq!(losses.since_last(&counters, &[0, 0, 1, 0, 0], 2).ring["process_exec"], 2);
    }
}
