//! The journal: one JSON object a line, numbered, each sealed to the one before it and signed every few seconds; the one
//! writer of the event file. Written batch by batch. Each batch is noted before it is written, so that the next daemon
//! knows of a killed one what of it is in the file.

mod active;
mod anew;
pub mod chain;
pub mod checkpoint;
mod keep;
pub mod key;
mod opening;
pub mod segment;
mod standing;
mod sync;
pub mod verify;

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt as _, FileExt as _},
    path::PathBuf,
    time::{Duration, Instant},
};

use agent_common::progress::Batch;
use tokio::sync::watch;
use tracing::{info, warn};

use self::{
    active::Active,
    chain::Link,
    checkpoint::Head,
    keep::Keeper,
    key::{Key, PublicKey},
    opening::Opening,
    sync::Sync,
};
pub use self::{active::Extent, standing::Standing};
use super::progress::Progress;
use crate::{
    config::settings::Keep,
    event::{Event, Kind, Name, journal::Opened, local::Previous, word::Time},
};

/// Where a journal lies and how it is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The segment that is written to.
    pub events_file: PathBuf,
    /// At this size (and up to a batch more) a segment is closed; 0 for never.
    pub bytes_max: u64,
    /// Holds the key.
    pub key_dir: PathBuf,
    pub keep: Keep,
}

/// The journal and what of the current batch is not yet in it.
#[derive(Debug)]
pub struct Journal {
    settings: Settings,
    key: Key,
    open: Option<Active>,
    /// What was written to until its name was gone.
    left: Option<Active>,
    /// The last record in the file.
    tail: Link,
    /// The last record of the batch.
    next: Link,
    /// The last record that is a checkpoint.
    signed: u64,
    /// Segments so far.
    segment: u64,
    /// How the journal was found, until that is written.
    found: Option<Opening>,
    previous: Option<Previous>,
    batch: Vec<u8>,
    /// Records of the batch that somebody would miss.
    batch_lines: u64,
    /// Bytes at its beginning that are the journal's own.
    batch_lead: usize,
    /// The journal's own records, for those who follow.
    own: Vec<(Event, Vec<u8>)>,
    of_host: (Name, Name),
    progress: Progress,
    /// What a batch's note says beside its place in the file: of which ring buffer, made by whom, and the position behind
    /// the last record that the file or the batch tells.
    of: Of,
    /// That position for what is in the file.
    until_written: u64,
    passed_over: usize,
    /// Where half a batch begins that is being completed: it is one batch to the next daemon too.
    completes: Option<u64>,
    /// Where the batch begins that was settled last.
    settled_from: u64,
    failing: bool,
    checkpoint_due: Instant,
    /// Not earlier is a segment closed: it could not be a moment ago.
    close_due: Instant,
    keep_due: Instant,
    /// The last record whose removal was recorded.
    removed_to: u64,
    removed_early: u64,
    /// How often the sync had failed when a removal was recorded last.
    sync_failures: u64,
    sync: Sync,
    keeper: Keeper,
    extent: watch::Sender<Extent>,
}

/// Where a batch's lines come from; see [`Batch`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Of {
    pub ring: u64,
    pub maker: u64,
    pub until: u64,
}

/// What there is of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    Nothing,
    /// So many of its lines.
    Lines(usize),
    All,
}

impl Journal {
    /// Opens it for appending; directories and key are made. What is no whole record at its end is set aside. An error
    /// here is one that an operator should see at start.
    ///
    /// # Errors
    /// When the key or the file cannot be read or made.
    pub fn open(settings: Settings, progress: Progress) -> io::Result<Self> {
        let path = &settings.events_file;
        // For who may read the event file, alone.
        DirBuilder::new().recursive(true).mode(0o750).create(segment::directory(path))?;
        let key = Key::open(&settings.key_dir)?;
        let public = fs::read_to_string(key::public_key(&settings.key_dir))?;
        let public = PublicKey::parse(&public).map_err(io::Error::other)?;
        let found = opening::open(path, &settings.key_dir, &public, &key.journal)?;
        let open = match found.first {
            Some(first) => {
                let mut open = Active::open(path)?;
                open.first = first;
                Some(open)
            }
            None => None,
        };
        let (sync, keeper) = (Sync::start(path, &settings.key_dir)?, Keeper::start(path, settings.keep)?);
        let now = Instant::now();
        let mut journal = Self {
            key,
            open,
            left: None,
            tail: found.tail,
            next: found.tail,
            signed: found.tail.seq,
            segment: found.segment,
            previous: found
                .told
                .last_record
                .map(|last_record| Previous { last_record, orderly: found.orderly }),
            found: Some(found),
            batch: Vec::with_capacity(BATCH_BYTES_KEPT),
            batch_lines: 0,
            batch_lead: 0,
            own: Vec::new(),
            of_host: Default::default(),
            progress,
            of: Of::default(),
            until_written: 0,
            passed_over: 0,
            completes: None,
            settled_from: 0,
            failing: false,
            checkpoint_due: now,
            close_due: now,
            keep_due: now,
            removed_to: 0,
            removed_early: 0,
            sync_failures: 0,
            sync,
            keeper,
            extent: watch::Sender::default(),
            settings,
        };
        journal.publish();
        Ok(journal)
    }

    /// How much is there of what the daemon before this one was about to write when it was killed. Half a line was set
    /// aside when the journal was opened; whole ones stay, for somebody may have read them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn settle(&mut self, was: &Batch) -> io::Result<Written> {
        let Some(open) = self.open.as_mut().filter(|open| open.extent.inode == (was.device, was.inode))
        else {
            return Ok(Written::Nothing);
        };
        let bytes = open.extent.bytes;
        if bytes >= was.to {
            return Ok(Written::All);
        }
        let Some(more) = bytes.checked_sub(was.from).filter(|more| *more > 0) else {
            return Ok(Written::Nothing);
        };
        let mut there = vec![0; usize::try_from(more).map_err(io::Error::other)?];
        open.file.read_exact_at(&mut there, was.from)?;
        self.settled_from = was.from;
        Ok(Written::Lines(there.iter().filter(|byte| **byte == b'\n').count()))
    }

    /// Leaves out the next lines, which are in the file already; they and what is added until this is called with 0 are
    /// one batch.
    pub fn pass_over(&mut self, lines: usize) {
        self.passed_over = lines;
        self.completes = (lines > 0).then_some(self.settled_from);
    }

    /// From here on batches are of that ring buffer, and made by that maker.
    pub fn begin(&mut self, of: Of) {
        self.of = of;
        self.until_written = of.until;
    }

    /// Notes that all records before this position are told by lines that were appended.
    pub fn read_until(&mut self, position: u64) {
        self.of.until = position;
    }

    /// What was lost and told, over all daemons of these maps.
    pub fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// How the daemon before this one ended; `None` where there was none.
    #[must_use]
    pub fn previous(&self) -> Option<Previous> {
        self.previous
    }

    /// Numbers an event, and adds it to the batch as a line; whether it was not in the file already.
    pub fn append(&mut self, event: &mut Event, line: &mut Vec<u8>) -> bool {
        if self.passed_over > 0 {
            event.seq = self.next.seq + 1 - self.passed_over as u64;
            self.passed_over -= 1;
            return false;
        }
        self.of_host = (event.host.clone(), event.boot_id.clone());
        self.begin_batch();
        self.put(event, line);
        self.batch_lines += 1;
        true
    }

    /// The journal's own records since the last call, with their lines.
    pub fn take_own(&mut self) -> Vec<(Event, Vec<u8>)> {
        std::mem::take(&mut self.own)
    }

    /// Which file is written to, and how many bytes of it are; `None` where there is none.
    #[must_use]
    pub fn standing(&self) -> Option<Extent> {
        self.open.as_ref().map(|open| open.extent)
    }

    /// The same, for those who read behind the pipeline's back.
    #[must_use]
    pub fn extent(&self) -> watch::Receiver<Extent> {
        self.extent.subscribe()
    }

    fn publish(&mut self) {
        if let Some(extent) = self.standing() {
            self.extent.send_replace(extent);
        }
    }

    /// Whether the batch is to be written before more is added. Not done by itself: a batch begins where the ring buffer
    /// was given back last.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.batch.len() >= BATCH_BYTES_MAX
    }

    /// Writes the batch. A failure is counted, and told once until it is over; it never stops the pipeline.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let until = self.of.until;
        let tells_hole = self.tells_hole();
        match self.write_batch(until) {
            Ok(()) if self.failing => {
                self.failing = false;
                info!(path = %self.settings.events_file.display(), unwritten = self.unwritten(), "event file can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                let lines = self.batch_lines;
                self.progress.change(|account| account.unwritten += lines);
                // It is accounted for, and not to be read again.
                let batch = self.progress.batch();
                self.progress.note(Batch { to: batch.from, ..batch });
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(path = %self.settings.events_file.display(), %error, "event file cannot be written: lines are counted as lost");
                }
            }
        }
        self.until_written = until;
        self.end_batch();
        self.sign_hole(tells_hole);
    }

    /// Whether the batch tells of records that are missing since the journal was opened.
    fn tells_hole(&self) -> bool {
        self.batch_lead > 0 && self.found.as_ref().is_some_and(|found| found.told.missing.is_some())
    }

    /// What says that records are missing is worth nothing before it is signed.
    fn sign_hole(&mut self, told: bool) {
        if told && self.found.is_none() {
            self.checkpoint();
        }
    }

    /// Writes an event by itself; whether it could be. One that could not is no loss: who wrote it asks again.
    pub fn write_alone(&mut self, event: &mut Event, line: &mut Vec<u8>) -> bool {
        self.flush();
        self.of_host = (event.host.clone(), event.boot_id.clone());
        self.begin_batch();
        self.put(event, line);
        let tells_hole = self.tells_hole();
        let written = self.write_batch(self.of.until).is_ok();
        self.end_batch();
        self.sign_hole(tells_hole);
        written
    }

    /// What is to be done now and then, every second or so; never while records wait to be given back to the ring buffer.
    /// Opens the file anew where another program renamed or removed it, signs what was added, and has old segments removed.
    pub fn tick(&mut self) {
        let path = &self.settings.events_file;
        if let Some(left) = self.open.take_if(|open| !open.is_at(path)) {
            self.left = Some(left);
        }
        let now = Instant::now();
        // A new journal is worth nothing to `verify` before its first one.
        let is_first = self.signed == 0 && self.tail.seq > 0;
        if now >= self.checkpoint_due || is_first {
            self.checkpoint_due = now + CHECKPOINT_INTERVAL;
            self.checkpoint();
        }
        if now >= self.keep_due {
            self.keep_due = now + keep::INTERVAL;
            self.keeper.wake();
        }
        while let Ok(proposal) = self.keeper.proposals.try_recv() {
            self.remove(proposal);
        }
        self.sync.push();
    }

    /// The end, in order: what was added is signed and on the disk, if that can be in a few seconds.
    pub fn end(&mut self) {
        self.flush();
        self.checkpoint();
        // What is counted as lost must not be there at the next start.
        let whole = self.open.as_mut().is_none_or(|open| open.make_whole().is_ok());
        if !self.sync.end(END_MAX) || !whole {
            warn!(path = %self.settings.events_file.display(), "the journal could not be brought to the disk before the end");
        }
    }

    /// Lines that could not be written, by this daemon and those of the same maps before it.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.progress.account().unwritten
    }

    /// What goes before the first line of a batch: a segment's first record, or that the journal was opened.
    fn begin_batch(&mut self) {
        // Half a batch is completed as it was begun, or the next daemon could not count its lines.
        if !self.batch.is_empty() || self.completes.is_some() && self.open.is_some() {
            return;
        }
        // How the journal was found goes before anything is signed.
        let due = self.found.is_none() && Instant::now() >= self.close_due;
        if due && self.is_segment_over() && self.checkpoint() {
            self.close_segment();
        }
        if self.open.is_none() {
            // Where it cannot be opened the write says so.
            self.open = self.begin_segment().ok();
            self.publish();
        }
        let Some(open) = &self.open else { return };
        if open.extent.bytes > 0 && self.found.is_none() {
            return;
        }
        let (id, public) = (self.key.journal.as_str().into(), self.key.id.as_str().into());
        let told = match &self.found {
            Some(found) => found.told.clone(),
            None => Opened::default(),
        };
        let continues = (told.broken_at.is_none() && told.missing.is_none() && self.tail.seq > 0)
            .then(|| crate::event::journal::Place {
                seq: self.tail.seq,
                hash: self.tail.hash.to_string().into(),
            })
            .or_else(|| told.continues.clone());
        let segment = self.segment + u64::from(open.extent.bytes == 0);
        let opened = Opened { journal: id, key: public, segment, continues, ..told };
        self.put_own(Event {
            kind: Kind::JournalOpened,
            journal: Some(Box::new(opened)),
            ..Event::default()
        });
        self.batch_lead = self.batch.len();
    }

    fn is_segment_over(&self) -> bool {
        self.open.as_ref().is_some_and(|open| open.is_over(self.settings.bytes_max))
    }

    fn close_segment(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        let path = &self.settings.events_file;
        let closed = segment::closed_path(path, open.first);
        if let Err(error) = open.make_whole().and_then(|()| fs::rename(path, closed)) {
            warn!(path = %path.display(), %error, "a segment of the journal cannot be closed: it grows on");
            self.open = Some(open);
            self.close_due = Instant::now() + CLOSE_AGAIN;
            return;
        }
        self.keeper.wake();
    }

    fn begin_segment(&mut self) -> io::Result<Active> {
        let path = &self.settings.events_file;
        if fs::symlink_metadata(path).is_ok_and(|there| !there.is_file()) {
            opening::set_aside(path)?;
        }
        let made = Active::open(path)?;
        // It was moved away, and back.
        if let Some(left) = self.left.take().filter(|left| left.extent == made.extent) {
            return Ok(left);
        }
        if made.extent.bytes == 0 {
            return Ok(made);
        }
        // Somebody else put something there while this daemon runs.
        opening::set_aside(path)?;
        Active::open(path)
    }

    /// Signs what is in the file, if there is something new; whether all is signed. Done by itself every few seconds.
    pub fn checkpoint(&mut self) -> bool {
        self.sign(Vec::new())
    }

    /// The same; and segments whose removal is recorded go when that is on the disk.
    fn sign(&mut self, remove: Vec<PathBuf>) -> bool {
        self.flush();
        let Some(open) = &self.open else { return false };
        if self.tail.seq == self.signed || open.extent.bytes == 0 {
            if !remove.is_empty() {
                self.sync.ask(&open.file, None, remove);
            }
            return true;
        }
        let head = Head::sign(&self.key, self.tail, Time::now());
        let checkpoint = Some(Box::new(head.checkpoint.clone()));
        self.put_own(Event { kind: Kind::Checkpoint, time: head.time, checkpoint, ..Event::default() });
        self.batch_lead = self.batch.len();
        let written = self.write_batch(self.until_written).is_ok();
        self.end_batch();
        if let Some(open) = self.open.as_ref().filter(|_| written) {
            self.signed = self.tail.seq;
            self.sync.ask(&open.file, Some(head), remove);
        }
        written
    }

    fn remove(&mut self, proposal: keep::Proposal) {
        let keep::Proposal { record, paths } = proposal;
        // The record of an earlier one may be among what did not come to the disk.
        let failures = self.sync.failures();
        if std::mem::replace(&mut self.sync_failures, failures) != failures {
            self.removed_to = 0;
        }
        if record.to > self.removed_to {
            if record.early {
                warn!(
                    from = record.from,
                    to = record.to,
                    "segments of the journal are removed earlier than they are to be kept: there is no room"
                );
            }
            let (to, early) = (record.to, record.early);
            let (host, boot_id) = self.of_host.clone();
            let removed = Some(Box::new(record));
            let mut event = Event {
                kind: Kind::SegmentsRemoved,
                time: Time::now(),
                removed,
                host,
                boot_id,
                ..Event::default()
            };
            let mut line = Vec::new();
            if !self.write_alone(&mut event, &mut line) {
                return;
            }
            self.own.push((event, line));
            self.removed_to = to;
            self.removed_early += u64::from(early);
        }
        self.sign(paths);
    }

    /// Adds a record of the journal's own.
    fn put_own(&mut self, event: Event) {
        let (host, boot_id) = self.of_host.clone();
        let time = if event.time == Time::default() { Time::now() } else { event.time };
        let mut event = Event { time, host, boot_id, ..event };
        let mut line = Vec::new();
        self.put(&mut event, &mut line);
        self.own.push((event, line));
    }

    /// Seals an event to the one before, in the batch.
    fn put(&mut self, event: &mut Event, line: &mut Vec<u8>) {
        event.seq = self.next.seq + 1;
        line.clear();
        event.write_line(line);
        if !line.is_empty() {
            self.next = self.next.seal(line);
            self.batch.extend_from_slice(line);
        }
    }

    fn end_batch(&mut self) {
        self.batch.clear();
        self.batch.shrink_to(BATCH_BYTES_KEPT);
        (self.batch_lines, self.batch_lead) = (0, 0);
    }

    /// Writes what was put into the batch, or nothing of it: then its numbers are free again.
    fn write_batch(&mut self, until: u64) -> io::Result<()> {
        let written = self.try_write(until);
        match &written {
            Ok(()) => {
                if self.batch_lead > 0 && self.batch_lead < self.batch.len() {
                    // The record that says how the journal was found, or begins a segment.
                    self.found = None;
                }
                self.tail = self.next;
                self.publish();
            }
            Err(_) => {
                self.next = self.tail;
                self.own.clear();
            }
        }
        written
    }

    fn try_write(&mut self, until: u64) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            // It could not be opened when the batch began, and its first record is not there.
            Active::open(&self.settings.events_file)?;
            return Err(io::Error::other("it could not be opened a moment ago"));
        };
        let (Extent { inode: (device, inode), bytes }, Of { ring, maker, .. }) = (open.extent, self.of);
        let to = bytes + self.batch.len() as u64;
        let from = self.completes.unwrap_or(bytes + self.batch_lead as u64);
        open.make_whole()?;
        self.progress.note(Batch { device, inode, from, to, ring, maker, until });
        open.append(&self.batch)?;
        if bytes == 0 {
            open.first = self.tail.seq + 1;
            self.segment += 1;
        }
        Ok(())
    }
}

/// A batch is written early at this size.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// What a batch's buffer keeps between batches.
const BATCH_BYTES_KEPT: usize = 64 << 10;
/// How long something may be unsigned, and not surely on the disk.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
const END_MAX: Duration = Duration::from_secs(5);
/// When a segment that could not be closed is tried again.
const CLOSE_AGAIN: Duration = Duration::from_secs(60);
