//! `chaperone detach`: the way to take Chaperone out of the kernel again.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::kernel::pins;

/// Take everything out of the kernel that a daemon has left in force.
///
/// Ending the daemon does not: agents stay followed and bounded while it restarts, is upgraded or has crashed. After this,
/// nothing is followed and nothing refused until a daemon starts again. The daemon must not run. Exit status: 0 nothing
/// is in force any more, 1 it could not be taken out.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: super::Place,
    /// The directory of the pins, instead of the configured one.
    #[arg(long, value_name = "DIR")]
    pin_dir: Option<PathBuf>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let directory = match &args.pin_dir {
        Some(directory) => Some(directory.clone()),
        None => args.place.settings()?.pin_dir,
    };
    let Some(directory) = directory else {
        anstream::println!("pin_dir is off: nothing outlives the daemon");
        return Ok(ExitCode::SUCCESS);
    };
    let shown = directory.display();
    if pins::remove_all(&directory)? {
        anstream::println!(
            "{shown}: programs, maps and links are gone; nothing is followed or refused any more"
        );
    } else {
        anstream::println!("{shown}: there is nothing");
    }
    Ok(ExitCode::SUCCESS)
}
