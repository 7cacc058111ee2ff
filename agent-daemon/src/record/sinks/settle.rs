//! What was sent on a connection whose other end acknowledges nothing: believed when its kernel has it, and the connection
//! has stood a while longer.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Batches that are not believed yet, the oldest first.
#[derive(Default)]
pub(super) struct Unsettled {
    batches: VecDeque<One>,
    /// How many bytes had arrived, and since when no more have.
    arrived: Option<(u64, Instant)>,
    /// Something was believed on this connection.
    any: bool,
}

struct One {
    /// Its last record.
    until: u64,
    /// The connection's bytes with it.
    bytes: u64,
    /// Since when the other end's kernel is known to have it.
    since: Option<Instant>,
}

impl Unsettled {
    pub(super) fn push(&mut self, until: u64, bytes: u64) {
        self.batches.push_back(One { until, bytes, since: None });
    }

    /// Whether the other end takes what is sent, as far as can be told.
    pub(super) fn is_taken(&self) -> bool {
        self.any || self.batches.is_empty()
    }

    /// The last record that is to be believed now, if more are than before; the kernel at the other end has so many bytes
    /// of those that were written. While it takes no more of what waits for it, nothing is: nobody reads there.
    pub(super) fn settle(&mut self, arrived: u64, written: u64, now: Instant) -> Option<u64> {
        if self.arrived.is_none_or(|(before, _)| arrived > before) {
            self.arrived = Some((arrived, now));
        }
        let stood = self.arrived.is_some_and(|(_, since)| now.duration_since(since) >= SETTLED);
        if arrived < written && stood {
            self.any = false;
            return None;
        }
        for one in self.batches.iter_mut().take_while(|one| one.bytes <= arrived) {
            one.since.get_or_insert(now);
        }
        let settled = |one: &&One| one.since.is_some_and(|since| now.duration_since(since) >= SETTLED);
        let settled = self.batches.iter().take_while(settled).count();
        let last = self.batches.drain(..settled).next_back().map(|one| one.until);
        self.any |= last.is_some();
        last
    }
}

/// A connection has to stand so long after the other end's kernel has a record: one that broke within that may have taken
/// what lay there along, and has it sent again.
const SETTLED: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_believed_when_it_has_arrived_and_the_connection_has_stood() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut unsettled = Unsettled::default();
        unsettled.push(10, 100);
        unsettled.push(20, 200);
        assert!(!unsettled.is_taken());
        assert_eq!(unsettled.settle(99, 99, at(60)), None);
        assert_eq!(unsettled.settle(150, 150, at(61)), None);
        // A batch of which the sink wants nothing.
        unsettled.push(30, 200);
        assert_eq!(unsettled.settle(150, 150, at(63)), None);
        assert_eq!(unsettled.settle(199, 200, at(64)), Some(10));
        assert!(unsettled.is_taken());
        assert_eq!(unsettled.settle(200, 200, at(66)), None);
        assert_eq!(unsettled.settle(200, 200, at(69)), Some(30));
        assert_eq!(unsettled.settle(200, 200, at(99)), None);
    }

    #[test]
    fn nothing_is_believed_while_the_other_end_takes_no_more() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut unsettled = Unsettled::default();
        unsettled.push(10, 100);
        unsettled.push(20, 200);
        for seconds in 0..30 {
            assert_eq!(unsettled.settle(150, 200, at(seconds)), None, "{seconds}");
        }
        assert!(!unsettled.is_taken());
        // It reads again.
        assert_eq!(unsettled.settle(180, 200, at(30)), Some(10));
        assert!(unsettled.is_taken());
        assert_eq!(unsettled.settle(200, 200, at(31)), None);
        assert_eq!(unsettled.settle(200, 200, at(34)), Some(20));
    }
}
