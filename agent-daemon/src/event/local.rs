//! The daemon's own events: it started, configuration changed, events were lost.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::word::Time;

/// The daemon as it starts or ends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Daemon {
    pub version: Box<str>,
    /// `lsm` or `cgroup`: where refusals are made on this host.
    pub mode: Box<str>,
    /// Why it is not `lsm`.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub mode_reason: Box<str>,
    pub pid: u32,
    pub kernel: Box<str>,
    pub agents: usize,
    pub roles: usize,
    /// What it found in force when it started: `nothing`, the programs of the `same_build`, or those of an
    /// `other_build`, which it has replaced.
    pub took_over: Box<str>,
    /// Live instances.
    pub instances: usize,
    /// Why what is enforced ends with the daemon; absent where it does not.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub unpinned: Box<str>,
    /// `daemon_started`: how the daemon before this one ended, as far as the journal has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
}

/// The end of the daemon before: nobody recorded between then and now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Previous {
    /// When its last record was made, or what that tells of happened.
    pub last_record: Time,
    /// It ended in order, and was not killed.
    pub orderly: bool,
}

/// A change of configuration, or the refusal of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Policy {
    /// What made it: `start`, `sighup`, `file`.
    pub trigger: Box<str>,
    /// Counts every configuration put in force, from 1 at each start.
    pub generation: u64,
    pub agents: usize,
    pub roles: usize,
    /// Everything that is wrong with a rejected one: `FILE:LINE: what`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Box<str>>,
}

/// What changed since the daemon was started the time before: another kernel, another boot option, another mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Guarantees {
    pub mode_before: Box<str>,
    pub mode: Box<str>,
    /// Why it is not `lsm`.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub mode_reason: Box<str>,
    /// What would give more.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub remedy: Box<str>,
    pub changes: Vec<GuaranteeChange>,
}

/// One way whose guarantee is another one now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GuaranteeChange {
    /// The kind of rule; `agent` for what is about recognising agents.
    pub rule: Box<str>,
    /// The way, as `chaperone doctor -o json` names it.
    pub way: Box<str>,
    pub before: Box<str>,
    pub now: Box<str>,
}

/// Why a record of the kernel side can be undecodable: too short for its layout, of another version, of an unknown
/// kind, longer than what came, or with texts that do not fit.
pub const UNDECODABLE: [&str; 5] = ["short", "version", "kind", "length", "text"];

/// Events lost since the last event of this kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Lost {
    /// Kind of event → how many found the ring buffer full.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ring: BTreeMap<Box<str>, u64>,
    /// Reason → how many records could not be decoded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub undecodable: BTreeMap<Box<str>, u64>,
    /// Lines that could not be written to the event file.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unwritten: u64,
    /// Lines that came while this follower was too slow to take more; it was cut off.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub follower: u64,
}

impl Lost {
    /// Whether nothing was lost.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ring.is_empty() && self.undecodable.is_empty() && self.unwritten == 0 && self.follower == 0
    }
}

pub(super) fn is_zero(value: &u64) -> bool {
    *value == 0
}
