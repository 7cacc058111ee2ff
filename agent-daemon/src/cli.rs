//! The command line: one file per verb.

pub mod daemon;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "chaperone", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Daemon(daemon::Args),
}

/// Parses the command line and runs its verb.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.verb {
        Verb::Daemon(args) => daemon::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            anstream::eprintln!("chaperone: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where the settings are, unless an option says otherwise.
fn settings_file() -> PathBuf {
    "/etc/chaperone/chaperone.yaml".into()
}

/// The daemon's settings: of a file, or the defaults where it does not exist.
fn load_settings(file: &std::path::Path) -> anyhow::Result<crate::config::Config> {
    crate::config::Config::load(file).map_err(|problems| {
        let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let all: Vec<String> = problems.0.iter().map(|p| p.for_people(colour)).collect();
        anyhow::anyhow!("the settings have errors:\n{}", all.join("\n"))
    })
}
