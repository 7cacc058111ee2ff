//! Forgetting: what one instance showed, or all showed on certain days, or behaviours of a form.

use serde::{Deserialize, Serialize};

use super::{Model, Stay, place::tracked};
use crate::{
    baseline::{
        behaviour::Behaviour,
        evidence::{By, DAY_NS, Entry, Evidence, day},
    },
    event::word::{InstanceId, Time},
};

/// What is to be forgotten: all that is given must hold of a piece of evidence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Forget {
    /// From this moment's day on.
    pub since: Option<Time>,
    /// Until this moment's day, that included.
    pub until: Option<Time>,
    pub instance: Option<InstanceId>,
    pub host: Option<String>,
    /// A behaviour's text; `*` stands for any characters.
    pub behaviour: Option<String>,
}

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    /// Behaviours of which nothing is left.
    pub behaviours: usize,
    /// Behaviours that lost some of their evidence.
    pub lessened: usize,
    /// Of those, how many keep a count that may hold some of what was to be forgotten: support does not rest on it.
    pub counts_uncertain: usize,
    pub instances: usize,
}

impl Model {
    /// Forgets it.
    pub fn forget(&mut self, what: &Forget) -> Forgotten {
        let mut done = Forgotten::default();
        self.touched = true;
        let sources = std::mem::take(&mut self.sources);
        let host_matches = |by: &By| {
            let host = sources.get(by.source as usize).map(|source| &*source.host);
            what.host.as_deref().is_none_or(|wanted| host == Some(wanted))
        };
        let days = (what.since.map_or(0, day), what.until.map_or(u32::MAX, day));
        let of_whom = |by: &By| what.instance.is_none_or(|wanted| by.instance == wanted) && host_matches(by);
        let matches = |entry: &Entry| days.0 <= entry.day && entry.day <= days.1 && of_whom(&entry.by);
        let wanted = |behaviour: &Behaviour| {
            what.behaviour.as_deref().is_none_or(|pattern| glob(pattern, &behaviour.to_string()))
        };
        let mut gone = Vec::new();
        for (behaviour, evidence) in self.behaviours.iter_mut().filter(|(behaviour, _)| wanted(behaviour)) {
            let mut any = false;
            let forget = |evidence: &mut Evidence| any = evidence.forget(matches);
            tracked(&mut self.groups, &mut self.alone, behaviour.sort(), evidence, forget);
            if !any {
                continue;
            }
            if evidence.is_empty() {
                gone.push(behaviour.clone());
            } else {
                done.lessened += 1;
                done.counts_uncertain += usize::from(evidence.rest > 0);
            }
        }
        done.behaviours = gone.len();
        for behaviour in &gone {
            self.remove(behaviour);
        }
        if what.behaviour.is_none() {
            for contents in self.contents.values_mut() {
                contents.retain_mut(|(_, evidence)| !(evidence.forget(matches) && evidence.is_empty()));
            }
            self.contents.retain(|_, contents| !contents.is_empty());
            let before = self.roster.len();
            self.roster.retain(|by, stay| !of_whom(by) || cut(stay, days));
            done.instances = before - self.roster.len();
        }
        self.sources = sources;
        self.recount();
        done
    }

    /// Times of what is left.
    fn recount(&mut self) {
        let tally = &mut self.tally;
        tally.first = self.roster.values().map(|stay| stay.first).min().unwrap_or_default();
        tally.last = self.roster.values().map(|stay| stay.last).max().unwrap_or_default();
        let firsts = self.behaviours.values().map(|evidence| evidence.first);
        tally.last_novelty = firsts.max().unwrap_or_default();
    }
}

/// Cuts the days off a stay; whether anything of it is left.
fn cut(stay: &mut Stay, (since, until): (u32, u32)) -> bool {
    let (first, last) = (day(stay.first), day(stay.last));
    let begins_inside = since <= first && first <= until;
    let ends_inside = since <= last && last <= until;
    if begins_inside && !ends_inside {
        stay.first = Time((u64::from(until) + 1) * DAY_NS);
    }
    if ends_inside && !begins_inside {
        stay.last = Time(u64::from(since) * DAY_NS - 1);
    }
    !(begins_inside && ends_inside)
}

/// Whether a text has this form.
#[must_use]
pub fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}
