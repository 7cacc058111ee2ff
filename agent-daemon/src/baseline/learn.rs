//! What is known of a role: its behaviours with their evidence, within bounds, and what the bounds left out.

mod alone;
mod fold;
mod forget;
mod group;
mod merge;
mod place;
mod stored;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::forget::{Forget, Forgotten};
use self::{alone::Alone, group::Groups};
use super::{
    behaviour::{Behaviour, Program, Sort, path::generalise},
    content::Content,
    context::Context,
    evidence::{By, Evidence},
    observation::{Act, Observation},
    support::Support,
};
use crate::event::{Name, word::Time};

/// Every role's baseline, and the instances that run.
#[derive(Debug, Default)]
pub struct Baselines {
    pub models: BTreeMap<Name, Model>,
    pub context: Context,
    /// Observations of roles for which there was no room.
    pub roles_left_out: u64,
    pub bounds: Bounds,
    /// Whether all roles together are at their bound; to be counted anew where it is not known.
    full: Option<bool>,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub roles: usize,
    /// Behaviours of all roles. One with all the evidence that is kept of it takes about 1.3 kB.
    pub total: usize,
    /// Behaviours of a role.
    pub of_role: usize,
    /// Behaviours of one sort that one program of a role shows.
    pub of_program: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { roles: 4_096, total: 131_072, of_role: 8_192, of_program: 1_024 }
    }
}

/// One role's baseline.
#[derive(Clone, Debug, Default)]
pub struct Model {
    behaviours: BTreeMap<Behaviour, Evidence>,
    /// Executables whose content is known.
    contents: BTreeMap<Name, Vec<(Content, Evidence)>>,
    pub sources: Vec<Source>,
    /// Instances that showed anything.
    pub roster: BTreeMap<By, Stay>,
    pub tally: Tally,
    groups: Groups,
    alone: Alone,
    /// What the store must delete.
    removed: Vec<Behaviour>,
    /// The tally as it is stored: every act is counted in it.
    settled: Tally,
    /// Changed otherwise than by an act.
    touched: bool,
}

/// One boot of one host.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Source {
    pub host: Name,
    pub boot: Name,
}

/// From when to when an instance was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stay {
    pub first: Time,
    pub last: Time,
}

/// What is counted of a role as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Observations that showed a behaviour.
    pub observed: u64,
    /// Refused acts, of which nothing was learned.
    pub refused: u64,
    /// Behaviours that were folded into wider ones.
    pub folded: u64,
    /// Acts of behaviours for which there was no room.
    pub left_out: u64,
    /// Instances that left the roster for others.
    pub instances_before: u64,
    /// Acts of hosts or boots for which there was no room in the list of sources.
    pub unknown_sources: u64,
    pub first: Time,
    pub last: Time,
    /// When a behaviour was last seen for the first time.
    pub last_novelty: Time,
}

impl Baselines {
    /// Behaviours of all roles.
    #[must_use]
    pub fn len(&self) -> usize {
        self.models.values().map(Model::len).sum()
    }

    /// Whether nothing has been learned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.models.is_empty()
    }

    /// Learns one observation; the behaviours that it showed.
    pub fn learn(&mut self, seen: &Observation) -> Vec<Behaviour> {
        let behaviours = self.context.behaviours(seen);
        self.learn_behaviours(seen, &behaviours);
        behaviours
    }

    /// Learns what the context has already made of an observation.
    pub fn learn_behaviours(&mut self, seen: &Observation, behaviours: &[Behaviour]) {
        if behaviours.is_empty() && !matches!(seen.act, Act::Identified { .. }) {
            return;
        }
        let Some(role) = &seen.role else { return };
        self.with(role, |model, bounds| model.learn(seen, behaviours, bounds));
    }

    /// Takes in what another baseline of a role knows; see [`Model::merge`].
    pub fn merge(&mut self, role: &Name, other: &Model) {
        self.with(role, |model, bounds| model.merge(other, bounds));
    }

    /// Changes a role's model, which begins here if there is none, within the bounds that are left.
    fn with(&mut self, role: &Name, change: impl FnOnce(&mut Model, &Bounds)) {
        if self.full != Some(false) {
            self.full = Some(self.len() >= self.bounds.total);
        }
        if !self.models.contains_key(role) {
            if self.models.len() >= self.bounds.roles {
                self.roles_left_out += 1;
                return;
            }
            self.models.insert(role.clone(), Model::default());
        }
        let Some(model) = self.models.get_mut(role) else { return };
        let (before, mut bounds) = (model.len(), self.bounds);
        if self.full == Some(true) {
            bounds.of_role = bounds.of_role.min(before);
        }
        change(model, &bounds);
        if model.len() > before {
            self.full = None;
        }
    }
}

impl Model {
    /// Learns what one observation showed. What was refused teaches nothing.
    pub fn learn(&mut self, seen: &Observation, behaviours: &[Behaviour], bounds: &Bounds) {
        let Some(instance) = seen.instance else { return };
        if seen.refused {
            self.tally.refused += 1;
            return;
        }
        let time = seen.time;
        self.tally.observed += 1;
        self.tally.first = if self.tally.first == Time(0) { time } else { self.tally.first.min(time) };
        self.tally.last = self.tally.last.max(time);
        let Some(source) = self.source(&seen.host, &seen.boot) else {
            self.tally.unknown_sources += 1;
            return;
        };
        let by = By { source, instance };
        self.stay(by, time);
        for behaviour in behaviours {
            self.show(behaviour, time, by, bounds);
        }
        if let Act::Identified { path, content } = &seen.act {
            self.content(&generalise(path), content, time, by);
        }
    }

    fn source(&mut self, host: &Name, boot: &Name) -> Option<u32> {
        // The latest is the likeliest.
        let known = self.sources.iter().rposition(|source| source.boot == *boot && source.host == *host);
        if known.is_none() && self.sources.len() >= SOURCES_MAX {
            return None;
        }
        let at = known.unwrap_or_else(|| {
            self.sources.push(Source { host: host.clone(), boot: boot.clone() });
            self.sources.len() - 1
        });
        u32::try_from(at).ok()
    }

    fn stay(&mut self, by: By, time: Time) {
        if let Some(stay) = self.roster.get_mut(&by) {
            (stay.first, stay.last) = (stay.first.min(time), stay.last.max(time));
            return;
        }
        if self.roster.len() >= ROSTER_MAX
            && let Some(oldest) =
                self.roster.iter().min_by_key(|(by, stay)| (stay.last, **by)).map(|(by, _)| *by)
        {
            self.roster.remove(&oldest);
            self.tally.instances_before += 1;
        }
        self.roster.insert(by, Stay { first: time, last: time });
    }

    fn content(&mut self, exe: &Name, content: &Content, time: Time, by: By) {
        if !self.contents.contains_key(exe) && self.contents.len() >= CONTENTS_MAX {
            return;
        }
        let known = self.contents.entry(exe.clone()).or_default();
        match known.iter_mut().find(|(there, _)| there == content) {
            Some((_, evidence)) => evidence.add(time, by),
            None => {
                if known.len() >= CONTENTS_OF_EXE_MAX
                    && let Some(oldest) = (0..known.len()).min_by_key(|at| (known[*at].1.last, *at))
                {
                    known.remove(oldest);
                }
                let mut evidence = Evidence::default();
                evidence.add(time, by);
                known.push((content.clone(), evidence));
            }
        }
    }

    /// Behaviours and their evidence, in order.
    pub fn behaviours(&self) -> impl Iterator<Item = (&Behaviour, &Evidence)> {
        self.behaviours.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.behaviours.len()
    }

    /// Whether nothing has been learned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.behaviours.is_empty()
    }

    /// Behaviours of one sort that one program shows, in order.
    pub fn of_group<'a>(
        &'a self,
        like: &'a Behaviour,
    ) -> impl Iterator<Item = (&'a Behaviour, &'a Evidence)> {
        // Sorts are in order, and within a sort programs: a group lies together.
        let (sort, by) = (like.sort(), like.by());
        self.behaviours
            .range(fold::first_of_group(like)..)
            .take_while(move |(behaviour, _)| behaviour.sort() == sort && behaviour.by() == by)
    }

    /// The evidence of this behaviour, or of what stands for it.
    #[must_use]
    pub fn find(&self, behaviour: &Behaviour) -> Option<(&Behaviour, &Evidence)> {
        self.behaviours
            .get_key_value(behaviour)
            .or_else(|| fold::folds(behaviour).iter().find_map(|wide| self.behaviours.get_key_value(wide)))
    }

    /// What an executable was seen to contain.
    #[must_use]
    pub fn contents_of(&self, exe: &str) -> &[(Content, Evidence)] {
        self.contents.get(exe).map_or(&[], Vec::as_slice)
    }

    /// Acts of all behaviours of a sort.
    #[must_use]
    pub fn acts_of(&self, sort: Sort) -> u64 {
        self.groups.acts_of(sort)
    }

    /// Programs that show behaviours of a sort, in order.
    pub fn programs_of(&self, sort: Sort) -> impl Iterator<Item = &Program> {
        self.groups.programs_of(sort)
    }

    /// The evidence of the first of these that there is; see [`Model::forms`].
    #[must_use]
    pub fn find_any<'a>(&'a self, forms: &[Behaviour]) -> Option<(&'a Behaviour, &'a Evidence)> {
        forms.iter().find_map(|form| self.behaviours.get_key_value(form))
    }

    /// A behaviour and what may stand for it.
    #[must_use]
    pub fn forms(behaviour: &Behaviour) -> Vec<Behaviour> {
        let mut forms = vec![behaviour.clone()];
        forms.extend(fold::folds(behaviour));
        forms
    }

    /// On how many hosts it was seen.
    #[must_use]
    pub fn hosts_of(&self, evidence: &Evidence) -> usize {
        let hosts = evidence.entries.iter().filter_map(|entry| self.sources.get(entry.by.source as usize));
        hosts.map(|source| &source.host).collect::<std::collections::BTreeSet<_>>().len()
    }

    /// Whether this host showed it.
    #[must_use]
    pub fn on_host(&self, evidence: &Evidence, host: &str) -> bool {
        let mut sources =
            evidence.entries.iter().filter_map(|entry| self.sources.get(entry.by.source as usize));
        sources.any(|source| &*source.host == host)
    }

    /// Whether it has the support to count as usual.
    #[must_use]
    pub fn is_usual(&self, evidence: &Evidence, support: &Support) -> bool {
        // Most of what is not usual was shown by one instance on one day: that is seen at once.
        evidence.entries.len() >= support.instances
            && support.holds(&evidence.breadth(), self.hosts_of(evidence))
    }

    /// Instances that have shown something that no other has.
    #[must_use]
    pub fn instances_alone(&self) -> u64 {
        self.alone.len() as u64
    }

    /// Instances that showed anything.
    #[must_use]
    pub fn instances(&self) -> u64 {
        self.roster.len() as u64 + self.tally.instances_before
    }
}

/// Boots of hosts that one role ran on.
const SOURCES_MAX: usize = 4_096;
/// Instances whose stay is remembered: those seen last.
pub const ROSTER_MAX: usize = 4_096;
const CONTENTS_MAX: usize = 4_096;
const CONTENTS_OF_EXE_MAX: usize = 16;

#[cfg(test)]
mod tests;
