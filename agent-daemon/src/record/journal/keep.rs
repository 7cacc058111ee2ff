//! Compressing closed segments, and finding those that are to be removed; on a thread of its own.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use nix::{libc, sys::statvfs::statvfs};
use tracing::warn;

use super::{
    anew::anew,
    segment::{self, Segment},
};
use crate::{
    config::settings::Keep,
    event::{journal::Removed, word::Time},
};

/// Segments that are to be removed, when that is recorded.
#[derive(Debug)]
pub struct Proposal {
    pub record: Removed,
    pub paths: Vec<PathBuf>,
}

/// The thread's other end.
#[derive(Debug)]
pub struct Keeper {
    wake: SyncSender<()>,
    pub proposals: Receiver<Proposal>,
}

impl Keeper {
    /// Starts the thread for this journal.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(events_file: &Path, keep: Keep) -> io::Result<Self> {
        let (wake, woken) = sync_channel(1);
        let (propose, proposals) = sync_channel(PROPOSALS_WAITING_MAX);
        let path = events_file.to_owned();
        let work = move || run(&woken, &propose, &path, &keep);
        thread::Builder::new().name("journal-keep".to_owned()).spawn(work)?;
        Ok(Self { wake, proposals })
    }

    /// Has it look again; if it is at work it does so next.
    pub fn wake(&self) {
        let _ = self.wake.try_send(());
    }
}

fn run(woken: &Receiver<()>, propose: &SyncSender<Proposal>, events_file: &Path, keep: &Keep) {
    let mut failing = false;
    for () in woken {
        let (failed, error) = compress_all(events_file);
        match error {
            Some(error) if !std::mem::replace(&mut failing, true) => {
                warn!(path = %events_file.display(), %error, "segments of the journal cannot be compressed: they are kept as they are");
            }
            error => failing = error.is_some(),
        }
        for proposal in due(events_file, keep, &failed, Time::now()).unwrap_or_default() {
            // What nobody has taken yet is proposed again the next time.
            let _ = propose.try_send(proposal);
        }
    }
}

/// One that cannot be compressed does not keep the others from it; those, and the first error with its segment.
fn compress_all(events_file: &Path) -> (BTreeSet<PathBuf>, Option<io::Error>) {
    let (mut failed, mut first) = (BTreeSet::new(), None);
    let closed = segment::closed(events_file).unwrap_or_else(|error| {
        first = Some(error);
        Vec::new()
    });
    for segment in closed.into_iter().filter(|segment| !segment.compressed) {
        if let Err(error) = compress(&segment.path) {
            // Half of one takes room that the journal may need.
            let _ = fs::remove_file(half_made(&segment.path));
            let told = io::Error::new(error.kind(), format!("{}: {error}", segment.path.display()));
            first.get_or_insert(told);
            failed.insert(segment.path);
        }
    }
    (failed, first)
}

fn half_made(plain: &Path) -> PathBuf {
    segment::compressed_path(plain).with_extension("gz.new")
}

/// Puts a compressed file in a plain one's place: at every moment there is a whole one.
fn compress(plain: &Path) -> io::Result<()> {
    let gz = segment::compressed_path(plain);
    let made = half_made(plain);
    let from = File::open(plain)?;
    let meta = from.metadata()?;
    // For root alone until it is known for whom.
    let to = anew(&made, 0o600)?;
    to.set_permissions(meta.permissions())?;
    let mut encoder = GzEncoder::new(to, Compression::default());
    io::copy(&mut BufReader::with_capacity(1 << 20, from), &mut encoder)?;
    let to = encoder.finish()?;
    to.set_modified(meta.modified()?)?;
    to.sync_all()?;
    fs::rename(&made, &gz)?;
    File::open(segment::directory(plain))?.sync_all()?;
    fs::remove_file(plain)
}

/// The oldest segments that are to go: those that are too old, and then those that there is no room for. One that could not
/// be compressed is in nobody's way; one that cannot be read goes with the one before it.
///
/// # Errors
/// When the directory cannot be read.
pub fn due(
    events_file: &Path,
    keep: &Keep,
    failed: &BTreeSet<PathBuf>,
    now: Time,
) -> io::Result<Vec<Proposal>> {
    let all = segment::all(events_file)?;
    let bytes = |segment: &Segment| fs::metadata(&segment.path).map_or(0, |meta| meta.len());
    let mut kept: u64 = all.iter().map(bytes).sum();
    let bytes_max = match keep.bytes_max {
        0 => tenth_of_file_system(events_file)?,
        bytes => bytes,
    };
    let days = |days: u64| days.saturating_mul(86_400_000_000_000);
    let mut proposals: Vec<Proposal> = Vec::new();
    let mut lived = None;
    let mut at = 0;
    loop {
        // What is behind says when all of it is older, and what was its last record.
        let mut next = None;
        for (until, one) in all.iter().enumerate().skip(at + 1) {
            match segment::begin_of(&one.path) {
                Ok(None) => {}
                Ok(Some(first)) => {
                    next = Some((until, first));
                    break;
                }
                // It may be readable the next time.
                Err(error) if is_ours(&error) => break,
                Err(error) => {
                    warn!(path = %one.path.display(), %error, "a segment of the journal cannot be read: it is kept as long as the one before it");
                }
            }
        }
        let Some((until, next)) = next else { break };
        let going = &all[at..until];
        // A plain one is about to get another name, and would stay behind under that.
        if going.iter().any(|one| !one.compressed && !failed.contains(&one.path)) {
            break;
        }
        let mut age = now.0.saturating_sub(next.time.0);
        if age > days(keep.keep_days) {
            // A clock that was put forward makes all of it old at once: look closer before something is removed.
            age = lived.get_or_insert_with(|| ages(&all, now))[until];
        }
        let why = if age > days(keep.keep_days) {
            "age"
        } else if kept > bytes_max {
            "space"
        } else {
            break;
        };
        kept = kept.saturating_sub(going.iter().map(bytes).sum());
        let early = age < days(keep.keep_days_min);
        let last = next.journal.and_then(|opened| opened.continues).unwrap_or_default();
        let from = going[0].first.unwrap_or_default();
        let to = if last.seq == 0 { next.seq.saturating_sub(1) } else { last.seq };
        match proposals.last_mut().filter(|one| *one.record.why == *why && one.record.early == early) {
            Some(one) => {
                one.record.to = to;
                one.record.last_hash = last.hash;
                one.record.until = next.time;
                one.record.segments += going.len() as u64;
                one.paths.extend(going.iter().map(|one| one.path.clone()));
            }
            None => proposals.push(Proposal {
                record: Removed {
                    from,
                    to,
                    last_hash: last.hash,
                    until: next.time,
                    segments: going.len() as u64,
                    why: why.into(),
                    early,
                },
                paths: going.iter().map(|one| one.path.clone()).collect(),
            }),
        }
        at = until;
    }
    Ok(proposals)
}

/// Whether it is for want of something that this process lacks, and not the file's.
fn is_ours(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM | libc::EACCES))
}

/// How long ago each segment was begun, at most [`STEP_MAX`] for the time between one and the next: so long may a host
/// have been off or had nothing to record; what a clock jumps beyond that did not pass.
fn ages(all: &[Segment], now: Time) -> Vec<u64> {
    let mut ages = vec![0; all.len()];
    let (mut age, mut after) = (0_u64, now.0);
    for (at, segment) in all.iter().enumerate().rev() {
        if let Some(first) = segment::first_record(&segment.path) {
            age += after.saturating_sub(first.time.0).min(STEP_MAX);
            after = first.time.0;
        }
        ages[at] = age;
    }
    ages
}

fn tenth_of_file_system(events_file: &Path) -> io::Result<u64> {
    let of = statvfs(segment::directory(events_file))?;
    Ok(of.blocks() * of.fragment_size() / 10)
}

/// How often to look whether something is to go, beside at each new segment.
pub const INTERVAL: Duration = Duration::from_secs(3600);
/// 60 days in ns.
const STEP_MAX: u64 = 60 * 86_400_000_000_000;
const PROPOSALS_WAITING_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    #[test]
    fn one_that_cannot_be_compressed_or_read_is_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let events = dir.path().join("events.ndjson");
        let line = |seq: u64| {
            let mut line = Vec::new();
            Event { time: Time(seq), seq, ..Event::default() }.write_line(&mut line);
            line
        };
        for seq in 1..=4 {
            fs::write(segment::closed_path(&events, seq), line(seq)).unwrap();
        }
        fs::write(&events, line(5)).unwrap();
        // The first can be read and not compressed, the third is none of ours.
        fs::create_dir(half_made(&segment::closed_path(&events, 1))).unwrap();
        fs::write(segment::closed_path(&events, 3), "rubbish").unwrap();
        let (failed, error) = compress_all(&events);
        assert!(error.is_some() && failed.iter().eq([&segment::closed_path(&events, 1)]), "{failed:?}");
        let keep = Keep { keep_days: 366, keep_days_min: 183, bytes_max: 1 };
        let going = due(&events, &keep, &failed, Time(6)).unwrap();
        let of: Vec<_> =
            going.iter().map(|one| (one.record.from, one.record.to, one.record.segments)).collect();
        assert_eq!(of, [(1, 4, 4)]);
        assert_eq!(going[0].paths.len(), 4);
        assert!(due(&events, &keep, &BTreeSet::new(), Time(6)).unwrap().is_empty());
    }

    #[test]
    fn a_clock_that_jumps_makes_nothing_old() {
        let dir = tempfile::tempdir().unwrap();
        let events = dir.path().join("events.ndjson");
        let day = 86_400_000_000_000;
        let line = |days: u64, seq: u64| {
            let mut line = Vec::new();
            Event { time: Time(days * day), seq, ..Event::default() }.write_line(&mut line);
            line
        };
        let keep = Keep { keep_days: 366, keep_days_min: 183, bytes_max: u64::MAX };
        // One a day for 30 days.
        for at in 0..30 {
            let path = segment::closed_path(&events, at + 1);
            fs::write(&path, line(20_000 + at, at + 1)).unwrap();
            compress(&path).unwrap();
        }
        fs::write(&events, line(20_030, 31)).unwrap();
        let gone = |days: u64| -> u64 {
            due(&events, &keep, &BTreeSet::new(), Time(days * day))
                .unwrap()
                .iter()
                .map(|one| one.record.segments)
                .sum()
        };
        assert_eq!((gone(20_031), gone(30_000), gone(10_000)), (0, 0, 0));
        // One is begun after the jump, and the days go on.
        fs::rename(&events, segment::closed_path(&events, 31)).unwrap();
        fs::write(&events, line(30_000, 32)).unwrap();
        assert_eq!(gone(30_001), 0);
        // Where all the days were lived, what is older than a year goes.
        for at in 0..400 {
            fs::write(segment::closed_path(&events, at + 32), line(30_000 + at, at + 32)).unwrap();
        }
        fs::write(&events, line(30_400, 500)).unwrap();
        assert_eq!(gone(30_401), 30);
    }
}
