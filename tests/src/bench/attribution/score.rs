//! What was seen against what is true.

use serde_json::{Value, json};

use super::stage::Leaf;

/// Whose doing a process is, as the table of cases says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Agent,
    Human,
    System,
}

impl Who {
    pub const ALL: [Self; 3] = [Self::Agent, Self::Human, Self::System];

    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Human => "human",
            Self::System => "system",
        }
    }
}

/// A leaf with its label.
#[derive(Debug, Clone)]
pub struct Seen {
    pub case: String,
    pub expected: Who,
    pub agent: &'static str,
    /// `agent`, `human`, `system`, `unknown`, or `absent` when the process never came.
    pub got: String,
    pub got_agent: Option<String>,
    pub instance: Option<String>,
    pub evidence: Value,
    pub pid: u32,
}

impl Seen {
    #[must_use]
    pub fn of(leaf: &Leaf, process: Option<&Value>) -> Self {
        let got = match process {
            None => "absent",
            Some(process) => process["origin"].as_str().unwrap_or("unknown"),
        };
        let text = |name: &str| process.and_then(|process| process[name].as_str()).map(str::to_owned);
        Self {
            case: leaf.case.clone(),
            expected: leaf.expected,
            agent: leaf.agent,
            got: got.to_owned(),
            got_agent: text("agent"),
            instance: text("instance"),
            evidence: process.map_or(Value::Null, |process| process["evidence"].clone()),
            pid: process
                .and_then(|process| process["pid"].as_u64())
                .and_then(|pid| pid.try_into().ok())
                .unwrap_or(0),
        }
    }

    /// The right origin and, for an agent, the right one.
    #[must_use]
    pub fn right(&self) -> bool {
        let wanted = (self.expected == Who::Agent).then_some(self.agent);
        self.got == self.expected.word() && self.got_agent.as_deref() == wanted
    }

    #[must_use]
    pub fn wrong(&self) -> Value {
        let who = |origin: &str, agent: Option<&str>| match agent {
            Some(agent) => format!("{origin} {agent}"),
            None => origin.to_owned(),
        };
        json!({
            "case": self.case,
            "expected": who(self.expected.word(), (self.expected == Who::Agent).then_some(self.agent)),
            "got": who(&self.got, self.got_agent.as_deref()),
            "evidence": self.evidence,
        })
    }
}

/// Precision and recall of each origin, and the cases that are wrong.
#[must_use]
pub fn report(seen: &[Seen]) -> Value {
    let mut by_origin = serde_json::Map::new();
    for who in Who::ALL {
        let expected: Vec<&Seen> = seen.iter().filter(|seen| seen.expected == who).collect();
        let said = seen.iter().filter(|seen| seen.got == who.word()).count();
        let right = expected.iter().filter(|seen| seen.right()).count();
        let unknown =
            expected.iter().filter(|seen| !Who::ALL.iter().any(|who| who.word() == seen.got)).count();
        by_origin.insert(
            who.word().to_owned(),
            json!({
                "precision": ratio(right, said),
                "recall": ratio(right, expected.len()),
                "unknown": unknown,
                "cases": expected.len(),
            }),
        );
    }
    let wrong: Vec<Value> = seen.iter().filter(|seen| !seen.right()).map(Seen::wrong).collect();
    json!({ "cases": seen.len(), "by_origin": by_origin, "wrong": wrong })
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 1.0 } else { (part as f64 / whole as f64 * 10_000.0).round() / 10_000.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(expected: Who, got: &str, agent: Option<&str>) -> Seen {
        let leaf = Leaf { case: "a case".into(), expected, agent: "bot", token: "n1".into() };
        Seen::of(&leaf, Some(&json!({ "origin": got, "agent": agent, "pid": 7 })))
    }

    #[test]
    fn a_person_taken_for_an_agent_costs_one_precision_and_the_other_recall() {
        let all = [seen(Who::Agent, "agent", Some("bot")), seen(Who::Human, "agent", Some("bot"))];
        let report = report(&all);
        assert_eq!(report["by_origin"]["agent"]["precision"], 0.5);
        assert_eq!(report["by_origin"]["human"]["recall"], 0.0);
        assert_eq!(report["wrong"][0]["got"], "agent bot");
    }

    #[test]
    fn the_wrong_agent_is_wrong() {
        assert!(!seen(Who::Agent, "agent", Some("other")).right());
        assert!(!seen(Who::Agent, "agent", None).right());
    }
}
