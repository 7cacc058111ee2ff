//! Who showed a behaviour and when, day by day and instance by instance, so that it can be forgotten exactly.
//!
//! At most [`ENTRIES_MAX`] pairs of a day and an instance are kept. A new instance or a new day beyond takes the place of
//! a pair that says nothing which others do not say; the acts of a pair without a place are counted in `rest`. Support is
//! judged by kept pairs alone, so that forgetting is exact for it; of the count, `rest` is what cannot be told apart.

use std::{cmp::Ordering, collections::BTreeSet};

use serde::{Deserialize, Serialize};

use crate::event::word::{InstanceId, Time};

/// An instance: ids are unique within a boot, and a source is one boot of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct By {
    /// Its place in the model's list of sources.
    pub source: u32,
    pub instance: InstanceId,
}

/// What one instance did on one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry {
    /// Days since 1970, UTC.
    pub day: u32,
    pub by: By,
    pub count: u64,
}

/// All that is known of one behaviour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    pub first: Time,
    pub last: Time,
    /// Sorted by day and instance.
    pub entries: Vec<Entry>,
    /// Acts whose day and instance are not kept.
    pub rest: u64,
    /// Changed since the store was last written.
    pub changed: bool,
}

/// How broad the evidence is: exact, or at least so much where `at_least`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Breadth {
    pub count: u64,
    pub instances: usize,
    pub days: usize,
    pub at_least: bool,
}

impl Evidence {
    /// One more act.
    pub fn add(&mut self, time: Time, by: By) {
        self.span(time, time);
        self.add_entry(Entry { day: day(time), by, count: 1 });
    }

    /// Widens the time between first and last; a clock that was set back widens it backwards.
    pub fn span(&mut self, first: Time, last: Time) {
        let empty = self.entries.is_empty() && self.rest == 0;
        self.first = if empty { first } else { self.first.min(first) };
        self.last = if empty { last } else { self.last.max(last) };
        self.changed = true;
    }

    fn add_entry(&mut self, entry: Entry) {
        let key = |entry: &Entry| (entry.day, entry.by);
        match self.entries.binary_search_by_key(&key(&entry), key) {
            Ok(at) => self.entries[at].count = self.entries[at].count.saturating_add(entry.count),
            Err(at) if self.entries.len() < ENTRIES_MAX => self.entries.insert(at, entry),
            Err(_) => match self.place_for(&entry) {
                Some(gone) => {
                    let gone = self.entries.remove(gone);
                    self.rest = self.rest.saturating_add(gone.count);
                    let at = self.entries.partition_point(|there| key(there) < key(&entry));
                    self.entries.insert(at, entry);
                }
                None => self.rest = self.rest.saturating_add(entry.count),
            },
        }
    }

    /// The entry that gives way to one of a new instance or a new day: one whose day and instance are there elsewhere.
    /// Where there is none, a new day may cost an instance up to [`DAYS_KEPT`] days, and a new instance a day above
    /// that: so neither a crowd on one day nor one instance on many days hides that there were others.
    fn place_for(&self, entry: &Entry) -> Option<usize> {
        let spare_day = |at: &Entry| self.entries.iter().filter(|there| there.day == at.day).count() > 1;
        let spare_instance = |at: &Entry| self.entries.iter().filter(|there| there.by == at.by).count() > 1;
        let new_day = self.entries.iter().all(|there| there.day != entry.day);
        let new_instance = self.entries.iter().all(|there| there.by != entry.by);
        if !new_day && !new_instance {
            return None;
        }
        let find = |spare: &dyn Fn(&Entry) -> bool| self.entries.iter().position(spare);
        find(&|at| spare_day(at) && spare_instance(at)).or_else(|| {
            let days = self.entries.iter().map(|there| there.day).collect::<BTreeSet<_>>().len();
            match days.cmp(&DAYS_KEPT) {
                Ordering::Less if new_day => find(&spare_day),
                Ordering::Greater if new_instance => find(&spare_instance),
                _ => None,
            }
        })
    }

    /// Takes in what another baseline knows of the same behaviour. A pair that both have is of the same acts: the greater
    /// count holds, and so it does of `rest`. Merging the same twice changes nothing the second time.
    pub fn merge(&mut self, other: &Self, source: impl Fn(u32) -> u32) {
        self.span(other.first, other.last);
        for entry in &other.entries {
            let entry = Entry { by: By { source: source(entry.by.source), ..entry.by }, ..*entry };
            match self.entries.iter_mut().find(|there| there.day == entry.day && there.by == entry.by) {
                Some(there) => there.count = there.count.max(entry.count),
                None => self.add_entry(entry),
            }
        }
        self.rest = self.rest.max(other.rest);
    }

    /// Adds up with evidence of another behaviour, where both are folded into one.
    pub fn join(&mut self, other: &Self) {
        self.span(other.first, other.last);
        other.entries.iter().for_each(|entry| self.add_entry(*entry));
        self.rest = self.rest.saturating_add(other.rest);
    }

    /// Removes entries; whether there were any.
    pub fn forget(&mut self, which: impl Fn(&Entry) -> bool) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| !which(entry));
        let any = self.entries.len() < before;
        if any {
            self.changed = true;
            // Times are kept for all of it; days are what is left that is certain.
            if let (Some(first), Some(last)) = (self.entries.first(), self.entries.last()) {
                self.first = self.first.max(Time(u64::from(first.day) * DAY_NS));
                self.last = self.last.min(Time(u64::from(last.day) * DAY_NS + DAY_NS - 1));
            }
        }
        any
    }

    /// Whether no instance is left that showed it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The only instance that showed it, if it was one.
    #[must_use]
    pub fn only(&self) -> Option<By> {
        let by = self.entries.first()?.by;
        (self.rest == 0 && self.entries.iter().all(|entry| entry.by == by)).then_some(by)
    }

    /// Acts.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.entries.iter().fold(self.rest, |sum, entry| sum.saturating_add(entry.count))
    }

    /// How often, by how many instances, on how many days.
    #[must_use]
    pub fn breadth(&self) -> Breadth {
        Breadth {
            count: self.count(),
            instances: self.entries.iter().map(|entry| entry.by).collect::<BTreeSet<_>>().len(),
            days: self.entries.iter().map(|entry| entry.day).collect::<BTreeSet<_>>().len(),
            at_least: self.rest > 0,
        }
    }
}

/// Days since 1970, UTC.
#[must_use]
pub fn day(time: Time) -> u32 {
    u32::try_from(time.0 / DAY_NS).unwrap_or(u32::MAX)
}

/// One day.
pub const DAY_NS: u64 = 86_400 * 1_000_000_000;
/// Pairs of a day and an instance that are kept of a behaviour: support asks for a few, and what is kept costs 32 bytes.
pub const ENTRIES_MAX: usize = 32;
/// As many different days are worth an instance each.
const DAYS_KEPT: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn by(instance: u64) -> By {
        By { source: 0, instance: InstanceId(instance) }
    }

    fn at(day: u64) -> Time {
        Time(day * DAY_NS + 5)
    }

    #[test]
    fn within_the_bound_all_is_exact() {
        let mut evidence = Evidence::default();
        for (day, instance) in [(2, 1), (1, 1), (1, 2), (1, 2), (3, 1)] {
            evidence.add(at(day), by(instance));
        }
        assert_eq!(evidence.breadth(), Breadth { count: 5, instances: 2, days: 3, at_least: false });
        assert_eq!((evidence.first, evidence.last), (at(1), at(3)));
        assert!(evidence.forget(|entry| entry.by == by(1)));
        assert_eq!(evidence.breadth(), Breadth { count: 2, instances: 1, days: 1, at_least: false });
        assert_eq!(evidence.only(), Some(by(2)));
        assert!(!evidence.forget(|entry| entry.day == 2) && evidence.forget(|entry| entry.day == 1));
        assert!(evidence.is_empty());
    }

    #[test]
    fn beyond_it_no_act_is_lost_and_one_busy_instance_keeps_nobody_out() {
        let mut evidence = Evidence::default();
        for day in 0..200 {
            evidence.add(at(day), by(1));
        }
        for instance in 2..20 {
            evidence.add(at(300), by(instance));
        }
        let breadth = evidence.breadth();
        assert_eq!((breadth.count, breadth.instances, breadth.at_least), (218, 19, true));
        assert!(breadth.days >= 2 && evidence.entries.len() == ENTRIES_MAX);
    }

    #[test]
    fn a_crowd_on_one_day_does_not_hide_the_next() {
        let mut evidence = Evidence::default();
        for instance in 0..1000 {
            evidence.add(at(1), by(instance));
        }
        evidence.add(at(2), by(5000));
        let breadth = evidence.breadth();
        assert_eq!((breadth.count, breadth.instances, breadth.days), (1001, ENTRIES_MAX, 2));
    }

    #[test]
    fn whatever_comes_counts_add_up_entries_stay_sorted_and_breadth_stays() {
        let mut seed = 7_u64;
        let mut next = move |below: u64| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed % below
        };
        for _ in 0..200 {
            let (days, instances) = (1 + next(40), 1 + next(60));
            let (mut evidence, mut before) = (Evidence::default(), Breadth::default());
            for count in 1..300 {
                evidence.add(at(next(days)), by(next(instances)));
                let now = evidence.breadth();
                assert_eq!(now.count, count);
                assert!(
                    now.days >= before.days.min(DAYS_KEPT) && now.instances + DAYS_KEPT >= before.instances
                );
                assert!(evidence.entries.is_sorted() && evidence.entries.len() <= ENTRIES_MAX);
                before = now;
            }
            let mut twice = evidence.clone();
            twice.merge(&evidence, |source| source);
            assert_eq!(twice, evidence);
        }
    }
}
