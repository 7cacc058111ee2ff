//! What is wrong with the configuration: where, what, and what to do about it.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// A place in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// The file as it was found; for a symlink with what it leads to.
    pub file: Arc<str>,
    /// From 1; 0 for the file as a whole.
    pub line: u32,
    /// In characters, from 1; 0 for the line as a whole.
    pub column: u32,
    /// How many characters of the line are meant.
    #[serde(default, skip_serializing)]
    pub width: u32,
}

impl Place {
    /// The file as a whole.
    #[must_use]
    pub fn file(file: &str) -> Self {
        Self { file: file.into(), line: 0, column: 0, width: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 { write!(f, ":{}", self.line) } else { Ok(()) }
    }
}

/// What is wrong with a text, before it is known where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub what: String,
    /// What to do about it.
    pub remedy: String,
}

impl Fault {
    pub fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: remedy.into() }
    }

    /// The same fault, at a place.
    #[must_use]
    pub fn at(self, place: &Place) -> Problem {
        Problem { place: place.clone(), what: self.what, remedy: self.remedy, source: None }
    }
}

/// One thing wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    #[serde(flatten)]
    pub place: Place,
    pub what: String,
    /// What to do about it.
    pub remedy: String,
    /// The line of the file, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl Problem {
    pub fn new(place: &Place, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Fault::new(what, remedy).at(place)
    }

    /// Several lines for people: place and text, the line with a caret below the spot, the remedy.
    #[must_use]
    pub fn for_people(&self, colour: bool) -> String {
        let paint = |code: &'static str| if colour { code } else { "" };
        let (red, blue, bold, off) =
            (paint("\x1b[31;1m"), paint("\x1b[34m"), paint("\x1b[1m"), paint("\x1b[0m"));
        let mut out = format!("{bold}{}", self.place);
        if self.place.line > 0 && self.place.column > 0 {
            let _ = write!(out, ":{}", self.place.column);
        }
        let _ = writeln!(out, ":{off} {red}error:{off} {}", self.what);
        if let Some(source) = &self.source {
            let number = self.place.line.to_string();
            let _ = writeln!(out, "  {blue}{number} |{off} {source}");
            if self.place.column > 0 {
                let indent = " ".repeat(self.place.column as usize - 1);
                let room = source.chars().count().saturating_sub(indent.len()).max(1);
                let carets = "^".repeat((self.place.width as usize).clamp(1, room));
                let _ =
                    writeln!(out, "  {} {blue}|{off} {indent}{red}{carets}{off}", " ".repeat(number.len()));
            }
        }
        if !self.remedy.is_empty() {
            let _ = writeln!(out, "  {blue}={off} {}", self.remedy);
        }
        out
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place)?;
        if self.place.column > 0 {
            write!(f, ":{}", self.place.column)?;
        }
        write!(f, ": {}", self.what)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, " ({})", self.remedy) }
    }
}

/// Everything wrong with the configuration, each once, in the order of the files; at most [`PROBLEMS_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// Adds a problem, unless it is told already.
    pub fn push(&mut self, problem: Problem) {
        if self.0.len() > PROBLEMS_MAX || self.0.contains(&problem) {
            return;
        }
        let full = self.0.len() == PROBLEMS_MAX;
        let remedy = format!("mend these {PROBLEMS_MAX} first");
        self.0.push(if full {
            Problem::new(&problem.place, "there are more mistakes than are told", remedy)
        } else {
            problem
        });
    }

    /// Adds all of another.
    pub fn extend(&mut self, more: Self) {
        more.0.into_iter().for_each(|problem| self.push(problem));
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// `value` when nothing is wrong; otherwise the problems, sorted, each with its line of `texts`.
    pub fn settle<T>(mut self, value: T, texts: &Texts) -> Result<T, Self> {
        if self.0.is_empty() {
            return Ok(value);
        }
        texts.quote(&mut self.0);
        self.0.sort();
        Err(self)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// The texts of the files that were read, for quoting a line.
#[derive(Clone, Debug, Default)]
pub struct Texts(pub BTreeMap<Arc<str>, Arc<str>>);

impl Texts {
    /// Gives each problem its line: printable, and short enough for a terminal.
    fn quote(&self, problems: &mut [Problem]) {
        let mut files: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for problem in problems {
            let Some((file, text)) = self.0.get_key_value(&problem.place.file) else { continue };
            let lines = files.entry(file).or_insert_with(|| text.lines().collect());
            let index = (problem.place.line as usize).checked_sub(1);
            let line = index.and_then(|index| lines.get(index));
            let chars_max = SOURCE_CHARS_MAX.max(problem.place.column as usize);
            problem.source = line.map(|line| printable(line, chars_max));
        }
    }
}

/// A text from outside as it may be shown: quoted, cut, without control characters.
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("`{}`", printable(text, QUOTED_CHARS_MAX))
}

/// The known name nearest to a wrong one, as a remedy; otherwise all the known names.
#[must_use]
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest_name(wrong, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "there is none".into(),
        None if known.len() <= NAMES_LISTED_MAX => format!("known: {}", known.join(", ")),
        None => format!("known: {}, …", known[..NAMES_LISTED_MAX].join(", ")),
    }
}

/// The known name that a wrong one was probably meant to be.
#[must_use]
pub fn nearest_name<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong: String = wrong.chars().take(QUOTED_CHARS_MAX).collect::<String>().to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong, &name.to_lowercase()), name))
        .filter(|(distance, name)| {
            let (short, long) = (wrong.len().min(name.len()), wrong.len().max(name.len()));
            *distance < short && *distance <= 1.max(long / 3)
        })
        .min()
        .map(|(_, name)| name)
}

fn printable(text: &str, chars_max: usize) -> String {
    let mut out: String = text
        .chars()
        .take(chars_max)
        .map(|c| {
            if c == '\t' {
                ' '
            } else if c.is_control() || is_direction_mark(c) {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect();
    if text.chars().nth(chars_max).is_some() {
        out.push('…');
    }
    out
}

/// Characters that reorder what a terminal shows.
fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Nobody reads more at once, and a file of rubbish must not cost more.
pub const PROBLEMS_MAX: usize = 500;
const QUOTED_CHARS_MAX: usize = 80;
const SOURCE_CHARS_MAX: usize = 160;
const NAMES_LISTED_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_offered_and_a_far_one_is_not() {
        assert_eq!(nearest("defualt", ["default", "rules"]), "did you mean `default`?");
        assert_eq!(nearest("zebra", ["default", "rules"]), "known: default, rules");
        assert_eq!(nearest("x", []), "there is none");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(quoted("a\x1b[31mb\u{202e}"), "`a\u{fffd}[31mb\u{fffd}`");
        assert_eq!(quoted(&"x".repeat(100)).chars().count(), 83);
    }

    #[test]
    fn the_caret_stands_below_the_spot() {
        let place = Place { file: "a.yaml".into(), line: 3, column: 5, width: 40 };
        let mut problem = Problem::new(&place, "wrong", "do this");
        problem.source = Some("to: 10.0.0.0".into());
        assert_eq!(
            problem.for_people(false),
            "a.yaml:3:5: error: wrong\n  3 | to: 10.0.0.0\n    |     ^^^^^^^^\n  = do this\n"
        );
    }
}
