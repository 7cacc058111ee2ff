//! Judges recorded traffic: what was learned of set A against sets B and C, by the baselines' own code.

use std::collections::{BTreeMap, BTreeSet};

use chaperone::{
    baseline::{
        Baselines, Support,
        compare::{Finding, Rules, What, compare},
        context::Context,
        observation::Observation,
        replay::Replay,
        severity::Severities,
    },
    event::word::InstanceId,
};
use serde::{Deserialize, Serialize};

/// What was recorded: the events of a daemon, and who did what when.
#[derive(Clone, Copy)]
pub struct Record {
    pub events: &'static str,
    pub labels: &'static str,
    pub documents: &'static str,
}

/// One run of one role.
#[derive(Deserialize)]
pub struct Label {
    pub role: String,
    pub set: Set,
    instance: InstanceId,
    acts: Vec<Act>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub enum Set {
    /// Learned.
    A,
    /// Other tasks.
    B,
    /// With deviations.
    C,
}

/// A deviation: from when it was asked for until the next step was, in microseconds since 1970.
#[derive(Deserialize)]
struct Act {
    what: String,
    begin_us: u64,
    end_us: u64,
}

/// What came of one role, or of all.
#[derive(Debug, Default, Serialize)]
pub struct Row {
    pub role: String,
    /// Instances and events that were learned.
    pub learned_instances: usize,
    pub learned_events: u64,
    /// Events of other tasks, and what was found in them: alerts are different causes.
    pub other_events: u64,
    pub other_findings: u64,
    pub other_alerts: u64,
    pub alerts_per_thousand: f64,
    pub findings_per_thousand: f64,
    /// What the alerts are about.
    pub alerts: Vec<String>,
    /// Alerts of the third set outside every deviation, in so many events.
    pub between_events: u64,
    pub between_alerts: Vec<String>,
    pub deviations: Vec<Deviation>,
}

/// What came of one deviation.
#[derive(Debug, Serialize)]
pub struct Deviation {
    pub what: String,
    pub events: u64,
    pub findings: u64,
    /// Findings that say only how deep, broad or fast: whatever comes late in a run gives them, so that they detect nothing.
    pub of_size: u64,
    /// Time from when it was asked for to the act of the first finding.
    pub first_after_ms: Option<u64>,
    /// Events of the instance from then to the first finding, that one included.
    pub first_after_events: Option<u64>,
    pub first: Option<String>,
}

/// The rows, and the findings as they would be written.
pub fn judge(record: Record) -> (Vec<Row>, Vec<u8>) {
    let labels = labels(record);
    let mut baselines = Baselines::default();
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for label in &labels {
        let row = rows.entry(&label.role).or_default();
        row.role.clone_from(&label.role);
        row.learned_instances += usize::from(label.set == Set::A);
    }
    for (label, seen) in of(record, &labels, Set::A) {
        baselines.learn(&seen);
        rows.get_mut(&*label.role).unwrap().learned_events += 1;
    }
    let (rules, mut bytes) = (rules(), Vec::new());
    for set in [Set::B, Set::C] {
        let (mut context, mut causes) = (Context::default(), BTreeSet::new());
        let mut counted: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for (label, seen) in of(record, &labels, set) {
            let row = rows.get_mut(&*label.role).unwrap();
            let act = label.act_of(&seen);
            let behaviours = context.behaviours(&seen);
            let found = compare(&baselines, &rules, &seen, &behaviours);
            for finding in &found {
                serde_json::to_writer(&mut bytes, finding).unwrap();
                bytes.push(b'\n');
            }
            if let Some(act) = act {
                let since = counted.entry((&*label.role, &*act.what)).or_default();
                *since += 1;
                row.deviates(act, &seen, *since, &found);
                continue;
            }
            let news = found.iter().map(told).filter(|told| causes.insert((&*label.role, told.clone())));
            let news: Vec<String> = news.collect();
            if set == Set::B {
                row.other_events += 1;
                row.other_findings += found.len() as u64;
                row.alerts.extend(news);
            } else {
                row.between_events += 1;
                row.between_alerts.extend(news);
            }
        }
    }
    let mut rows: Vec<Row> = rows.into_values().collect();
    let all = Row {
        role: "all".into(),
        learned_instances: rows.iter().map(|row| row.learned_instances).sum(),
        learned_events: rows.iter().map(|row| row.learned_events).sum(),
        other_events: rows.iter().map(|row| row.other_events).sum(),
        other_findings: rows.iter().map(|row| row.other_findings).sum(),
        other_alerts: rows.iter().map(|row| row.alerts.len() as u64).sum(),
        between_events: rows.iter().map(|row| row.between_events).sum(),
        ..Row::default()
    };
    rows.iter_mut().for_each(|row| row.other_alerts = row.alerts.len() as u64);
    rows.push(all);
    for row in &mut rows {
        let per = |count: u64| (count as f64 * 10_000.0 / row.other_events.max(1) as f64).round() / 10.0;
        (row.alerts_per_thousand, row.findings_per_thousand) =
            (per(row.other_alerts), per(row.other_findings));
    }
    (rows, bytes)
}

impl Row {
    fn deviates(&mut self, act: &Act, seen: &Observation, since: u64, found: &[Finding]) {
        let begin_ms = act.begin_us / 1_000;
        let there = match self.deviations.iter().position(|there| there.what == act.what) {
            Some(at) => &mut self.deviations[at],
            None => {
                self.deviations.push(Deviation {
                    what: act.what.clone(),
                    events: 0,
                    findings: 0,
                    of_size: 0,
                    first_after_ms: None,
                    first_after_events: None,
                    first: None,
                });
                self.deviations.last_mut().unwrap()
            }
        };
        there.events += 1;
        there.findings += found.len() as u64;
        there.of_size += found.iter().filter(|finding| is_of_size(finding)).count() as u64;
        let first = found.iter().find(|finding| !is_of_size(finding));
        if let (None, Some(first)) = (&there.first, first) {
            there.first = Some(told(first));
            there.first_after_ms = Some((seen.time.0 / 1_000_000).saturating_sub(begin_ms));
            there.first_after_events = Some(since);
        }
    }
}

impl Label {
    fn act_of(&self, seen: &Observation) -> Option<&Act> {
        let time_us = seen.time.0 / 1_000;
        self.acts.iter().find(|act| (act.begin_us..act.end_us).contains(&time_us))
    }
}

fn is_of_size(finding: &Finding) -> bool {
    matches!(finding.what, What::Deeper | What::Broader | What::Faster)
}

/// A finding in a few words.
fn told(finding: &Finding) -> String {
    format!("{} {}", finding.what.name(), finding.behaviour)
}

/// As a guest of one day can have it.
pub fn rules() -> Rules {
    Rules { support: Support { instances: 2, days: 1, hosts: 2 }, severities: Severities::default() }
}

pub fn labels(record: Record) -> Vec<Label> {
    serde_json::from_str(record.labels).unwrap()
}

/// Everything that was recorded.
pub fn observations(record: Record) -> Vec<Observation> {
    let mut replay = Replay::new(record.events.as_bytes(), "events.ndjson", 0, 0);
    let mut all = Vec::new();
    while let Some((_, seen)) = replay.step().unwrap() {
        all.push(seen);
    }
    assert_eq!((replay.faults.foreign, replay.faults.newer, replay.faults.unfinished), (0, 0, false));
    all
}

/// What instances of one set did, without what was told of them.
fn of(record: Record, labels: &[Label], set: Set) -> Vec<(&Label, Observation)> {
    let label = |seen: &Observation| {
        labels.iter().find(|label| label.set == set && Some(label.instance) == seen.instance)
    };
    let acts = observations(record).into_iter().filter(|seen| !seen.kind.name().starts_with("finding"));
    acts.filter_map(|seen| Some((label(&seen)?, seen))).collect()
}
