//! `chaperone run`: starts a command as an instance of a registered agent.

use std::{
    io::ErrorKind,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use anyhow::Result;

use super::{Place, block_on};
use crate::control::{
    api::RunRequest,
    client::{self, Error},
};

/// Start a command as an instance of an agent.
///
/// The daemon is asked to take this very process for the agent at its next exec, which is the command. Exit status:
/// the command's own; 125 when the command was not started (no daemon, no such agent, or the caller runs inside an
/// instance), 126 when it cannot be executed, 127 when it is not found.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The agent, as it is registered.
    #[arg(long, value_name = "NAME")]
    agent: String,
    #[command(flatten)]
    place: Place,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Runs the verb: on success it does not return.
pub fn run(args: Args) -> Result<ExitCode> {
    let socket = args.place.control_socket();
    let request = RunRequest { pid: None, agent: args.agent };
    if let Err(error) = block_on(client::post(&socket, "/v1/run", &request))? {
        anstream::eprintln!("chaperone run: {error}{}", remedy(&error));
        return Ok(ExitCode::from(NOT_STARTED));
    }
    let Some((program, arguments)) = args.command.split_first() else {
        return Ok(ExitCode::from(NOT_STARTED));
    };
    let error = Command::new(program).args(arguments).exec();
    anstream::eprintln!("chaperone run: {program}: {error}");
    Ok(ExitCode::from(if error.kind() == ErrorKind::NotFound { NOT_FOUND } else { NOT_EXECUTABLE }))
}

fn remedy(error: &Error) -> &'static str {
    match error {
        Error::Refused { status: 404, .. } => {
            "\n  register it below /etc/chaperone/agents/ (chaperone agent list)"
        }
        _ => "",
    }
}

/// The command was not tried.
const NOT_STARTED: u8 = 125;
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
