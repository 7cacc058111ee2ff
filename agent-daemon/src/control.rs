//! The control socket: what clients may ask, the server that listens, and the client that the command line uses.

pub mod api;
pub mod client;
pub mod server;

use std::collections::BTreeMap;

use serde::Serialize;
use tokio::sync::oneshot;

use self::api::{
    AgentView, ForgetRequest, Imported, Labelled, NameView, Promote, Promoted, RollBack, Status,
};
use crate::{
    baseline::{Model, learn::Forgotten},
    event::{Name, filter::Filter, finding::By, word::InstanceId},
    record::followers::Follower,
};

/// What the server asks of the pipeline; the answer comes through `reply`.
#[derive(Debug)]
pub enum Command {
    /// The labels of these processes, in order.
    Labels {
        pids: Vec<u32>,
        reply: oneshot::Sender<Vec<Option<Labelled>>>,
    },
    /// One agent or all of them, with live instances.
    Agents {
        name: Option<String>,
        reply: oneshot::Sender<Vec<AgentView>>,
    },
    /// Addresses that are known by a name now.
    Names {
        reply: oneshot::Sender<Vec<NameView>>,
    },
    Status {
        reply: oneshot::Sender<Status>,
    },
    /// Prometheus text.
    Metrics {
        /// Live processes by origin.
        processes: BTreeMap<&'static str, u64>,
        reply: oneshot::Sender<String>,
    },
    /// Makes the next exec of `pid` an instance of `agent`.
    Run {
        pid: u32,
        agent: String,
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// Changes what is learned, or what of it is in force.
    Baseline {
        ask: Change,
        by: By,
        reply: oneshot::Sender<Result<Changed, Refusal>>,
    },
    /// Events as they are recorded from now on.
    Follow {
        filter: Filter,
        reply: oneshot::Sender<Follower>,
    },
}

/// A change of baselines.
#[derive(Debug)]
pub enum Change {
    Promote(Promote),
    RollBack(RollBack),
    Forget(ForgetRequest),
    Import(Vec<(Name, Model)>),
}

/// What came of it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Changed {
    Promoted(Promoted),
    Forgotten(Forgotten),
    Imported(Vec<Imported>),
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no agent `{name}`; registered are: {}", list(.known))]
    NoSuchAgent { name: String, known: Vec<String> },
    #[error("the caller runs inside instance {0}: an agent cannot choose what it is taken for")]
    InsideInstance(InstanceId),
    #[error("{0}")]
    Baseline(String),
    #[error("the kernel side refused: {0}")]
    Kernel(String),
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
