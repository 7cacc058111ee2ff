//! Path patterns: the end of a path, `**/DIRECTORY/*/FILE`, and the steps by which it is recognised.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use agent_common::{
    identity::{Match, SuffixKey, SuffixStep, hash_bytes},
    limits::{SUFFIX_DEPTH_MAX, SUFFIX_NAME_BYTES, SUFFIXES_MAX},
};

/// A path that ends in these components, from the file's name upwards; `*` stands for any one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(Vec<Box<str>>);

/// Why a text is no pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPattern {
    #[error("has a component that is not plain")]
    NotPlain,
    #[error("has a `*` inside a component")]
    PartOfName,
    #[error("names the file alone")]
    FileAlone,
    #[error("has too many components")]
    TooDeep,
    #[error("has a component that is too long")]
    LongName,
    #[error("leaves both the file and its directory open")]
    NoAnchor,
}

impl Pattern {
    /// Whether a path is to be read as a pattern.
    #[must_use]
    pub fn is_meant(path: &Path) -> bool {
        path.as_os_str().as_bytes().starts_with(LEAD.as_bytes())
    }

    /// The pattern that a text is.
    pub fn parse(text: &str) -> Result<Self, NoPattern> {
        let rest = text.strip_prefix(LEAD).ok_or(NoPattern::NotPlain)?;
        let names: Vec<Box<str>> = rest.split('/').rev().map(Box::from).collect();
        if names.iter().any(|name| matches!(&**name, "" | "." | ".." | "**")) {
            return Err(NoPattern::NotPlain);
        }
        if names.iter().any(|name| name.contains('*') && &**name != ANY) {
            return Err(NoPattern::PartOfName);
        }
        if names.len() < 2 {
            return Err(NoPattern::FileAlone);
        }
        if names.len() > SUFFIX_DEPTH_MAX {
            return Err(NoPattern::TooDeep);
        }
        if names.iter().any(|name| name.len() >= SUFFIX_NAME_BYTES) {
            return Err(NoPattern::LongName);
        }
        // The kernel side would have to look at the grandparent of every file that is executed.
        if names[..2].iter().all(|name| &**name == ANY) {
            return Err(NoPattern::NoAnchor);
        }
        Ok(Self(names))
    }

    /// The components that are written out.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name).filter(|name| *name != ANY)
    }

    /// The file's name, `*` where it may be any.
    #[must_use]
    pub fn file_name(&self) -> &str {
        &self.0[0]
    }
}

/// Patterns with what they stand for, as steps from the end of a path upwards: from each component at most one step
/// leads on, so that following them costs one look-up a component, two where `*` may stand there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps(pub BTreeMap<SuffixKey, SuffixStep>);

/// More steps than the kernel side holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {STEPS_MAX} steps")]
pub struct TooMany;

/// One pattern to recognise.
#[derive(Clone, Debug)]
pub struct Known {
    pub pattern: Pattern,
    pub found: Match,
    /// Somebody registered it: it goes before those that nobody did.
    pub registered: bool,
}

impl Steps {
    /// The steps of all patterns. Where several fit a path, a registered agent's goes first, then the longest.
    pub fn of(known: &[Known]) -> Result<Self, TooMany> {
        let mut builder = Builder { known, steps: BTreeMap::new(), numbers: BTreeMap::new() };
        let all = State { rest: (0..known.len()).map(|at| (at, 0)).collect(), best: None };
        builder.lay(all, 0)?;
        Ok(Self(builder.steps))
    }

    /// What a path ends in, as the kernel side finds it.
    #[must_use]
    pub fn find(&self, path: &Path) -> Option<Match> {
        let (mut state, mut any, mut found) = (0, true, None);
        let names = path.as_os_str().as_bytes().split(|byte| *byte == b'/').rev();
        for name in names.filter(|name| !name.is_empty()) {
            let for_any = || self.0.get(&key(state, ANY.as_bytes())?).filter(|_| any);
            let Some(step) = key(state, name).and_then(|key| self.0.get(&key)).or_else(for_any) else {
                break;
            };
            if step.found.agent != 0 {
                found = Some(step.found);
            }
            if step.next == 0 {
                break;
            }
            (state, any) = (step.next, step.any != 0);
        }
        found
    }
}

/// What may still come, and what was found on the way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    /// Patterns by place, and how many of their components have been seen.
    rest: BTreeSet<(usize, usize)>,
    best: Option<usize>,
}

struct Builder<'a> {
    known: &'a [Known],
    steps: BTreeMap<SuffixKey, SuffixStep>,
    numbers: BTreeMap<u32, State>,
}

impl Builder<'_> {
    fn lay(&mut self, state: State, number: u32) -> Result<(), TooMany> {
        let name = |(pattern, seen): &(usize, usize)| &*self.known[*pattern].pattern.0[*seen];
        let names: BTreeSet<&str> = state.rest.iter().map(name).collect();
        let mut next = Vec::new();
        for to in names {
            let fits = state.rest.iter().filter(|item| [to, ANY].contains(&name(item)));
            let (done, rest): (BTreeSet<_>, BTreeSet<_>) = fits
                .map(|(pattern, seen)| (*pattern, seen + 1))
                .partition(|(pattern, seen)| *seen == self.known[*pattern].pattern.0.len());
            let best = done.into_iter().map(|(pattern, _)| pattern).chain(state.best);
            // Of those that fit equally well the first.
            let best = best.max_by_key(|at| (self.rank(*at), std::cmp::Reverse(*at)));
            next.push((to, State { rest, best }));
        }
        for (to, state) in next {
            let number_to = if number == 0 && to == ANY {
                (SuffixKey::AFTER_ANY_NAME, true)
            } else {
                self.number(&state)
            };
            let any = state.rest.iter().any(|item| name(item) == ANY);
            let found = state.best.map(|best| self.known[best].found).unwrap_or_default();
            if let Some(key) = key(number, to.as_bytes()) {
                self.steps.insert(key, SuffixStep { found, next: number_to.0, any: any.into() });
            }
            if self.steps.len() > STEPS_MAX {
                return Err(TooMany);
            }
            if number_to.1 {
                self.lay(state, number_to.0)?;
            }
        }
        Ok(())
    }

    fn rank(&self, at: usize) -> (bool, usize) {
        (self.known[at].registered, self.known[at].pattern.0.len())
    }

    /// The number of a state, and whether it is new. It follows from what may still come, so that the steps of one
    /// configuration and those of the next may lie side by side.
    fn number(&mut self, state: &State) -> (u32, bool) {
        if state.rest.is_empty() {
            return (0, false);
        }
        let mut text = Vec::new();
        for (pattern, seen) in &state.rest {
            for name in &self.known[*pattern].pattern.0[*seen..] {
                text.extend_from_slice(name.as_bytes());
                text.push(b'/');
            }
            text.extend_from_slice(&self.known[*pattern].found.agent.to_le_bytes());
        }
        text.extend(state.best.iter().flat_map(|best| self.known[*best].found.agent.to_le_bytes()));
        let hash = hash_bytes(&text);
        let mut number = (hash ^ (hash >> 32)) as u32;
        loop {
            match self.numbers.get(&number) {
                _ if number <= SuffixKey::AFTER_ANY_NAME => number = SuffixKey::AFTER_ANY_NAME + 1,
                Some(taken) if taken == state => return (number, false),
                Some(_) => number = number.wrapping_add(1),
                None => {
                    self.numbers.insert(number, state.clone());
                    return (number, true);
                }
            }
        }
    }
}

/// `None` for a name that no step has.
fn key(state: u32, name: &[u8]) -> Option<SuffixKey> {
    let mut key = SuffixKey { state, name: [0; SUFFIX_NAME_BYTES] };
    key.name[..SUFFIX_NAME_BYTES - 1].get_mut(..name.len())?.copy_from_slice(name);
    Some(key)
}

const LEAD: &str = "**/";
const ANY: &str = "*";
/// A change lays the new steps beside the old.
const STEPS_MAX: usize = SUFFIXES_MAX as usize / 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn known(agent: u32, text: &str, registered: bool) -> Known {
        let pattern = Pattern::parse(text).unwrap();
        Known { pattern, found: Match { agent, ..Match::default() }, registered }
    }

    fn found(steps: &Steps, path: &str) -> u32 {
        steps.find(Path::new(path)).map_or(0, |found| found.agent)
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for (text, why) in [
            ("**/claude", NoPattern::FileAlone),
            ("**/a//b", NoPattern::NotPlain),
            ("**/a/../b", NoPattern::NotPlain),
            ("**/a/**/b", NoPattern::NotPlain),
            ("**/a/b/", NoPattern::NotPlain),
            ("**/a/server-*/b", NoPattern::PartOfName),
            ("**/a/*/*", NoPattern::NoAnchor),
            ("**/1/2/3/4/5/6/7/8/9", NoPattern::TooDeep),
        ] {
            assert_eq!(Pattern::parse(text), Err(why), "{text}");
        }
        assert_eq!(Pattern::parse(&format!("**/a/{}", "x".repeat(64))), Err(NoPattern::LongName));
        assert!(Pattern::parse(&format!("**/{}/*", "x".repeat(63))).is_ok());
    }

    #[test]
    fn a_path_is_known_by_its_end_alone() {
        let steps = Steps::of(&[
            known(1, "**/.local/share/claude/versions/*", false),
            known(2, "**/node_modules/@x/*/dist/index.js", false),
        ])
        .unwrap();
        for (path, agent) in [
            ("/home/a/.local/share/claude/versions/2.1.113", 1),
            (".local/share/claude/versions/2.1.113", 1),
            ("/share/claude/versions/2.1.113", 0),
            ("/home/a/.local/share/claude/versions", 0),
            ("/home/a/.local/share/claude/versions/2/bin", 0),
            ("/p/node_modules/@x/server/dist/index.js", 2),
            ("/p/node_modules/@x/server/lib/dist/index.js", 0),
            ("/p/index.js", 0),
            ("/", 0),
        ] {
            assert_eq!(found(&steps, path), agent, "{path}");
        }
        let long = format!("/home/.local/share/claude/versions/{}", "9".repeat(200));
        assert_eq!(found(&steps, &long), 1);
    }

    #[test]
    fn a_star_and_a_name_at_one_place_do_not_hide_each_other() {
        let steps = Steps::of(&[
            known(1, "**/a/*/run", false),
            known(2, "**/b/x/run", false),
            known(3, "**/c/x/*", false),
            known(4, "**/far/*/x/run", false),
        ])
        .unwrap();
        for (path, agent) in [
            ("/a/x/run", 1),
            ("/b/x/run", 2),
            ("/home/b/x/run", 2),
            ("/far/b/x/run", 4),
            ("/c/x/run", 3),
            ("/c/x/go", 3),
            ("/b/y/run", 0),
        ] {
            assert_eq!(found(&steps, path), agent, "{path}");
        }
    }

    #[test]
    fn what_is_registered_goes_before_what_is_longer() {
        let steps = Steps::of(&[
            known(1, "**/home/.local/bin/aider", false),
            known(2, "**/bin/aider", true),
            known(3, "**/.local/bin/aider", true),
            known(4, "**/.local/bin/aider", false),
        ])
        .unwrap();
        assert_eq!(found(&steps, "/usr/bin/aider"), 2);
        assert_eq!(found(&steps, "/home/.local/bin/aider"), 3);
    }

    #[test]
    fn states_keep_their_numbers_when_other_patterns_come() {
        let one = known(1, "**/a/b/c", false);
        let before = Steps::of(std::slice::from_ref(&one)).unwrap();
        let after = Steps::of(&[known(2, "**/d/e/f", false), one]).unwrap();
        assert!(before.0.iter().all(|(key, step)| after.0.get(key) == Some(step)));
    }

    #[test]
    fn patterns_that_multiply_are_refused_in_time() {
        let all: Vec<Known> = (0..2000).map(|n| known(n + 1, &format!("**/x/*/n{n}/*/y"), false)).collect();
        assert_eq!(Steps::of(&all), Err(TooMany));
    }
}
