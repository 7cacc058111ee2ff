//! What a baseline reads of one event, the same from a live event and from its recorded line.

mod line;

use std::{net::IpAddr, sync::LazyLock};

use agent_common::{rule::Class, verdict::Verdict};

use super::content::Content;
use crate::event::{
    Event, Kind, Name, Truncated,
    net::Network,
    process::Program,
    word::{ExecId, InstanceId, Time, Word},
};

pub use self::line::{Fault, read};

/// One event, as a baseline sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub time: Time,
    pub kind: Kind,
    pub host: Name,
    pub boot: Name,
    pub seq: u64,
    pub role: Option<Name>,
    pub instance: Option<InstanceId>,
    /// The image that acted; in an exec, the new one.
    pub exec: Option<ExecId>,
    pub parent: Option<ExecId>,
    pub uid: Option<u32>,
    pub exe: Option<Name>,
    pub script: Option<Name>,
    /// It was refused: an attempt, of which nobody learns.
    pub refused: bool,
    pub act: Act,
}

/// What was done.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A program began; `begins` where it is the first of an instance.
    Exec { begins: bool },
    /// What a program is.
    Identified { path: Name, content: Content },
    /// An internet endpoint.
    Endpoint { address: IpAddr, port: Option<u32>, protocol: Name, name: Option<Name> },
    /// An address and port at which others may come; port 0 where the kernel chose one.
    Listen { address: IpAddr, port: u32, protocol: Name },
    /// Any other socket, in words: `raw icmp`, `vsock 2:1024`.
    Socket(Name),
    /// A unix socket.
    Unix(Name),
    /// A resolver was asked.
    Ask(Name),
    /// The instance has no task left.
    End,
    /// So many events are missing from here.
    Lost(u64),
    /// Nothing that a baseline reads.
    Other,
}

impl From<&Event> for Observation {
    fn from(event: &Event) -> Self {
        let subject = event.subject.as_ref();
        let whole = |field: &str, value: &Name| whole(&event.truncated, field, value);
        let act = match event.kind {
            Kind::ProcessExec => {
                Act::Exec { begins: event.exec.as_ref().is_some_and(|exec| exec.recognised.is_some()) }
            }
            Kind::ProgramIdentified => event.program.as_deref().cloned().map_or(Act::Other, identified),
            Kind::ProcessExit if event.exit.is_some_and(|exit| exit.instance_ended) => Act::End,
            Kind::AgentEnded => Act::End,
            Kind::NetConnect | Kind::NetSend | Kind::NetCreate | Kind::NetOption | Kind::NetOther => {
                event.network.as_ref().map_or(Act::Other, network)
            }
            Kind::NetListen => event.network.as_ref().map_or(Act::Other, listen),
            Kind::UnixConnect | Kind::UnixSend => event
                .unix
                .as_ref()
                .map_or(Act::Other, |unix| Act::Unix(whole("unix.path", &Name::from(&*unix.path)))),
            Kind::DnsQuery => event.dns.as_ref().map_or(Act::Other, |dns| ask(&event.truncated, &dns.name)),
            Kind::EventsLost => event.lost.as_ref().map_or(Act::Other, |lost| {
                Act::Lost(lost.ring.values().chain(lost.undecodable.values()).sum::<u64>() + lost.unwritten)
            }),
            _ => Act::Other,
        };
        Self {
            time: event.time,
            kind: event.kind,
            host: event.host.clone(),
            boot: event.boot_id.clone(),
            seq: event.seq,
            role: subject.and_then(|s| s.role.clone()),
            instance: subject.and_then(|s| s.instance),
            exec: subject.and_then(|s| s.exec_id),
            parent: subject.and_then(|s| s.parent_exec_id),
            uid: subject.and_then(|s| s.uid),
            exe: subject.and_then(|s| s.exe.as_ref()).map(|exe| whole("exe", exe)),
            script: subject.and_then(|s| s.script.as_ref()).map(|script| whole("script", script)),
            refused: refused(event.verdict),
            act,
        }
    }
}

fn refused(verdict: Option<Word<Verdict>>) -> bool {
    matches!(verdict.and_then(Word::known), Some(Verdict::Deny | Verdict::Kill))
}

fn identified(program: Program) -> Act {
    let Program { path, sha256, package, version, .. } = program;
    Act::Identified { path, content: Content { sha256: Some(sha256), package, version } }
}

/// A name that could not be read is none.
fn ask(truncated: &[Truncated], name: &Name) -> Act {
    if name.is_empty() { Act::Other } else { Act::Ask(whole(truncated, "dns.name", name)) }
}

/// Nearly all are one of two, whose names are made once.
fn protocol(network: &Network) -> Name {
    static COMMON: LazyLock<[Name; 2]> = LazyLock::new(|| ["tcp".into(), "udp".into()]);
    let name = network.protocol.as_deref().unwrap_or("ip");
    COMMON.iter().find(|common| &***common == name).cloned().unwrap_or_else(|| name.into())
}

fn listen(network: &Network) -> Act {
    let protocol = protocol(network);
    match (network.address, network.port) {
        (Some(address), port) => Act::Listen { address, port: port.unwrap_or_default(), protocol },
        (None, _) => Act::Other,
    }
}

fn network(network: &Network) -> Act {
    let port = network.port;
    match (network.class.known(), network.address) {
        (Some(Class::Endpoint), Some(address)) => {
            Act::Endpoint { address, port, protocol: protocol(network), name: network.name.clone() }
        }
        (class, address) => {
            let mut words = match class {
                Some(class) if class != Class::Family => vec![class.name().to_owned()],
                _ => vec![network.family.to_string(), network.kind.to_string()],
            };
            if let Some(protocol) = &network.protocol {
                words.push(protocol.to_string());
            }
            words.extend(address.map(|address| address.to_string()));
            match (network.cid, port) {
                // A netlink port id is the caller's own choice, mostly its process id.
                (Some(_), _) if class == Some(Class::Netlink) => {}
                (Some(cid), Some(port)) => words.push(format!("{cid}:{port}")),
                (Some(cid), None) => words.push(cid.to_string()),
                (None, Some(port)) => words.push(port.to_string()),
                (None, None) => {}
            }
            Act::Socket(words.join(" ").into())
        }
    }
}

/// A cut value is never taken for a whole one: the hash of the whole follows it, or that it is not known.
fn whole(truncated: &[Truncated], field: &str, value: &Name) -> Name {
    match truncated.iter().find(|t| &*t.field == field) {
        None => value.clone(),
        Some(cut) => format!("{value}…{}", cut.hash.as_deref().unwrap_or("?")).into(),
    }
}

#[cfg(test)]
mod tests;
