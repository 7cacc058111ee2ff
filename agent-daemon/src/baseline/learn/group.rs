//! How many behaviours of one sort each program shows, and how many acts there are of each sort.

use std::collections::BTreeMap;

use crate::baseline::behaviour::{Behaviour, Program, Sort};

/// Counts by sort and program.
#[derive(Clone, Debug, Default)]
pub struct Groups {
    groups: BTreeMap<(Sort, Option<Program>), Group>,
    acts: BTreeMap<Sort, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Group {
    len: usize,
    /// Nothing can be folded as it is: so it stays until something goes. Not stored, for trying again gives the same.
    stuck: bool,
}

impl Groups {
    fn key(behaviour: &Behaviour) -> (Sort, Option<Program>) {
        (behaviour.sort(), behaviour.by().cloned())
    }

    fn of(&self, behaviour: &Behaviour) -> Group {
        self.groups.get(&Self::key(behaviour)).copied().unwrap_or_default()
    }

    /// One more.
    pub fn added(&mut self, behaviour: &Behaviour) {
        let group = self.groups.entry(Self::key(behaviour)).or_default();
        group.len += 1;
        group.stuck = false;
    }

    /// One less.
    pub fn removed(&mut self, behaviour: &Behaviour) {
        if let Some(group) = self.groups.get_mut(&Self::key(behaviour)) {
            group.len -= 1;
            group.stuck = false;
            if group.len == 0 {
                self.groups.remove(&Self::key(behaviour));
            }
        }
    }

    /// How many there are like it.
    pub fn len_of(&self, behaviour: &Behaviour) -> usize {
        self.of(behaviour).len
    }

    /// Acts of a behaviour of this sort, before and after a change.
    pub fn acted(&mut self, sort: Sort, before: u64, after: u64) {
        let acts = self.acts.entry(sort).or_default();
        *acts = acts.saturating_sub(before).saturating_add(after);
    }

    /// Acts of a sort.
    pub fn acts_of(&self, sort: Sort) -> u64 {
        self.acts.get(&sort).copied().unwrap_or_default()
    }

    /// Programs that show behaviours of a sort.
    pub fn programs_of(&self, sort: Sort) -> impl Iterator<Item = &Program> {
        let first = (sort, None);
        let of_sort = self.groups.range(first..).take_while(move |((of, _), _)| *of == sort);
        of_sort.filter_map(|((_, program), _)| program.as_ref())
    }

    /// Whether folding was tried in vain.
    pub fn is_stuck(&self, behaviour: &Behaviour) -> bool {
        self.of(behaviour).stuck
    }

    /// Notes that folding was tried in vain.
    pub fn stick(&mut self, behaviour: &Behaviour) {
        self.groups.entry(Self::key(behaviour)).or_default().stuck = true;
    }
}
