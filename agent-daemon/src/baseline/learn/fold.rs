//! Folding: many endpoints of one program become one wider one when there is no room left, narrowest first.

use std::collections::BTreeMap;

use super::Model;
use crate::baseline::{
    behaviour::{Behaviour, Endpoint, Host, Port, registered},
    evidence::Evidence,
};

/// What may stand for a behaviour, narrowest first.
pub fn folds(behaviour: &Behaviour) -> Vec<Behaviour> {
    match behaviour {
        Behaviour::Connect { by, to } => {
            let wide = |host| Behaviour::Connect { by: by.clone(), to: to.with_host(host) };
            to.host.folds().into_iter().map(wide).collect()
        }
        Behaviour::Name { by, name } => {
            let domain = registered(name).filter(|domain| *domain != &**name && !name.starts_with("*."));
            let wide = |domain| Behaviour::Name { by: by.clone(), name: format!("*.{domain}").into() };
            domain.map(wide).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// The least behaviour of the same sort and program: where its group begins.
pub fn first_of_group(like: &Behaviour) -> Behaviour {
    match like.clone() {
        Behaviour::Connect { by, .. } => {
            let host = Host::Name("".into());
            Behaviour::Connect { by, to: Endpoint { protocol: "".into(), port: Port::None, host } }
        }
        Behaviour::Listen { by, .. } => {
            let host = Host::Name("".into());
            Behaviour::Listen { by, on: Endpoint { protocol: "".into(), port: Port::None, host } }
        }
        Behaviour::Name { by, .. } => Behaviour::Name { by, name: "".into() },
        Behaviour::Unix { by, .. } => Behaviour::Unix { by, path: "".into() },
        Behaviour::Socket { by, .. } => Behaviour::Socket { by, what: "".into() },
        Behaviour::Exec { by, .. } => {
            Behaviour::Exec { by, child: crate::baseline::behaviour::Program::Outside }
        }
        Behaviour::User(_) => Behaviour::User(0),
        Behaviour::Depth(_) => Behaviour::Depth(0),
        Behaviour::FanOut(_) => Behaviour::FanOut(0),
        Behaviour::ExecsPerMinute(_) => Behaviour::ExecsPerMinute(0),
        Behaviour::EndpointsPerMinute(_) => Behaviour::EndpointsPerMinute(0),
    }
}

impl Model {
    /// Folds what can be in the group of a behaviour; how many behaviours went into wider ones. The wider of the two
    /// widths is tried where the narrower gave nothing.
    pub(super) fn fold(&mut self, like: &Behaviour) -> u64 {
        (0..WIDTHS).map(|width| self.fold_at(like, width)).find(|folded| *folded > 0).unwrap_or_default()
    }

    fn fold_at(&mut self, like: &Behaviour, width: usize) -> u64 {
        let mut by_wide: BTreeMap<Behaviour, Vec<Behaviour>> = BTreeMap::new();
        for (behaviour, _) in self.of_group(like) {
            let candidates = folds(behaviour);
            // From the end: what is already a /24 has only the /16 left.
            let Some(at) = (candidates.len() + width).checked_sub(widths(behaviour)) else { continue };
            if let Some(wide) = candidates.into_iter().nth(at) {
                by_wide.entry(wide).or_default().push(behaviour.clone());
            }
        }
        let mut folded = 0;
        for (wide, narrow) in by_wide {
            let there = self.behaviours.contains_key(&wide);
            if !there && narrow.len() < least(&wide) {
                continue;
            }
            let mut joined = Evidence::default();
            for behaviour in narrow {
                if let Some(evidence) = self.remove(&behaviour) {
                    joined.join(&evidence);
                    folded += 1;
                }
            }
            self.at(wide, |evidence| evidence.join(&joined));
        }
        folded
    }

    pub(super) fn remove(&mut self, behaviour: &Behaviour) -> Option<Evidence> {
        let evidence = self.behaviours.remove(behaviour)?;
        self.groups.removed(behaviour);
        self.alone.changed(evidence.only(), None);
        self.groups.acted(behaviour.sort(), evidence.count(), 0);
        self.removed.push(behaviour.clone());
        Some(evidence)
    }
}

/// How many widths there are for it.
fn widths(behaviour: &Behaviour) -> usize {
    match behaviour {
        Behaviour::Connect { to: Endpoint { host: Host::Net(..), .. }, .. } => WIDTHS,
        _ => 1,
    }
}

/// How many neighbours there must be before one stands for them.
fn least(wide: &Behaviour) -> usize {
    match wide {
        Behaviour::Connect { to: Endpoint { host: Host::Net(..), .. }, .. } => ADDRESSES_MIN,
        _ => NAMES_MIN,
    }
}

/// /24 and /16, or /64 and /48.
const WIDTHS: usize = 2;
/// Addresses of one network before the network stands for them.
pub const ADDRESSES_MIN: usize = 4;
/// Names of one registered domain before `*.domain` stands for them.
pub const NAMES_MIN: usize = 8;
