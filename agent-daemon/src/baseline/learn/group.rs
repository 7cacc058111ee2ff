//! How many behaviours of one sort each program shows.

use std::collections::HashMap;

use crate::baseline::behaviour::{Behaviour, Program, Sort};

/// Counts by sort and program.
#[derive(Clone, Debug, Default)]
pub struct Groups(HashMap<(Sort, Option<Program>), Group>);

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
        self.0.get(&Self::key(behaviour)).copied().unwrap_or_default()
    }

    /// One more.
    pub fn added(&mut self, behaviour: &Behaviour) {
        let group = self.0.entry(Self::key(behaviour)).or_default();
        group.len += 1;
        group.stuck = false;
    }

    /// One less.
    pub fn removed(&mut self, behaviour: &Behaviour) {
        if let Some(group) = self.0.get_mut(&Self::key(behaviour)) {
            group.len -= 1;
            group.stuck = false;
            if group.len == 0 {
                self.0.remove(&Self::key(behaviour));
            }
        }
    }

    /// How many there are like it.
    pub fn len_of(&self, behaviour: &Behaviour) -> usize {
        self.of(behaviour).len
    }

    /// Whether folding was tried in vain.
    pub fn is_stuck(&self, behaviour: &Behaviour) -> bool {
        self.of(behaviour).stuck
    }

    /// Notes that folding was tried in vain.
    pub fn stick(&mut self, behaviour: &Behaviour) {
        self.0.entry(Self::key(behaviour)).or_default().stuck = true;
    }
}
