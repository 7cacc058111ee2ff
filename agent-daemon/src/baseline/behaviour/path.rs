//! What of a path is the same in every run: names made for one run, numbers and versions become `*`.

use crate::event::Name;

/// The path with what differs from run to run as `*`. A `*` or `%` of its own is written `%2A`, `%25`, so that it is
/// not taken for what was generalised.
#[must_use]
pub fn generalise(path: &str) -> Name {
    let mut out = String::with_capacity(path.len());
    let mut before = Before::Start;
    let mut rest = path;
    loop {
        let (component, more) = rest.split_once('/').map_or((rest, None), |(one, more)| (one, Some(more)));
        out.push_str(&generalised(component, before, more.is_none()));
        before = before.then(component);
        let Some(more) = more else { return out.into() };
        out.push('/');
        rest = more;
    }
}

/// Where in the tree a component stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    Root,
    Var,
    Dev,
    /// Below a directory for temporary files.
    Temporary,
    Proc,
    Inside,
    /// Before the first component.
    Start,
}

impl Before {
    fn then(self, component: &str) -> Self {
        match (self, component) {
            (Self::Start, "") => Self::Root,
            (Self::Root, "var") => Self::Var,
            (Self::Root, "dev") => Self::Dev,
            (Self::Root | Self::Var, "tmp") | (Self::Dev, "shm") => Self::Temporary,
            (Self::Root, "proc") => Self::Proc,
            (Self::Proc, _) => Self::Proc,
            // Below a name that was made for one run, names are as anywhere; a leading `/` is the root only once.
            _ => Self::Inside,
        }
    }
}

fn generalised(component: &str, before: Before, last: bool) -> String {
    if component.is_empty() {
        return String::new();
    }
    if before == Before::Proc && component == "self" || random(component, before) {
        return "*".to_owned();
    }
    let kept = if last { component.to_owned() } else { without_version(component) };
    if kept == component { escaped(component) } else { kept }
}

/// A text of which nothing is generalised, in the same form.
#[must_use]
pub fn escaped(component: &str) -> String {
    component.replace('%', "%25").replace('*', "%2A")
}

/// Whether the name was made for one run: all digits, a UUID, eight or more hexadecimal digits with one of 0 to 9
/// among them, sixteen without;
/// in a directory for temporary files also what mkdtemp and its like make, and any name with a digit.
fn random(component: &str, before: Before) -> bool {
    let digits = component.bytes().filter(u8::is_ascii_digit).count();
    let hex = component.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    let temporary = before == Before::Temporary
        && (digits > 0 || component.rsplit(['.', '-', '_']).next().is_some_and(mixed_case));
    digits == component.len()
        || hex && (component.len() >= 16 || digits > 0 && component.len() >= 8)
        || temporary
}

/// Six or more letters, of both cases: what mkdtemp puts for its X.
fn mixed_case(text: &str) -> bool {
    text.len() >= 6
        && text.bytes().any(|b| b.is_ascii_uppercase())
        && text.bytes().any(|b| b.is_ascii_lowercase())
}

/// A directory's name with `*` for a version in it: `node-v20.11.1` is `node-v*`, `python3.11` is `python*`.
fn without_version(component: &str) -> String {
    let bytes = component.as_bytes();
    let (mut out, mut at, mut kept_from) = (String::new(), 0, 0);
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let (start, mut dots) = (at, 0);
        while at < bytes.len()
            && (bytes[at].is_ascii_digit()
                || bytes[at] == b'.' && bytes.get(at + 1).is_some_and(u8::is_ascii_digit))
        {
            dots += usize::from(bytes[at] == b'.');
            at += 1;
        }
        if dots > 0 {
            out.push_str(&escaped(&component[kept_from..start]));
            out.push('*');
            kept_from = at;
        }
    }
    if kept_from == 0 {
        return component.to_owned();
    }
    out.push_str(&escaped(&component[kept_from..]));
    out
}
