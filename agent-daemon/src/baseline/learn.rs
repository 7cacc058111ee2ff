//! What is known of a role: its behaviours with their evidence, within bounds, and what the bounds left out.

mod alone;
mod fold;
mod forget;
mod group;

use std::collections::{BTreeMap, btree_map::Entry};

use serde::{Deserialize, Serialize};

pub use self::forget::{Forget, Forgotten};
use self::{alone::Alone, group::Groups};
use super::{
    behaviour::Behaviour,
    content::Content,
    context::Context,
    evidence::{By, Evidence},
    observation::{Act, Observation},
    support::Support,
};
use crate::event::{
    Name,
    word::{InstanceId, Time},
};

/// Every role's baseline, and the instances that run.
#[derive(Debug, Default)]
pub struct Baselines {
    pub models: BTreeMap<Name, Model>,
    pub context: Context,
    /// Observations of roles for which there was no room.
    pub roles_left_out: u64,
    pub bounds: Bounds,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    pub roles: usize,
    /// Behaviours of a role.
    pub of_role: usize,
    /// Behaviours of one sort that one program of a role shows.
    pub of_program: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { roles: 4_096, of_role: 8_192, of_program: 1_024 }
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
    /// Learns one observation; the behaviours that it showed.
    pub fn learn(&mut self, seen: &Observation) -> Vec<Behaviour> {
        let behaviours = self.context.behaviours(seen);
        if !behaviours.is_empty() {
            self.learn_behaviours(seen, &behaviours);
        }
        behaviours
    }

    /// Learns what the context has already made of an observation.
    pub fn learn_behaviours(&mut self, seen: &Observation, behaviours: &[Behaviour]) {
        let Some(role) = &seen.role else { return };
        if !self.models.contains_key(role) {
            if self.models.len() >= self.bounds.roles {
                self.roles_left_out += 1;
                return;
            }
            self.models.insert(role.clone(), Model::default());
        }
        if let Some(model) = self.models.get_mut(role) {
            model.learn(seen, behaviours, &self.bounds);
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
        if let (Act::Exec { content: Some(content), .. }, Some(exe)) = (&seen.act, &seen.exe) {
            self.content(exe, content, time, by);
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

    fn show(&mut self, behaviour: &Behaviour, time: Time, by: By, bounds: &Bounds) {
        if let Some(evidence) = self.behaviours.get_mut(behaviour) {
            tracked(&mut self.alone, evidence, |evidence| evidence.add(time, by));
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
    fn at(&mut self, place: Behaviour, change: impl FnOnce(&mut Evidence)) {
        let evidence = match self.behaviours.entry(place) {
            Entry::Vacant(entry) => {
                self.groups.added(entry.key());
                entry.insert(Evidence::default())
            }
            Entry::Occupied(entry) => entry.into_mut(),
        };
        tracked(&mut self.alone, evidence, change);
    }

    /// Whether there is room for one more like it. At the bound of its program's sort, neighbours are folded first; where
    /// that does not help, one gives way that an instance with more of its own alone has shown.
    fn room(&mut self, behaviour: &Behaviour, by: By, bounds: &Bounds) -> bool {
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
        support.holds(&evidence.breadth(), self.hosts_of(evidence))
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

/// What the store needs to see of a model, and to put back.
impl Model {
    /// Puts a behaviour back as it was stored.
    pub fn put(&mut self, behaviour: Behaviour, evidence: Evidence) {
        self.at(behaviour, |there| *there = evidence);
    }

    /// Contents by executable.
    #[must_use]
    pub fn contents(&self) -> &BTreeMap<Name, Vec<(Content, Evidence)>> {
        &self.contents
    }

    /// Puts what an executable was seen to contain back.
    pub fn put_contents(&mut self, exe: Name, contents: Vec<(Content, Evidence)>) {
        self.contents.insert(exe, contents);
    }

    /// Whether anything changed since [`Model::settle`].
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.touched || self.tally != self.settled
    }

    /// Behaviours that have gone since then.
    #[must_use]
    pub fn removed(&self) -> &[Behaviour] {
        &self.removed
    }

    /// Behaviours that changed since then.
    pub fn changed(&self) -> impl Iterator<Item = (&Behaviour, &Evidence)> {
        self.behaviours.iter().filter(|(_, evidence)| evidence.changed)
    }

    /// What there is, is stored.
    pub fn settle(&mut self) {
        self.settled = self.tally.clone();
        self.removed.clear();
        self.touched = false;
        self.behaviours.values_mut().for_each(|evidence| evidence.changed = false);
    }

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

    /// Whether the instance is known to have run on this host.
    #[must_use]
    pub fn is_of(&self, by: &By, instance: InstanceId, host: Option<&str>) -> bool {
        let there = || self.sources.get(by.source as usize).map(|source| &*source.host);
        by.instance == instance && host.is_none_or(|host| there() == Some(host))
    }
}

/// Changes evidence, and follows whose alone it is.
fn tracked(alone: &mut Alone, evidence: &mut Evidence, change: impl FnOnce(&mut Evidence)) {
    let before = evidence.only();
    change(evidence);
    alone.changed(before, evidence.only());
}

/// Boots of hosts that one role ran on.
const SOURCES_MAX: usize = 4_096;
/// Instances whose stay is remembered: those seen last.
pub const ROSTER_MAX: usize = 4_096;
const CONTENTS_MAX: usize = 4_096;
const CONTENTS_OF_EXE_MAX: usize = 16;

#[cfg(test)]
mod tests;
