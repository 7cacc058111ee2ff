//! The event file: one JSON object a line, written batch by batch, begun anew at a size.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use tracing::{info, warn};

/// The file and what of the current batch is not yet in it.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    /// At this size it is renamed to `….1`; 0 for never.
    bytes_max: u64,
    open: Option<Open>,
    batch: Vec<u8>,
    batch_lines: u64,
    unwritten: u64,
    failing: bool,
}

#[derive(Debug)]
struct Open {
    file: fs::File,
    bytes: u64,
    inode: (u64, u64),
}

impl File {
    /// Opens it for appending; its directory is made. An error here is one that an operator should see at start.
    pub fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let open = Some(open(path)?);
        let path = path.to_owned();
        let batch = Vec::with_capacity(BATCH_BYTES_KEPT);
        Ok(Self { path, bytes_max, open, batch, batch_lines: 0, unwritten: 0, failing: false })
    }

    /// Adds a line to the batch.
    pub fn append(&mut self, line: &[u8]) {
        self.batch.extend_from_slice(line);
        self.batch_lines += 1;
        if self.batch.len() >= BATCH_BYTES_MAX {
            self.flush();
        }
    }

    /// Writes the batch. A failure is counted, and told once until it is over; it never stops the pipeline.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        match self.write_batch() {
            Ok(()) if self.failing => {
                self.failing = false;
                info!(path = %self.path.display(), unwritten = self.unwritten, "event file can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.unwritten += self.batch_lines;
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(path = %self.path.display(), %error, "event file cannot be written: lines are counted as lost");
                }
            }
        }
        self.batch.clear();
        self.batch.shrink_to(BATCH_BYTES_KEPT);
        self.batch_lines = 0;
    }

    /// Opens the file anew where another program renamed or removed it (logrotate); call now and then.
    pub fn follow_name(&mut self) {
        let there = fs::symlink_metadata(&self.path).map(|m| (m.dev(), m.ino())).ok();
        if self.open.as_ref().is_none_or(|open| Some(open.inode) != there) {
            self.open = None;
        }
    }

    /// Lines that could not be written since the start.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.unwritten
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let full = |open: &Open| {
            self.bytes_max > 0 && open.bytes > 0 && open.bytes + self.batch.len() as u64 > self.bytes_max
        };
        if self.open.as_ref().is_some_and(full) {
            self.open = None;
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            fs::rename(&self.path, old)?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(open(&self.path)?),
        };
        let written = open.file.write_all(&self.batch);
        match written {
            Ok(()) => open.bytes += self.batch.len() as u64,
            // Half a batch must not leave half a line for the next one to be appended to.
            Err(_) => open.file.set_len(open.bytes)?,
        }
        written
    }
}

fn open(path: &Path) -> io::Result<Open> {
    // Arguments and addresses of everybody are in it: for root alone, unless an operator says otherwise.
    let file = OpenOptions::new().create(true).append(true).mode(0o640).open(path)?;
    let meta = file.metadata()?;
    Ok(Open { file, bytes: meta.len(), inode: (meta.dev(), meta.ino()) })
}

/// A batch is written early at this size.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// What a batch's buffer keeps between batches.
const BATCH_BYTES_KEPT: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_its_size_the_file_is_begun_anew_and_no_line_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log/events.ndjson");
        let mut file = File::open(&path, 100).unwrap();
        for n in 0..12 {
            file.append(format!("{{\"n\":{n:020}}}\n").as_bytes());
            file.flush();
        }
        let (now, before) = (
            fs::read_to_string(&path).unwrap(),
            fs::read_to_string(path.with_extension("ndjson.1")).unwrap(),
        );
        assert!(now.len() <= 100 && before.len() <= 100);
        assert!(now.lines().chain(before.lines()).all(|line| line.ends_with('}')));
        assert!(now.contains("11}") && file.unwritten() == 0);
    }

    #[test]
    fn a_file_that_was_moved_away_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.ndjson");
        let mut file = File::open(&path, 0).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        file.follow_name();
        file.append(b"{}\n");
        file.flush();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n");
    }

    #[test]
    fn what_cannot_be_written_is_counted_and_the_next_batch_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log/events.ndjson");
        let mut file = File::open(&path, 0).unwrap();
        fs::remove_dir_all(dir.path().join("log")).unwrap();
        file.follow_name();
        file.append(b"{}\n");
        file.append(b"{}\n");
        file.flush();
        assert_eq!(file.unwritten(), 2);
        fs::create_dir(dir.path().join("log")).unwrap();
        file.append(b"{}\n");
        file.flush();
        assert_eq!((file.unwritten(), fs::read_to_string(&path).unwrap().as_str()), (2, "{}\n"));
    }
}
