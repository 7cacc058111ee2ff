//! An event as people and machines read it: one JSON object per line, and the same type in the daemon.

pub mod filter;
pub mod finding;
pub mod handed_off;
pub mod journal;
mod json;
mod line;
pub mod local;
pub mod mask;
pub mod names;
pub mod net;
pub mod process;
pub mod purpose;
pub mod reference;
pub mod word;

use std::sync::Arc;

use agent_common::{
    identity::{Origin, evidence},
    verdict::Verdict,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::word::{Evidence, ExecId, InstanceId, Time, Word};

/// A name that many events share: made once, counted by reference.
pub type Name = Arc<str>;

/// What happened, to whom it is attributed, and what was decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// When it happened: RFC 3339, UTC, nanoseconds.
    pub time: Time,
    /// The journal's running number, over all starts; a reader that sees a hole lost lines. A record that could not be
    /// written gives its number back. Without an event file it counts from 1 at each start.
    pub seq: u64,
    /// What happened.
    pub kind: Kind,
    /// Host name.
    pub host: Name,
    /// Boot in which it happened: instance and exec ids are unique within it.
    pub boot_id: Name,
    /// What was done with the act; `decision` says why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verdict: Option<Word<Verdict>>,
    /// Who acted. Absent in events of the daemon itself.
    #[serde(flatten)]
    pub subject: Option<Subject>,
    /// `process_exec`: the new program image.
    #[serde(flatten)]
    pub exec: Option<Box<process::Exec>>,
    /// `process_exit`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<process::Exit>,
    /// `process_fork`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<process::Fork>,
    /// `cgroup_created`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_cgroup: Option<process::NewCgroup>,
    /// `net_*`: what was to be reached, or is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<net::Network>,
    /// `unix_*`: the socket and who holds its other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unix: Option<net::Unix>,
    /// `dns_*`: what a resolver was asked, or answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Box<names::Dns>>,
    /// `dns_channel`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<Box<names::Channel>>,
    /// `spoken`: what the connection said first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spoken: Option<net::Spoken>,
    /// Its TLS ClientHello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<net::Tls>,
    /// Its HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<net::Http>,
    /// Why the verdict is what it is, and where it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<net::Decision>,
    /// Work given to something outside the tree: which kind of broker was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_off: Option<Name>,
    /// Fields that do not hold the whole value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub truncated: Vec<Truncated>,
    /// Fields of which the kernel could not read all: nothing is matched on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<Name>,
    /// `daemon_started`, `daemon_stopped`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<local::Daemon>,
    /// `policy_changed`, `policy_rejected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<local::Policy>,
    /// `events_lost`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<local::Lost>,
    /// `guarantee_changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guarantees: Option<Box<local::Guarantees>>,
    /// `program_identified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Box<process::Program>>,
    /// `finding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<Box<finding::Finding>>,
    /// `reaction`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reaction: Option<Box<finding::Reaction>>,
    /// `baseline_changed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Box<finding::BaselineChange>>,
    /// `journal_opened`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<Box<journal::Opened>>,
    /// `checkpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Box<journal::Checkpoint>>,
    /// `segments_removed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Box<journal::Removed>>,
    /// Always the last field: SHA-256 of the hash of the record before (32 bytes) and of this line up to this field, 64
    /// hexadecimal digits. Absent without an event file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Box<str>>,
}

/// What happened.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A program image replaced another. With `recognised`, an instance of an agent began here.
    ProcessExec,
    /// A process ended. With `exit.instance_ended`, the instance's last task.
    ProcessExit,
    /// A process was born; the subject is its parent.
    ProcessFork,
    /// A cgroup was created.
    CgroupCreated,
    /// connect(2) on anything but a unix socket, and what acts like it.
    NetConnect,
    /// A send with an address of its own: sendto, sendmsg, fast open.
    NetSend,
    /// socket(2) of a class that has rules of its own (raw, packet, …).
    NetCreate,
    /// A socket option that chooses a way out (source routing).
    NetOption,
    /// An agent offers something: listen(2), or bind(2) of a datagram socket to a port of its choosing. Nothing is decided.
    NetListen,
    /// An act on a socket that this build has no word for.
    NetOther,
    /// A connect to a unix socket.
    UnixConnect,
    /// A datagram to a unix socket.
    UnixSend,
    /// An agent asks a resolver for a name. Recorded while a role names a host or says what becomes of asking.
    DnsQuery,
    /// A resolver's answer has come to an agent's socket; whether it is believed is another matter.
    DnsAnswer,
    /// An instance asks for more below one domain than names are for: data may be carried out, or in, by a resolver
    /// (ATT&CK T1071.004). Told when a bound is passed, and again at each doubling.
    DnsChannel,
    /// A connection that a rule allows by name said another name, none, or what cannot be compared.
    Spoken,
    /// An agent ran before the daemon: its instance as it was found.
    AgentFound,
    /// An instance that ran before the daemon has no process left.
    AgentEnded,
    /// The daemon enforces: mode and configuration in force.
    DaemonStarted,
    /// The daemon ends in order.
    DaemonStopped,
    /// New configuration is in force.
    PolicyChanged,
    /// A changed configuration has errors: what was in force stays in force.
    PolicyRejected,
    /// Events were lost since the last of this kind; exact, per kind.
    EventsLost,
    /// This host lets less (or more) be guaranteed than when the daemon was started the time before.
    GuaranteeChanged,
    /// What the program is that an agent has executed: told once for each role, path and content, and maybe after the
    /// instance has ended.
    ProgramIdentified,
    /// Acts of an agent that differ from what is usual for its role.
    Finding,
    /// An instance was stopped or ended because of a finding.
    Reaction,
    /// Somebody promoted a baseline, rolled a promotion back, or changed what was learned; or nothing is learned any more.
    BaselineChanged,
    /// The journal was opened: a segment begins, or the daemon goes on with one.
    JournalOpened,
    /// What was recorded so far is signed: every few seconds in which there was something, and at the end of a segment.
    Checkpoint,
    /// The oldest segments of the journal are removed: they are too old, or there is no room.
    SegmentsRemoved,
    /// Not known.
    #[default]
    Unknown,
}

impl Kind {
    /// Every kind, in the order of [`Kind::index`].
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::ProcessExec, "process_exec"),
        (Self::ProcessExit, "process_exit"),
        (Self::ProcessFork, "process_fork"),
        (Self::CgroupCreated, "cgroup_created"),
        (Self::NetConnect, "net_connect"),
        (Self::NetSend, "net_send"),
        (Self::NetCreate, "net_create"),
        (Self::NetOption, "net_option"),
        (Self::NetListen, "net_listen"),
        (Self::NetOther, "net_other"),
        (Self::UnixConnect, "unix_connect"),
        (Self::UnixSend, "unix_send"),
        (Self::DnsQuery, "dns_query"),
        (Self::DnsAnswer, "dns_answer"),
        (Self::DnsChannel, "dns_channel"),
        (Self::Spoken, "spoken"),
        (Self::AgentFound, "agent_found"),
        (Self::AgentEnded, "agent_ended"),
        (Self::DaemonStarted, "daemon_started"),
        (Self::DaemonStopped, "daemon_stopped"),
        (Self::PolicyChanged, "policy_changed"),
        (Self::PolicyRejected, "policy_rejected"),
        (Self::EventsLost, "events_lost"),
        (Self::GuaranteeChanged, "guarantee_changed"),
        (Self::ProgramIdentified, "program_identified"),
        (Self::Finding, "finding"),
        (Self::Reaction, "reaction"),
        (Self::BaselineChanged, "baseline_changed"),
        (Self::JournalOpened, "journal_opened"),
        (Self::Checkpoint, "checkpoint"),
        (Self::SegmentsRemoved, "segments_removed"),
        (Self::Unknown, "unknown"),
    ];

    /// Its place in [`Kind::ALL`]: the slot of per-kind counters.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word used for it in events, filters and metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL[self.index()].1
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(_, n)| *n == name).map(|(kind, _)| *kind)
    }
}

/// Who acted, as the kernel labelled it at the time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// Whose doing it is.
    pub origin: Word<Origin>,
    /// Why the origin is what it is.
    #[serde(default, skip_serializing_if = "Evidence::is_empty")]
    pub evidence: Evidence,
    /// The agent instance it belongs to; absent outside every instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The agent of the instance; `unknown` when it is not registered any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Name>,
    /// How it stands with the agent; absent when it is registered and active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_state: Option<Word<AgentState>>,
    /// The role of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Name>,
    /// The program image that acted; absent when it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_id: Option<ExecId>,
    /// The image that executed it; absent for those that ran before the daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_exec_id: Option<ExecId>,
    /// Process id in the initial pid namespace.
    pub pid: u32,
    /// Thread id in the initial pid namespace; absent when it is the process's main thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tid: Option<u32>,
    /// Real user id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The audit login uid; absent when none is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loginuid: Option<u32>,
    /// Thread name.
    pub comm: Box<str>,
    /// The file whose code runs; for a script, its interpreter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<Name>,
    /// The `#!` script that was executed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Name>,
    /// The cgroup's path at the time, or `unknown`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Name>,
    /// The container's id, from the cgroup's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Name>,
    /// The systemd unit, from the cgroup's path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Name>,
    /// The kernel's numbers behind the names.
    #[serde(skip)]
    pub ids: Ids,
}

agent_common::vocabulary! {
    /// How it stands with an agent that is not simply registered and active.
    pub enum AgentState {
        /// Recognised by the built-in catalogue; nobody has registered it.
        Unregistered = 1 => "unregistered",
    }
}

/// Numbers that are turned into names by the attribution and are not shown themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    pub agent: u32,
    pub role: u32,
    pub cgroup: u64,
}

/// A field that does not hold the whole value.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Truncated {
    pub field: Name,
    /// Bytes of the whole.
    pub bytes: u32,
    /// 64-bit FNV-1a of the whole, hexadecimal; absent when it could not be taken or would give away a masked value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<Box<str>>,
    /// The end of the value was kept, not its beginning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub tail: bool,
}

impl Event {
    /// The origin of the acting process; `None` for the daemon's own events.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        self.subject.as_ref().and_then(|s| s.origin.known())
    }

    /// Whether an agent acted, or something acted on an agent.
    #[must_use]
    pub fn touches_an_agent(&self) -> bool {
        let by_agent = self.subject.as_ref().is_some_and(|s| {
            s.instance.is_some()
                || s.origin.known() == Some(Origin::Agent)
                || s.evidence.0 & evidence::ENTERED != 0
        });
        let to_agent =
            self.unix.as_ref().is_some_and(|u| u.peer.as_ref().is_some_and(|p| p.instance.is_some()));
        by_agent || to_agent
    }

    /// Appends it as one line of JSON.
    pub fn write_line(&self, out: &mut Vec<u8>) {
        let start = out.len();
        match json::write(self, out) {
            Ok(()) => out.push(b'\n'),
            // The types hold nothing that is unsupported: each kind's line is compared with serde_json's in the tests.
            Err(_) => out.truncate(start),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kinds_are_those_of_the_json_and_of_the_index() {
        for (at, (kind, name)) in Kind::ALL.iter().enumerate() {
            assert_eq!(kind.index(), at);
            assert_eq!(serde_json::to_value(kind).unwrap(), *name);
            assert_eq!(Kind::parse(name), Some(*kind));
        }
    }
}
