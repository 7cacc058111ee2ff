//! `chaperone baseline …`: learn from recorded events, show, compare, promote, forget, and exchange with other hosts.

mod compare;
mod diff;
mod exchange;
mod forget;
mod learn;
mod progress;
mod promote;
mod show;
mod versions;

use std::{
    io::{BufReader, IsTerminal as _, Read},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use clap::Subcommand;

use crate::{
    baseline::{
        Baselines, Model, Support,
        replay::{Faults, Replay, fingerprint},
        store::{self, Error, Store},
    },
    cli::{Place, render, role::Output},
    config::{
        Config,
        problem::{nearest, quoted},
    },
    event::word::Time,
    record::journal::segment,
};

/// The verbs of `chaperone baseline`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Learn(learn::Args),
    Show(show::Args),
    Diff(diff::Args),
    Compare(compare::Args),
    Forget(forget::Args),
    Export(exchange::Export),
    Import(exchange::Import),
    Promote(promote::Args),
    Versions(versions::Versions),
    Rollback(versions::Rollback),
}

/// `chaperone baseline …`
pub fn run(verb: &Verb) -> Result<ExitCode> {
    match verb {
        Verb::Learn(args) => learn::run(args),
        Verb::Show(args) => show::run(args),
        Verb::Diff(args) => diff::run(args),
        Verb::Compare(args) => compare::run(args),
        Verb::Forget(args) => forget::run(args),
        Verb::Export(args) => exchange::export(args),
        Verb::Import(args) => exchange::import(args),
        Verb::Promote(args) => promote::run(args),
        Verb::Versions(args) => versions::versions(args),
        Verb::Rollback(args) => versions::rollback(args),
    }
}

/// Where baselines are kept.
#[derive(Debug, clap::Args)]
struct At {
    /// The file that baselines are kept in, instead of the daemon's
    #[arg(long, value_name = "FILE")]
    store: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
}

impl At {
    /// The daemon's settings; as they usually are, where an ordinary user cannot read them.
    fn settings(&self) -> Config {
        self.place.settings().unwrap_or_default()
    }

    fn store(&self) -> PathBuf {
        self.store.clone().unwrap_or_else(|| self.settings().state_dir.join(store::FILE))
    }

    fn load(&self) -> Result<(Store, Baselines)> {
        let store = Store::open_existing(&self.store())?;
        let baselines = store.load()?;
        Ok((store, baselines))
    }

    /// The store, for writing; `None` where the daemon is writing it, and is to be asked instead.
    fn writable(&self) -> Result<Option<Store>> {
        match Store::open(&self.store()) {
            Err(Error::Busy(_)) if self.store.is_none() => Ok(None),
            store => Ok(Some(store?)),
        }
    }
}

/// How a verb reads baselines and shows what it found.
#[derive(Debug, clap::Args)]
struct Reading {
    #[command(flatten)]
    support: SupportArgs,
    #[command(flatten)]
    at: At,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What counts as usual.
#[derive(Debug, clap::Args)]
struct SupportArgs {
    /// A behaviour is usual when at least so many instances showed it; without it as the daemon's settings have it, …
    #[arg(long, value_name = "COUNT")]
    support_instances: Option<usize>,
    /// … on so many days, …
    #[arg(long, value_name = "COUNT")]
    support_days: Option<usize>,
    /// … or on so many hosts
    #[arg(long, value_name = "COUNT")]
    support_hosts: Option<usize>,
}

impl Reading {
    /// What counts as usual.
    fn support(&self) -> Support {
        let SupportArgs { support_instances, support_days, support_hosts } = self.support;
        let set = self.at.settings().baselines.support;
        Support {
            instances: support_instances.unwrap_or(set.instances),
            days: support_days.unwrap_or(set.days),
            hosts: support_hosts.unwrap_or(set.hosts),
        }
    }
}

/// The baseline of a role, or which roles there are.
fn role<'a>(baselines: &'a Baselines, role: &str) -> Result<&'a Model> {
    let Some(model) = baselines.models.get(role) else {
        let known = nearest(role, baselines.models.keys().map(|name| &**name));
        bail!("nothing has been learned of a role {} ({known})", quoted(role));
    };
    Ok(model)
}

/// An event file, and what tells it from others; `None` where it has no whole line.
fn open(path: &Path) -> Result<Option<(u64, String)>> {
    let open = || segment::open(path).with_context(|| format!("open {}", path.display()));
    let print = fingerprint(BufReader::new(open()?)).with_context(|| format!("read {}", path.display()))?;
    let bytes = segment::content_bytes(path).with_context(|| format!("read {}", path.display()))?;
    Ok(print.map(|print| (bytes, print)))
}

/// Reads it from a place on, before which there are so many bytes and lines.
fn replay(path: &Path, bytes: u64, lines: u64) -> Result<Replay<BufReader<Box<dyn Read + Send>>>> {
    let from = segment::open_at(path, bytes).with_context(|| format!("read {}", path.display()))?;
    Ok(Replay::new(BufReader::with_capacity(1 << 20, from), &path.display().to_string(), bytes, lines))
}

/// What was passed over, to standard error.
fn tell(path: &Path, faults: &Faults) {
    for fault in &faults.told {
        anstream::eprintln!("chaperone baseline: {}", render::harmless(fault));
    }
    let passed = faults.foreign + faults.newer;
    if passed > faults.told.len() as u64 {
        anstream::eprintln!("chaperone baseline: {}: {passed} lines were passed over in all", path.display());
    }
    if faults.unfinished {
        anstream::eprintln!(
            "chaperone baseline: {}: the last line has no end: it is being written, or was cut off; it was left for the \
             next time",
            path.display()
        );
    }
}

/// A moment to the second.
fn moment(time: Time) -> String {
    let text = time.to_string();
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

fn per_cent(chance: f64) -> String {
    format!("{:.1} %", chance * 100.0)
}

fn is_terminal() -> bool {
    std::io::stderr().is_terminal()
}
