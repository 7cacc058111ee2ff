//! How many behaviours each instance has shown that no other has: whoever has most gives way when there is no room.

use std::collections::{BTreeMap, BTreeSet};

use crate::baseline::evidence::By;

/// Counts by instance.
#[derive(Clone, Debug, Default)]
pub struct Alone {
    counts: BTreeMap<By, usize>,
    by_count: BTreeSet<(usize, By)>,
}

impl Alone {
    /// A behaviour had this as its only instance, and has that now.
    pub fn changed(&mut self, before: Option<By>, after: Option<By>) {
        if before == after {
            return;
        }
        if let Some(by) = before {
            self.set(by, self.of(by).saturating_sub(1));
        }
        if let Some(by) = after {
            self.set(by, self.of(by) + 1);
        }
    }

    fn set(&mut self, by: By, count: usize) {
        self.by_count.remove(&(self.of(by), by));
        if count == 0 {
            self.counts.remove(&by);
        } else {
            self.counts.insert(by, count);
            self.by_count.insert((count, by));
        }
    }

    /// How many one has.
    pub fn of(&self, by: By) -> usize {
        self.counts.get(&by).copied().unwrap_or_default()
    }

    /// Who has so many more than this one that giving way evens it out.
    pub fn who_gives_way_to(&self, by: By) -> Option<By> {
        let (count, most) = *self.by_count.last()?;
        (count > self.of(by) + 1).then_some(most)
    }

    /// How many instances have any.
    pub fn len(&self) -> usize {
        self.counts.len()
    }
}
