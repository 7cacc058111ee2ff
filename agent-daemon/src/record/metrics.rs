//! What the pipeline counts, and its text form for Prometheus.

mod text;

use std::collections::HashMap;

use agent_common::identity::Origin;

pub use self::text::{Baselines, Bound, Gauges, Guarantee, Hook, Sink, render};
use crate::event::{Event, Kind, Name, local::UNDECODABLE};

/// Counters since the daemon's start. Plain numbers: the pipeline alone writes them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Events that were read, by kind and origin.
    received: [[u64; ORIGINS]; KINDS],
    /// Verdicts by agent, role and verdict; the kernel's numbers, so that counting allocates nothing.
    verdicts: HashMap<(u32, u32, u8), Verdicts>,
    /// Records that could not be decoded, in the order of [`UNDECODABLE`].
    pub undecodable: [u64; UNDECODABLE.len()],
    /// Events that were recorded.
    pub recorded: u64,
    /// Configurations put in force, and refused.
    pub policy_changed: u64,
    pub policy_rejected: u64,
}

#[derive(Clone, Debug)]
struct Verdicts {
    agent: Name,
    role: Name,
    count: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            received: [[0; ORIGINS]; KINDS],
            verdicts: HashMap::new(),
            undecodable: [0; UNDECODABLE.len()],
            recorded: 0,
            policy_changed: 0,
            policy_rejected: 0,
        }
    }
}

impl Metrics {
    /// Counts an event that was read.
    pub fn received(&mut self, kind: Kind, origin: u8) {
        let origin = usize::from(origin).min(ORIGINS - 1);
        self.received[kind.index()][origin] += 1;
    }

    /// Counts an attributed event's verdict, if it has one and an agent acted.
    pub fn judged(&mut self, event: &Event) {
        let (Some(subject), Some(verdict)) = (&event.subject, event.verdict) else { return };
        let (Some(agent), Some(role)) = (&subject.agent, &subject.role) else { return };
        let key = (subject.ids.agent, subject.ids.role, verdict.known().map_or(0, |v| v as u8));
        if let Some(verdicts) = self.verdicts.get_mut(&key) {
            verdicts.count += 1;
        } else if self.verdicts.len() < VERDICTS_MAX {
            self.verdicts.insert(key, Verdicts { agent: agent.clone(), role: role.clone(), count: 1 });
        } else {
            // No registry numbers an agent 0.
            let other = || Verdicts { agent: OTHER.into(), role: OTHER.into(), count: 0 };
            self.verdicts.entry((0, 0, key.2)).or_insert_with(other).count += 1;
        }
    }

    /// How many agents × roles × verdicts are counted one by one.
    #[must_use]
    pub fn verdicts_counted(&self) -> usize {
        self.verdicts.len()
    }

    /// Events of a kind that were read, over all origins.
    #[must_use]
    pub fn of_kind(&self, kind: Kind) -> u64 {
        self.received[kind.index()].iter().sum()
    }
}

const KINDS: usize = Kind::ALL.len();
/// Known origins, and one slot for numbers without a word.
const ORIGINS: usize = Origin::ALL.len() + 1;
/// Agents × roles × verdicts that are counted one by one; what comes after them is counted together, as `other`.
pub const VERDICTS_MAX: usize = 4_096;
/// Agent and role of what is counted together: no name, since those begin with a letter or digit.
const OTHER: &str = "(other)";
