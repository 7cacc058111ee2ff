//! `chaperone`: the daemon and the command line of the people who run it.

use std::process::ExitCode;

fn main() -> ExitCode {
    chaperone::cli::main()
}
