//! The actors and helpers of the proofs, in one static binary that runs in any guest.

use std::process::ExitCode;

use chaperone_tests::act::{Act, receive::Receive};
use clap::Parser;

/// What the proofs run inside guests.
#[derive(Debug, Parser)]
#[command(name = "chaperone-tests", version)]
enum Command {
    /// Perform one way of sending, be born in a shape, make a storm
    Act(Act),
    /// Listen on everything that the ways can reach
    Receive(Receive),
}

fn main() -> anyhow::Result<ExitCode> {
    match Command::parse() {
        Command::Act(act) => act.run(),
        Command::Receive(receive) => receive.run(),
    }
}
