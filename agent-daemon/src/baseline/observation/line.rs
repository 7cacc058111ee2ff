//! An observation from a recorded line, and why a line is none.

use std::{borrow::Cow, collections::BTreeMap};

use agent_common::verdict::Verdict;
use serde::Deserialize;

use super::{Act, Observation, ask, identified, listen, network, refused, whole};
use crate::event::{
    Kind, Name, Truncated,
    net::Network,
    process::Program,
    word::{ExecId, InstanceId, Time, Word},
};

/// Why a line is no observation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Not JSON, or not an event.
    #[error("not an event: {0}")]
    Foreign(String),
    /// An event of a kind that this build does not know.
    #[error("an event of a kind that this version does not know: {0}")]
    Newer(String),
}

impl Fault {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Foreign(_) => {
                "give an event file of Chaperone, as `events_file` in chaperone.yaml names it"
            }
            Self::Newer(_) => "read it with the version of Chaperone that wrote it, or a later one",
        }
    }
}

/// Reads one line, without its end.
pub fn read(line: &[u8]) -> Result<Observation, Fault> {
    let line: Line = serde_json::from_slice(line).map_err(|error| Fault::Foreign(error.to_string()))?;
    let Some(kind) = Kind::parse(&line.kind) else { return Err(Fault::Newer(line.kind.into_owned())) };
    Ok(line.observation(kind))
}

/// The fields of a line that a baseline reads: they stand side by side there, so that this is one pass over it.
#[derive(Deserialize)]
struct Line<'a> {
    time: Time,
    seq: u64,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    host: Name,
    boot_id: Name,
    verdict: Option<Word<Verdict>>,
    instance: Option<InstanceId>,
    role: Option<Name>,
    exec_id: Option<ExecId>,
    parent_exec_id: Option<ExecId>,
    uid: Option<u32>,
    exe: Option<Name>,
    script: Option<Name>,
    recognised: Option<Word<agent_common::identity::Recognised>>,
    program: Option<Program>,
    exit: Option<Exit>,
    network: Option<Network>,
    #[serde(borrow)]
    unix: Option<Unix<'a>>,
    dns: Option<Dns>,
    lost: Option<Lost>,
    #[serde(default)]
    truncated: Vec<Truncated>,
}

#[derive(Deserialize)]
struct Exit {
    #[serde(default)]
    instance_ended: bool,
}

#[derive(Deserialize)]
struct Unix<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Dns {
    name: Name,
}

#[derive(Deserialize)]
struct Lost {
    #[serde(default)]
    ring: BTreeMap<Box<str>, u64>,
    #[serde(default)]
    undecodable: BTreeMap<Box<str>, u64>,
    #[serde(default)]
    unwritten: u64,
}

impl Line<'_> {
    fn observation(self, kind: Kind) -> Observation {
        let cut = &self.truncated;
        let act = match kind {
            Kind::ProcessExec => Act::Exec { begins: self.recognised.is_some() },
            Kind::ProgramIdentified => self.program.map_or(Act::Other, identified),
            Kind::ProcessExit if self.exit.is_some_and(|exit| exit.instance_ended) => Act::End,
            Kind::AgentEnded => Act::End,
            Kind::NetConnect | Kind::NetSend | Kind::NetCreate | Kind::NetOption | Kind::NetOther => {
                self.network.as_ref().map_or(Act::Other, network)
            }
            Kind::NetListen => self.network.as_ref().map_or(Act::Other, listen),
            Kind::UnixConnect | Kind::UnixSend => self
                .unix
                .map_or(Act::Other, |unix| Act::Unix(whole(cut, "unix.path", &Name::from(&*unix.path)))),
            Kind::DnsQuery => self.dns.map_or(Act::Other, |dns| ask(cut, &dns.name)),
            Kind::EventsLost => self.lost.map_or(Act::Other, |lost| {
                Act::Lost(lost.ring.values().chain(lost.undecodable.values()).sum::<u64>() + lost.unwritten)
            }),
            _ => Act::Other,
        };
        Observation {
            time: self.time,
            kind,
            host: self.host,
            boot: self.boot_id,
            seq: self.seq,
            role: self.role,
            instance: self.instance,
            exec: self.exec_id,
            parent: self.parent_exec_id,
            uid: self.uid,
            exe: self.exe.as_ref().map(|exe| whole(cut, "exe", exe)),
            script: self.script.as_ref().map(|script| whole(cut, "script", script)),
            refused: refused(self.verdict),
            act,
        }
    }
}
