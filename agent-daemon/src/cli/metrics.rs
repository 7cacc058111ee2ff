//! `chaperone metrics`: the daemon's counters as Prometheus reads them.

use std::{io::Write, process::ExitCode};

use anyhow::Result;

use super::{Place, block_on};
use crate::control::client;

/// Print the daemon's counters (Prometheus text; the daemon serves the same at /metrics).
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let text = block_on(client::get_text(&args.place.control_socket(), "/v1/metrics"))??;
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}
