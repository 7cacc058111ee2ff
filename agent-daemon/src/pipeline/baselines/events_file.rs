//! How far the event file was learned, and catching up with it.

use std::{
    fs::File,
    io::BufReader,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use tracing::{info, warn};

use crate::{
    baseline::{
        observation::Observation,
        replay::{Replay, fingerprint},
        store::{ALL_ROLES, Error, Position, Store},
    },
    record::journal::{Extent, Journal, segment},
};

/// The event file as it is recorded into, and what of it is learned.
#[derive(Debug)]
pub struct EventsFile {
    path: PathBuf,
    now: Option<Known>,
    /// Of files before this one, which are learned to their end.
    before: Vec<Position>,
}

/// A file, by which it is known wherever it is moved, and how much of it was learned.
#[derive(Clone, Debug)]
struct Known {
    inode: (u64, u64),
    print: String,
    bytes: u64,
}

impl EventsFile {
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), now: None, before: Vec::new() }
    }

    /// All that the recorder has written is learned.
    pub fn follow(&mut self, recorded: &Journal) {
        let Some(Extent { inode, bytes }) = recorded.standing() else { return };
        if let Some(now) = self.now.as_mut().filter(|now| now.inode == inode) {
            now.bytes = bytes;
            return;
        }
        if let Some(before) = self.now.take() {
            // All that was recorded into it is learned: it is another one's turn.
            self.before.extend(learned_whole(&self.path, &before.print));
        }
        self.now =
            known(&self.path).filter(|known| known.inode == inode).map(|known| Known { bytes, ..known });
    }

    /// How far each file was learned, to be stored with what was.
    pub fn positions(&mut self) -> Vec<Position> {
        let now = self.now.iter().map(|now| position(&now.print, now.bytes));
        std::mem::take(&mut self.before).into_iter().chain(now).collect()
    }

    /// Reads on from where the store was written last. Of a file of which nothing was learned, the end is read; `learn`
    /// is told which it is.
    pub fn catch_up(
        &mut self,
        store: &Store,
        mut learn: impl FnMut(&Observation, bool),
    ) -> Result<(), Error> {
        let segments = segment::all(&self.path).unwrap_or_else(|error| {
            warn!(path = %self.path.display(), %error, "the journal cannot be listed: what was recorded last is not learned");
            Vec::new()
        });
        // From the newest back to the one that was learned last; of older ones all was.
        let mut ahead = Vec::new();
        let mut is_known = false;
        for segment in segments.iter().rev() {
            let Some(file) = known(&segment.path) else { continue };
            let at = store.position(&file.print, ALL_ROLES)?;
            is_known = at.is_some();
            ahead.push((&segment.path, at.map_or(0, |at| at.bytes)));
            if is_known || ahead.len() == SEGMENTS_MAX {
                break;
            }
        }
        if !is_known {
            ahead.truncate(1);
        }
        for (path, from) in ahead.iter().rev() {
            read(path, *from, &mut |seen| learn(seen, is_known));
        }
        Ok(())
    }
}

fn position(print: &str, bytes: u64) -> Position {
    Position { file: print.to_owned(), role: ALL_ROLES.into(), bytes, lines: 0 }
}

/// The segment that was recorded into until now, which may be compressed by now, to its end.
fn learned_whole(events_file: &Path, print: &str) -> Option<Position> {
    let closed = segment::closed(events_file).ok()?;
    let segment = closed.iter().rev().find(|segment| print_of(&segment.path).as_deref() == Some(print))?;
    Some(position(print, segment::content_bytes(&segment.path).ok()?))
}

fn print_of(path: &Path) -> Option<String> {
    fingerprint(BufReader::new(segment::open(path).ok()?)).ok()?
}

fn known(path: &Path) -> Option<Known> {
    let file = File::open(path).ok()?;
    let meta = file.metadata().ok()?;
    let print = print_of(path)?;
    Some(Known { inode: (meta.dev(), meta.ino()), print, bytes: 0 })
}

fn read(path: &Path, from: u64, learn: &mut dyn FnMut(&Observation)) {
    let mut read = || {
        let len = segment::content_bytes(path)?;
        let begin = from.max(len.saturating_sub(BYTES_MAX));
        if begin >= len {
            return Ok(());
        }
        if begin > from {
            warn!(path = %path.display(), bytes = begin - from, "the event file holds more than is read at a start: its older part is not learned");
        }
        let file = segment::open_at(path, begin)?;
        let mut replay =
            Replay::new(BufReader::with_capacity(1 << 20, file), &path.display().to_string(), begin, 0);
        while let Some((_, seen)) = replay.step()? {
            learn(&seen);
        }
        if replay.lines > 0 {
            info!(path = %path.display(), lines = replay.lines, "baselines have caught up with the event file");
        }
        std::io::Result::Ok(())
    };
    if let Err(error) = read() {
        warn!(path = %path.display(), %error, "the event file cannot be read: what is in it is not learned");
    }
}

/// Segments that are read at a start, at most.
const SEGMENTS_MAX: usize = 16;
/// Read of each at a start: a second's work.
const BYTES_MAX: u64 = 64 << 20;
