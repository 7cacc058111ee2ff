//! YAML text as a tree in which every node knows its place.
//!
//! A document that cannot be parsed is one problem; the documents before and after it are read all the same.

use std::{iter::Peekable, sync::Arc};

use granit_parser::{Event, Parser, ScalarStyle, Span};

use super::problem::{Place, Problem, Problems};

/// A value of a document.
#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub data: Data,
}

/// What a node holds.
#[derive(Clone, Debug)]
pub enum Data {
    Scalar {
        text: String,
        /// Written without quotes, so that it may be a number, a boolean or null.
        plain: bool,
    },
    List(Vec<Node>),
    /// Keys in the order of the file; a key that occurs twice is still here twice.
    Map(Vec<(Node, Node)>),
    /// Already reported.
    Bad,
}

impl Data {
    /// What it is, in words.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Scalar { text, plain: true } => plain_kind(text),
            Self::Scalar { .. } => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
            Self::Bad => "nothing",
        }
    }

    /// Whether nothing, or `null`, was written.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Scalar { text, plain: true } if plain_kind(text) == "null")
    }
}

/// The documents of a text, without the empty ones.
pub fn documents(file: &Arc<str>, text: &str, problems: &mut Problems) -> Vec<Node> {
    let options = granit_parser::options! {
        emit_unresolved_aliases: true,
        disallow_directives: true,
        flow_nesting_limit: NESTING_MAX,
        block_nesting_limit: NESTING_MAX,
    };
    let mut parser = Parser::new_from_str_with_options(text, options);
    let mut documents = Vec::new();
    loop {
        let mut tree = Tree { file, events: parser.by_ref().peekable(), problems };
        match tree.stream(&mut documents) {
            Ok(()) => return documents,
            Err(error) => {
                drop(tree);
                problems.push(syntax_problem(file, &error));
                // Without a further document, or when it cannot be found, what was read is all there is.
                if !matches!(parser.proceed_next_document(), Ok(true)) {
                    return documents;
                }
            }
        }
    }
}

fn syntax_problem(file: &Arc<str>, error: &granit_parser::ScanError) -> Problem {
    let place = Place {
        file: file.clone(),
        line: error.marker().line() as u32,
        column: error.marker().col() as u32 + 1,
        width: 1,
    };
    let remedy = "quote a text that begins with one of * & ! [ ] { } | > @ ` % or contains `: ` or ` #`; \
                  check indentation and closing brackets";
    Problem::new(&place, format!("not YAML: {}", error.info()), remedy)
}

struct Tree<'a, I: Iterator> {
    file: &'a Arc<str>,
    events: Peekable<I>,
    problems: &'a mut Problems,
}

type Next<'input> = Result<(Event<'input>, Span), granit_parser::ScanError>;

impl<'input, I: Iterator<Item = Next<'input>>> Tree<'_, I> {
    fn stream(&mut self, documents: &mut Vec<Node>) -> Result<(), granit_parser::ScanError> {
        while let Some(next) = self.events.next() {
            let (event, _) = next?;
            if matches!(event, Event::DocumentStart(..)) {
                let node = self.node()?;
                if !node.data.is_null() {
                    documents.push(node);
                }
            }
        }
        Ok(())
    }

    /// The next node with all that is in it; recursion is bounded by the parser's nesting limits.
    fn node(&mut self) -> Result<Node, granit_parser::ScanError> {
        let Some(next) = self.events.next() else {
            return Ok(Node { place: Place::file(self.file), data: Data::Bad });
        };
        let (event, span) = next?;
        let place = self.place(&span);
        let tag = event.tag().map(ToString::to_string);
        let mut data = match event {
            Event::Scalar(text, style, ..) => {
                Data::Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain }
            }
            Event::SequenceStart(..) => {
                let mut items = Vec::new();
                while !self.take(&Event::SequenceEnd)? {
                    items.push(self.node()?);
                }
                Data::List(items)
            }
            Event::MappingStart(..) => {
                let mut entries = Vec::new();
                while !self.take(&Event::MappingEnd)? {
                    entries.push((self.node()?, self.node()?));
                }
                Data::Map(entries)
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                let remedy =
                    "a text that begins with * needs quotes; YAML aliases are not read, write the value out";
                self.problems.push(Problem::new(&place, "this is a YAML alias", remedy));
                Data::Bad
            }
            _ => Data::Bad,
        };
        if let Some(tag) = tag {
            let what = format!("YAML tags such as {} are not read", super::problem::quoted(&tag));
            self.problems.push(Problem::new(&place, what, "remove it; quote a text that begins with !"));
            data = Data::Bad;
        }
        Ok(Node { place, data })
    }

    fn take(&mut self, end: &Event<'_>) -> Result<bool, granit_parser::ScanError> {
        match self.events.peek() {
            Some(Ok((event, _))) if event == end => {
                self.events.next();
                Ok(true)
            }
            // The end of the stream closes everything; the parser has reported why.
            None => Ok(true),
            Some(Ok(_)) => Ok(false),
            Some(Err(error)) => Err(error.clone()),
        }
    }

    fn place(&self, span: &Span) -> Place {
        let one_line = span.start.line() == span.end.line();
        Place {
            file: self.file.clone(),
            line: span.start.line() as u32,
            column: span.start.col() as u32 + 1,
            width: if one_line { span.end.col().saturating_sub(span.start.col()).max(1) as u32 } else { 1 },
        }
    }
}

/// What YAML 1.2's core schema takes an unquoted scalar for.
fn plain_kind(text: &str) -> &'static str {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let based = |prefix: &str, radix| {
        digits
            .strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.chars().all(|c| c.is_digit(radix)))
    };
    match text {
        "" | "~" | "null" | "Null" | "NULL" => "null",
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => "a boolean",
        _ if digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
            && (text.parse::<f64>().is_ok() || based("0x", 16) || based("0o", 8)) =>
        {
            "a number"
        }
        _ => "a text",
    }
}

/// The deepest document has eight levels.
const NESTING_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Node>, Problems) {
        let mut problems = Problems::default();
        let documents = documents(&"t.yaml".into(), text, &mut problems);
        (documents, problems)
    }

    #[test]
    fn a_broken_document_does_not_hide_its_neighbours() {
        let (documents, problems) = read("a: 1\n---\nb: [1, 2\n---\nc: 3\n");
        assert_eq!(documents.len(), 2);
        assert_eq!(problems.0.len(), 1);
        assert_eq!(documents[1].place.line, 5);
    }

    #[test]
    fn aliases_and_tags_are_named_not_followed() {
        let (_, problems) = read("to: *x\nt: !!str 5\nok: 1\n");
        assert_eq!(problems.0.len(), 2, "{problems}");
        assert_eq!((problems.0[0].place.line, problems.0[0].place.column), (1, 5));
    }

    #[test]
    fn unquoted_scalars_are_what_yaml_says() {
        for (text, kind) in [
            ("1.10", "a number"),
            ("123456789012", "a number"),
            ("1e5", "a number"),
            ("0x1f", "a number"),
            ("10.1.2.3", "a text"),
            ("true", "a boolean"),
            ("yes", "a text"),
            ("~", "null"),
            ("inf", "a text"),
        ] {
            assert_eq!(plain_kind(text), kind, "{text}");
        }
    }

    #[test]
    fn nesting_has_a_bound() {
        let (_, problems) = read(&"[".repeat(100_000));
        assert_eq!(problems.0.len(), 1);
    }
}
