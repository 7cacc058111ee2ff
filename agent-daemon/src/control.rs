//! The control socket: what clients may ask, the server that listens, and the client that the command line uses.

pub mod api;
pub mod client;
pub mod server;

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use self::api::{AgentView, Labelled, NameView, Status};
use crate::{
    event::{filter::Filter, word::InstanceId},
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
    /// Events as they are recorded from now on.
    Follow {
        filter: Filter,
        reply: oneshot::Sender<Follower>,
    },
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("there is no agent `{name}`; registered are: {}", list(.known))]
    NoSuchAgent { name: String, known: Vec<String> },
    #[error("the caller runs inside instance {0}: an agent cannot choose what it is taken for")]
    InsideInstance(InstanceId),
    #[error("the kernel side refused: {0}")]
    Kernel(String),
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
