//! Which events a sink wants, in the words that events themselves have; without any it wants all.

use agent_common::verdict::Verdict;

use super::Sink;
use crate::{
    config::{
        fields,
        problem::{Problem, Problems},
        reaction::Severity,
        yaml::Node,
    },
    event::{Event, filter, word::Word},
};

impl Sink {
    /// Whether some events are not for it.
    #[must_use]
    pub fn is_choosy(&self) -> bool {
        !self.kinds.is_empty() || !self.verdicts.is_empty() || self.severity_min.is_some()
    }

    /// Whether the event is for it; each condition that is set must hold.
    #[must_use]
    pub fn wants(&self, event: &Event, severity: Severity) -> bool {
        let kind = || self.kinds.iter().any(|kind| filter::is_of_kind(event.kind, kind));
        let verdict = || event.verdict.is_some_and(|verdict| self.verdicts.contains(&verdict));
        (self.kinds.is_empty() || kind())
            && (self.verdicts.is_empty() || verdict())
            && self.severity_min.is_none_or(|least| severity >= least)
    }
}

pub fn kinds(node: &Node, problems: &mut Problems) -> Vec<String> {
    let words: Vec<_> = filter::kinds().into_iter().map(|kind| (kind, kind)).collect();
    list(node, "kinds", "a kind", &words, problems).into_iter().map(str::to_owned).collect()
}

pub fn verdicts(node: &Node, problems: &mut Problems) -> Vec<Word<Verdict>> {
    let words: Vec<_> = Verdict::ALL.iter().map(|verdict| (verdict.name(), Word::from(*verdict))).collect();
    list(node, "verdicts", "a verdict", &words, problems)
}

pub fn severity(node: &Node, problems: &mut Problems) -> Option<Severity> {
    let words: Vec<_> = Severity::ALL.iter().map(|severity| (severity.name(), *severity)).collect();
    fields::word(node, "severity_min", &words, problems)
}

fn list<T: Copy>(
    node: &Node,
    name: &'static str,
    one: &'static str,
    words: &[(&str, T)],
    problems: &mut Problems,
) -> Vec<T> {
    let before = problems.0.len();
    let items = fields::items(node, name, problems);
    // Taken for no condition, it would send everything: hardly what was meant.
    if items.is_empty() && problems.0.len() == before {
        let remedy = format!("name at least one, or leave {name} out: then all are sent");
        problems.push(Problem::new(&node.place, format!("{name} is empty"), remedy));
    }
    items.iter().filter_map(|item| fields::word(item, one, words, problems)).collect()
}
