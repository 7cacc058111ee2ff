//! Reads typed values from a document's nodes, reporting whatever does not fit and going on.

use std::collections::{BTreeMap, btree_map::Entry};

use super::{
    problem::{Problem, Problems, nearest, nearest_name, quoted},
    yaml::{Data, Node},
};

/// The fields of a mapping: asked for by name, what nobody asked for is reported.
pub struct Fields<'a> {
    node: &'a Node,
    /// What the mapping is called in a report.
    what: &'static str,
    /// Key and value by name.
    entries: BTreeMap<&'a str, (&'a Node, &'a Node)>,
    known: Vec<&'static str>,
    missing: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// The fields of `node`; `None`, and reported, when it is not a mapping.
    pub fn of(node: &'a Node, what: &'static str, problems: &mut Problems) -> Option<Self> {
        let Data::Map(pairs) = &node.data else {
            return wrong_kind(node, what, "a mapping", problems);
        };
        let mut entries: BTreeMap<&str, (&Node, &Node)> = BTreeMap::new();
        for (key, value) in pairs {
            let Data::Scalar { text, .. } = &key.data else {
                wrong_kind::<()>(key, "a field name", "a text", problems);
                continue;
            };
            match entries.entry(text) {
                Entry::Vacant(entry) => drop(entry.insert((key, value))),
                Entry::Occupied(first) => {
                    let what = format!("field {} stands here a second time", quoted(text));
                    let remedy = format!("keep one; the first is on line {}", first.get().0.place.line);
                    problems.push(Problem::new(&key.place, what, remedy));
                }
            }
        }
        Some(Self { node, what, entries, known: Vec::new(), missing: Vec::new() })
    }

    /// The value of a field that may be left out; an explicit null counts as left out.
    pub fn get(&mut self, name: &'static str) -> Option<&'a Node> {
        self.known.push(name);
        self.entries.get(name).map(|(_, value)| *value).filter(|value| !value.data.is_null())
    }

    /// The value of a field that must be there.
    pub fn need(&mut self, name: &'static str) -> Option<&'a Node> {
        let value = self.get(name);
        if value.is_none() {
            self.missing.push(name);
        }
        value
    }

    /// Every entry that nobody asked for yet, for mappings whose keys are free.
    #[must_use]
    pub fn rest(&self) -> Vec<(&'a str, &'a Node, &'a Node)> {
        let unknown = self.entries.iter().filter(|(key, _)| !self.known.contains(*key));
        unknown.map(|(key, (name, value))| (*key, *name, *value)).collect()
    }

    /// Reports unknown and missing fields; a misspelt field is not reported as missing too.
    pub fn finish(self, problems: &mut Problems) {
        let mut misspelt = Vec::new();
        for (name, key, _) in self.rest().into_iter().take(UNKNOWN_FIELDS_TOLD_MAX) {
            let what = format!("{} has no field {}", self.what, quoted(name));
            problems.push(Problem::new(&key.place, what, nearest(name, self.known.iter().copied())));
            misspelt.extend(nearest_name(name, self.known.iter().copied()));
        }
        for name in self.missing.iter().filter(|name| !misspelt.contains(name)) {
            let what = format!("{} lacks the field `{name}`", self.what);
            problems.push(Problem::new(&self.node.place, what, format!("add `{name}: …`")));
        }
    }
}

/// A text; what YAML takes for a number or a boolean must be quoted.
pub fn text(node: &Node, what: &'static str, problems: &mut Problems) -> Option<String> {
    match &node.data {
        Data::Scalar { text, plain } if !plain || node.data.kind() == "a text" => {
            if let Some(c) = text.chars().find(|c| c.is_control()) {
                let fault = format!("{what} holds the control character {}", c.escape_unicode());
                problems.push(Problem::new(&node.place, fault, "remove it"));
                return None;
            }
            if text.chars().count() > TEXT_CHARS_MAX {
                let fault = format!("{what} is longer than {TEXT_CHARS_MAX} characters");
                problems.push(Problem::new(&node.place, fault, "shorten it"));
                return None;
            }
            Some(text.clone())
        }
        Data::Scalar { text, .. } => {
            let fault = format!("{what} must be a text, this is {} to YAML", node.data.kind());
            problems.push(Problem::new(
                &node.place,
                fault,
                format!("quote it: \"{}\"", quoted(text).trim_matches('`')),
            ));
            None
        }
        _ => wrong_kind(node, what, "a text", problems),
    }
}

/// `true` or `false`.
pub fn boolean(node: &Node, what: &'static str, problems: &mut Problems) -> Option<bool> {
    match &node.data {
        Data::Scalar { text, plain: true } if node.data.kind() == "a boolean" => {
            Some(text.eq_ignore_ascii_case("true"))
        }
        _ => wrong_kind(node, what, "true or false", problems),
    }
}

/// A whole number from `min` to `max`.
pub fn number(node: &Node, what: &'static str, min: u64, max: u64, problems: &mut Problems) -> Option<u64> {
    match &node.data {
        Data::Scalar { text, plain: true } if node.data.kind() == "a number" => match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Some(number),
            _ => {
                let fault = format!("{what} cannot be {}", quoted(text));
                problems.push(Problem::new(
                    &node.place,
                    fault,
                    format!("a whole number from {min} to {max}"),
                ));
                None
            }
        },
        _ => wrong_kind(node, what, "a whole number", problems),
    }
}

/// One of a few words.
pub fn word<T: Copy>(
    node: &Node,
    what: &'static str,
    words: &[(&str, T)],
    problems: &mut Problems,
) -> Option<T> {
    // Not `text`: it would ask to quote a boolean, which then is no known word either.
    let Data::Scalar { text, .. } = &node.data else { return wrong_kind(node, what, "a word", problems) };
    if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
        return Some(*value);
    }
    let fault = format!("{what} cannot be {}", quoted(text));
    problems.push(Problem::new(&node.place, fault, nearest(text, words.iter().map(|(word, _)| *word))));
    None
}

/// The items of a list.
pub fn items<'a>(node: &'a Node, what: &'static str, problems: &mut Problems) -> &'a [Node] {
    match &node.data {
        Data::List(items) => items,
        _ => {
            wrong_kind::<()>(node, what, "a list", problems);
            &[]
        }
    }
}

fn wrong_kind<T>(node: &Node, what: &str, expected: &str, problems: &mut Problems) -> Option<T> {
    if !matches!(node.data, Data::Bad) {
        let kind = node.data.kind();
        let remedy = match (&node.data, expected) {
            (Data::List(_), "a text") => "quote a text that begins with [".into(),
            (Data::Map(_), "a text") => "quote a text that begins with { or contains `: `".into(),
            (Data::Scalar { .. }, "a list") => "write it as [ … ] or as lines that begin with `- `".into(),
            _ => format!("write {expected}"),
        };
        problems.push(Problem::new(
            &node.place,
            format!("{what} must be {expected}, this is {kind}"),
            remedy,
        ));
    }
    None
}

/// More unknown fields than that are no slip of the pen.
const UNKNOWN_FIELDS_TOLD_MAX: usize = 100;
/// Longer than any path, name or sentence that belongs here.
const TEXT_CHARS_MAX: usize = 4096;
