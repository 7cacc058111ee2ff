//! From what is usual to rules that people may take over: one rule for each endpoint, name or unix socket that has support.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    behaviour::{Behaviour, Endpoint, Host, Port},
    evidence::Evidence,
    learn::Model,
    support::Support,
};
use crate::{config::document::Protocol, event::Name};

/// What a baseline would have a role allow.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Promotion {
    /// Rules on endpoints and unix sockets, in order.
    pub rules: Vec<Proposed>,
    /// Names that may be asked for.
    pub names: Vec<Proposed>,
    /// What is usual and has no rule.
    pub left: Vec<Left>,
    /// Behaviours of the kinds above that were seen and are not usual.
    pub unusual: usize,
}

/// One rule with what speaks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proposed {
    /// As a rule's `to`, or a name.
    pub to: String,
    pub protocol: Option<Name>,
    /// Acts, instances and days that showed it, of the program that showed it most broadly.
    pub acts: u64,
    pub instances: usize,
    pub days: usize,
    /// Programs that are seen to do it as a matter of course.
    pub by: BTreeSet<String>,
}

/// What has no rule, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Left {
    pub behaviour: Behaviour,
    pub why: &'static str,
}

/// What is usual, as rules. What learning has folded together (`*.example.com`, a /24) only where `folded` asks for it.
#[must_use]
pub fn promote(model: &Model, support: &Support, folded: bool) -> Promotion {
    let mut all = Promotion::default();
    let (mut rules, mut names) = (BTreeMap::new(), BTreeMap::new());
    for (behaviour, evidence) in model.behaviours() {
        let target = match behaviour {
            Behaviour::Connect { to, .. } => endpoint(to, folded),
            Behaviour::Unix { path, .. } => unix(path),
            Behaviour::Name { name, .. } if name.starts_with("*.") && !folded => Err(FOLDED),
            Behaviour::Name { name, .. } => Ok((name.to_string(), None)),
            Behaviour::Socket { .. } => {
                Err("write its rule by hand: raw, packet and other sockets reach far")
            }
            Behaviour::Listen { .. } => Err("no rule speaks of listening: it is told and not refused"),
            // Nothing that a role could say.
            _ => continue,
        };
        if !model.is_usual(evidence, support) {
            all.unusual += 1;
            continue;
        }
        match target {
            Ok(key) => {
                let into = if matches!(behaviour, Behaviour::Name { .. }) { &mut names } else { &mut rules };
                join(into, key, behaviour, evidence);
            }
            Err(why) => all.left.push(Left { behaviour: behaviour.clone(), why }),
        }
    }
    all.rules = rules.into_values().collect();
    all.names = names.into_values().collect();
    all
}

type Key = (String, Option<Name>);

/// A rule does not say which program may: the broadest evidence speaks for it.
fn join(rules: &mut BTreeMap<Key, Proposed>, key: Key, behaviour: &Behaviour, evidence: &Evidence) {
    let breadth = evidence.breadth();
    let (to, protocol) = key.clone();
    let rule = rules.entry(key).or_insert_with(|| Proposed {
        to,
        protocol,
        acts: 0,
        instances: 0,
        days: 0,
        by: BTreeSet::new(),
    });
    rule.acts = rule.acts.saturating_add(breadth.count);
    rule.instances = rule.instances.max(breadth.instances);
    rule.days = rule.days.max(breadth.days);
    rule.by.extend(behaviour.by().map(ToString::to_string));
}

fn endpoint(to: &Endpoint, folded: bool) -> Result<Key, &'static str> {
    let wide = match &to.host {
        Host::Name(_) => false,
        Host::Below(_) => true,
        Host::Net(address, bits) => *bits < if address.is_ipv4() { 32 } else { 128 },
    };
    if wide && !folded {
        return Err(FOLDED);
    }
    let Some(protocol) = Protocol::of_socket(&to.protocol) else {
        return Err("a rule by address speaks of tcp, udp and icmp alone");
    };
    // An echo socket's port is the caller's to choose and means nothing.
    let port = if protocol == Protocol::Icmp { Port::None } else { to.port };
    let (host, protocol) = (to.host.to_string(), Name::from(protocol.name()));
    match port {
        Port::Number(port) => Ok((format!("{host}:{port}"), Some(protocol))),
        // An address without a port stands without brackets.
        Port::None => Ok((host.trim_matches(['[', ']']).to_owned(), Some(protocol))),
        Port::Ephemeral => {
            Err("its port is another each time; allow 127.0.0.0/8 and ::1 if its own servers are meant")
        }
    }
}

fn unix(path: &str) -> Result<Key, &'static str> {
    if path.contains(['*', '%', '…']) {
        return Err("its path is another each time; a rule may end in *");
    }
    Ok((format!("unix:{path}"), None))
}

const FOLDED: &str = "learning has folded several into it; --folded takes it as it is";

#[cfg(test)]
mod tests;
