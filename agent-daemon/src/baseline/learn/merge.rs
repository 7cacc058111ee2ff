//! Taking in what another baseline of the same role knows, of another host or of an earlier time.

use super::{Bounds, Model};
use crate::{
    baseline::evidence::{By, Evidence},
    event::word::{InstanceId, Time},
};

impl Model {
    /// Takes in what another baseline of the role knows; see [`Evidence::merge`].
    pub fn merge(&mut self, other: &Self, bounds: &Bounds) {
        self.touched = true;
        let sources: Vec<Option<u32>> =
            other.sources.iter().map(|source| self.source(&source.host, &source.boot)).collect();
        let at = |source: u32| sources.get(source as usize).copied().flatten().unwrap_or(u32::MAX);
        for (by, stay) in &other.roster {
            let by = By { source: at(by.source), ..*by };
            self.stay(by, stay.first);
            self.stay(by, stay.last);
        }
        for (behaviour, evidence) in &other.behaviours {
            let known = self.find(behaviour).map(|(there, _)| there.clone());
            let by = evidence.only().map(|by| By { source: at(by.source), ..by });
            // What several have shown takes the place of what one has.
            let by = by.unwrap_or(By { source: u32::MAX, instance: InstanceId(0) });
            let place = match known {
                Some(there) => there,
                None if self.room(behaviour, by, bounds) => behaviour.clone(),
                None => {
                    self.tally.left_out += evidence.count();
                    continue;
                }
            };
            if !self.behaviours.contains_key(&place) {
                self.tally.last_novelty = self.tally.last_novelty.max(evidence.first);
            }
            self.at(place, |there| there.merge(evidence, at));
        }
        for (exe, contents) in &other.contents {
            let known = self.contents.entry(exe.clone()).or_default();
            for (content, evidence) in contents {
                match known.iter_mut().find(|(there, _)| there == content) {
                    Some((_, there)) => there.merge(evidence, at),
                    None => {
                        let mut fresh = Evidence::default();
                        fresh.merge(evidence, at);
                        known.push((content.clone(), fresh));
                    }
                }
            }
        }
        let (mine, theirs) = (&mut self.tally, &other.tally);
        mine.first = if mine.first == Time(0) { theirs.first } else { mine.first.min(theirs.first) };
        mine.last = mine.last.max(theirs.last);
        mine.observed = mine.observed.max(theirs.observed);
    }
}
