//! `chaperone journal …`: check the record, and print the key that it is checked with.

mod text;

use std::{
    fs,
    io::{ErrorKind, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Subcommand;

use super::{Place, recorded, role::Output};
use crate::record::journal::{
    chain::{Hash, Link},
    key::{self, PublicKey},
    verify::{self, Question},
};

/// The verbs of `chaperone journal`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Verify(Verify),
    Key(Key),
}

/// Check that nothing in the journal is altered, missing, reordered, doubled or from elsewhere.
///
/// Needs the event file with its segments and the public key, and no daemon: copy them to another machine. What is said
/// of the end rests on the `.head` file beside the event file; a record that was noted elsewhere (--expect) says more.
///
/// Exit status: 0 it is whole, 1 it is not, 2 it cannot be read.
#[derive(Debug, clap::Args)]
pub struct Verify {
    /// The event file, or its directory, instead of the configured one.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The public key, instead of the daemon's; several where the journal has had several.
    #[arg(long, value_name = "FILE")]
    key: Vec<PathBuf>,
    /// A record that must be in it, as an earlier check or a checkpoint elsewhere has it.
    #[arg(long, value_name = "SEQ:HASH", value_parser = link)]
    expect: Option<Link>,
    #[command(flatten)]
    place: Place,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Print the public key that the journal's checkpoints are checked with.
#[derive(Debug, clap::Args)]
pub struct Key {
    #[command(flatten)]
    place: Place,
}

/// `chaperone journal …`
pub fn run(verb: &Verb) -> Result<ExitCode> {
    match verb {
        Verb::Verify(args) => match check(args) {
            Ok(code) => Ok(code),
            Err(error) => {
                anstream::eprintln!("chaperone journal verify: {error:#}");
                Ok(ExitCode::from(UNREADABLE))
            }
        },
        Verb::Key(args) => {
            let path = key::public_key(&key::directory(&args.place.settings()?.state_dir));
            let pem = fs::read_to_string(&path).map_err(|error| {
                let why = match error.kind() {
                    ErrorKind::NotFound => "the daemon makes it when it first starts",
                    ErrorKind::PermissionDenied => "run this as root",
                    _ => "the journal's public key",
                };
                anyhow::anyhow!("read {}: {error} ({why})", path.display())
            })?;
            PublicKey::parse(&pem).map_err(|wrong| anyhow::anyhow!("{}: {wrong}", path.display()))?;
            std::io::stdout().write_all(pem.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(args: &Verify) -> Result<ExitCode> {
    let events_file = match &args.file {
        Some(path) => recorded::event_file(path)?,
        None => args.place.settings()?.events_file,
    };
    let keys = if args.key.is_empty() {
        vec![key::public_key(&key::directory(&args.place.settings()?.state_dir))]
    } else {
        args.key.clone()
    };
    let keys = keys.iter().map(|path| public_key(path)).collect::<Result<Vec<_>>>()?;
    let question = Question { events_file: &events_file, keys: &keys, expect: args.expect };
    let mut progress = Progress { begun: Instant::now(), shown: None };
    let report = verify::verify(&question, |done, total| progress.at(done, total));
    progress.end();
    let report = report.with_context(|| format!("read the journal {}", events_file.display()))?;
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string(&report)?),
        Output::Text => anstream::print!("{}", text::report(&events_file, &report)),
    }
    Ok(if report.whole { ExitCode::SUCCESS } else { ExitCode::from(BROKEN) })
}

fn public_key(path: &Path) -> Result<PublicKey> {
    let pem = fs::read_to_string(path)
        .with_context(|| format!("read the public key {} (--key names another)", path.display()))?;
    PublicKey::parse(&pem).map_err(|wrong| anyhow::anyhow!("{}: {wrong}", path.display()))
}

fn link(text: &str) -> Result<Link, String> {
    let parsed = text.split_once(':').and_then(|(seq, hash)| {
        Some(Link { seq: seq.parse().ok()?, hash: Hash::from_digits(hash.as_bytes())? })
    });
    parsed.ok_or_else(|| {
        "not of the form SEQ:HASH, a number and 64 hexadecimal digits in lower case".to_owned()
    })
}

/// How far it is, on a terminal, when it takes longer than a second.
struct Progress {
    begun: Instant,
    shown: Option<Instant>,
}

impl Progress {
    fn at(&mut self, done: u64, total: u64) {
        let since = self.shown.unwrap_or(self.begun).elapsed();
        let wait = if self.shown.is_some() { Duration::from_millis(200) } else { Duration::from_secs(1) };
        if since < wait || !std::io::stderr().is_terminal() {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = (done * 100).checked_div(total).unwrap_or(100).min(100);
        eprint!("\rchecked {percent:3} % of {} MiB", total >> 20);
    }

    fn end(&self) {
        if self.shown.is_some() {
            eprint!("\r{:40}\r", "");
        }
    }
}

const BROKEN: u8 = 1;
const UNREADABLE: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expected_record_is_a_number_and_a_hash() {
        let hash = "0123456789abcdef".repeat(4);
        assert_eq!(link(&format!("7:{hash}")).unwrap().hash.to_string(), hash);
        for wrong in ["7", "7:", &format!("x:{hash}"), &format!("7:{}", hash.to_uppercase())] {
            assert!(link(wrong).is_err(), "{wrong}");
        }
    }
}
