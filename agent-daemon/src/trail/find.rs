//! The first pass: which instances, or where there are none which program images, a subject belongs to.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Pass, Wanted,
    needles::{Needle, Needles},
};
use crate::event::{
    Event, Kind, Name,
    word::{ExecId, InstanceId, Time},
};

/// Looks for the subject.
#[derive(Debug)]
pub struct Finder {
    wanted: Wanted,
    needles: Needles,
    range: (Option<Time>, Option<Time>),
    found: Found,
    /// Of a process id: what was its last event until the time that was asked for, and its first after it.
    before: Option<Event>,
    after: Option<Event>,
}

/// What a subject belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// By boot: ids are unique within one.
    pub instances: BTreeSet<(Name, InstanceId)>,
    /// Images outside every instance.
    pub images: BTreeSet<(Name, ExecId)>,
    /// The nearest that there is of a process id, in words.
    pub nearest: Option<String>,
    /// More than [`FOLLOWED_MAX`] instances: the later ones are not followed.
    pub beyond: u64,
}

impl Found {
    /// Whether there is anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty() && self.images.is_empty()
    }
}

impl Finder {
    /// Looks for it within a range of time.
    #[must_use]
    pub fn new(wanted: &Wanted, range: (Option<Time>, Option<Time>)) -> Self {
        let needles = Needles::of(&[], wanted.needles());
        Self { wanted: wanted.clone(), needles, range, found: Found::default(), before: None, after: None }
    }

    /// What was found.
    #[must_use]
    pub fn found(mut self) -> Found {
        if let Wanted::Pid(pid, at) = self.wanted {
            self.process(pid, at);
        }
        self.found
    }

    /// The process that had the id then: the one that acted last before, if it had not ended, else one that was
    /// already there at its first act after.
    fn process(&mut self, pid: u32, at: Option<Time>) {
        let alive = |event: &&Event| at.is_none() || event.kind != Kind::ProcessExit;
        let older = |event: &&Event| event.kind != Kind::ProcessExec && event.kind != Kind::ProcessFork;
        let (before, after) = (self.before.take(), self.after.take());
        match before.as_ref().filter(alive).or(after.as_ref().filter(older)) {
            Some(event) => self.follow(event),
            None => {
                let told = |event: &Event, how: &str| format!("a process {pid} {how} at {}", event.time);
                let before = before.map(|event| told(&event, "ended"));
                let after = after.map(|event| told(&event, "began"));
                let all: Vec<String> = before.into_iter().chain(after).collect();
                self.found.nearest = (!all.is_empty()).then(|| all.join(", "));
            }
        }
    }

    fn follow(&mut self, event: &Event) {
        let Some(subject) = &event.subject else { return };
        let boot = event.boot_id.clone();
        if self.found.instances.len() + self.found.images.len() >= FOLLOWED_MAX {
            let known = subject.instance.is_some_and(|id| self.found.instances.contains(&(boot, id)));
            self.found.beyond += u64::from(!known);
            return;
        }
        match (subject.instance, subject.exec_id) {
            (Some(id), _) => drop(self.found.instances.insert((boot, id))),
            (None, Some(id)) => drop(self.found.images.insert((boot, id))),
            (None, None) => {}
        }
    }

    fn take(&mut self, event: Event) {
        let (since, until) = self.range;
        if since.is_some_and(|since| event.time < since) || until.is_some_and(|until| event.time > until) {
            return;
        }
        match &self.wanted {
            Wanted::Pid(pid, at) => {
                let of = event.subject.as_ref().is_some_and(|s| s.pid == *pid)
                    || event.fork.is_some_and(|fork| fork.child_pid == *pid);
                // What is told of a program afterwards, or found, is no act of the process.
                let act = !matches!(event.kind, Kind::ProgramIdentified | Kind::Finding | Kind::Reaction);
                if !of || !act {
                } else if at.is_none_or(|at| event.time <= at) {
                    self.before = Some(event);
                } else if self.after.is_none() {
                    self.after = Some(event);
                }
            }
            Wanted::Finding(_, at) => {
                if self.wanted.is(&event) && at.is_none_or(|at| event.time >= at) {
                    // Numbers begin anew with each daemon: the latest, or with a time the first since then.
                    let first = at.is_some() && !self.found.is_empty();
                    if event.kind == Kind::Finding && !first {
                        self.found = Found::default();
                        self.follow(&event);
                    }
                }
            }
            Wanted::Instance(id) => {
                if event.subject.as_ref().and_then(|s| s.instance) == Some(*id) {
                    self.follow(&event);
                }
            }
            wanted => {
                if wanted.is(&event) {
                    self.follow(&event);
                }
            }
        }
    }
}

impl Pass for Finder {
    fn next(&self, block: &[u8]) -> Option<usize> {
        self.needles.next(block)
    }

    fn line(&mut self, line: &[u8]) {
        if let Ok(event) = Event::read_line(line) {
            self.take(event);
        }
    }
}

/// What there is to ask for, gathered where what was asked for is not there.
#[derive(Debug, Default)]
pub struct Present {
    needles: Needles,
    /// Instances by id, and names that were asked for or reached; each with when it was seen first.
    pub seen: BTreeMap<String, Time>,
}

impl Present {
    /// Gathers what is of the kind that was wanted.
    #[must_use]
    pub fn like(wanted: &Wanted) -> Self {
        let (kinds, texts): (&'static [&'static str], &[&str]) = match wanted {
            Wanted::Name(..) => (&["dns_query"], &["\"name\":"]),
            Wanted::Network(..) => (&[], &["\"address\":"]),
            Wanted::Finding(..) => (&["finding"], &[]),
            _ => (&["agent_found"], &["\"recognised\":"]),
        };
        let texts = texts.iter().map(|text| Needle::Text((*text).to_owned())).collect();
        Self { needles: Needles::of(kinds, texts), seen: BTreeMap::new() }
    }
}

impl Pass for Present {
    fn next(&self, block: &[u8]) -> Option<usize> {
        self.needles.next(block)
    }

    fn line(&mut self, line: &[u8]) {
        let Ok(event) = Event::read_line(line) else { return };
        if self.seen.len() >= PRESENT_MAX {
            return;
        }
        let network = event.network.as_ref();
        let endpoint = network.and_then(|n| Some(format!("{}:{}", n.address?, n.port?)));
        let names = [
            (event.kind == Kind::Finding).then(|| format!("finding:{}", event.seq)),
            event.dns.as_ref().map(|dns| dns.name.to_string()),
            network.and_then(|n| n.name.as_deref()).map(str::to_owned),
            endpoint,
            event.subject.as_ref().and_then(|s| s.instance).map(|id| id.to_string()),
        ];
        for name in names.into_iter().flatten() {
            self.seen.entry(name).or_insert(event.time);
        }
    }
}

/// Instances and images followed at once.
pub const FOLLOWED_MAX: usize = 256;
/// Names kept to suggest one.
const PRESENT_MAX: usize = 16_384;
