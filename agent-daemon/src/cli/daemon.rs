//! `chaperone daemon`: watches and bounds the agents of this host until it is told to end.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::{
    daemon::{self, Options},
    kernel,
};

/// Run the daemon, in the foreground.
///
/// It loads the kernel side, puts the configuration in force, labels what runs, and records until SIGTERM or SIGINT.
/// SIGHUP, and any change of the configuration, makes it read the configuration again.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: super::Place,
    /// Write events to this file instead of the configured one.
    #[arg(long, value_name = "FILE")]
    events_file: Option<PathBuf>,
    /// Look at the processes of this cgroup (a directory of the unified hierarchy) alone.
    #[arg(long, value_name = "CGROUP")]
    scope: Option<PathBuf>,
    /// Take cgroup mode although BPF LSM is there; `auto` takes the strongest that the host gives.
    #[arg(long, value_enum, default_value_t)]
    mode: Mode,
    /// Load the kernel programs anew although the same ones are attached; nothing passes meanwhile.
    #[arg(long)]
    anew: bool,
    /// Serve /metrics, /healthz and /readyz here; `off` for nowhere.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9669")]
    metrics: String,
    /// Log more (-v: what changes, -vv: every client).
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

/// Where refusals are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    #[default]
    Auto,
    Cgroup,
}

/// Runs the verb.
pub fn run(args: Args) -> Result<ExitCode> {
    log_to_stderr(args.verbose);
    let mut config = args.place.settings()?;
    if let Some(file) = args.events_file {
        config.events_file = file;
    }
    let metrics = match args.metrics.as_str() {
        "off" => None,
        address => Some(address.parse::<SocketAddr>().map_err(|_| {
            anyhow::anyhow!("--metrics: `{address}` is neither an address such as 127.0.0.1:9669 nor `off`")
        })?),
    };
    let without_lsm = (args.mode == Mode::Cgroup).then(|| "asked for with --mode cgroup".to_string());
    let kernel = kernel::Options { scope: args.scope, without_lsm, anew: args.anew };
    // One thread: the pipeline owns all state, and what waits beside it is I/O.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(daemon::run(Options { config, kernel, metrics }))?;
    Ok(ExitCode::SUCCESS)
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::INFO,
        1 => tracing::Level::DEBUG,
        _ => tracing::Level::TRACE,
    };
    // Under systemd the journal has the time already.
    let under_systemd = std::env::var_os("JOURNAL_STREAM").is_some();
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(level)
        .with_target(false)
        // A line that cannot be written (a full or read-only disk, a pipe that nobody reads) would be told on the same
        // stderr, and that ends the process.
        .log_internal_errors(false);
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    if under_systemd {
        log.without_time().with_ansi(false).init();
    } else {
        log.with_ansi(colour).init();
    }
}
