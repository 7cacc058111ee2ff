//! What a role has done about findings: from which severity on an instance is stopped, and from which it is ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    fields::{self, Fields},
    problem::{Problem, Problems},
    yaml::Node,
};

agent_common::vocabulary! {
    /// How serious a finding is.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum Severity {
        Info = 1 => "info",
        Low = 2 => "low",
        Medium = 3 => "medium",
        High = 4 => "high",
        Critical = 5 => "critical",
    }
}

/// What is done with an instance whose act was found to differ from what is usual for the role.
///
/// It comes after the act, and only in mode `enforce`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reactions {
    /// From this severity on it is stopped, all its processes (SIGSTOP), until somebody continues or ends them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Severity>,
    /// From this severity on it is ended (SIGKILL).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill: Option<Severity>,
}

/// What is done with an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    Stop,
    Kill,
}

impl Effect {
    /// As events and metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Kill => "kill",
        }
    }
}

impl Reactions {
    /// What follows from a finding.
    #[must_use]
    pub fn to(&self, severity: Severity) -> Option<Effect> {
        let from = |least: Option<Severity>| least.is_some_and(|least| severity >= least);
        if from(self.kill) { Some(Effect::Kill) } else { from(self.stop).then_some(Effect::Stop) }
    }
}

/// Reads a role's `baseline`.
pub fn read(node: &Node, problems: &mut Problems) -> Option<Reactions> {
    let mut fields = Fields::of(node, "baseline", problems)?;
    let words: Vec<_> = Severity::ALL.iter().map(|severity| (severity.name(), *severity)).collect();
    let mut severity = |name| fields.get(name).and_then(|node| fields::word(node, name, &words, problems));
    let reactions = Reactions { stop: severity("stop"), kill: severity("kill") };
    fields.finish(problems);
    if let (Some(stop), Some(kill)) = (reactions.stop, reactions.kill)
        && kill <= stop
    {
        let what = format!("`stop: {}` never comes to pass beside `kill: {}`", stop.name(), kill.name());
        problems.push(Problem::new(
            &node.place,
            what,
            "have `kill` from a higher severity on, or leave `stop` out",
        ));
    }
    Some(reactions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stronger_one_counts_from_its_severity_on() {
        let both = Reactions { stop: Some(Severity::Medium), kill: Some(Severity::Critical) };
        let effects = Severity::ALL.iter().map(|severity| both.to(*severity));
        let wanted = [None, None, Some(Effect::Stop), Some(Effect::Stop), Some(Effect::Kill)];
        assert!(effects.eq(wanted));
        assert!(Severity::ALL.iter().all(|severity| Reactions::default().to(*severity).is_none()));
    }
}
