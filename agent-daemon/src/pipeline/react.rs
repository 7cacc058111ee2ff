//! What follows from a finding: the whole instance is stopped or ended, after the batch that told it is recorded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::{Duration, Instant},
};

use agent_common::identity::Instance;
use nix::sys::signal::Signal;
use tracing::{debug, warn};

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

/// How far a process is, all its threads together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Runs,
    Stopped,
    Ended,
}

impl Pipeline {
    /// Does what the batch has brought about.
    pub(super) fn react(&mut self) {
        for (instance, due) in std::mem::take(&mut self.line.reactions) {
            // An act from before is of a tree that was stopped or ended for another meanwhile.
            let latest = self.reactions.get(&instance);
            if latest.is_some_and(|(effect, at)| *effect >= due.effect && due.of.time <= *at) {
                continue;
            }
            // Stopped first in any case: what is stopped has no more children.
            let (mut processes, mut incomplete) = self.signal_tree(instance, Effect::Stop);
            if due.effect == Effect::Kill {
                (processes, incomplete) = self.signal_tree(instance, Effect::Kill);
            }
            // A tree that keeps forking takes its time, and the next one too: the pipeline is alive.
            let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Watchdog]);
            if processes == 0 && incomplete.is_none() {
                debug!(%instance, "nothing is left of an instance that was to be stopped or ended");
                continue;
            }
            let now = Time::now();
            if self.reactions.len() >= REMEMBERED_MAX {
                self.reactions.clear();
            }
            self.reactions.insert(instance, (due.effect, now));
            if let Some(why) = &incomplete {
                warn!(%instance, effect = due.effect.name(), why, "an instance could not be stopped or ended as a whole");
                *self.incomplete.entry(due.effect.name()).or_default() += 1;
            }
            let reaction = Reaction {
                effect: due.effect.name().into(),
                severity: due.severity.name().into(),
                of: due.of,
                after_ns: now.0.saturating_sub(due.of.time.0),
                processes,
                incomplete: incomplete.map(Into::into),
            };
            if processes > 0 {
                warn!(%instance, effect = due.effect.name(), processes, "an instance was stopped or ended because of a finding");
            }
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

    /// Signals every process of the tree that has not come to where it is to be, until a look at all that run finds none:
    /// what is born meanwhile, and what another one has continued, is found by the next look. How many, and why not all
    /// of them, if so.
    fn signal_tree(&self, instance: InstanceId, effect: Effect) -> (usize, Option<String>) {
        let signal = if effect == Effect::Kill { Signal::SIGKILL } else { Signal::SIGSTOP };
        let (mut reached, begun) = (BTreeSet::new(), Instant::now());
        loop {
            let (tree, whole) = self.tree(instance);
            let (mut left, mut refused) = (0, None);
            for pid in host::pids() {
                let Some((process, standing)) = self.of_tree(pid, &tree) else { continue };
                if standing == Standing::Ended || standing == Standing::Stopped && effect == Effect::Stop {
                    continue;
                }
                match process.signal(signal) {
                    Ok(true) => {
                        reached.insert(pid);
                        left += 1;
                    }
                    Ok(false) => {}
                    Err(error) => refused = Some((pid, error)),
                }
            }
            if left == 0 {
                if let Some((pid, error)) = refused {
                    let why =
                        format!("process {pid} and perhaps others may not be signalled: {error} (CAP_KILL)");
                    return (reached.len(), Some(why));
                }
                let why = "the kernel side's instances cannot be read: those below it are left";
                return (reached.len(), (!whole).then(|| why.to_owned()));
            }
            if begun.elapsed() > SIGNAL_MAX {
                let seconds = SIGNAL_MAX.as_secs();
                let why = format!("{left} of it still ran after {seconds} s");
                return (reached.len(), Some(why));
            }
            // A thread comes to its signal when it is next on a processor.
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// The process, if it belongs to the tree.
    fn of_tree(&self, pid: u32, tree: &BTreeSet<u64>) -> Option<(Process, Standing)> {
        // Opened first: see `Process::signal`.
        let process = Process::open(pid)?;
        let label = self.kernel.label(pid)?;
        let member = tree.contains(&label.instance) && pid != std::process::id();
        member.then(|| (process, standing(pid)))
    }

    /// The instance and those that began below it, and whether those are known.
    fn tree(&self, instance: InstanceId) -> (BTreeSet<u64>, bool) {
        let mut tree = BTreeSet::from([instance.0]);
        let Ok(all) = self.kernel.instances() else { return (tree, false) };
        // What began below one that has ended meanwhile is known by the root.
        let below =
            |tree: &BTreeSet<u64>, one: &Instance| tree.contains(&one.parent) || one.root == instance.0;
        // A child is not always the younger number.
        while all.iter().any(|(id, one)| below(&tree, one) && tree.insert(*id)) {}
        (tree, true)
    }
}

/// By the states of its threads (proc(5), the third field of `stat`): a process whose first thread has ended may run on in
/// another.
fn standing(pid: u32) -> Standing {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Standing::Ended };
    let mut all = Standing::Ended;
    for thread in threads.flatten() {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        match stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()) {
            None | Some('Z' | 'X') => {}
            Some('T' | 't') => all = Standing::Stopped,
            Some(_) => return Standing::Runs,
        }
    }
    all
}

/// Stopping a tree, and ending it, hold up the recording of events so long at most.
const SIGNAL_MAX: Duration = Duration::from_secs(2);
const BETWEEN_LOOKS: Duration = Duration::from_millis(1);
/// Instances whose last reaction is remembered.
const REMEMBERED_MAX: usize = 4_096;
