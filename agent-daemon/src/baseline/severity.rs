//! How serious a finding is: a table of what differs and what is nearest, which people can read and change.

use std::sync::Arc;

use super::compare::{Nearness, What};
pub use crate::config::reaction::Severity;
use crate::config::{
    fields::{Fields, items, word},
    problem::{Place, Problem, Problems, Texts},
    yaml,
};

/// The table; the first line that matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Severities(Vec<Line>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    what: Option<What>,
    nearest: Option<Nearness>,
    severity: Severity,
}

impl Default for Severities {
    /// The built-in table.
    fn default() -> Self {
        Self::parse("severity.yaml", BUILT_IN).expect("a test reads the built-in table")
    }
}

impl Severities {
    /// Reads a table; every mistake with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        let (file, mut problems) = (Arc::<str>::from(file), Problems::default());
        let documents = yaml::documents(&file, text, &mut problems);
        let mut lines = Vec::new();
        for document in &documents {
            for item in items(document, "the table of severities", &mut problems) {
                lines.extend(line(item, &mut problems));
            }
        }
        if documents.is_empty() {
            let remedy = "begin it with `- { what: new_endpoint, severity: high }`";
            problems.push(Problem::new(&Place::file(&file), "there is no table of severities", remedy));
        }
        let texts = Texts([(file, Arc::from(text))].into());
        problems.settle(Self(lines), &texts)
    }

    /// The severity of a finding; `medium` where no line speaks of it.
    #[must_use]
    pub fn of(&self, what: What, nearest: Nearness) -> Severity {
        let speaks = |line: &&Line| {
            line.what.is_none_or(|of| of == what) && line.nearest.is_none_or(|of| of == nearest)
        };
        self.0.iter().find(speaks).map_or(Severity::Medium, |line| line.severity)
    }
}

fn line(node: &yaml::Node, problems: &mut Problems) -> Option<Line> {
    let mut fields = Fields::of(node, "a line of the table", problems)?;
    let (what, nearest, severity) = (fields.get("what"), fields.get("nearest"), fields.need("severity"));
    fields.finish(problems);
    let whats: Vec<(&str, What)> = What::ALL.iter().map(|what| (what.name(), *what)).collect();
    let nears: Vec<(&str, Nearness)> = Nearness::ALL.iter().map(|near| (near.name(), *near)).collect();
    let words: Vec<(&str, Severity)> = Severity::ALL.iter().map(|one| (one.name(), *one)).collect();
    let what = match what {
        Some(node) => Some(word(node, "what", &whats, problems)?),
        None => None,
    };
    let nearest = match nearest {
        Some(node) => Some(word(node, "nearest", &nears, problems)?),
        None => None,
    };
    Some(Line { what, nearest, severity: word(severity?, "severity", &words, problems)? })
}

const BUILT_IN: &str = include_str!("severity.yaml");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_speaks_of_everything_and_the_first_line_decides() {
        let table = Severities::default();
        for what in What::ALL {
            assert!(
                table.0.iter().any(|line| line.what == Some(*what) && line.nearest.is_none()),
                "{what:?}"
            );
        }
        assert_eq!(table.of(What::NewEndpoint, Nearness::SameDomain), Severity::Low);
        assert_eq!(table.of(What::NewEndpoint, Nearness::None), Severity::High);
        assert_eq!(table.of(What::NewVersion, Nearness::SeenBefore), Severity::Low);
    }

    #[test]
    fn a_mistake_is_told_with_its_place() {
        let wrong =
            Severities::parse("s.yaml", "- { what: new_endpiont, severity: high }\n- { severty: low }\n");
        let text = wrong.unwrap_err().to_string();
        assert!(text.contains("s.yaml:1") && text.contains("new_endpoint"), "{text}");
        assert!(text.contains("s.yaml:2") && text.contains("severity"), "{text}");
        assert!(Severities::parse("s.yaml", "").is_err());
        assert_eq!(
            Severities::parse("s.yaml", "- { severity: info }").unwrap().of(What::Faster, Nearness::None),
            Severity::Info
        );
    }
}
