//! How far the event file was learned, and catching up with it.

use std::{
    fs::{self, File},
    io::{BufReader, Seek as _, SeekFrom},
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
    record,
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
    pub fn follow(&mut self, recorded: &record::file::File) {
        let Some((inode, bytes)) = recorded.standing() else { return };
        if let Some(now) = self.now.as_mut().filter(|now| now.inode == inode) {
            now.bytes = bytes;
            return;
        }
        if let Some(before) = self.now.take() {
            self.before.extend(learned_whole(&record::file::former(&self.path), before));
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
        let former = record::file::former(&self.path);
        if let Some(from) =
            known(&former).map(|file| store.position(&file.print, ALL_ROLES)).transpose()?.flatten()
        {
            read(&former, from.bytes, &mut |seen| learn(seen, true));
        }
        if let Some(file) = known(&self.path) {
            let at = store.position(&file.print, ALL_ROLES)?;
            let from = at.as_ref().map_or(0, |at| at.bytes);
            read(&self.path, from, &mut |seen| learn(seen, at.is_some()));
        }
        Ok(())
    }
}

fn position(print: &str, bytes: u64) -> Position {
    Position { file: print.to_owned(), role: ALL_ROLES.into(), bytes, lines: 0 }
}

/// The file that was recorded into until now, if it lies where the recorder moves it.
fn learned_whole(former: &Path, before: Known) -> Option<Position> {
    let meta = fs::metadata(former).ok().filter(|meta| (meta.dev(), meta.ino()) == before.inode)?;
    Some(position(&before.print, meta.len()))
}

fn known(path: &Path) -> Option<Known> {
    let file = File::open(path).ok()?;
    let meta = file.metadata().ok()?;
    let print = fingerprint(BufReader::new(file)).ok()??;
    Some(Known { inode: (meta.dev(), meta.ino()), print, bytes: 0 })
}

fn read(path: &Path, from: u64, learn: &mut dyn FnMut(&Observation)) {
    let mut read = || {
        let mut file = File::open(path)?;
        let len = file.metadata()?.len();
        let begin = from.max(len.saturating_sub(BYTES_MAX));
        if begin > from {
            warn!(path = %path.display(), bytes = begin - from, "the event file holds more than is read at a start: its older part is not learned");
        }
        file.seek(SeekFrom::Start(begin))?;
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

/// Read at a start: a second's work.
const BYTES_MAX: u64 = 64 << 20;
