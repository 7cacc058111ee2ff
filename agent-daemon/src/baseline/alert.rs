//! Findings of one cause become one alert, told at first and at each doubling.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    behaviour::Behaviour,
    compare::{Finding, What},
};
use crate::event::{
    self, Name,
    finding::Reference,
    word::{InstanceId, Time},
};

/// A cause: the role, the sort of news, and the behaviour.
pub type Cause = (Name, News, Option<Behaviour>);

/// The sorts of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    /// A behaviour that is not usual.
    Behaviour,
    /// A usual program with other content.
    Content,
    /// More of both than is looked at one by one; of a role as a whole.
    Flood,
}

/// What has been found of one cause.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    /// The first finding of the cause.
    pub finding: Finding,
    pub count: u64,
    /// Different instances; at least so many at [`INSTANCES_MAX`].
    pub instances: usize,
    pub first: Time,
    pub last: Time,
}

impl Alert {
    /// As it is recorded, for this act of the cause.
    #[must_use]
    pub fn told(&self, of: Reference) -> event::finding::Finding {
        let finding = &self.finding;
        let text = |behaviour: &Behaviour| Name::from(behaviour.to_string());
        event::finding::Finding {
            what: finding.what.name().into(),
            severity: finding.severity.name().into(),
            behaviour: text(&finding.behaviour),
            how_unusual: finding.how_unusual.as_str().into(),
            nearness: finding.nearness.name().into(),
            nearest: finding.nearest.as_ref().map(text),
            seen: event::finding::Seen {
                by_role: finding.seen.by_role,
                by_role_instances: finding.seen.by_role_instances,
                by_roles: finding.seen.by_roles,
                on_host: finding.seen.on_host,
            },
            refused: finding.refused,
            technique: finding.technique.map(Name::from),
            owasp: finding.owasp.map(Name::from),
            count: self.count,
            instances: self.instances,
            first: self.first,
            last: self.last,
            of,
        }
    }
}

/// Causes that are known.
#[derive(Debug, Default)]
pub struct Alerts {
    causes: BTreeMap<Cause, Known>,
    /// When each cause was last found, for which goes first.
    by_use: BTreeSet<(u64, Cause)>,
    uses: u64,
    /// Causes that gave way to others and would be told anew.
    pub forgotten: u64,
}

#[derive(Debug)]
struct Known {
    alert: Alert,
    who: BTreeSet<(Name, InstanceId)>,
    used: u64,
}

/// The cause of a finding.
#[must_use]
pub fn cause(finding: &Finding) -> Cause {
    let news = match finding.what {
        What::NewVersion => News::Content,
        What::Flood => News::Flood,
        _ => News::Behaviour,
    };
    (finding.role.clone(), news, (news != News::Flood).then(|| finding.behaviour.clone()))
}

impl Alerts {
    /// The alert to tell, if it is time to: at the first finding of a cause, the second, the fourth and so on.
    pub fn join(&mut self, finding: &Finding) -> Option<&Alert> {
        let cause = cause(finding);
        if !self.causes.contains_key(&cause) {
            self.begin(cause.clone(), finding);
        }
        let who = (finding.boot_id.clone(), finding.instance);
        self.again(&cause, finding.time, who).and_then(|alert| alert.count.is_power_of_two().then_some(alert))
    }

    /// One more act of a known cause, by this instance of a boot; `None` where it is not known.
    pub fn again(&mut self, cause: &Cause, time: Time, who: (Name, InstanceId)) -> Option<&Alert> {
        let known = self.causes.get_mut(cause)?;
        self.uses += 1;
        self.by_use.remove(&(known.used, cause.clone()));
        known.used = self.uses;
        self.by_use.insert((self.uses, cause.clone()));
        if known.who.len() < INSTANCES_MAX {
            known.who.insert(who);
        }
        let alert = &mut known.alert;
        alert.count += 1;
        alert.instances = known.who.len();
        alert.first = alert.first.min(time);
        alert.last = alert.last.max(time);
        Some(alert)
    }

    fn begin(&mut self, cause: Cause, finding: &Finding) {
        if self.causes.len() >= CAUSES_MAX
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.causes.remove(&oldest);
            self.forgotten += 1;
        }
        let (first, last) = (finding.time, finding.time);
        let alert = Alert { finding: finding.clone(), count: 0, instances: 0, first, last };
        self.causes.insert(cause, Known { alert, who: BTreeSet::new(), used: 0 });
    }

    /// All causes as they stand, in order.
    pub fn all(&self) -> impl Iterator<Item = &Alert> {
        self.causes.values().map(|known| &known.alert)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.causes.len()
    }

    /// Whether nothing has been found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.causes.is_empty()
    }
}

/// Causes that are known at a time; the one that was found longest ago goes first.
pub const CAUSES_MAX: usize = 4_096;
/// Instances of a cause that are told apart.
pub const INSTANCES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baseline::{
        compare::{Nearness, Seen},
        severity::Severity,
    };

    fn finding(time: u64, instance: u64, user: u32) -> Finding {
        Finding {
            time: Time(time),
            role: "r".into(),
            instance: InstanceId(instance),
            host: "h".into(),
            boot_id: "b".into(),
            seq: time,
            what: What::NewUser,
            behaviour: Behaviour::User(user),
            severity: Severity::High,
            how_unusual: String::new(),
            nearness: Nearness::None,
            nearest: None,
            seen: Seen::default(),
            refused: false,
            technique: None,
            owasp: None,
        }
    }

    #[test]
    fn a_storm_is_one_alert_with_its_count() {
        let mut alerts = Alerts::default();
        let told: Vec<(u64, usize)> = (0..1000)
            .filter_map(|n| {
                alerts.join(&finding(1000 - n, n % 3, 0)).map(|alert| (alert.count, alert.instances))
            })
            .collect();
        assert_eq!(told.len(), 10);
        assert_eq!((told[0], told[1], told[9]), ((1, 1), (2, 2), (512, 3)));
        let all: Vec<&Alert> = alerts.all().collect();
        assert_eq!((all.len(), all[0].count, all[0].first, all[0].last), (1, 1000, Time(1), Time(1000)));
        assert!(alerts.join(&finding(1, 1, 1)).is_some());
    }

    #[test]
    fn causes_are_bounded_and_the_busy_one_stays() {
        let mut alerts = Alerts::default();
        for n in 0..2 * CAUSES_MAX as u32 {
            alerts.join(&finding(1, 1, 0));
            alerts.join(&finding(1, 1, n + 1));
        }
        assert_eq!((alerts.causes.len(), alerts.by_use.len()), (CAUSES_MAX, CAUSES_MAX));
        assert_eq!(alerts.all().next().unwrap().count, 2 * CAUSES_MAX as u64);
        assert_eq!(alerts.forgotten, CAUSES_MAX as u64 + 1);
    }
}
