//! Checking a journal offline, with the public key alone: the first record that is altered, missing, reordered, doubled or
//! from elsewhere; and the gaps that the journal itself tells. One record at a time.

mod step;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use serde::Serialize;

use self::step::{Fault, Step};
use super::{
    chain::{Hash, Link},
    checkpoint::Head,
    key::PublicKey,
    segment::{self, Segment},
};
use crate::event::{journal::Removed, word::Time};

/// What is to be checked, and by what.
#[derive(Debug)]
pub struct Question<'a> {
    pub events_file: &'a Path,
    /// All keys that the journal was signed with in its time.
    pub keys: &'a [PublicKey],
    /// A record that is known from elsewhere, to be in it.
    pub expect: Option<Link>,
}

/// What a check has found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Nothing is altered, missing, reordered, doubled or from elsewhere.
    pub whole: bool,
    /// The first record where it is not whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<Broken>,
    pub segments: u64,
    pub records: u64,
    pub first_seq: u64,
    pub last_seq: u64,
    pub last_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_time: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_time: Option<Time>,
    pub checkpoints: u64,
    /// The last record that a checkpoint signs.
    pub signed_seq: u64,
    /// Records behind it: whole in themselves, but who can write the file can have made them.
    pub unsigned: u64,
    /// Bytes at the very end that are no whole record: it was being written, or was cut off.
    pub unfinished_bytes: u64,
    pub gaps: Gaps,
    /// What a reader should know and what breaks nothing.
    pub notes: Vec<String>,
}

/// Where a journal is not whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Broken {
    pub file: PathBuf,
    /// From 1; 0 for the file as a whole.
    pub line: u64,
    /// The record's number, as it should be.
    pub seq: u64,
    pub what: String,
}

/// What the journal itself says is not in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Gaps {
    /// Kind or reason → events that were lost before they were recorded.
    pub lost: BTreeMap<String, u64>,
    /// Times in which no daemon recorded: from, to, and whether the daemon ended in order.
    pub dead: Vec<(Time, Time, bool)>,
    /// Bytes of torn records that were set aside at a start.
    pub torn_bytes: u64,
    /// Records that were on the disk once and were gone at a start.
    pub missing: u64,
    /// Segments that were removed because of their age, or for room.
    pub removed: Vec<Removed>,
    /// Files that were no journal's and were set aside.
    pub set_aside: Vec<String>,
}

/// Checks all segments; `progress` is told how many bytes (as they lie there) of how many are read.
///
/// # Errors
/// When a file cannot be read: nothing is known then.
pub fn verify(question: &Question<'_>, mut progress: impl FnMut(u64, u64)) -> io::Result<Report> {
    let mut segments = segment::all(question.events_file)?;
    // One that is there under its plain name may be compressed before its turn comes.
    segments.retain(|segment| segment.first.is_some() || segment.path.exists());
    if segments.is_empty() {
        let what = format!("there is no journal at {}", question.events_file.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    }
    let bytes = |segment: &Segment| std::fs::metadata(&segment.path).map_or(0, |meta| meta.len());
    let (total, mut read) = (segments.iter().map(bytes).sum(), 0);
    let head = Head::read(question.events_file);
    let mut step = Step::new(question.keys, question.expect, head.as_ref().and_then(Head::link));
    let mut broken = None;
    let mut at = 0;
    while let Some(segment) = segments.get(at).cloned() {
        let from = match segment::open(&segment.path) {
            // The oldest may be removed while this begins.
            Err(error)
                if step.report.records == 0
                    && segment.first.is_some()
                    && error.kind() == io::ErrorKind::NotFound =>
            {
                at += 1;
                continue;
            }
            from => from?,
        };
        if segment.first.is_none() {
            // While the others were read it may have been closed, and what is open now is another one.
            let known = segments[..at].last().and_then(|segment| segment.first);
            let later = segment::closed(question.events_file)?.into_iter().filter(|one| one.first > known);
            let later: Vec<_> = later.collect();
            if !later.is_empty() {
                segments.splice(at..at, later);
                continue;
            }
        }
        progress(read, total);
        let closed = segments.get(at + 1).is_some();
        let mut told = |part| progress(read + part, total);
        if let Some(found) = check(&segment, from, closed, &mut step, &mut told)? {
            broken = Some(found);
            break;
        }
        read += bytes(&segment);
        at += 1;
    }
    let mut report = std::mem::take(&mut step.report);
    report.segments = segments.len() as u64;
    let last = |what: String, seq| Broken {
        file: segments.last().map(|segment| segment.path.clone()).unwrap_or_default(),
        line: 0,
        seq,
        what,
    };
    if broken.is_none() {
        broken = step.first_is_missing(&report).map(|what| Broken {
            file: segments[0].path.clone(),
            line: 1,
            seq: report.first_seq,
            what,
        });
    }
    if broken.is_none() {
        broken = step.unsigned_excuse().map(|fault| last(fault.what, fault.seq));
    }
    if broken.is_none() {
        broken = against_head(question, head, &mut report, step.head_hash).map(|(seq, what)| last(what, seq));
    }
    if broken.is_none() && report.checkpoints == 0 && report.records > 0 {
        broken = Some(last("nothing is signed: there is no checkpoint".to_owned(), report.first_seq));
    }
    if let (None, Some(expect), false) = (&broken, question.expect, step.expected_found) {
        broken = Some(last(
            format!("record {} is expected, with hash {}: it is not there", expect.seq, expect.hash),
            expect.seq,
        ));
    }
    report.whole = broken.is_none();
    report.broken = broken;
    progress(total, total);
    Ok(report)
}

/// Checks one segment; where it is not whole.
fn check(
    segment: &Segment,
    from: Box<dyn io::Read + Send>,
    closed: bool,
    step: &mut Step<'_>,
    progress: &mut dyn FnMut(u64),
) -> io::Result<Option<Broken>> {
    let mut from = BufReader::with_capacity(1 << 20, from);
    let broken =
        |line, fault: Fault| Broken { file: segment.path.clone(), line, seq: fault.seq, what: fault.what };
    let (mut line, mut next, mut number, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
    // A file whose compression does not hold was altered too.
    let mut read = |into: &mut Vec<u8>| -> io::Result<Result<bool, String>> {
        into.clear();
        match from.read_until(b'\n', into) {
            Ok(count) => Ok(Ok(count > 0)),
            Err(error) if segment.compressed && error.raw_os_error().is_none() => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    };
    step.begin_segment();
    let mut more = read(&mut line)?;
    loop {
        let there = match more {
            Ok(there) => there,
            Err(what) => {
                return Ok(Some(broken(
                    number + 1,
                    step.fault(format!("the compressed file does not hold: {what}")),
                )));
            }
        };
        if !there {
            break;
        }
        number += 1;
        bytes += line.len() as u64;
        if number.is_multiple_of(PROGRESS_LINES) {
            progress(if segment.compressed { bytes / RATIO } else { bytes });
        }
        more = read(&mut next)?;
        if !line.ends_with(b"\n") && !closed {
            step.report.unfinished_bytes = line.len() as u64;
            break;
        }
        let after = matches!(more, Ok(true)).then_some(&*next);
        if let Err(fault) = step.take(&line, after) {
            return Ok(Some(broken(number, fault)));
        }
        std::mem::swap(&mut line, &mut next);
    }
    if closed && let Err(fault) = step.end_segment() {
        return Ok(Some(broken(number, fault)));
    }
    Ok(None)
}

/// The head says up to where the journal was on the disk once.
fn against_head(
    question: &Question<'_>,
    head: Option<Head>,
    report: &mut Report,
    found: Option<Hash>,
) -> Option<(u64, String)> {
    let Some(head) = head else {
        report
            .notes
            .push("there is no head beside the event file: whether its end was cut off is not known".into());
        return None;
    };
    if !question.keys.iter().any(|key| head.is_signed_by(key)) {
        report.notes.push("the head beside the event file is not signed with this key: whether the end was cut off is not known".into());
        return None;
    }
    let link = head.link()?;
    if link.seq > report.last_seq {
        let what = format!(
            "records {} to {} are missing at the end: the head has them",
            report.last_seq + 1,
            link.seq
        );
        return Some((report.last_seq + 1, what));
    }
    if report.first_seq <= link.seq && found.is_some_and(|hash| hash != link.hash) {
        return Some((link.seq, format!("record {} is another one than the head has", link.seq)));
    }
    None
}

const PROGRESS_LINES: u64 = 4096;
/// Compressed events have about one part in so many of their size.
const RATIO: u64 = 8;
