//! The dry run: the last recorded events of the role, judged as the kernel would.

use std::path::PathBuf;

use anyhow::Result;

use super::Args;
use crate::{
    cli::{
        Place,
        baseline::{self, progress::Progress},
    },
    policy::{dry_run::DryRun, table::Table},
    record::journal::segment,
};

/// What of the last events would have been refused; `None` where there are none to judge.
pub fn judge(args: &Args, table: &Table) -> Result<Option<DryRun>> {
    let files = if args.against.is_empty() { recorded(&args.reading.at.place) } else { args.against.clone() };
    if files.is_empty() {
        return Ok(None);
    }
    // From the newest back: of months of segments only so many are read.
    let (mut lines, mut read) = (0, Vec::new());
    for path in files.iter().rev() {
        if lines >= args.last {
            break;
        }
        lines += baseline::learn::count_lines(path, u64::MAX)?;
        read.push(path);
    }
    let mut before = lines.saturating_sub(args.last);
    let mut run = DryRun::default();
    for path in read.into_iter().rev() {
        let Some((bytes, _)) = baseline::open(path)? else { continue };
        let mut progress = Progress::new(format!("judge {}", path.display()), bytes);
        let mut replay = baseline::replay(path, 0, 0)?;
        while let Some((_, seen)) = replay.step()? {
            if replay.lines.is_multiple_of(PROGRESS_LINES) {
                progress.at(replay.bytes);
            }
            if replay.lines > before && seen.role.as_deref() == Some(&*args.role) {
                run.take(table, &args.role, &seen);
            }
        }
        before = before.saturating_sub(replay.lines);
        progress.end();
        baseline::tell(path, &replay.faults);
    }
    Ok(Some(run))
}

/// Where the daemon of this configuration records, if it can be read.
fn recorded(place: &Place) -> Vec<PathBuf> {
    if !place.is_a_daemons() {
        return Vec::new();
    }
    let Ok(settings) = place.settings() else { return Vec::new() };
    let segments = segment::all(&settings.events_file).unwrap_or_default();
    segments.into_iter().map(|segment| segment.path).filter(|path| segment::open(path).is_ok()).collect()
}

const PROGRESS_LINES: u64 = 10_000;
