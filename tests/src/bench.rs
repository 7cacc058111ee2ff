//! What is measured: each benchmark runs in a guest and prints one JSON object.

pub mod accounting;
pub mod attribution;
mod clock;
pub mod cost;
pub mod endpoints;
pub mod gaps;
pub mod journal;
pub mod names;
pub mod soak;

use std::process::ExitCode;

use clap::{Args, ValueEnum};

/// Measures one thing and prints one JSON object.
#[derive(Debug, Args)]
pub struct Bench {
    name: Name,
    /// lsm or cgroup: what the guest was booted for.
    #[arg(long, default_value = "lsm")]
    mode: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Name {
    /// Every way out, named by the role and not
    Endpoints,
    /// Whose doing a process is, over labelled cases and random trees
    Attribution,
    /// What passes while the daemon is killed, restarted, reloaded and replaced
    Gaps,
    /// What a storm performed against what was recorded and counted as lost
    Accounting,
    /// Fresh names by real resolvers and clients, first packets
    Names,
    /// Recorded traffic of real agents, with deviations that are labelled
    Baselines,
    /// Instructions per operation, memory, bytes, start
    Cost,
    /// The journal beside plain appends and auditd
    Journal,
    /// The daemon's memory over millions of events
    Soak,
}

impl Bench {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let report = match self.name {
            Name::Endpoints => endpoints::run(&self.mode)?,
            Name::Attribution => attribution::run(&self.mode)?,
            Name::Gaps => gaps::run(&self.mode)?,
            Name::Accounting => accounting::run(&self.mode)?,
            Name::Names => names::run(&self.mode)?,
            Name::Baselines => crate::agents::traffic::run(&self.mode)?,
            Name::Cost => cost::run()?,
            Name::Journal => journal::run(&self.mode)?,
            Name::Soak => soak::run(&self.mode)?,
        };
        let text = serde_json::to_string(&report)?;
        std::fs::write("/tmp/bench.json", &text)?;
        println!("{text}");
        Ok(ExitCode::SUCCESS)
    }
}
