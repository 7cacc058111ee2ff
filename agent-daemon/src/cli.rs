//! The command line: one file per verb.

pub mod agent;
pub mod baseline;
pub mod daemon;
pub mod detach;
pub mod doctor;
pub mod events;
pub mod journal;
pub mod metrics;
pub mod names;
pub mod ps;
mod recorded;
mod render;
pub mod role;
pub mod run;
pub mod trail;

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Parser, Subcommand};
use nix::sys::signal::{SigHandler, Signal, signal};

use crate::config::Config;

/// Watches and bounds the AI agents of this host from the kernel.
///
/// Exit status, unless a verb says otherwise: 0 done, 1 failed, 2 the command line is wrong.
#[derive(Debug, Parser)]
#[command(name = "chaperone", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Daemon(daemon::Args),
    Detach(detach::Args),
    Run(run::Args),
    Ps(ps::Args),
    Events(events::Args),
    Trail(trail::Args),
    Agent(agent::Args),
    /// Check roles, and ask what they allow.
    #[command(subcommand)]
    Role(role::Verb),
    /// Learn what roles usually do, and show what differs.
    #[command(subcommand)]
    Baseline(baseline::Verb),
    /// Check the journal of events, offline.
    #[command(subcommand)]
    Journal(journal::Verb),
    Doctor(doctor::Args),
    Names(names::Args),
    Metrics(metrics::Args),
}

/// Parses the command line and runs its verb.
#[must_use]
pub fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    if !matches!(verb, Verb::Daemon(_)) {
        // Output into a pipe that closes (`| head`) ends the program as it does others; the daemon must outlive it.
        // SAFETY: no other thread runs yet, and the default action is no function of ours.
        let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
    }
    let result = match verb {
        Verb::Daemon(args) => daemon::run(args),
        Verb::Detach(args) => detach::run(&args),
        Verb::Run(args) => run::run(args),
        Verb::Ps(args) => ps::run(&args),
        Verb::Events(args) => events::run(&args),
        Verb::Trail(args) => trail::run(&args),
        Verb::Agent(args) => agent::run(&args),
        Verb::Role(verb) => role::run(&verb),
        Verb::Baseline(verb) => baseline::run(&verb),
        Verb::Journal(verb) => journal::run(&verb),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Names(args) => names::run(&args),
        Verb::Metrics(args) => metrics::run(&args),
    };
    result.unwrap_or_else(|error| {
        anstream::eprintln!("chaperone: {error:#}");
        ExitCode::FAILURE
    })
}

/// Where the daemon and its files are.
#[derive(Clone, Debug, clap::Args)]
pub struct Place {
    /// Directory of chaperone.yaml, agents/ and roles/.
    #[arg(long, value_name = "DIR", default_value = "/etc/chaperone")]
    pub config: PathBuf,
    /// The daemon's control socket, instead of the configured one.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
}

impl Place {
    /// The daemon's settings, with what the command line says otherwise.
    pub fn settings(&self) -> Result<Config> {
        let loaded = Config::load(&self.config.join("chaperone.yaml")).map_err(|problems| {
            let colour = io::stderr().is_terminal();
            let all: Vec<String> = problems.0.iter().map(|p| p.for_people(colour)).collect();
            anyhow::anyhow!("the settings have errors:\n{}", all.join("\n"))
        });
        let mut config = loaded?;
        if self.config != Path::new("/etc/chaperone") {
            config.config_dir.clone_from(&self.config);
        }
        if let Some(socket) = &self.socket {
            config.control_socket.clone_from(socket);
        }
        Ok(config)
    }

    /// Whether there may be a daemon with this configuration: another directory without settings is nobody's.
    #[must_use]
    pub fn is_a_daemons(&self) -> bool {
        self.config == Path::new("/etc/chaperone") || self.config.join("chaperone.yaml").exists()
    }

    /// The control socket. An ordinary user need not be able to read the settings: then it is where it usually is.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        match &self.socket {
            Some(socket) => socket.clone(),
            None => self.settings().unwrap_or_default().control_socket,
        }
    }
}

/// Waits for what a client does, on a runtime of one thread.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
