//! What of recorded acts a table would refuse, by the same look-ups and `decide` as the kernel's. Pure.

use std::collections::{BTreeMap, BTreeSet};

use agent_common::verdict::Verdict;
use serde::Serialize;

use super::{
    explain::{Act, Endpoint, explain},
    host::HostName,
    table::Table,
};
use crate::{
    baseline::observation::{self, Observation},
    config::document::Protocol,
    event::{
        Name,
        word::{InstanceId, Time},
    },
};

/// The acts of one role, judged.
#[derive(Clone, Debug, Default, Serialize)]
pub struct DryRun {
    /// Acts on the network, and questions for names.
    pub acts: u64,
    /// Of them, those that would be refused.
    pub refused: u64,
    /// Of those, the ones that had been refused when they were recorded.
    pub refused_before: u64,
    /// Acts that cannot be judged from a record: sockets of other kinds, names that are none.
    pub unjudged: u64,
    /// What would be refused, by what was to be reached; the first [`TARGETS_MAX`].
    pub targets: BTreeMap<String, Refusal>,
    /// Refused acts to further targets.
    pub beyond: u64,
}

/// What would be refused of one target.
#[derive(Clone, Debug, Serialize)]
pub struct Refusal {
    pub acts: u64,
    /// Instances that tried it, with their hosts; the first [`INSTANCES_MAX`].
    pub instances: BTreeSet<(Name, InstanceId)>,
    pub first: Time,
    /// The program that was the first.
    pub by: Option<Name>,
    /// Why: the rule, or that none names it.
    pub why: String,
}

impl DryRun {
    /// Judges one act of an agent with this role, as if the role were enforced.
    pub fn take(&mut self, table: &Table, role: &str, seen: &Observation) {
        let act = match act(&seen.act) {
            Some(Ok(act)) => act,
            Some(Err(())) => {
                self.acts += 1;
                self.unjudged += 1;
                return;
            }
            None => return,
        };
        self.acts += 1;
        let explanation = explain(table, role, &act);
        if !matches!(explanation.wanted, Verdict::Deny | Verdict::Hold | Verdict::Kill) {
            return;
        }
        self.refused += 1;
        self.refused_before += u64::from(seen.refused);
        let to = told(&seen.act, &act);
        if self.targets.len() >= TARGETS_MAX && !self.targets.contains_key(&to) {
            self.beyond += 1;
            return;
        }
        let refusal = self.targets.entry(to).or_insert_with(|| Refusal {
            acts: 0,
            instances: BTreeSet::new(),
            first: seen.time,
            by: seen.exe.clone(),
            why: explanation.rule.map_or_else(|| "no rule names it".to_owned(), |rule| rule.text.to_string()),
        });
        refusal.acts += 1;
        if refusal.instances.len() < INSTANCES_MAX
            && let Some(instance) = seen.instance
        {
            refusal.instances.insert((seen.host.clone(), instance));
        }
    }
}

/// The act as a policy judges it; `None` for what is none of its business, an error for what a record does not tell enough of.
#[must_use]
pub fn act(seen: &observation::Act) -> Option<Result<Act, ()>> {
    let act = match seen {
        observation::Act::Endpoint { address, port, protocol, name } => {
            let Some(protocol) = Protocol::of_socket(protocol) else { return Some(Err(())) };
            let port = if protocol == Protocol::Icmp { 0 } else { port.unwrap_or_default() };
            let to = Endpoint { address: address.to_canonical(), port: u16::try_from(port).ok()?, protocol };
            match name.as_ref().and_then(|name| HostName::parse(name).ok()) {
                Some(name) => {
                    let met = name.patterns().iter().map(HostName::key).collect();
                    Act::Carrier { to, sets: vec![met] }
                }
                None => Act::Endpoint(to),
            }
        }
        observation::Act::Unix(path) if path.contains('…') => return Some(Err(())),
        observation::Act::Unix(path) => Act::Unix(match path.strip_prefix('@') {
            Some(name) => [&[0], name.as_bytes()].concat(),
            None => path.as_bytes().to_vec(),
        }),
        observation::Act::Ask(name) => match HostName::parse(name) {
            Ok(name) => Act::Asking(name),
            Err(_) => return Some(Err(())),
        },
        observation::Act::Socket(_) => return Some(Err(())),
        _ => return None,
    };
    Some(Ok(act))
}

/// By name where it has one.
fn told(seen: &observation::Act, act: &Act) -> String {
    match seen {
        observation::Act::Endpoint { name: Some(name), port, protocol, .. } => {
            port.map_or_else(|| format!("{name} {protocol}"), |port| format!("{name}:{port} {protocol}"))
        }
        _ => act.to_string(),
    }
}

/// Targets that are told one by one.
pub const TARGETS_MAX: usize = 4_096;
/// Instances that are told of one target.
pub const INSTANCES_MAX: usize = 256;

#[cfg(test)]
mod tests;
