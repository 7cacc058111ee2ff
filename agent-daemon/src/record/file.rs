//! The event file: one JSON object a line, written batch by batch, begun anew at a size. Each batch is noted before it
//! is written, so that the next daemon knows of a killed one what of it is in the file.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use agent_common::progress::Batch;
use tracing::{info, warn};

use super::progress::Progress;

/// The file and what of the current batch is not yet in it.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    /// At this size it is renamed to `….1`; 0 for never.
    bytes_max: u64,
    open: Option<Open>,
    batch: Vec<u8>,
    batch_lines: u64,
    progress: Progress,
    /// What a batch's note says beside its place in the file: of which ring buffer, made by whom, and the position behind
    /// the last record that the file or the batch tells.
    of: Of,
    passed_over: usize,
    failing: bool,
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

#[derive(Debug)]
struct Open {
    file: fs::File,
    bytes: u64,
    inode: (u64, u64),
}

impl File {
    /// Opens it for appending; its directory is made. An error here is one that an operator should see at start.
    pub fn open(path: &Path, bytes_max: u64, progress: Progress) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let open = Some(open(path)?);
        let path = path.to_owned();
        let batch = Vec::with_capacity(BATCH_BYTES_KEPT);
        Ok(Self {
            path,
            bytes_max,
            open,
            batch,
            batch_lines: 0,
            progress,
            of: Of::default(),
            passed_over: 0,
            failing: false,
        })
    }

    /// How much is there of what the daemon before this one was about to write when it was killed. Half a line is cut
    /// off; whole ones stay, for somebody may have read them.
    ///
    /// # Errors
    /// When the file cannot be read, or half a line not cut off.
    pub fn settle(&mut self, was: &Batch) -> io::Result<Written> {
        let Some(open) = self.open.as_mut().filter(|open| open.inode == (was.device, was.inode)) else {
            return Ok(Written::Nothing);
        };
        if open.bytes >= was.to {
            return Ok(Written::All);
        }
        let Some(more) = open.bytes.checked_sub(was.from).filter(|more| *more > 0) else {
            return Ok(Written::Nothing);
        };
        let mut there = vec![0; usize::try_from(more).map_err(io::Error::other)?];
        open.file.read_exact_at(&mut there, was.from)?;
        let whole = there.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        open.bytes = was.from + whole as u64;
        open.file.set_len(open.bytes)?;
        Ok(Written::Lines(there[..whole].iter().filter(|byte| **byte == b'\n').count()))
    }

    /// Leaves out the next lines, which are in the file already.
    pub fn pass_over(&mut self, lines: usize) {
        self.passed_over = lines;
    }

    /// From here on batches are of that ring buffer, and made by that maker.
    pub fn begin(&mut self, of: Of) {
        self.of = of;
    }

    /// Notes that all records before this position are told by lines that were appended.
    pub fn read_until(&mut self, position: u64) {
        self.of.until = position;
    }

    /// What was lost and told, over all daemons of these maps.
    pub fn progress(&mut self) -> &mut Progress {
        &mut self.progress
    }

    /// Adds a line to the batch; whether it was not in the file already.
    pub fn append(&mut self, line: &[u8]) -> bool {
        if self.passed_over > 0 {
            self.passed_over -= 1;
            return false;
        }
        self.batch.extend_from_slice(line);
        self.batch_lines += 1;
        true
    }

    /// Which file it is (device, inode), and how many bytes of it are written; `None` where there is none.
    #[must_use]
    pub fn standing(&self) -> Option<((u64, u64), u64)> {
        self.open.as_ref().map(|open| (open.inode, open.bytes))
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
        match self.write_batch() {
            Ok(()) if self.failing => {
                self.failing = false;
                info!(path = %self.path.display(), unwritten = self.unwritten(), "event file can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.progress.change(|account| account.unwritten += self.batch_lines);
                // It is accounted for, and not to be read again.
                let batch = self.progress.batch();
                self.progress.note(Batch { to: batch.from, ..batch });
                if !std::mem::replace(&mut self.failing, true) {
                    warn!(path = %self.path.display(), %error, "event file cannot be written: lines are counted as lost");
                }
            }
        }
        self.end_batch();
    }

    /// Writes a line by itself; whether it could be. One that could not is no loss: who wrote it asks again.
    pub fn write_alone(&mut self, line: &[u8]) -> bool {
        self.flush();
        self.batch.extend_from_slice(line);
        let written = self.write_batch().is_ok();
        self.end_batch();
        written
    }

    fn end_batch(&mut self) {
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

    /// Lines that could not be written, by this daemon and those of the same maps before it.
    #[must_use]
    pub fn unwritten(&self) -> u64 {
        self.progress.account().unwritten
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let full = |open: &Open| {
            self.bytes_max > 0 && open.bytes > 0 && open.bytes + self.batch.len() as u64 > self.bytes_max
        };
        if self.open.as_ref().is_some_and(full) {
            self.open = None;
            fs::rename(&self.path, former(&self.path))?;
        }
        let open = match &mut self.open {
            Some(open) => open,
            none => none.insert(open(&self.path)?),
        };
        let (device, inode) = open.inode;
        let to = open.bytes + self.batch.len() as u64;
        let Of { ring, maker, until } = self.of;
        self.progress.note(Batch { device, inode, from: open.bytes, to, ring, maker, until });
        let written = open.file.write_all(&self.batch);
        match written {
            Ok(()) => open.bytes += self.batch.len() as u64,
            // Half a batch must not leave half a line for the next one to be appended to.
            Err(_) => open.file.set_len(open.bytes)?,
        }
        written
    }
}

/// What an event file is named when it is begun anew.
#[must_use]
pub fn former(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

fn open(path: &Path) -> io::Result<Open> {
    // Arguments and addresses of everybody are in it: for root alone, unless an operator says otherwise.
    let file = OpenOptions::new().create(true).read(true).append(true).mode(0o640).open(path)?;
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
        let mut file = File::open(&path, 100, Progress::of_our_own().unwrap()).unwrap();
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
        let mut file = File::open(&path, 0, Progress::of_our_own().unwrap()).unwrap();
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
        let mut file = File::open(&path, 0, Progress::of_our_own().unwrap()).unwrap();
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

    #[test]
    fn of_a_killed_daemon_whole_lines_count_and_half_a_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events.ndjson");
        let open = || File::open(&path, 0, Progress::of_our_own().unwrap()).unwrap();
        let mut file = open();
        file.append(b"{\"n\":1}\n");
        file.flush();
        file.read_until(700);
        file.append(b"{\"n\":2}\n");
        file.append(b"{\"n\":3}\n");
        file.flush();
        let noted = file.progress().batch();
        assert_eq!((noted.from, noted.to, noted.until), (8, 24, 700));

        assert_eq!(open().settle(&noted).unwrap(), Written::All);
        fs::write(&path, "{\"n\":1}\n{\"n\":2}\n{\"n").unwrap();
        let mut next = open();
        assert_eq!(next.settle(&noted).unwrap(), Written::Lines(1));
        next.pass_over(1);
        next.append(b"{\"n\":2}\n");
        next.append(b"{\"n\":3}\n");
        next.flush();
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
        fs::write(&path, "{\"n\":1}\n").unwrap();
        assert_eq!(open().settle(&noted).unwrap(), Written::Nothing);
        fs::rename(&path, dir.path().join("moved")).unwrap();
        fs::write(&path, "of somebody else's, and longer than it was").unwrap();
        assert_eq!(open().settle(&noted).unwrap(), Written::Nothing, "another file");
        assert!(fs::read_to_string(&path).unwrap().starts_with("of somebody"));
    }

    #[test]
    fn a_line_by_itself_that_cannot_be_written_is_no_loss() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log/events.ndjson");
        let mut file = File::open(&path, 0, Progress::of_our_own().unwrap()).unwrap();
        fs::remove_dir_all(dir.path().join("log")).unwrap();
        file.follow_name();
        assert!(!file.write_alone(b"{}\n"));
        fs::create_dir(dir.path().join("log")).unwrap();
        assert!(file.write_alone(b"{}\n"));
        assert_eq!((file.unwritten(), fs::read_to_string(&path).unwrap().as_str()), (0, "{}\n"));
    }
}
