//! Baselines at work: each act is compared with what is usual for its role, findings become alerts, and it is learned.
//!
//! Everything depends on the observations and their order alone, so that recorded events give the same alerts again.

use std::collections::BTreeMap;

use super::{
    alert::{Alert, Alerts, Cause, News},
    behaviour::Behaviour,
    compare::{self, Finding, Nearness, Rules, Seen, What, content},
    learn::Baselines,
    observation::Observation,
    severity::Severity,
};
use crate::event::Name;

/// Baselines, and what has been found.
#[derive(Debug, Default)]
pub struct Watch {
    pub baselines: Baselines,
    pub rules: Rules,
    pub alerts: Alerts,
    /// Role, what differs, severity → acts; of more than [`COUNTED_MAX`] together, under an empty role.
    pub found: BTreeMap<(Name, What, Severity), u64>,
    /// Acts that differ and came too many to be looked at.
    pub flooded: u64,
    /// The highest severity of what was found of the last observation.
    worst: Option<Severity>,
    /// Role → how it stands with it.
    pace: BTreeMap<Name, Pace>,
}

/// What bounds the work for one role. Times are those of events.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// The second of the last new cause, and how many it had.
    second: u64,
    new_causes: u32,
    /// In which second nothing was usual yet, if that was looked for.
    nothing_usual: Option<u64>,
}

impl Watch {
    /// Begins with what is known.
    #[must_use]
    pub fn new(baselines: Baselines, rules: Rules) -> Self {
        Self { baselines, rules, ..Self::default() }
    }

    /// Takes one observation; what is to be told of it.
    pub fn take(&mut self, seen: &Observation) -> Vec<Alert> {
        self.worst = None;
        let behaviours = self.baselines.context.behaviours(seen);
        let told = self.judge(seen, &behaviours);
        self.baselines.learn_behaviours(seen, &behaviours);
        told
    }

    /// The highest severity of what was found of the last observation, told or not.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.worst
    }

    fn judge(&mut self, seen: &Observation, behaviours: &[Behaviour]) -> Vec<Alert> {
        let mut told = Vec::new();
        let (Some(role), Some(instance)) = (&seen.role, seen.instance) else { return told };
        let Some(model) = self.baselines.models.get(role) else { return told };
        let pace = match self.pace.get_mut(role) {
            Some(pace) => pace,
            // One for each model at most.
            None => self.pace.entry(role.clone()).or_default(),
        };
        let second = seen.time.0 / 1_000_000_000;
        for behaviour in compare::differing(model, &self.rules, behaviours) {
            if !pace.anything_usual(second, || compare::any_usual(model, &self.rules)) {
                break;
            }
            let cause: Cause = (role.clone(), News::Behaviour, Some(behaviour.clone()));
            if let Some(alert) = self.alerts.again(&cause, seen.time, (seen.boot.clone(), instance)) {
                self.worst = self.worst.max(Some(alert.finding.severity));
                count(&mut self.found, &alert.finding);
                told.extend(alert.count.is_power_of_two().then(|| alert.clone()));
                continue;
            }
            let finding = if pace.has_room(second) {
                compare::finding(&self.baselines, model, &self.rules, seen, behaviour)
            } else {
                self.flooded += 1;
                flood(seen, behaviour, &self.rules)
            };
            let Some(finding) = finding else { continue };
            self.worst = self.worst.max(Some(finding.severity));
            count(&mut self.found, &finding);
            told.extend(self.alerts.join(&finding).cloned());
        }
        if let Some(finding) = content::other_content(&self.baselines, model, &self.rules, seen) {
            self.worst = self.worst.max(Some(finding.severity));
            count(&mut self.found, &finding);
            told.extend(self.alerts.join(&finding).cloned());
        }
        told
    }
}

impl Pace {
    /// Whether anything is usual for the role; where nothing was, that is looked for once a second.
    fn anything_usual(&mut self, second: u64, look: impl FnOnce() -> bool) -> bool {
        if self.nothing_usual == Some(second) {
            return false;
        }
        let any = look();
        self.nothing_usual = (!any).then_some(second);
        any
    }

    /// Whether one more new cause is looked at in this second.
    fn has_room(&mut self, second: u64) -> bool {
        if self.second != second {
            (self.second, self.new_causes) = (second, 0);
        }
        self.new_causes += 1;
        self.new_causes <= NEW_CAUSES_PER_SECOND_MAX
    }
}

fn count(found: &mut BTreeMap<(Name, What, Severity), u64>, finding: &Finding) {
    let key = (finding.role.clone(), finding.what, finding.severity);
    if let Some(count) = found.get_mut(&key) {
        *count += 1;
    } else {
        let role = if found.len() < COUNTED_MAX { key.0 } else { Name::default() };
        *found.entry((role, key.1, key.2)).or_default() += 1;
    }
}

/// What stands for acts that were not looked at; its behaviour is the first of them.
fn flood(seen: &Observation, behaviour: &Behaviour, rules: &Rules) -> Option<Finding> {
    Some(Finding {
        time: seen.time,
        role: seen.role.clone()?,
        instance: seen.instance?,
        host: seen.host.clone(),
        boot_id: seen.boot.clone(),
        seq: seen.seq,
        what: What::Flood,
        behaviour: behaviour.clone(),
        severity: rules.severities.of(What::Flood, Nearness::None),
        how_unusual: format!(
            "more than {NEW_CAUSES_PER_SECOND_MAX} new causes within a second: this one and others were counted only"
        ),
        nearness: Nearness::None,
        nearest: None,
        seen: Seen::default(),
        refused: seen.refused,
        technique: None,
        owasp: None,
    })
}

/// New causes of a role that are looked at one by one in a second; each takes a search through all that the role does.
pub const NEW_CAUSES_PER_SECOND_MAX: u32 = 64;
/// Roles × what differs × severities that are counted one by one.
pub const COUNTED_MAX: usize = 4_096;

#[cfg(test)]
mod tests;
