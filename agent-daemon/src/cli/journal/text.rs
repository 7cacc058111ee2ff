//! What a check of the journal has found, for people.

use std::{fmt::Write as _, path::Path};

use crate::{
    baseline::compare::grouped,
    cli::render::{BAD, BOLD, GOOD, WARN, harmless, paint},
    record::journal::verify::{Gaps, Report},
};

/// The whole report: the answer first.
pub(super) fn report(events_file: &Path, report: &Report) -> String {
    let mut out = String::new();
    match &report.broken {
        None => {
            let _ =
                writeln!(out, "{}  {}", paint(GOOD, "whole"), paint(BOLD, events_file.display().to_string()));
        }
        Some(broken) => {
            let place = if broken.line == 0 {
                broken.file.display().to_string()
            } else {
                format!("{}:{}", broken.file.display(), broken.line)
            };
            let _ = writeln!(out, "{}  {}", paint(BAD, "not whole"), paint(BOLD, harmless(&place)));
            row(&mut out, "at record", &grouped(broken.seq));
            row(&mut out, "what", &paint(BAD, harmless(&broken.what)));
            let _ = writeln!(out, "\nup to there:");
        }
    }
    row(&mut out, "segments", &grouped(report.segments));
    let range = format!(
        "{} ({} to {})",
        grouped(report.records),
        grouped(report.first_seq),
        grouped(report.last_seq)
    );
    row(&mut out, "records", &range);
    if let (Some(first), Some(last)) = (report.first_time, report.last_time) {
        row(&mut out, "time", &format!("{first} to {last}"));
    }
    let signed = format!(
        "{}, the last signs up to record {}",
        grouped(report.checkpoints),
        grouped(report.signed_seq)
    );
    row(&mut out, "checkpoints", &signed);
    row(&mut out, "not signed yet", &format!("{} records at the end", grouped(report.unsigned)));
    if report.unfinished_bytes > 0 {
        row(
            &mut out,
            "unfinished",
            &format!("{} bytes at the end: being written, or cut off", report.unfinished_bytes),
        );
    }
    if report.records > 0 {
        row(&mut out, "last record", &format!("{}:{}", report.last_seq, report.last_hash));
    }
    gaps(&mut out, &report.gaps);
    for note in &report.notes {
        let _ = writeln!(out, "{} {}", paint(WARN, "note:"), harmless(note));
    }
    out
}

fn gaps(out: &mut String, gaps: &Gaps) {
    let lost: Vec<String> =
        gaps.lost.iter().map(|(kind, count)| format!("{} {}", grouped(*count), harmless(kind))).collect();
    if !lost.is_empty() {
        row(out, "events lost", &paint(WARN, lost.join(", ")));
    }
    for (from, to, orderly) in gaps.dead.iter().rev().take(DEAD_SHOWN_MAX).rev() {
        let how = if *orderly { "ended in order" } else { "did not end in order" };
        row(out, "no daemon", &format!("{from} to {to} ({how})"));
    }
    if gaps.dead.len() > DEAD_SHOWN_MAX {
        row(
            out,
            "no daemon",
            &format!("and {} times before (-o json has all)", gaps.dead.len() - DEAD_SHOWN_MAX),
        );
    }
    if gaps.torn_bytes > 0 {
        row(
            out,
            "torn",
            &format!("{} bytes that were no whole records, at starts", grouped(gaps.torn_bytes)),
        );
    }
    if gaps.missing > 0 {
        let text = format!("{} records that were on the disk once, at starts", grouped(gaps.missing));
        row(out, "gone", &paint(WARN, text));
    }
    for removed in &gaps.removed {
        let early = if removed.early { ", earlier than they are to be kept" } else { "" };
        let (from, to, why) = (grouped(removed.from), grouped(removed.to), harmless(&removed.why));
        row(out, "removed", &format!("{from} to {to}, for their {why}{early}"));
    }
    for name in &gaps.set_aside {
        row(out, "set aside", &harmless(name));
    }
}

fn row(out: &mut String, name: &str, value: &str) {
    let _ = writeln!(out, "  {name:<15} {value}");
}

/// Starts that are shown; of a busy year there are many.
const DEAD_SHOWN_MAX: usize = 5;
