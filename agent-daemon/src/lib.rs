//! The mind: `chaperone`, daemon and command line.
//!
//! # Layout
//! - `config`: where things are, what is recorded of whom
//! - `policy::{parse, compile, explain}`: YAML documents → one table; pure
//! - `identity::{registry, discovery, naming}`: who is who
//! - `baseline`: what a role usually does, and what differs from it; pure but for its store
//! - `trail`: one subject's story from recorded events: the tree as it grew; pure
//! - `event`: an event as people and machines read it
//! - `kernel`: the only folder that names aya; `Kernel` is its whole surface
//! - `record`: where events go: NDJSON file, followers, metrics
//! - `control`: the unix socket's server and client
//! - `pipeline`: one event's straight line, one owner of state
//! - `daemon`: build, spawn, drain
//! - `cli`: one file per verb
//!
//! Who may import whom: `event ← identity, baseline ← policy`; `event, policy ← kernel`; `event ← record`;
//! all of these `← pipeline ← daemon ← cli`. `tests/tidy.rs` keeps it.

pub mod baseline;
pub mod cli;
pub mod config;
pub mod control;
pub mod daemon;
pub mod event;
pub mod identity;
pub mod kernel;
pub mod pipeline;
pub mod policy;
pub mod record;
pub mod trail;
