//! Where a behaviour goes: to its own evidence, to a wider one that stands for it, to a new place, or nowhere.

use std::collections::btree_map::Entry;

use super::{Bounds, Model, alone::Alone, fold, group::Groups};
use crate::{
    baseline::{
        behaviour::{Behaviour, Sort},
        evidence::{By, Evidence},
    },
    event::word::Time,
};

impl Model {
    /// One more act of a behaviour.
    pub(super) fn show(&mut self, behaviour: &Behaviour, time: Time, by: By, bounds: &Bounds) {
        if let Some(evidence) = self.behaviours.get_mut(behaviour) {
            let sort = behaviour.sort();
            tracked(&mut self.groups, &mut self.alone, sort, evidence, |evidence| evidence.add(time, by));
            return;
        }
        if self.stands_for(behaviour).is_none() && !self.room(behaviour, by, bounds) {
            self.tally.left_out += 1;
            return;
        }
        // Making room may have made one that stands for it.
        let place = self.stands_for(behaviour).unwrap_or_else(|| behaviour.clone());
        if !self.behaviours.contains_key(&place) {
            self.tally.last_novelty = self.tally.last_novelty.max(time);
        }
        self.at(place, |evidence| evidence.add(time, by));
    }

    fn stands_for(&self, behaviour: &Behaviour) -> Option<Behaviour> {
        fold::folds(behaviour).into_iter().find(|wide| self.behaviours.contains_key(wide))
    }

    /// Changes the evidence of a behaviour, which begins here if there is none.
    pub(super) fn at(&mut self, place: Behaviour, change: impl FnOnce(&mut Evidence)) {
        let sort = place.sort();
        let evidence = match self.behaviours.entry(place) {
            Entry::Vacant(entry) => {
                self.groups.added(entry.key());
                entry.insert(Evidence::default())
            }
            Entry::Occupied(entry) => entry.into_mut(),
        };
        tracked(&mut self.groups, &mut self.alone, sort, evidence, change);
    }

    /// Whether there is room for one more like it. At the bound of its program's sort, neighbours are folded first; where
    /// that does not help, one gives way that an instance with more of its own alone has shown.
    pub(super) fn room(&mut self, behaviour: &Behaviour, by: By, bounds: &Bounds) -> bool {
        if self.groups.len_of(behaviour) >= bounds.of_program && !self.groups.is_stuck(behaviour) {
            let folded = self.fold(behaviour);
            self.tally.folded += folded;
            if folded == 0 {
                self.groups.stick(behaviour);
            }
        }
        let full = |model: &Self| model.groups.len_of(behaviour) >= bounds.of_program;
        if full(self) || self.behaviours.len() >= bounds.of_role {
            let Some(most) = self.alone.who_gives_way_to(by) else { return false };
            let theirs = |(_, evidence): &(&Behaviour, &Evidence)| evidence.only() == Some(most);
            let gone = if full(self) {
                self.of_group(behaviour).find(theirs).map(|(behaviour, _)| behaviour.clone())
            } else {
                self.behaviours.iter().find(theirs).map(|(behaviour, _)| behaviour.clone())
            };
            let Some(evidence) = gone.and_then(|gone| self.remove(&gone)) else { return false };
            self.tally.left_out = self.tally.left_out.saturating_add(evidence.count());
        }
        true
    }
}

/// Changes evidence, and follows whose alone it is and how many acts there are of its sort.
pub(super) fn tracked(
    groups: &mut Groups,
    alone: &mut Alone,
    sort: Sort,
    evidence: &mut Evidence,
    change: impl FnOnce(&mut Evidence),
) {
    let (only, count) = (evidence.only(), evidence.count());
    change(evidence);
    alone.changed(only, evidence.only());
    groups.acted(sort, count, evidence.count());
}
