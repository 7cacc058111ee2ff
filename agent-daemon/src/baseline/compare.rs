//! Compares what was done with what is usual for the role, and says what differs and how far.

pub(super) mod content;
mod ids;
mod nearest;

use serde::{Serialize, Serializer};

use super::{
    behaviour::{Behaviour, Program},
    evidence::Evidence,
    learn::{Baselines, Model},
    observation::Observation,
    severity::{Severities, Severity},
    support::Support,
};
use crate::event::{
    Name,
    word::{InstanceId, Time},
};

agent_common::vocabulary! {
    /// What differs.
    pub enum What {
        NewProgram = 1 => "new_program",
        NewChild = 2 => "new_child",
        NewEndpoint = 3 => "new_endpoint",
        NewName = 4 => "new_name",
        NewUnix = 5 => "new_unix",
        NewSocket = 6 => "new_socket",
        NewUser = 7 => "new_user",
        NewVersion = 8 => "new_version",
        Deeper = 9 => "deeper",
        Broader = 10 => "broader",
        Faster = 11 => "faster",
        /// More new causes within a second than are looked at one by one.
        Flood = 12 => "flood",
        NewListener = 13 => "new_listener",
    }
}

agent_common::vocabulary! {
    /// How the nearest behaviour is near.
    pub enum Nearness {
        /// The same, shown by too few to be usual.
        SeenBefore = 1 => "seen_before",
        /// The same program reaches or asks for another name of the same registered domain.
        SameDomain = 2 => "same_domain",
        /// The same program reaches another port of the host, or listens on one.
        SameHostOtherPort = 3 => "same_host_other_port",
        /// The same program reaches another address of the /24, or /64.
        SameNetwork = 4 => "same_network",
        /// The same program file, with another script or executed by another.
        SameFile = 5 => "same_file",
        /// Another program of the role does the same.
        OtherProgram = 6 => "other_program",
        /// The usual size below.
        Smaller = 7 => "smaller",
        /// The same executable with other content.
        OtherContent = 8 => "other_content",
        /// Nothing that is near.
        None = 9 => "none",
    }
}

/// One thing that differs from what is usual.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    pub time: Time,
    pub role: Name,
    pub instance: InstanceId,
    pub host: Name,
    /// The event: its boot and running number.
    pub boot_id: Name,
    pub seq: u64,
    #[serde(serialize_with = "word")]
    pub what: What,
    pub behaviour: Behaviour,
    pub severity: Severity,
    /// The figures behind it, in words.
    pub how_unusual: String,
    #[serde(serialize_with = "near_word")]
    pub nearness: Nearness,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Behaviour>,
    pub seen: Seen,
    /// It was refused.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// ATT&CK technique, where it is certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub technique: Option<&'static str>,
    /// OWASP Top 10 for Agentic Applications, where it is certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owasp: Option<&'static str>,
}

/// How often it was seen before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Acts and instances of this role.
    pub by_role: u64,
    pub by_role_instances: usize,
    /// Roles, this one included.
    pub by_roles: usize,
    /// Whether an agent of any role has shown it on this host.
    pub on_host: bool,
}

/// What to compare with.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    pub support: Support,
    pub severities: Severities,
}

/// Findings of one observation, whose behaviours its context gave. Nothing where the role has no baseline: where
/// nothing has support yet, everything would be new.
#[must_use]
pub fn compare(
    baselines: &Baselines,
    rules: &Rules,
    seen: &Observation,
    behaviours: &[Behaviour],
) -> Vec<Finding> {
    let Some(model) = seen.role.as_ref().and_then(|role| baselines.models.get(role)) else {
        return Vec::new();
    };
    let mut differing = differing(model, rules, behaviours).peekable();
    // Looked at only where something differs: it goes through all that the role does.
    if differing.peek().is_some() && !any_usual(model, rules) {
        return Vec::new();
    }
    let found = differing.filter_map(|behaviour| finding(baselines, model, rules, seen, behaviour));
    found.chain(content::other_content(baselines, model, rules, seen)).collect()
}

/// Whether anything is usual for a role.
#[must_use]
pub fn any_usual(model: &Model, rules: &Rules) -> bool {
    model.behaviours().any(|(_, evidence)| model.is_usual(evidence, &rules.support))
}

/// Those that are not usual.
pub fn differing<'a>(
    model: &Model,
    rules: &Rules,
    behaviours: &'a [Behaviour],
) -> impl Iterator<Item = &'a Behaviour> {
    behaviours.iter().filter(move |behaviour| !usual(model, rules, behaviour))
}

/// What is to be said of one that is not usual.
#[must_use]
pub fn finding(
    baselines: &Baselines,
    model: &Model,
    rules: &Rules,
    seen: &Observation,
    behaviour: &Behaviour,
) -> Option<Finding> {
    let what = what(model, rules, behaviour);
    let (nearness, nearest) = nearest::nearest(model, rules, behaviour);
    let (technique, owasp) = ids::of(what, behaviour);
    let seen_before = seen_by(baselines, model, behaviour, &seen.host);
    Some(Finding {
        time: seen.time,
        role: seen.role.clone()?,
        instance: seen.instance?,
        host: seen.host.clone(),
        boot_id: seen.boot.clone(),
        seq: seen.seq,
        what,
        behaviour: behaviour.clone(),
        severity: rules.severities.of(what, nearness),
        how_unusual: figures(model, behaviour, &seen_before),
        nearness,
        nearest,
        seen: seen_before,
        refused: seen.refused,
        technique,
        owasp,
    })
}

/// Whether the role has been seen to do it by enough. A size is usual up to the greatest that is.
fn usual(model: &Model, rules: &Rules, behaviour: &Behaviour) -> bool {
    let is_usual = |(_, evidence): (&Behaviour, _)| model.is_usual(evidence, &rules.support);
    match (behaviour.size(), behaviour) {
        (Some(size), _) => model
            .of_group(behaviour)
            .any(|(there, evidence)| there.size() >= Some(size) && is_usual((there, evidence))),
        // Who executed it is not known, so it cannot differ.
        (None, Behaviour::Exec { by: Program::Unknown, child }) => {
            execs(model).any(|(known, evidence)| known == child && model.is_usual(evidence, &rules.support))
        }
        (None, _) => model.find(behaviour).is_some_and(is_usual),
    }
}

fn what(model: &Model, rules: &Rules, behaviour: &Behaviour) -> What {
    match behaviour {
        Behaviour::Exec { child, .. } => {
            let known = execs(model).any(|(known, evidence)| {
                known.exe() == child.exe() && model.is_usual(evidence, &rules.support)
            });
            if known { What::NewChild } else { What::NewProgram }
        }
        Behaviour::Connect { .. } => What::NewEndpoint,
        Behaviour::Name { .. } => What::NewName,
        Behaviour::Unix { .. } => What::NewUnix,
        Behaviour::Socket { .. } => What::NewSocket,
        Behaviour::Listen { .. } => What::NewListener,
        Behaviour::User(_) => What::NewUser,
        Behaviour::Depth(_) => What::Deeper,
        Behaviour::FanOut(_) => What::Broader,
        Behaviour::ExecsPerMinute(_) | Behaviour::EndpointsPerMinute(_) => What::Faster,
    }
}

/// Programs that were executed, by whomever. Execs are the first in the order of behaviours.
fn execs(model: &Model) -> impl Iterator<Item = (&Program, &Evidence)> {
    model.behaviours().map_while(|(behaviour, evidence)| match behaviour {
        Behaviour::Exec { child, .. } => Some((child, evidence)),
        _ => None,
    })
}

fn seen_by(baselines: &Baselines, model: &Model, behaviour: &Behaviour, host: &str) -> Seen {
    let forms = Model::forms(behaviour);
    let breadth = model.find_any(&forms).map(|(_, evidence)| evidence.breadth()).unwrap_or_default();
    let (mut by_roles, mut on_host) = (0, false);
    for model in baselines.models.values() {
        if let Some((_, evidence)) = model.find_any(&forms) {
            by_roles += 1;
            on_host |= model.on_host(evidence, host);
        }
    }
    Seen { by_role: breadth.count, by_role_instances: breadth.instances, by_roles, on_host }
}

/// `0 of 1,234 acts of this sort, by 0 of 17 instances on 9 days`.
fn figures(model: &Model, behaviour: &Behaviour, seen: &Seen) -> String {
    let acts = model.acts_of(behaviour.sort());
    let days = u64::from(super::evidence::day(model.tally.last)) + 1
        - u64::from(super::evidence::day(model.tally.first));
    format!(
        "{} of {} `{}` acts, by {} of {} instances in {} {}",
        grouped(seen.by_role),
        grouped(acts),
        behaviour.sort().word(),
        grouped(seen.by_role_instances as u64),
        grouped(model.instances()),
        grouped(days),
        if days == 1 { "day" } else { "days" },
    )
}

/// A number with its thousands apart.
#[must_use]
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn word<S: Serializer>(what: &What, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(what.name())
}

fn near_word<S: Serializer>(nearness: &Nearness, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(nearness.name())
}

#[cfg(test)]
mod tests;
