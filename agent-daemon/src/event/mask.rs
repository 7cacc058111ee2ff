//! Secrets in arguments: values that look like one are replaced before an event leaves the decoder.
//!
//! Every exec passes here, so one look through the raw arguments for tell-tale letters comes first; what has none
//! of them (most commands) is done. The rest is looked at closely, and only in the ways that the letters suggest.

mod key;
mod program;

use std::{borrow::Cow, sync::LazyLock};

use aho_corasick::{AhoCorasick, AhoCorasickBuilder};
use regex::{Captures, Regex};

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// What counts as a secret: the built-in shapes and words, and those that were configured.
#[derive(Clone, Debug)]
pub struct Masks {
    /// Finds the tell-tale letters, without regard to case.
    needles: AhoCorasick,
    /// Configured words, lower case.
    words: Vec<String>,
}

impl Default for Masks {
    fn default() -> Self {
        Self::with_words(&[])
    }
}

impl Masks {
    /// The built-in ones, and options and variables whose name contains one of `words`.
    #[must_use]
    pub fn with_words(words: &[String]) -> Self {
        let words: Vec<String> =
            words.iter().filter(|w| !w.is_empty()).map(|w| w.to_ascii_lowercase()).collect();
        let letters = HINTS.iter().map(|(letters, _)| *letters).chain(words.iter().map(String::as_str));
        let needles = AhoCorasickBuilder::new()
            .ascii_case_insensitive(true)
            .build(letters)
            .expect("some hundred short words make a small automaton");
        Self { needles, words }
    }

    /// Replaces what looks like a secret in each argument; answers how many arguments were changed.
    ///
    /// `cut` says that the last argument may be incomplete: a secret that was cut in the middle is still one.
    pub fn mask(&self, argv: &mut [Box<str>], cut: bool) -> u32 {
        let Some((program, rest)) = argv.split_first_mut() else { return 0 };
        let mut words = program::Words::of(self, program);
        let last = rest.len().wrapping_sub(1);
        let mut masked = 0;
        for (at, arg) in rest.iter_mut().enumerate() {
            let replaced = words.next(arg).or_else(|| inside(self, arg, cut && at == last));
            if let Some(text) = replaced {
                *arg = text.into();
                masked += 1;
            }
        }
        masked
    }

    /// Which of the close looks the text's letters suggest.
    fn hints(&self, text: &str) -> u8 {
        self.needles.find_overlapping_iter(text).fold(0, |hints, found| {
            hints | HINTS.get(found.pattern().as_usize()).map_or(WORD, |(_, hint)| *hint)
        })
    }

    fn names_a_secret(&self, name: &str) -> bool {
        key::names_a_secret(name, &self.words)
    }
}

/// The argument's text without its secrets, or `None` when it has none.
fn inside(masks: &Masks, arg: &str, cut: bool) -> Option<String> {
    let hints = masks.hints(arg);
    if hints == 0 && !arg.contains(char::is_whitespace) {
        return None;
    }
    if let Some((option, value)) = arg.split_once('=').filter(|_| arg.starts_with('-') && hints & WORD != 0)
        && masks.names_a_secret(option.trim_start_matches('-'))
        && !key::is_reference(value)
    {
        return Some(format!("{option}={MASK}"));
    }
    let mut text = Cow::Borrowed(arg);
    let mut step = |pattern: &Regex, change: &dyn Fn(&Captures) -> String| {
        if let Cow::Owned(changed) = pattern.replace_all(&text, change) {
            text = Cow::Owned(changed);
        }
    };
    if hints & SHAPE != 0 {
        step(&PRIVATE_KEY, &|_| MASK.to_owned());
        step(&SHAPES, &|found| if plausible(&found[0]) { MASK.to_owned() } else { found[0].to_owned() });
        if cut {
            step(&CUT_SHAPE, &|_| MASK.to_owned());
        }
    }
    if hints & URL != 0 {
        step(&URL_PASSWORD, &|found| format!("{}{}:{MASK}@", &found[1], &found[2]));
    }
    if hints & WORD != 0 {
        step(&HEADER, &|found| format!("{}{}{MASK}", &found[1], found.get(2).map_or("", |m| m.as_str())));
        step(&BEARER, &|found| format!("{}{MASK}", &found[1]));
        step(&ASSIGNMENT, &|found| keep_unless_secret(masks, found, "="));
        step(&JSON_MEMBER, &|found| keep_unless_secret(masks, found, ""));
    }
    if arg.contains(char::is_whitespace)
        && let Some(changed) = program::command_line(masks, &text)
    {
        text = Cow::Owned(changed);
    }
    (*text != *arg).then(|| text.into_owned())
}

/// `key=value` with the value replaced where the key names a secret, quotes kept.
fn keep_unless_secret(masks: &Masks, found: &Captures, between: &str) -> String {
    let (key, value) = (&found[1], &found[2]);
    let bare = key.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if !masks.names_a_secret(bare) || key::is_reference(value) {
        return found[0].to_owned();
    }
    let quote =
        value.chars().next().filter(|c| matches!(c, '"' | '\'')).map(String::from).unwrap_or_default();
    format!("{key}{between}{quote}{MASK}{quote}")
}

/// Letters in random order have digits among them; names such as `sk-learn-contrib-package` do not.
fn plausible(shape: &str) -> bool {
    !shape.starts_with("sk-")
        || (shape.bytes().any(|b| b.is_ascii_digit()) && !shape.bytes().all(|b| b == b'-'))
}

/// A key, header or flag that names a secret.
const WORD: u8 = 1 << 0;
/// The shape of a well-known token.
const SHAPE: u8 = 1 << 1;
/// User information in a URL.
const URL: u8 = 1 << 2;

/// Tell-tale letters (without regard to case) and what they suggest.
const HINTS: &[(&str, u8)] = &[
    ("pass", WORD),
    ("pwd", WORD),
    ("token", WORD),
    ("secret", WORD),
    ("key", WORD | SHAPE),
    ("auth", WORD),
    ("bearer", WORD),
    ("cred", WORD),
    ("cookie", WORD),
    ("://", URL),
    ("sk-", SHAPE),
    ("sk_", SHAPE),
    ("rk_", SHAPE),
    ("ghp_", SHAPE),
    ("gho_", SHAPE),
    ("ghu_", SHAPE),
    ("ghs_", SHAPE),
    ("ghr_", SHAPE),
    ("github_pat_", SHAPE),
    ("glpat-", SHAPE),
    ("xox", SHAPE),
    ("akia", SHAPE),
    ("asia", SHAPE),
    ("eyj", SHAPE),
    ("aiza", SHAPE),
    ("npm_", SHAPE),
    ("pypi-", SHAPE),
    ("hf_", SHAPE),
    ("hvs.", SHAPE),
    ("ya29.", SHAPE),
    ("dop_v1_", SHAPE),
];

macro_rules! patterns {
    ($($name:ident = $pattern:expr;)*) => {
        $(static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("tested below"));)*
    };
}

patterns! {
    SHAPES = concat!(
        r"sk-[A-Za-z0-9_-]{16,}|[sr]k_(?:live|test)_[A-Za-z0-9]{10,}|gh[pousr]_[A-Za-z0-9]{20,}",
        r"|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|xox[abeoprs]-[A-Za-z0-9-]{10,}",
        r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
        r"|AIza[A-Za-z0-9_-]{35}|\bnpm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}|\bhf_[A-Za-z0-9]{30,}",
        r"|\bhvs\.[A-Za-z0-9_-]{20,}|ya29\.[A-Za-z0-9_-]{20,}|dop_v1_[a-f0-9]{32,}|AGE-SECRET-KEY-1[A-Z0-9]{20,}",
    );
    CUT_SHAPE = concat!(
        r"(?:\bsk-[A-Za-z0-9]|[sr]k_live_|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|\bAKIA|\bASIA[A-Z0-9]|eyJ",
        r"|AIza|\bhf_|\bhvs\.|ya29\.)[A-Za-z0-9._-]{3,}$",
    );
    PRIVATE_KEY = r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[\s\S]*?(?:-----END [A-Z0-9 ]*-----|$)";
    URL_PASSWORD = r"([A-Za-z][A-Za-z0-9+.-]*://)([^/\s@:'\x22]*):([^/\s@'\x22]+)@";
    HEADER = concat!(
        r"(?i)\b((?:proxy-)?authorization\s*:\s*|(?:x-[a-z-]*(?:token|key|auth|secret)[a-z-]*|private-token|api-key",
        r"|job-token|cookie|set-cookie)\s*:\s*)((?:bearer|basic|token|digest|negotiate|apikey)\s+)?",
        r"[^\s'\x22][^'\x22\r\n]*",
    );
    BEARER = r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{8,}";
    ASSIGNMENT = r#"([A-Za-z][A-Za-z0-9_.-]*)=("(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s&;|"'<>()]+)"#;
    JSON_MEMBER = r#"(\\?["'][A-Za-z][A-Za-z0-9_.-]*\\?["']\s*:\s*)("(?:[^"\\]|\\.)*"?|'[^']*'?|\\"[^"\\]*\\?"?)"#;
}

#[cfg(test)]
mod tests;
