//! Why an act is allowed or refused: the kernel's look-ups and its `decide`, with the rules named.

use std::net::{IpAddr, Ipv6Addr};

use agent_common::{
    identity::name_id,
    name::{ASKING, NameKey},
    rule::{ANY, Class, Mode, Rule},
    verdict::{Source, Verdict, decide},
};
use serde::{Serialize, Serializer};

use super::{
    address,
    host::HostName,
    lookup::{self, Found},
    number,
    parse::{self, Target},
    table::{RuleText, Table},
};
use crate::config::{document::Protocol, problem::Fault};

/// An internet endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: IpAddr,
    /// 0 for ICMP, which has none.
    pub port: u16,
    pub protocol: Protocol,
}

/// Something a process may do on the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    Endpoint(Endpoint),
    /// A host by its name, where no rule names the address that it has.
    Host {
        name: HostName,
        port: u16,
        protocol: Protocol,
    },
    /// An endpoint whose address carries names: for each that it was given, the patterns that it met.
    Carrier {
        to: Endpoint,
        sets: Vec<Vec<NameKey>>,
    },
    /// A unix socket's name as the kernel has it: an abstract one begins with NUL.
    Unix(Vec<u8>),
    /// Asking a resolver for a name.
    Asking(HostName),
    /// See [`agent_common::rule::SocketKey`] for what the numbers are.
    Socket {
        class: Class,
        a: u32,
        b: u32,
    },
}

/// The verdict on an act and what led to it.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    pub role: String,
    pub to: String,
    #[serde(serialize_with = "class_name")]
    pub class: Class,
    /// `None` when the role has no policy.
    #[serde(serialize_with = "mode_name")]
    pub mode: Option<Mode>,
    /// What is done.
    #[serde(serialize_with = "verdict_name")]
    pub verdict: Verdict,
    /// What the rule or default says; the mode may soften it.
    #[serde(serialize_with = "verdict_name")]
    pub wanted: Verdict,
    #[serde(serialize_with = "source_name")]
    pub source: Source,
    /// The rule that decided.
    pub rule: Option<RuleText>,
    /// Rules that name the act too, but did not decide.
    pub others: Vec<Other>,
}

/// A rule that did not decide.
#[derive(Clone, Debug, Serialize)]
pub struct Other {
    #[serde(flatten)]
    pub rule: RuleText,
    pub why: String,
}

/// What becomes of a send to an internet endpoint.
#[must_use]
pub fn endpoint(table: &Table, role: &str, to: &Endpoint) -> Explanation {
    explain(table, role, &Act::Endpoint(*to))
}

/// What becomes of an act of an agent with this role.
#[must_use]
pub fn explain(table: &Table, role: &str, act: &Act) -> Explanation {
    let policy = table.roles.get(&name_id(role));
    let id = policy.map_or(0, |policy| policy.id);
    let mut by_name = matches!(act, Act::Host { .. } | Act::Asking(_));
    let (class, found) = match act {
        Act::Endpoint(to) => {
            let address = address::destination(to.address);
            (Class::Endpoint, lookup::endpoint(table, id, to.protocol as u8, to.port, &address))
        }
        Act::Host { name, port, protocol } => {
            (Class::Endpoint, lookup::host(table, id, *protocol as u8, *port, name))
        }
        Act::Carrier { to, sets } => {
            let (protocol, address) = (to.protocol as u8, address::destination(to.address));
            let mut found = lookup::endpoint(table, id, protocol, to.port, &address);
            by_name = found.is_empty();
            if by_name {
                found = lookup::carried(table, id, protocol, to.port, sets);
            }
            (Class::Endpoint, found)
        }
        Act::Asking(name) => (Class::Name, lookup::host(table, id, ASKING, 0, name)),
        Act::Unix(name) => (Class::Unix, lookup::unix(table, id, name)),
        Act::Socket { class, a, b } => (*class, lookup::socket(table, id, *class, *a, *b)),
    };
    let hits = if by_name { lookup::hits_by_name(&found) } else { lookup::hits(&found) };
    let decision = decide(policy, class, &hits);
    let won = (decision.source == Source::Rule)
        .then(|| found.iter().find(|found| found.rule.index == decision.rule))
        .flatten();
    let text = |rule: Rule| table.rule(id, rule.index).cloned();
    let others = found.iter().filter(|found| won.is_none_or(|won| !std::ptr::eq(won, *found)));
    let rule = won.and_then(|won| text(won.rule));
    let promoted = rule.as_ref().is_some_and(|rule| rule.promoted);
    Explanation {
        role: role.to_string(),
        to: act.to_string(),
        class,
        mode: policy.and_then(|policy| Mode::from_raw(policy.mode)),
        verdict: decision.verdict,
        wanted: decision.wanted,
        source: if promoted { Source::Baseline } else { decision.source },
        rule,
        others: others
            .filter_map(|other| {
                Some(Other { rule: text(other.rule)?, why: why(by_name, class, won?, other) })
            })
            .collect(),
    }
}

/// Why one rule did not win against another.
fn why(by_name: bool, class: Class, won: &Found, other: &Found) -> String {
    match class {
        Class::Endpoint if by_name && other.rule.verdict < won.rule.verdict => {
            "another name of the address has a stricter one".into()
        }
        Class::Endpoint if by_name && other.rule.prefix_len < won.rule.prefix_len => {
            "what it names is less specific".into()
        }
        Class::Name => "what it names is less specific".into(),
        Class::Endpoint if other.rule.prefix_len < won.rule.prefix_len => "its prefix is shorter".into(),
        Class::Endpoint => "it names every port, the other this one".into(),
        Class::Unix => "what it names is shorter".into(),
        _ => "it is more general".into(),
    }
}

impl Act {
    /// The act of sending to what the text names, written as a rule's `to`; it must name one thing.
    pub fn parse(text: &str, protocol: Option<Protocol>) -> Result<Self, Fault> {
        let many = |remedy: &str| Err(Fault::new(format!("`{text}` names more than one thing"), remedy));
        if let Some(name) = text.strip_prefix("name:") {
            let name = HostName::parse(name)?;
            return if name.is_below() { many("name one host") } else { Ok(Self::Asking(name)) };
        }
        let target = parse::target(text)?;
        if protocol.is_some() && !matches!(target, Target::Endpoint { .. } | Target::Host { .. }) {
            return Err(Fault::new(format!("`{text}` has no protocol"), "leave the protocol out"));
        }
        match target {
            Target::Unix { name, exact: true } => Ok(Self::Unix(name)),
            Target::Unix { .. } => many("name one socket, without *"),
            Target::Socket { a, b, .. } if a == ANY || b == ANY => many("write a number instead of *"),
            Target::Socket { class, a, b } => Ok(Self::Socket { class, a, b }),
            Target::Endpoint { prefix, .. } if prefix.bits < 128 => many("name one address"),
            Target::Endpoint { prefix, ports } => {
                let protocol = protocol.unwrap_or(Protocol::Tcp);
                let address = IpAddr::V6(Ipv6Addr::from(prefix.address)).to_canonical();
                Ok(Self::Endpoint(Endpoint { address, port: port(text, &ports, protocol)?, protocol }))
            }
            Target::Host { name, .. } if name.is_below() => many("name one host"),
            Target::Host { name, ports } => {
                let protocol = protocol.unwrap_or(Protocol::Tcp);
                Ok(Self::Host { name, port: port(text, &ports, protocol)?, protocol })
            }
        }
    }
}

/// The one port that an act goes to.
fn port(text: &str, ports: &[u16], protocol: Protocol) -> Result<u16, Fault> {
    match (ports, protocol) {
        ([], Protocol::Icmp) => Ok(0),
        (_, Protocol::Icmp) => Err(Fault::new("icmp has no ports", "leave the port out")),
        ([port], _) => Ok(*port),
        ([], _) => Err(Fault::new(format!("`{text}` lacks a port"), "write HOST:PORT")),
        _ => Err(Fault::new(format!("`{text}` names more than one thing"), "name one port")),
    }
}

impl std::fmt::Display for Act {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Carrier { to, .. } => Self::Endpoint(*to).fmt(f),
            Self::Endpoint(Endpoint { address, port: 0, protocol }) => {
                write!(f, "{address} {}", protocol.name())
            }
            Self::Endpoint(Endpoint { address, port, protocol }) => {
                write!(f, "{} {}", std::net::SocketAddr::new(*address, *port), protocol.name())
            }
            Self::Host { name, port: 0, protocol } => write!(f, "{} {}", name.as_str(), protocol.name()),
            Self::Host { name, port, protocol } => {
                write!(f, "{}:{port} {}", name.as_str(), protocol.name())
            }
            Self::Asking(name) => write!(f, "name:{}", name.as_str()),
            Self::Unix(name) => match name.split_first() {
                Some((0, rest)) => write!(f, "unix:@{}", String::from_utf8_lossy(rest)),
                _ => write!(f, "unix:{}", String::from_utf8_lossy(name)),
            },
            Self::Socket { class: Class::Vsock, a, b } => write!(f, "vsock:{a}:{b}"),
            Self::Socket { class: Class::Family, a, .. } => write!(f, "family:{}", number::family_name(*a)),
            Self::Socket { class: class @ (Class::Raw | Class::Protocol), a, .. } => {
                write!(f, "{}:{}", class.name(), number::protocol_name(*a))
            }
            Self::Socket { class, .. } => f.write_str(class.name()),
        }
    }
}

fn verdict_name<S: Serializer>(verdict: &Verdict, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(verdict.name())
}

fn source_name<S: Serializer>(source: &Source, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(source.name())
}

fn class_name<S: Serializer>(class: &Class, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(class.name())
}

fn mode_name<S: Serializer>(mode: &Option<Mode>, serializer: S) -> Result<S::Ok, S::Error> {
    mode.map(Mode::name).serialize(serializer)
}
