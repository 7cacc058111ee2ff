//! Up to where a sink's other end has acknowledged, kept over restarts.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tracing::warn;

/// A sink's place in the event file.
#[derive(Debug)]
pub struct Cursor {
    path: PathBuf,
    acknowledged: u64,
    kept: u64,
    kept_at: Instant,
}

impl Cursor {
    /// The place that was kept; that of a new sink is the end of what is recorded: it is sent what comes.
    ///
    /// # Errors
    /// When the directory cannot be made, or what is kept there is no place.
    pub fn open(directory: &Path, name: &str, events_file: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let path = path_of(directory, name);
        let end = super::tail::end(events_file)?;
        let kept = kept(directory, name)?.unwrap_or(end);
        if end < kept {
            warn!(
                sink = name,
                sent = kept,
                end,
                "the journal ends before what was sent of it: its numbers are given again, and sent"
            );
        }
        // By a power cut, or because somebody has removed the journal.
        let acknowledged = end.min(kept);
        let mut cursor = Self { path, acknowledged, kept: u64::MAX, kept_at: Instant::now() };
        cursor.keep();
        Ok(cursor)
    }

    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Up to here all was taken; written now and then, since records may come again.
    pub fn advance(&mut self, seq: u64) {
        self.acknowledged = seq;
        if self.kept_at.elapsed() >= KEEP {
            self.keep();
        }
    }

    /// Writes it, so that a file that is torn by a crash never takes its place. A failure only has records sent again.
    pub fn keep(&mut self) {
        if self.kept == self.acknowledged {
            return;
        }
        let new = self.path.with_extension("new");
        let write = || {
            let mut file = fs::File::create(&new)?;
            writeln!(file, "{}", self.acknowledged)?;
            file.sync_data()?;
            fs::rename(&new, &self.path)
        };
        if write().is_ok() {
            self.kept = self.acknowledged;
        }
        self.kept_at = Instant::now();
    }
}

/// The place that is kept for a sink, if there is one.
///
/// # Errors
/// When it cannot be read, or is no place.
pub fn kept(directory: &Path, name: &str) -> io::Result<Option<u64>> {
    let path = path_of(directory, name);
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse() {
            Ok(seq) => Ok(Some(seq)),
            Err(_) => Err(io::Error::other(format!("{} holds no number: remove it", path.display()))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn path_of(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.seq"))
}

const KEEP: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_kept_and_a_new_sink_begins_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let events = dir.path().join("events.ndjson");
        fs::write(&events, "{\"time\":\"x\",\"seq\":7,\"kind\":\"y\"}\n").unwrap();
        let state = dir.path().join("sinks");
        let mut cursor = Cursor::open(&state, "a", &events).unwrap();
        assert_eq!(cursor.acknowledged(), 7);
        cursor.advance(9);
        cursor.keep();
        let lines = |last: u64| format!("{{\"time\":\"x\",\"seq\":{last},\"kind\":\"y\"}}\n");
        fs::write(&events, lines(12)).unwrap();
        assert_eq!(Cursor::open(&state, "a", &events).unwrap().acknowledged(), 9);
        // Begun anew a moment ago.
        fs::write(&events, "").unwrap();
        let closed = dir.path().join("events-00000000000000000009.ndjson");
        fs::write(&closed, lines(9) + &lines(12)).unwrap();
        assert_eq!(Cursor::open(&state, "a", &events).unwrap().acknowledged(), 9);
        // Its numbers begin again.
        fs::remove_file(&closed).unwrap();
        assert_eq!(Cursor::open(&state, "a", &events).unwrap().acknowledged(), 0);
        let mut cursor = Cursor::open(&state, "a", &events).unwrap();
        cursor.advance(9);
        cursor.keep();
        // Cut by a power cut: 8 and 9 are given again.
        fs::write(&events, lines(7)).unwrap();
        assert_eq!(Cursor::open(&state, "a", &events).unwrap().acknowledged(), 7);
        // Not there: the last record is in the part before.
        fs::remove_file(&events).unwrap();
        fs::write(dir.path().join("events-00000000000000000007.ndjson"), lines(7) + &lines(8)).unwrap();
        assert_eq!(Cursor::open(&state, "new", &events).unwrap().acknowledged(), 8);
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all((lines(9) + &lines(10)).as_bytes()).unwrap();
        fs::write(dir.path().join("events-00000000000000000009.ndjson.gz"), gz.finish().unwrap()).unwrap();
        assert_eq!(Cursor::open(&state, "newer", &events).unwrap().acknowledged(), 10);
        fs::write(state.join("a.seq"), "nine\n").unwrap();
        assert!(Cursor::open(&state, "a", &events).is_err());
    }
}
