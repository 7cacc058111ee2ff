//! Opening a journal: how much of what lies there holds, and where it goes on.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use serde::Deserialize;
use tracing::warn;

use super::{
    active::MODE,
    chain::{self, Hash, Link},
    checkpoint::Head,
    key::PublicKey,
    segment,
};
use crate::event::{
    Kind,
    journal::{Checkpoint, Opened, Place, Range, Removed},
    word::Time,
};

/// Where a journal goes on, and what is to be told of how it was found.
#[derive(Debug, Default)]
pub struct Opening {
    /// The last record, or the last that there was.
    pub tail: Link,
    /// Number of the first record of the segment that is written to; `None` where a new one begins.
    pub first: Option<u64>,
    /// Segments so far, the one that goes on included.
    pub segment: u64,
    /// All that a `journal_opened` says of it; ids and number are the journal's to add.
    pub told: Opened,
    /// The daemon before ended in order.
    pub orderly: bool,
}

/// How much of a segment holds.
#[derive(Debug, Default)]
pub struct Scan {
    /// Its first record; `None` where it is no segment of a journal.
    pub first: Option<(u64, Opened)>,
    pub last: Link,
    pub last_time: Time,
    /// Kind of the last record that is not the journal's own.
    last_kind: Kind,
    /// Its last record is a checkpoint, as that of every segment that was closed.
    signed_end: bool,
    /// What it was signed with last.
    key: Option<Box<str>>,
    /// The first record that is another one than a head signs.
    other_at: Option<u64>,
    /// Bytes of the records that hold.
    pub bytes: u64,
    /// Bytes behind them.
    pub rest: u64,
    /// The least and the greatest number of sealed records from the first that does not hold on.
    beyond: Option<Range>,
    lines_beyond: u64,
    /// Its last checkpoint.
    signed: Option<Box<Signed>>,
    /// What there was before the first record that excuses a hole and that no checkpoint follows.
    before_excuse: Option<Box<Scan>>,
}

/// Looks at what lies there, sets aside what is no record, and says where to go on.
///
/// # Errors
/// When something cannot be read, cut or renamed.
pub fn open(events_file: &Path, key_dir: &Path, key: &PublicKey, journal: &str) -> io::Result<Opening> {
    if let Ok(there) = fs::symlink_metadata(events_file)
        && !there.is_file()
    {
        // Of a link the segments would lie in one directory and be looked for in another.
        let what = match there.is_symlink() {
            true => {
                "it is a symbolic link: name the file that it leads to (a directory on the way may be one)"
            }
            false => "it is no regular file",
        };
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    let heads = Head::known(events_file, key_dir, key, journal);
    let head = heads.first().copied();
    let mut told = Opened { torn_bytes: take_back(events_file, head)?, ..Opened::default() };
    let mut scan = match File::open(events_file) {
        Ok(file) => Some(scan(BufReader::with_capacity(1 << 20, file), &heads)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(found) = scan.as_ref().filter(|found| found.first.is_none() && found.beyond.is_none()) {
        if looks_foreign(events_file)? {
            told.set_aside = set_aside(events_file)?;
        } else if found.rest > 0 {
            told.torn_bytes += found.rest;
            set_aside_tail(events_file, 0, head.map_or(0, |head| head.seq))?;
        }
        scan = None;
    }
    let mut broken = None;
    if let Some((found, at)) = scan.as_ref().and_then(|found| Some((found, found.other_at?))) {
        // The chain holds, and is another one than was signed: whoever may write the file can make it anew.
        let to = found.beyond.map_or(found.last.seq, |beyond| beyond.to.max(found.last.seq));
        broken = Some(Range { from: at, to });
    } else if let Some(found) = scan.as_ref().filter(|found| found.rest > 0) {
        // Behind what is surely on the disk a power cut may leave anything, in any order. Before, it was somebody.
        let durable = found.first.is_none() || head.is_none_or(|head| found.last.seq < head.seq);
        if let Some(beyond) = found.beyond.filter(|_| durable) {
            broken = Some(beyond);
        } else {
            told.torn_bytes += found.rest;
            set_aside_tail(events_file, found.bytes, found.last.seq)?;
        }
    }
    if broken.is_none()
        && let Some(before) = scan.as_mut().and_then(|found| found.before_excuse.take())
    {
        // Whoever cannot sign could have written it, and the next checkpoint would stand behind it: what is missing is
        // found and told anew.
        let cut = scan.as_ref().map_or(0, |found| found.bytes) - before.bytes;
        set_aside_tail(events_file, before.bytes, before.last.seq)?;
        told.torn_bytes += cut;
        warn!(path = %events_file.display(), bytes = cut, "a record that says what is missing was not signed: it and what lies behind it is set aside");
        scan = before.first.is_some().then_some(*before);
    }
    if broken.is_none()
        && let Some(head) = head
        && let Some(found) = scan.as_mut().filter(|found| found.first.is_some() && found.last.seq < head.seq)
    {
        // The record that was signed last is gone: what no checkpoint in the file proves may be anybody's.
        match found.signed.take() {
            Some(signed) if !signed.is_by(key, journal) && *signed.head.checkpoint.key == *key.id => {
                broken = Some(Range { from: signed.before.seq, to: found.last.seq });
            }
            signed => {
                // One of a key that was lost proves nothing, and is no forgery.
                let proven = signed.filter(|signed| signed.is_by(key, journal)).map(|signed| *signed.scan);
                let (bytes, seq) = proven.as_ref().map_or((0, 0), |scan| (scan.bytes, scan.last.seq));
                if bytes < found.bytes {
                    told.torn_bytes += found.bytes - bytes;
                    set_aside_tail(events_file, bytes, seq)?;
                }
                scan = proven;
            }
        }
    }
    let going_on = scan.as_ref().is_some_and(|found| found.first.is_some()) && broken.is_none();
    if let (Some(beyond), Some(found)) = (broken, &scan) {
        let first = found.first.as_ref().map(|(seq, _)| *seq);
        let closed = segment::closed_path(events_file, first.unwrap_or(beyond.from));
        if closed.exists() {
            set_aside(events_file)?;
        } else {
            fs::rename(events_file, closed)?;
        }
        let at = if first.is_none() { beyond.from } else { beyond.from.min(found.last.seq + 1) };
        told.broken_at = Some(at);
        told.last_record = first.map(|_| found.last_time);
        warn!(path = %events_file.display(), seq = at, "the journal was altered: a new segment is begun; `chaperone journal verify` says where");
        // Not what a line says that nobody signed, but as many numbers as there can be records.
        let most = found.last.seq + found.lines_beyond;
        let seq = beyond.to.min(most).max(head.map_or(0, |head| head.seq)).max(found.last.seq);
        let segment = found.first.as_ref().map_or(0, |(_, opened)| opened.segment);
        let tail = Link { seq, hash: Hash::default() };
        return Ok(Opening { tail, first: None, segment, told, orderly: false });
    }
    let last = match scan.filter(|_| going_on) {
        Some(found) => Some(found),
        None => last_closed(events_file)?,
    };
    let mut tail = Link::default();
    if let Some(last) = &last {
        tail = last.last;
        told.continues = Some(Place { seq: tail.seq, hash: tail.hash.to_string().into() });
        told.last_record = Some(last.last_time);
    }
    if let Some(head) = head.filter(|head| head.seq > tail.seq) {
        let missing = Range { from: tail.seq + 1, to: head.seq };
        warn!(path = %events_file.display(), from = missing.from, to = missing.to, "the journal has lost records that were on the disk");
        told.missing = Some(missing);
        tail.seq = head.seq;
    }
    let Some(last) = last else { return Ok(Opening { tail, told, ..Opening::default() }) };
    if let Some(before) = last.key.as_ref().filter(|before| ***before != *key.id) {
        warn!(path = %events_file.display(), %before, now = %key.id, "the journal is signed with another key from here on: `chaperone journal verify` needs both");
    }
    let (first, segment) = last.first.map_or((0, 0), |(first, opened)| (first, opened.segment));
    let orderly = last.last_kind == Kind::DaemonStopped;
    Ok(Opening { tail, first: going_on.then_some(first), segment, told, orderly })
}

/// A power cut may keep a segment's new name and what lies behind it, and not its last records: no name waits for the
/// disk. Such a segment is written to again, and what cannot follow it any more is set aside; its bytes. Where the head
/// says that more of it was on the disk, nothing is touched: that was no power cut.
fn take_back(events_file: &Path, head: Option<Link>) -> io::Result<u64> {
    let closed = segment::closed(events_file)?;
    // A compressed one was whole when it was written, and is on the disk.
    let plain = closed.iter().rposition(|segment| segment.compressed).map_or(0, |at| at + 1);
    for (at, segment) in closed.iter().enumerate().skip(plain) {
        let found = scan(BufReader::with_capacity(1 << 20, File::open(&segment.path)?), &[])?;
        if found.signed_end && found.rest == 0 {
            continue;
        }
        let behind = closed[at + 1..].iter().map(|segment| segment.path.as_path());
        let behind: Vec<&Path> = behind.chain(events_file.exists().then_some(events_file)).collect();
        let next =
            behind.first().and_then(|path| segment::first_record(path)).and_then(|first| first.journal);
        let known = next.is_some_and(|opened| opened.broken_at.is_some());
        if known || head.is_some_and(|head| head.seq > found.last.seq) {
            return Ok(0);
        }
        let mut bytes = 0;
        // The last first: whoever is interrupted here finds the same again.
        for path in behind.into_iter().rev() {
            bytes += fs::metadata(path)?.len();
            let first = segment::first_record(path).map_or(0, |first| first.seq);
            fs::rename(path, segment::aside(events_file, &format!("torn-{first}")))?;
        }
        fs::rename(&segment.path, events_file)?;
        File::open(segment::directory(events_file))?.sync_all()?;
        warn!(path = %events_file.display(), bytes, "a closed segment of the journal has lost its end: it is written to again, and what lay behind it is set aside");
        return Ok(bytes);
    }
    Ok(0)
}

/// The last closed segment that has records.
fn last_closed(events_file: &Path) -> io::Result<Option<Scan>> {
    for segment in segment::closed(events_file)?.into_iter().rev() {
        let found = scan(BufReader::with_capacity(1 << 20, segment::open(&segment.path)?), &[])?;
        if found.first.is_some() {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Reads a segment to its end. Nothing is checked but its own chain, which what it continues from is taken from, and that
/// it has the records that the heads sign.
///
/// # Errors
/// When it cannot be read.
pub fn scan(mut from: impl BufRead, heads: &[Link]) -> io::Result<Scan> {
    let mut found = Scan::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            return Ok(found);
        }
        let Some((body, hash)) = line.strip_suffix(b"\n").and_then(chain::split) else {
            found.rest += line.len() as u64;
            continue;
        };
        let brief = serde_json::from_slice::<Brief>(line.trim_ascii_end()).ok().map(Brief::of_its_kind);
        if found.rest > 0 {
            found.rest += line.len() as u64;
            found.beyond = wider(found.beyond, brief);
            found.lines_beyond += 1;
            continue;
        }
        let before = match (&found.first, &brief) {
            (Some(_), _) => Some(found.last.hash),
            (None, Some(Brief { journal: Some(opened), .. })) => before(opened),
            (None, _) => None,
        };
        match (before, brief) {
            (Some(before), Some(brief))
                if brief.follows(&found) && Link { seq: 0, hash: before }.hash_of(body) == hash =>
            {
                let before = found.last;
                if brief.kind == Kind::Checkpoint {
                    found.before_excuse = None;
                } else if brief.excuses() && found.before_excuse.is_none() {
                    let signed = found.signed.take();
                    found.before_excuse = Some(Box::new(Scan { signed, ..found.so_far() }));
                }
                if let Some(opened) = &brief.journal {
                    found.key = Some(opened.key.clone());
                }
                if found.first.is_none() {
                    found.first = brief.journal.map(|opened| (brief.seq, opened));
                }
                found.last = Link { seq: brief.seq, hash };
                let is_other = |head: &Link| head.seq == brief.seq && head.hash != hash;
                found.other_at =
                    found.other_at.or(heads.iter().find(|head| is_other(head)).map(|head| head.seq));
                found.last_time = brief.time;
                if !matches!(brief.kind, Kind::Checkpoint | Kind::JournalOpened) {
                    found.last_kind = brief.kind;
                }
                found.signed_end = brief.kind == Kind::Checkpoint;
                found.bytes += line.len() as u64;
                if let Some(checkpoint) = brief.checkpoint {
                    let head = Head { time: brief.time, checkpoint };
                    found.signed = Some(Box::new(Signed { scan: Box::new(found.so_far()), before, head }));
                }
            }
            (_, brief) => {
                found.rest += line.len() as u64;
                found.beyond = wider(found.beyond, brief);
                found.lines_beyond += 1;
            }
        }
    }
}

/// The hash before a segment's first record, as that says.
#[must_use]
pub fn before(opened: &Opened) -> Option<Hash> {
    opened.continues.as_ref().map_or(Some(Hash::default()), |place| Hash::from_digits(place.hash.as_bytes()))
}

/// A checkpoint in a segment, and what there is up to it.
#[derive(Debug)]
struct Signed {
    scan: Box<Scan>,
    /// The record before it.
    before: Link,
    head: Head,
}

impl Signed {
    /// Whether the key has signed it for what stands before it.
    fn is_by(&self, key: &PublicKey, journal: &str) -> bool {
        let signs = self.head.link() == Some(self.before) && &*self.head.checkpoint.journal == journal;
        signs && self.head.is_signed_by(key)
    }
}

impl Scan {
    /// What holds up to here.
    fn so_far(&self) -> Self {
        Self {
            first: self.first.clone(),
            last: self.last,
            last_time: self.last_time,
            last_kind: self.last_kind,
            signed_end: self.signed_end,
            key: self.key.clone(),
            bytes: self.bytes,
            ..Self::default()
        }
    }
}

fn wider(beyond: Option<Range>, brief: Option<Brief>) -> Option<Range> {
    let Some(Brief { seq, .. }) = brief else { return beyond };
    let Range { from, to } = beyond.unwrap_or(Range { from: seq, to: seq });
    Some(Range { from: from.min(seq), to: to.max(seq) })
}

#[derive(Deserialize)]
struct Brief {
    #[serde(default)]
    time: Time,
    seq: u64,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    journal: Option<Opened>,
    #[serde(default)]
    checkpoint: Option<Checkpoint>,
    #[serde(default)]
    removed: Option<Removed>,
}

impl Brief {
    /// A record says what its kind does: what else stands in one that is signed by the one behind it, or is a checkpoint,
    /// which none of its own fields proves, is nobody's.
    fn of_its_kind(self) -> Self {
        Self {
            journal: self.journal.filter(|_| self.kind == Kind::JournalOpened),
            checkpoint: self.checkpoint.filter(|_| self.kind == Kind::Checkpoint),
            removed: self.removed.filter(|_| self.kind == Kind::SegmentsRemoved),
            ..self
        }
    }

    /// Whether its number is the next one. Who cannot sign could take all numbers away.
    fn follows(&self, found: &Scan) -> bool {
        let missing = self.journal.as_ref().and_then(|opened| opened.missing);
        let next = missing.map_or(found.last.seq, |missing| missing.to).checked_add(1);
        found.first.is_none() && self.seq < NUMBERS_MAX || Some(self.seq) == next
    }

    /// Whether it says why records are missing.
    fn excuses(&self) -> bool {
        self.removed.is_some() || self.journal.as_ref().is_some_and(|opened| opened.missing.is_some())
    }
}

/// Whether a file without one record of a journal at its beginning is something else: text in whole lines.
fn looks_foreign(path: &Path) -> io::Result<bool> {
    let mut line = Vec::new();
    BufReader::new(File::open(path)?).read_until(b'\n', &mut line)?;
    Ok(line.ends_with(b"\n") && !line.contains(&0))
}

/// Moves a file that is no journal's out of the way; its new name.
pub(super) fn set_aside(path: &Path) -> io::Result<Box<str>> {
    let name = segment::aside(path, &format!("foreign-{}", Time::now().0 / 1_000_000_000));
    fs::rename(path, &name)?;
    warn!(path = %path.display(), to = %name.display(), "a file that is no journal lies where events are recorded: it is set aside");
    Ok(name.file_name().unwrap_or_default().to_string_lossy().into())
}

/// More records than a journal comes to have; a number beyond it is somebody's invention.
const NUMBERS_MAX: u64 = 1 << 52;

/// Moves what lies behind so many bytes to a file of its own.
fn set_aside_tail(path: &Path, bytes: u64, seq: u64) -> io::Result<()> {
    let to = segment::aside(path, &format!("torn-{seq}"));
    if bytes == 0 {
        // As it is: that takes no room.
        fs::rename(path, &to)?;
        File::open(segment::directory(path))?.sync_all()?;
        warn!(path = %path.display(), to = %to.display(), "nothing proves what the journal's file holds: it is set aside");
        return Ok(());
    }
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    file.seek(SeekFrom::Start(bytes))?;
    let mut options = OpenOptions::new();
    let kept = options.write(true).create_new(true).mode(MODE).open(&to).and_then(|mut torn| {
        io::copy(&mut file, &mut torn)?;
        torn.sync_all()
    });
    if let Err(error) = kept {
        // A full disk must not keep a daemon from its start.
        warn!(path = %path.display(), %error, "what is no whole record at the journal's end cannot be kept: it is cut off");
    }
    file.set_len(bytes)?;
    file.sync_all()?;
    warn!(path = %path.display(), to = %to.display(), "the journal's end was torn: what is no whole record is set aside");
    Ok(())
}
