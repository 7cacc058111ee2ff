//! What the control socket answers with, as both ends know it.

use std::{collections::BTreeMap, net::IpAddr};

use agent_common::{identity::Origin, rule::Mode};
use serde::{Deserialize, Serialize};

use crate::{
    baseline::learn::Forget,
    event::{
        AgentState, Name,
        word::{Evidence, ExecId, InstanceId, Time, Word},
    },
    identity::lineage::Instance,
    kernel::{Counters, measure::Measured},
};

/// What a process's label says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Labelled {
    pub origin: Word<Origin>,
    #[serde(default)]
    pub evidence: Evidence,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Name>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Name>,
    /// Absent when the agent is registered and active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_state: Option<Word<AgentState>>,
    pub exec_id: ExecId,
}

/// One process of `/v1/ps`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessView {
    pub pid: u32,
    pub ppid: u32,
    pub uid: u32,
    pub comm: String,
    /// Secrets masked; empty for kernel threads and zombies.
    #[serde(default)]
    pub argv: Vec<Box<str>>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub kernel_thread: bool,
    /// Absent when it has no label (or is gone).
    #[serde(flatten)]
    pub label: Option<Labelled>,
}

/// One agent of `/v1/agents`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AgentView {
    pub name: String,
    /// Absent when it is registered and active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Word<AgentState>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    pub role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Word<Mode>>,
    pub owner: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    #[serde(rename = "match")]
    pub matches: Vec<serde_json::Value>,
    /// `FILE:LINE` where it is registered.
    pub source: String,
    pub instances: Vec<Instance>,
}

/// One address of `/v1/names` under one set of rules' names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameView {
    /// The name that was asked for last with this address as its answer.
    pub name: String,
    pub address: IpAddr,
    /// What of it rules have, as they are known: the whole name, wildcards. Empty where no rule has them any more.
    pub patterns: Vec<String>,
    /// Seconds since an answer first said so; absent where `/etc/hosts` does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_s: Option<u64>,
    /// Seconds until it does not count any more; absent where it does until the file says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
    /// Whose answer it was last; absent where `/etc/hosts` says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<IpAddr>,
}

/// `/v1/status`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    /// `lsm` or `cgroup`.
    pub mode: String,
    /// Why it is not `lsm`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mode_reason: String,
    pub started_unix_s: f64,
    pub events_recorded: u64,
    pub instances: usize,
    pub followers: usize,
    pub policy: PolicyView,
    /// Why baselines are neither learned nor compared; absent where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baselines_off: Option<String>,
    /// Roles that go by their baseline, with the version of what was promoted; 0 for none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub promoted: BTreeMap<String, u32>,
    pub counters: Counters,
    /// Resident memory of the daemon.
    #[serde(default)]
    pub resident_bytes: u64,
    /// Memory, entries and runs on the kernel side.
    #[serde(default)]
    pub kernel: Measured,
    #[serde(default)]
    pub bounds: Vec<BoundView>,
    /// Absent where nothing is recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub journal: Option<JournalView>,
    /// Sinks, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sinks: BTreeMap<String, SinkView>,
}

/// How it stands with the journal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalView {
    /// The last record.
    pub seq: u64,
    /// Records since the last checkpoint.
    pub unsigned: u64,
    /// Lines that could not be written.
    pub unwritten: u64,
    /// How often it could not be brought to the disk, or the newest checkpoint not be noted.
    pub sync_failures: u64,
    /// How often segments were removed before their time.
    pub removed_early: u64,
}

/// How it stands with a sink.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkView {
    pub form: String,
    /// Its other end.
    pub to: String,
    /// Whether it took what was last sent.
    pub up: bool,
    /// The last recorded event that it has taken, or does not want.
    pub acknowledged: u64,
    /// Recorded events behind that.
    pub waiting: u64,
    /// Events that were sent, again ones too.
    pub sent: u64,
    /// Events that it does not want.
    pub filtered: u64,
    /// Events that were gone before they were read.
    pub missed: u64,
    /// Events that its other end refuses for what they are, passed over.
    #[serde(default)]
    pub refused: u64,
    /// Connects and sends that failed.
    pub failures: u64,
    /// The last failure, also where it is mended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When that was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_at: Option<Time>,
}

/// Something bounded, and how full it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BoundView {
    pub name: String,
    pub holds: String,
    pub bound: u64,
    /// What happens to what comes when the bound is reached.
    pub at_bound: String,
    /// Absent where it is never more than a moment's work, or cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
}

/// The configuration in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    pub generation: u64,
    pub agents: usize,
    pub roles: usize,
    /// What is wrong with the one on the disk, when it was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// The body of `POST /v1/run`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRequest {
    /// The caller's own process when absent; another one for root only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    pub agent: String,
}

/// The body of `POST /v1/baseline/promote`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promote {
    pub role: String,
    /// A document of kind `Promotion` for the role.
    pub document: String,
}

/// The body of `POST /v1/baseline/rollback`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    pub role: String,
    /// The version that is to be in force; 0 for none. Absent: the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
}

/// What is in force of a role's baseline after a change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    pub role: String,
    /// Absent for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_before: Option<u32>,
}

/// The body of `POST /v1/baseline/forget`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForgetRequest {
    pub role: String,
    /// What of it; absent for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub what: Option<Forget>,
}

/// What was taken in by `POST /v1/baseline/import`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    pub role: Name,
    pub behaviours: usize,
}

/// What is answered instead of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub error: String,
}
