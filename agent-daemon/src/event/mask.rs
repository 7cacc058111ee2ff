//! Secrets in arguments, and tokens in paths and names: what looks like one is replaced before an event is recorded.
//!
//! Every exec passes here, so one look through the raw arguments for tell-tale letters comes first; what has none
//! of them (most commands) is done. The rest is looked at closely, and only in the ways that the letters suggest.

mod key;
mod names;
mod program;
mod shape;

use std::{borrow::Cow, sync::LazyLock};

use aho_corasick::{AhoCorasick, AhoCorasickBuilder, AhoCorasickKind};
use regex::{Captures, Regex};

/// What stands in place of a secret.
pub const MASK: &str = "***";

/// What counts as a secret: the built-in shapes and words, and those that were configured.
#[derive(Clone, Debug)]
pub struct Masks {
    /// Finds the tell-tale letters, without regard to case.
    needles: AhoCorasick,
    /// What each of them suggests; those of configured words stand behind the list's.
    suggested: Vec<u8>,
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
        let letters = hints().map(|(letters, _)| letters).chain(words.iter().map(String::as_str));
        let needles = AhoCorasickBuilder::new()
            // Every exec passes here, and a table is twice as fast as what is chosen for so many letters.
            .kind(Some(AhoCorasickKind::DFA))
            .ascii_case_insensitive(true)
            .build(letters)
            .expect("some hundred short words make a small automaton");
        Self { needles, suggested: hints().map(|(_, hint)| hint).collect(), words }
    }

    /// Replaces what looks like a secret in each argument; answers how many arguments were changed.
    ///
    /// `cut` says that the last argument may be incomplete: a secret that was cut in the middle is still one.
    pub fn mask(&self, argv: &mut [Box<str>], cut: bool) -> u32 {
        let Some((program, rest)) = argv.split_first_mut() else { return 0 };
        let mut words = program::Words::of(self, program);
        let last = rest.len().wrapping_sub(1);
        let mut masked = 0;
        let mut script = false;
        for (at, arg) in rest.iter_mut().enumerate() {
            let look = Look { cut: cut && at == last, script, depth: 0 };
            script = is_followed_by_a_script(arg);
            if let Some(text) = words.next(arg).or_else(|| inside(self, arg, look)) {
                *arg = text.into();
                masked += 1;
            }
        }
        // A process may be given any first argument.
        if let Some(text) =
            inside(self, program, Look { cut: cut && rest.is_empty(), script: false, depth: 0 })
        {
            *program = text.into();
            masked += 1;
        }
        masked
    }

    /// A path or a name without the tokens in it, or `None` when it has none: only what has a well-known shape counts here.
    #[must_use]
    pub fn shapes(&self, text: &str) -> Option<String> {
        if self.hints(text) & SHAPE == 0 {
            return None;
        }
        match shape::WHOLE.replace_all(text, shape_or_text) {
            Cow::Owned(changed) if changed != text => Some(changed),
            _ => None,
        }
    }

    /// Which of the close looks the text's letters suggest.
    fn hints(&self, text: &str) -> u8 {
        self.needles.find_overlapping_iter(text).fold(0, |hints, found| {
            hints | self.suggested.get(found.pattern().as_usize()).copied().unwrap_or(WORD)
        })
    }

    fn names_a_secret(&self, name: &str) -> bool {
        key::names_a_secret(name, &self.words)
    }
}

/// How to look at a text.
#[derive(Clone, Copy)]
struct Look {
    /// The text may end in the middle of a secret.
    cut: bool,
    /// A shell or an interpreter reads it.
    script: bool,
    /// How many quotes it stands in.
    depth: u8,
}

/// The argument's text without its secrets, or `None` when it has none.
fn inside(masks: &Masks, arg: &str, look: Look) -> Option<String> {
    let hints = masks.hints(arg);
    let spaced = arg.contains(char::is_whitespace);
    if hints == 0 && !spaced {
        return None;
    }
    if hints & WORD != 0 && !(look.script && spaced) {
        if let Some(changed) = assignment(masks, arg) {
            return Some(changed);
        }
        if let Some(found) = WHOLE_HEADER.captures(arg) {
            let scheme = found.get(2).map_or("", |m| m.as_str());
            return Some(format!("{}{scheme}{MASK}", &found[1]));
        }
    }
    let mut text = Cow::Borrowed(arg);
    let mut step = |pattern: &Regex, change: &dyn Fn(&Captures) -> String| {
        if let Cow::Owned(changed) = pattern.replace_all(&text, change) {
            text = Cow::Owned(changed);
        }
    };
    if hints & SHAPE != 0 {
        step(&PRIVATE_KEY, &|_| MASK.to_owned());
        step(&shape::WHOLE, &shape_or_text);
        if look.cut {
            step(&shape::CUT, &|_| MASK.to_owned());
        }
    }
    if hints & URL != 0 {
        step(&URL_PASSWORD, &url_password);
        step(&URL_TOKEN, &|found| match key::looks_random(&found[2]) {
            true => format!("{}{MASK}@", &found[1]),
            false => found[0].to_owned(),
        });
        if look.cut {
            step(&CUT_URL_PASSWORD, &|found| match found[2].bytes().all(|b| b.is_ascii_digit()) {
                true => found[0].to_owned(),
                false => format!("{}{MASK}", &found[1]),
            });
        }
    }
    if hints & WORD != 0 {
        step(&HEADER, &|found| format!("{}{}{MASK}", &found[1], found.get(2).map_or("", |m| m.as_str())));
        step(&BEARER, &|found| match found[2].len() >= 20 || found[2].bytes().any(|b| b.is_ascii_digit()) {
            true => format!("{}{MASK}", &found[1]),
            false => found[0].to_owned(),
        });
        step(&ASSIGNMENT, &|found| assigned(masks, found));
        step(&CODE, &|found| keep_unless_secret(masks, found));
        step(&JSON_MEMBER, &|found| keep_unless_secret(masks, found));
        step(&CODE_MEMBER, &|found| keep_unless_secret(masks, found));
        step(&ELEMENT, &|found| element(masks, found, look.cut));
        step(&YAML_MEMBER, &|found| keep_unless_secret(masks, found));
        step(&SQL, &|found| format!("{}{MASK}{}", &found[1], &found[2]));
        step(&NETRC, &|found| format!("{}{MASK}", &found[1]));
    }
    if spaced && look.depth < DEPTH_MAX {
        let inner =
            |text: &str| inside(masks, text, Look { cut: false, script: true, depth: look.depth + 1 });
        if let Some(changed) = program::command_line(masks, &text, &inner) {
            text = Cow::Owned(changed);
        }
    }
    (*text != *arg).then(|| text.into_owned())
}

/// Whether what follows this option is text that a shell or an interpreter reads: `-c`, `-lc`, `-e`.
fn is_followed_by_a_script(arg: &str) -> bool {
    arg.strip_prefix('-')
        .is_some_and(|o| o.ends_with(['c', 'e']) && o.bytes().all(|b| b.is_ascii_alphabetic()))
}

/// An argument that is `NAME=SECRET` as a whole: no shell reads it, so all that follows is the secret.
fn assignment(masks: &Masks, arg: &str) -> Option<String> {
    let (name, value) = arg.split_once('=')?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./:@[]".contains(&b);
    if !name.bytes().all(plain) || name.contains("://") {
        return None;
    }
    let name_alone = name.rsplit(['/', ':']).next().unwrap_or(name).trim_start_matches(['-', '_']);
    key::holds_a_secret(name_alone, value, &masks.words).then(|| format!("{name}={MASK}"))
}

fn shape_or_text(found: &Captures) -> String {
    let option = shape::option(&found[0]);
    if shape::plausible(&found[0][option.len()..]) { format!("{option}{MASK}") } else { found[0].to_owned() }
}

/// `scheme://user:secret@`; a port with a path behind it is none.
fn url_password(found: &Captures) -> String {
    let secret = &found[3];
    let port = secret.bytes().take_while(u8::is_ascii_digit).count();
    if secret.as_bytes().get(port) == Some(&b'/') || key::is_reference(secret) {
        return found[0].to_owned();
    }
    format!("{}{}:{MASK}@", &found[1], &found[2])
}

/// `key=value`; the value of a harmless key may hold another assignment (`--from-literal=password=x`).
fn assigned(masks: &Masks, found: &Captures) -> String {
    let kept = keep_unless_secret(masks, found);
    if kept != found[0] || !found[3].contains('=') {
        return kept;
    }
    let value = ASSIGNMENT.replace_all(&found[3], |found: &Captures| assigned(masks, found));
    format!("{}{}{value}", &found[1], &found[2])
}

/// `<name …>secret</name`, or cut before its end; a redirection or a place to fill in has no end.
fn element(masks: &Masks, found: &Captures, cut: bool) -> String {
    let (name, value, end) = (&found[1], &found[3], &found[4]);
    let ends = end.strip_prefix("</").map_or(cut, |end| end == name || cut && name.starts_with(end));
    let local = name.rsplit(':').next().unwrap_or(name);
    if !ends || value.trim().is_empty() || !key::holds_a_secret(local, value.trim(), &masks.words) {
        return found[0].to_owned();
    }
    format!("<{name}{}{MASK}{end}", &found[2])
}

/// A key, what stands between, and a value, which is replaced where the key names a secret; quotes are kept.
fn keep_unless_secret(masks: &Masks, found: &Captures) -> String {
    let (key, between, value) = (&found[1], &found[2], &found[3]);
    let name = key.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    if !key::holds_a_secret(name, value, &masks.words) {
        return found[0].to_owned();
    }
    let quote =
        value.chars().next().filter(|c| matches!(c, '"' | '\'' | '`')).map(String::from).unwrap_or_default();
    format!("{key}{between}{quote}{MASK}{quote}")
}

/// A key, header or flag that names a secret.
const WORD: u8 = 1 << 0;
/// The shape of a well-known token.
const SHAPE: u8 = 1 << 1;
/// User information in a URL.
const URL: u8 = 1 << 2;

/// Tell-tale letters (without regard to case) and what they suggest, with those of the shapes.
fn hints() -> impl Iterator<Item = (&'static str, u8)> {
    let tokens = shape::TOKENS.iter().map(|(begin, ..)| (*begin, SHAPE));
    let others = shape::OTHERS.iter().map(|(letters, _)| (*letters, SHAPE));
    HINTS.iter().copied().chain(tokens).chain(others)
}

/// How many quotes within quotes are looked into.
const DEPTH_MAX: u8 = 4;

/// Letters of names, and of what has no one beginning.
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
    ("sig", WORD),
    ("sid", WORD),
    ("psk", WORD),
    ("pw", WORD),
    ("pat", WORD),
    ("session", WORD),
    ("identified", WORD),
    ("sas", WORD),
    ("code", WORD),
    ("license", WORD),
    ("connection", WORD),
];

macro_rules! patterns {
    ($($name:ident = $pattern:expr;)*) => {
        $(static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($pattern).expect("tested below"));)*
    };
}

patterns! {
    PRIVATE_KEY = r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[\s\S]*?(?:-----END [A-Z0-9 ]*-----|$)";
    URL_PASSWORD = r#"([A-Za-z][A-Za-z0-9+.-]*://)([^/\s@:'"]*):([^\s'"]+)@"#;
    URL_TOKEN = r#"([A-Za-z][A-Za-z0-9+.-]*://)([^/\s@:'"]+)(?::[^/\s@:'"]*)?@"#;
    CUT_URL_PASSWORD = r#"([A-Za-z][A-Za-z0-9+.-]*://[^/\s@:'"]*:)([^/\s@'"]+)$"#;
    HEADER = concat!(
        r"(?i)((?:^|[\s'\x22=(\[{,])(?:(?:proxy-)?authorization\s*:\s*|(?:x-[a-z-]*(?:token|key|auth|secret)[a-z-]*|private-token|api-?key",
        r"|job-token|cookie|set-cookie)\s*:\s*))((?:bearer|basic|token|digest|negotiate|apikey)\s+)?",
        r"[^\s'\x22][^'\x22\r\n]*",
    );
    WHOLE_HEADER = concat!(
        r"(?i)^((?:proxy-)?authorization\s*:\s*|(?:x-[a-z-]*(?:token|key|auth|secret)[a-z-]*|private-token|api-?key",
        r"|job-token|cookie|set-cookie)\s*:\s*)((?:bearer|basic|token|digest|negotiate|apikey)\s+)?[^\s][^\r\n]*$",
    );
    BEARER = r"(?i)\b(bearer\s+)([A-Za-z0-9._~+/=-]{8,})";
    ASSIGNMENT = r#"([A-Za-z][A-Za-z0-9_.-]*)(=)("(?:[^"\\]|\\.)*"?|'[^']*'?|[^\s&;|"'<>()]+)"#;
    CODE = r#"([A-Za-z][A-Za-z0-9_.-]*)(["']?\]?(?:\s+:?=\s*|\s*:?=\s+|\s*=>\s*))("(?:[^"\\]|\\.)*"?|'[^']*'?)"#;
    JSON_MEMBER = concat!(
        r#"(\\?["'][A-Za-z_][A-Za-z0-9_.-]*\\?["'])(\s*:\s*)"#,
        r#"("(?:[^"\\]|\\.)*"?|'[^']*'?|\\"[^"\\]*\\?"?|[0-9][^\s,}\]]*)"#,
    );
    CODE_MEMBER = r#"\b([A-Za-z_][A-Za-z0-9_.-]*)(\s*:\s*)("(?:[^"\\]|\\.)*"?|'[^']*'?|`[^`]*`?)"#;
    ELEMENT = r"<([A-Za-z_][A-Za-z0-9_.:-]*)((?:\s[^<>]*)?>)((?:<!\[CDATA\[[\s\S]*?\]\]>|[^<>])+)(</[A-Za-z0-9_.:-]*|$)";
    YAML_MEMBER = r#"(?m)^(\s*(?:- )?["']?[A-Za-z_][A-Za-z0-9_.-]*["']?)(\s*:[ \t]+)(["']?[^\s'"]+["']?)[ \t]*$"#;
    SQL = r"(?i)\b((?:identified\s+(?:[a-z_0-9]+\s+)*by|password)\s+')[^']*('|$)";
    NETRC = r"(?i)\b(login\s+\S+\s+password\s+)\S+";
}

#[cfg(test)]
mod tests;
