//! How mature a baseline is: how likely the next act, or the next instance, is to show something that is not in it.
//!
//! Good–Turing: of N acts, the chance that the next shows a behaviour never seen is estimated as N1/N, where N1 is the
//! number of behaviours seen once; its standard error as √(N1 + 2·N2)/N, N2 being those seen twice. Acts of one
//! instance resemble each other, so instances count more: of I instances, M have shown something that no other has.
//! That is what leaving each out in turn gives, and M/I is the chance for the next. Its interval is Wilson's.

use serde::Serialize;

use super::learn::Model;
use crate::event::word::Time;

/// A chance and its interval of 95 %; all 1 where nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Chance {
    pub estimate: f64,
    pub low: f64,
    pub high: f64,
}

/// How mature a baseline is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Maturity {
    pub behaviours: usize,
    pub acts: u64,
    /// Behaviours seen once, and seen twice.
    pub seen_once: u64,
    pub seen_twice: u64,
    pub instances: u64,
    /// Instances that have shown something that no other has.
    pub instances_alone: u64,
    /// That the next act shows something new.
    pub next_act: Chance,
    /// That the next instance does.
    pub next_instance: Chance,
    pub last_novelty: Time,
    /// Instances that began since.
    pub instances_since: u64,
    /// Seconds of observation since.
    pub seconds_since: u64,
}

/// When a baseline is called stable.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stable {
    /// The next instance's chance of showing something new is estimated at most so high.
    pub next_instance_max: f64,
    /// So many instances have shown nothing new.
    pub instances_since: u64,
}

impl Default for Stable {
    fn default() -> Self {
        Self { next_instance_max: 0.1, instances_since: 10 }
    }
}

impl Maturity {
    /// Of a role's baseline.
    #[must_use]
    pub fn of(model: &Model) -> Self {
        let (mut acts, mut seen_once, mut seen_twice) = (0_u64, 0, 0);
        for (_, evidence) in model.behaviours() {
            let count = evidence.count();
            acts = acts.saturating_add(count);
            seen_once += u64::from(count == 1);
            seen_twice += u64::from(count == 2);
        }
        let (instances, instances_alone) = (model.instances(), model.instances_alone());
        let last_novelty = model.tally.last_novelty;
        Self {
            behaviours: model.len(),
            acts,
            seen_once,
            seen_twice,
            instances,
            instances_alone,
            next_act: good_turing(acts, seen_once, seen_twice),
            next_instance: wilson(instances_alone.min(instances), instances),
            last_novelty,
            instances_since: model.roster.values().filter(|stay| stay.first > last_novelty).count() as u64,
            seconds_since: model.tally.last.0.saturating_sub(last_novelty.0) / 1_000_000_000,
        }
    }

    /// Whether it has become stable.
    #[must_use]
    pub fn is_stable(&self, stable: &Stable) -> bool {
        self.instances_since >= stable.instances_since
            && self.next_instance.estimate <= stable.next_instance_max
    }
}

fn good_turing(acts: u64, once: u64, twice: u64) -> Chance {
    if acts == 0 {
        return UNKNOWN;
    }
    let (n, estimate) = (acts as f64, once as f64 / acts as f64);
    let error = Z * (once as f64 + 2.0 * twice as f64).sqrt() / n;
    // Where nothing was seen once, the error says nothing: of 3/n, the chance to have missed it is one in twenty.
    let high = (estimate + error).max(3.0 / n).min(1.0);
    Chance { estimate, low: (estimate - error).max(0.0), high }
}

fn wilson(hits: u64, of: u64) -> Chance {
    if of == 0 {
        return UNKNOWN;
    }
    let (n, p) = (of as f64, hits as f64 / of as f64);
    let z2 = Z * Z;
    let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    Chance { estimate: p, low: (centre - half).max(0.0), high: (centre + half).min(1.0) }
}

const UNKNOWN: Chance = Chance { estimate: 1.0, low: 0.0, high: 1.0 };
/// 95 % of a normal distribution lie within so many standard deviations.
const Z: f64 = 1.96;

#[cfg(test)]
mod tests;
