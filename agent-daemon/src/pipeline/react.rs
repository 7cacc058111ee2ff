//! What follows from a finding: the whole instance is stopped or ended, after the batch that told it is recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use nix::sys::signal::Signal;
use tracing::warn;

use super::{Pipeline, host};
use crate::{
    config::reaction::{Effect, Severity},
    event::{
        Event, Kind, Subject,
        finding::{Reaction, Reference},
        word::{InstanceId, Time},
    },
    kernel::process::Process,
};

/// What is due to one instance.
#[derive(Clone, Debug)]
pub struct Due {
    pub effect: Effect,
    pub severity: Severity,
    /// Who did what was found.
    pub subject: Subject,
    pub of: Reference,
}

impl Due {
    /// Of two the stronger, and of two alike the one that came first.
    pub fn add(self, instance: InstanceId, to: &mut BTreeMap<InstanceId, Self>) {
        let known = to.entry(instance).or_insert_with(|| self.clone());
        if self.effect > known.effect {
            *known = self;
        }
    }
}

impl Pipeline {
    /// Does what the batch has brought about.
    pub(super) fn react(&mut self) {
        for (instance, due) in std::mem::take(&mut self.line.reactions) {
            // Stopped first in any case: what is stopped has no more children.
            let (mut processes, mut incomplete) = self.signal_tree(instance, Signal::SIGSTOP);
            if due.effect == Effect::Kill {
                (processes, incomplete) = self.signal_tree(instance, Signal::SIGKILL);
            }
            let now = Time::now();
            let reaction = Reaction {
                effect: due.effect.name().into(),
                severity: due.severity.name().into(),
                of: due.of,
                after_ns: now.0.saturating_sub(due.of.time.0),
                processes,
                incomplete: incomplete.map(Into::into),
            };
            warn!(%instance, effect = due.effect.name(), processes, "an instance was stopped or ended because of a finding");
            *self.reacted.entry(due.effect.name()).or_default() += 1;
            let subject = Some(due.subject);
            self.line.tell_now(Event {
                kind: Kind::Reaction,
                subject,
                reaction: Some(Box::new(reaction)),
                ..Event::default()
            });
        }
    }

    /// Signals every process of the tree, until a look at all that run finds no more; what is born meanwhile is found by
    /// the next look. How many, and why not all of them, if so.
    fn signal_tree(&self, instance: InstanceId, signal: Signal) -> (usize, Option<String>) {
        let (mut reached, begun) = (BTreeSet::new(), Instant::now());
        loop {
            let before = reached.len();
            let tree = self.tree(instance);
            for pid in host::pids() {
                if !reached.contains(&pid)
                    && let Some(process) = self.of_tree(pid, &tree)
                    && process.signal(signal)
                {
                    reached.insert(pid);
                }
            }
            if reached.len() == before {
                return (before, None);
            }
            if begun.elapsed() > SIGNAL_MAX {
                let seconds = SIGNAL_MAX.as_secs();
                return (reached.len(), Some(format!("new processes of it kept coming for {seconds} s")));
            }
        }
    }

    /// The process, if it belongs to the tree and runs.
    fn of_tree(&self, pid: u32, tree: &BTreeSet<u64>) -> Option<Process> {
        // Opened first: see `Process::signal`.
        let process = Process::open(pid)?;
        let label = self.kernel.label(pid)?;
        (tree.contains(&label.instance) && pid != std::process::id() && !is_zombie(pid)).then_some(process)
    }

    /// The instance and those that began below it.
    fn tree(&self, instance: InstanceId) -> BTreeSet<u64> {
        let mut tree = BTreeSet::from([instance.0]);
        let Ok(all) = self.kernel.instances() else { return tree };
        // A child is not always the younger number.
        while all.iter().any(|(id, one)| tree.contains(&one.parent) && tree.insert(*id)) {}
        tree
    }
}

/// Whether it has ended, and nobody has taken note yet (proc(5), the third field of `stat`).
fn is_zombie(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// Stopping a tree, and ending it, hold up the recording of events so long at most.
const SIGNAL_MAX: Duration = Duration::from_secs(2);
