//! `chaperone baseline learn`: from recorded events, from where it left off.

mod wait;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Read as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use serde::Serialize;
use serde_json::json;

use super::{At, progress::Progress};
use crate::{
    baseline::{
        Baselines,
        compare::grouped,
        maturity::{Maturity, Stable},
        observation::{Act, Observation},
        replay::Faults,
        store::{ALL_ROLES, Position, Store},
    },
    cli::role::Output,
    event::Name,
    record::journal::segment,
};

/// Learn what roles usually do: from recorded events, or as the daemon sees them from now on.
///
/// With --from, what was learned of a file before is not learned again, also when the file was renamed since; of several
/// files the older ones come first. Without it the daemon learns, as it does all the time, and this shows how far it is
/// until --for is over or the role is stable.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only of this role; may be given several times
    #[arg(long, value_name = "NAME")]
    role: Vec<String>,
    /// Event files; in place of what the daemon learns
    #[arg(long, value_name = "FILE", num_args = 1..)]
    from: Vec<PathBuf>,
    /// Watch the daemon learn for so long: 30m, 12h, 7d
    #[arg(long = "for", value_name = "TIME", value_parser = wait::duration, conflicts_with = "from")]
    during: Option<Duration>,
    /// Stop when the role is stable: ten instances have shown nothing new, and the next is estimated to with a chance of
    /// at most 10 %
    #[arg(long)]
    until_stable: bool,
    #[command(flatten)]
    at: At,
    /// Lines between two writes of the store
    #[arg(long, value_name = "COUNT", default_value_t = 50_000, hide = true)]
    flush_lines: u64,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// What came of one file.
#[derive(Debug, Default, Serialize)]
struct Learned {
    file: String,
    /// Observations of the roles that were learned.
    observations: u64,
    /// Lines that had been learned before.
    lines_before: u64,
    /// Events that the file says were lost.
    lost: u64,
    faults: Faults,
    #[serde(skip_serializing_if = "Option::is_none")]
    stable: Option<Name>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.from.is_empty() {
        return wait::run(args);
    }
    let mut store = Store::open(&args.at.store())?;
    let mut baselines = store.load()?;
    let mut all = Vec::new();
    for path in &args.from {
        let learned = learn(args, path, &mut store, &mut baselines)?;
        super::tell(path, &learned.faults);
        let stable = learned.stable.is_some();
        all.push(learned);
        if stable {
            break;
        }
    }
    if args.output == Output::Json {
        let roles: BTreeMap<&Name, Maturity> =
            baselines.models.iter().map(|(role, model)| (role, Maturity::of(model))).collect();
        anstream::println!("{}", json!({ "files": all, "roles": roles }));
        return Ok(ExitCode::SUCCESS);
    }
    for learned in &all {
        anstream::println!("{}", summary(learned));
    }
    for role in &args.role {
        if !baselines.models.contains_key(&**role) {
            anstream::println!("role {role}: no event of it");
        }
    }
    if baselines.roles_left_out > 0 {
        anstream::println!("{} acts of roles for which there was no room", grouped(baselines.roles_left_out));
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(learned: &Learned) -> String {
    let mut text = format!("{}: {} events learned", learned.file, grouped(learned.observations));
    if learned.lines_before > 0 {
        text += &format!(", {} lines had been learned before", grouped(learned.lines_before));
    }
    if learned.lost > 0 {
        text += &format!("; {} events are missing from it, which the daemon lost", grouped(learned.lost));
    }
    if let Some(role) = &learned.stable {
        text += &format!("; role {role} is stable, the rest was left");
    }
    text
}

/// The roles that are asked for, and how far each is in one file.
struct Scope {
    file: String,
    /// Empty for all.
    roles: BTreeSet<Name>,
    done: BTreeMap<Name, u64>,
}

impl Scope {
    /// Whether this observation is to be learned: its role is meant, and its line lies behind what is learned.
    fn wants(&mut self, store: &Store, begins: u64, seen: &Observation) -> Result<bool> {
        let Some(role) = &seen.role else { return Ok(false) };
        if !self.roles.is_empty() && !self.roles.contains(role) {
            return Ok(false);
        }
        if !self.done.contains_key(role) {
            let done = store.position(&self.file, role)?.map_or(0, |at| at.bytes);
            self.done.insert(role.clone(), done);
        }
        Ok(begins >= self.done[role])
    }

    /// How far it is for every role that is learned.
    fn positions(&self, bytes: u64, lines: u64) -> Vec<Position> {
        let at = |role: &Name| Position { file: self.file.clone(), role: role.clone(), bytes, lines };
        let all = self.roles.is_empty().then(|| Name::from(ALL_ROLES));
        let met = self.done.iter().filter(|(_, done)| **done < bytes).map(|(role, _)| role);
        all.iter().chain(&self.roles).chain(met.filter(|role| !self.roles.contains(*role))).map(at).collect()
    }
}

fn learn(args: &Args, path: &Path, store: &mut Store, baselines: &mut Baselines) -> Result<Learned> {
    let mut learned = Learned { file: path.display().to_string(), ..Learned::default() };
    let Some((len, print)) = super::open(path)? else { return Ok(learned) };
    let roles: BTreeSet<Name> = args.role.iter().map(|role| Name::from(&**role)).collect();
    let mut scope = Scope { file: print, roles, done: BTreeMap::new() };
    let whole = Name::from(ALL_ROLES);
    let asked: Vec<&Name> = if scope.roles.is_empty() { vec![&whole] } else { scope.roles.iter().collect() };
    let mut start = None;
    for role in asked {
        let at = store.position(&scope.file, role)?.map_or((0, 0), |at| (at.bytes, at.lines));
        start = Some(start.map_or(at, |least: (u64, u64)| least.min(at)));
    }
    let (bytes, lines) = start.unwrap_or_default();
    if bytes > len {
        bail!(
            "{} is shorter than what was learned of it ({len} bytes of {bytes}): it was cut off; give the whole file",
            path.display()
        );
    }
    // The daemon notes bytes alone.
    let lines = if lines == 0 && bytes > 0 { count_lines(path, bytes)? } else { lines };
    learned.lines_before = lines;
    let mut replay = super::replay(path, bytes, lines)?;
    let mut progress = Progress::new(format!("learn {}", path.display()), len);
    let mut flushed = lines;
    while let Some((begins, seen)) = replay.step()? {
        if let Act::Lost(count) = seen.act {
            learned.lost += count;
        }
        if scope.wants(store, begins, &seen)? {
            learned.observations += 1;
            let before = instances(baselines, &seen);
            baselines.learn(&seen);
            if args.until_stable && before != instances(baselines, &seen) {
                learned.stable = stable(baselines, &seen);
            }
        }
        if replay.lines - flushed >= args.flush_lines {
            store.flush(baselines, &scope.positions(replay.bytes, replay.lines))?;
            flushed = replay.lines;
            progress.at(replay.bytes);
        }
        if learned.stable.is_some() {
            break;
        }
    }
    store.flush(baselines, &scope.positions(replay.bytes, replay.lines))?;
    progress.end();
    learned.faults = replay.faults;
    Ok(learned)
}

/// Lines in the first bytes of a file.
pub(super) fn count_lines(path: &Path, bytes: u64) -> Result<u64> {
    let mut from = BufReader::with_capacity(1 << 20, segment::open(path)?).take(bytes);
    let mut lines = 0;
    loop {
        let part = from.fill_buf()?;
        if part.is_empty() {
            return Ok(lines);
        }
        lines += part.iter().filter(|byte| **byte == b'\n').count() as u64;
        let len = part.len();
        from.consume(len);
    }
}

fn instances(baselines: &Baselines, seen: &Observation) -> u64 {
    let model = seen.role.as_ref().and_then(|role| baselines.models.get(role));
    model.map_or(0, crate::baseline::Model::instances)
}

fn stable(baselines: &Baselines, seen: &Observation) -> Option<Name> {
    let role = seen.role.as_ref()?;
    Maturity::of(baselines.models.get(role)?).is_stable(&Stable::default()).then(|| role.clone())
}
