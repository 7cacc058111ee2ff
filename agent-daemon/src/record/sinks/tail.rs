//! Reads records in order from one on, over all parts of the event file, and goes on where they are appended.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use tokio::sync::watch;
use tracing::warn;

use super::Record;
use crate::record::journal::{Extent, segment};

/// What is read next.
pub struct Tail {
    events_file: PathBuf,
    extent: watch::Receiver<Extent>,
    /// The last record that was given.
    after: u64,
    open: Option<Open>,
    /// Parts up to the one that begins here are read.
    done: u64,
    missed: u64,
    /// Up to here what is missing is counted.
    counted: u64,
    /// The part that was last told to be broken.
    told: Option<u64>,
}

struct Open {
    reader: BufReader<Box<dyn Read + Send>>,
    of: Of,
    path: PathBuf,
    /// A line that has no end yet.
    part: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Of {
    /// Device and inode of the active file.
    Active((u64, u64)),
    /// One that is written no more: its first record, and the next one's.
    Former(u64, Option<u64>),
}

impl Tail {
    /// Records after this one, of a file that is written to as far as its writer has said.
    #[must_use]
    pub fn after(events_file: &Path, extent: watch::Receiver<Extent>, seq: u64) -> Self {
        let events_file = events_file.to_owned();
        Self { events_file, extent, after: seq, open: None, done: 0, missed: 0, counted: seq, told: None }
    }

    /// Begins anew behind this one; what is missing is not counted twice.
    pub fn again_after(&mut self, seq: u64) {
        (self.after, self.open, self.done) = (seq, None, 0);
    }

    /// The next records, none where there are none yet.
    ///
    /// # Errors
    /// When a part cannot be read.
    pub fn next(&mut self, records_max: usize, bytes_max: usize) -> io::Result<Vec<Record>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < records_max && bytes < bytes_max {
            if self.open.is_none() {
                self.open = self.find()?;
            }
            let Some(open) = &mut self.open else { break };
            let read = open.reader.read_until(b'\n', &mut open.part);
            if let (Err(error), Of::Former(first, _)) = (&read, open.of)
                && segment::is_broken(error)
            {
                // What could be read is given; the rest is missing when the next part begins.
                if self.told.replace(first) != Some(first) {
                    let (part, error) = (open.path.display().to_string(), error.to_string());
                    warn!(
                        part,
                        error, "a part of the event file is broken: sinks get what can be read of it"
                    );
                }
                (self.done, self.open) = (first, None);
                continue;
            }
            read?;
            if open.part.last() == Some(&b'\n') {
                open.part.pop();
                let line = std::mem::take(&mut open.part);
                // A number from behind its part is none, in one that is altered.
                let next = if let Of::Former(_, next) = open.of { next } else { None };
                let Some(seq) = seq_of(&line).filter(|seq| *seq > self.after) else { continue };
                if next.is_some_and(|next| seq >= next) {
                    continue;
                }
                let from = self.after.max(self.counted);
                if seq - 1 > from {
                    self.missed += seq - 1 - from;
                    self.counted = seq - 1;
                }
                self.after = seq;
                bytes += line.len();
                batch.push(Record::new(seq, line));
                continue;
            }
            // Its end: of the active file only for now, unless it has been given another name.
            match open.of {
                Of::Active(inode) => {
                    let active = fs::metadata(&self.events_file).map(|m| (m.dev(), m.ino())).ok();
                    if active == Some(inode) {
                        break;
                    }
                }
                Of::Former(first, _) => self.done = first,
            }
            self.open = None;
        }
        Ok(batch)
    }

    /// Records that were gone before they were read, since this was last asked.
    pub fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }

    /// The part that has the next record: the last former one that begins at or before it and whose successor begins
    /// behind it, else the active file.
    fn find(&self) -> io::Result<Option<Open>> {
        // Held from before it is looked which others there are: one that is closed in between is read all the same.
        let active = match fs::File::open(&self.events_file) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let active_first = active.as_ref().map(first_of).transpose()?.flatten();
        if let Some((first, next, path)) = self.find_former(active_first)? {
            let reader = Box::new(Pieces(segment::open(&path)?)) as Box<dyn Read + Send>;
            let reader = BufReader::with_capacity(READ_BYTES, reader);
            return Ok(Some(Open { reader, of: Of::Former(first, next), path, part: Vec::new() }));
        }
        let Some(file) = active else { return Ok(None) };
        let metadata = file.metadata()?;
        let inode = (metadata.dev(), metadata.ino());
        let extent = self.extent.clone();
        let reader: Box<dyn Read + Send> = Box::new(Bounded { file, inode, extent, at: 0 });
        let (reader, path) = (BufReader::with_capacity(READ_BYTES, reader), self.events_file.clone());
        Ok(Some(Open { reader, of: Of::Active(inode), path, part: Vec::new() }))
    }

    fn find_former(&self, active_first: Option<u64>) -> io::Result<Option<(u64, Option<u64>, PathBuf)>> {
        let closed = segment::closed(&self.events_file)?.into_iter();
        let all: Vec<_> = closed.filter_map(|segment| Some((segment.first?, segment.path))).collect();
        let ends = |at: usize| all.get(at + 1).map(|(next, _)| *next).or(active_first);
        let wanted = self.after + 1;
        let of = all
            .iter()
            .enumerate()
            .find(|(at, (first, _))| *first > self.done && ends(*at).is_none_or(|next| next > wanted));
        Ok(of.map(|(at, (first, path))| (*first, ends(at), path.clone())))
    }
}

/// Reads little at a time: where what is compressed is broken, what was taken out of it in the same read is gone.
struct Pieces(Box<dyn Read + Send>);

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = into.len().min(PIECE_BYTES);
        self.0.read(&mut into[..most])
    }
}

/// A file that is written to: half a batch at its end may be taken back.
struct Bounded {
    file: fs::File,
    inode: (u64, u64),
    extent: watch::Receiver<Extent>,
    at: u64,
}

impl Read for Bounded {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let extent = *self.extent.borrow();
        // One that is written to no more is whole.
        let there = if extent.inode == self.inode { extent.bytes.saturating_sub(self.at) } else { u64::MAX };
        let most = usize::try_from(there).unwrap_or(usize::MAX).min(into.len());
        let got = self.file.read(&mut into[..most])?;
        self.at += got as u64;
        Ok(got)
    }
}

/// The number of its first record; it is to be read from its beginning after this.
fn first_of(mut file: &fs::File) -> io::Result<Option<u64>> {
    let mut line = Vec::new();
    BufReader::new(file).read_until(b'\n', &mut line)?;
    file.rewind()?;
    Ok(seq_of(&line))
}

/// The last record of the active file; 0 where there is none.
///
/// # Errors
/// When it is there and cannot be read.
pub fn newest(events_file: &Path) -> io::Result<u64> {
    let mut file = match fs::File::open(events_file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let from = file.metadata()?.len().saturating_sub(LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut end = Vec::new();
    file.read_to_end(&mut end)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at);
    Ok(end[..whole].split(|byte| *byte == b'\n').rev().find_map(seq_of).unwrap_or_default())
}

/// The last record that there is: where the active file has none yet, that of the part before it.
///
/// # Errors
/// When a part is there and cannot be read.
pub fn end(events_file: &Path) -> io::Result<u64> {
    let newest = newest(events_file)?;
    let Some(last) = segment::closed(events_file)?.pop().filter(|_| newest == 0) else { return Ok(newest) };
    let mut reader = BufReader::with_capacity(READ_BYTES, Pieces(segment::open(&last.path)?));
    let (mut end, mut line) = (0, Vec::new());
    loop {
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => break,
            // As far as it can be read.
            Err(error) if segment::is_broken(&error) => break,
            read => read?,
        };
        end = seq_of(&line).unwrap_or(end);
        line.clear();
    }
    Ok(end)
}

/// The number of a record, which is its second field.
#[must_use]
pub fn seq_of(line: &[u8]) -> Option<u64> {
    let key = b",\"seq\":";
    let at = line.get(..SEQ_WITHIN.min(line.len()))?.windows(key.len()).position(|w| w == key)? + key.len();
    let digits = line[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&line[at..at + digits]).ok()?.parse().ok()
}

const READ_BYTES: usize = 256 << 10;
const PIECE_BYTES: usize = 4 << 10;
/// Behind the time, which has a bound.
const SEQ_WITHIN: usize = 96;
/// No line is longer.
const LINE_BYTES_MAX: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn line(seq: u64) -> String {
        format!("{{\"time\":\"2026-01-31T12:00:00.000000000Z\",\"seq\":{seq},\"kind\":\"net_connect\"}}\n")
    }

    fn lines(range: std::ops::RangeInclusive<u64>) -> String {
        range.map(line).collect()
    }

    fn seqs(tail: &mut Tail) -> Vec<u64> {
        tail.next(1000, usize::MAX).unwrap().iter().map(|record| record.seq).collect()
    }

    #[test]
    fn records_come_in_order_from_one_on_over_all_parts_and_as_they_are_appended() {
        let dir = tempfile::tempdir().unwrap();
        let events = dir.path().join("events.ndjson");
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(lines(1..=10).as_bytes()).unwrap();
        fs::write(dir.path().join("events-00000000000000000001.ndjson.gz"), gz.finish().unwrap()).unwrap();
        fs::write(dir.path().join("events-00000000000000000011.ndjson"), lines(11..=20)).unwrap();
        fs::write(dir.path().join("events-00000000000000000011.ndjson.gz"), "half").unwrap();
        fs::write(&events, lines(21..=25) + "{\"time\":\"2026\",\"se").unwrap();
        let (says, extent) = watch::channel(Extent::default());
        let after = |seq: u64| Tail::after(&events, extent.clone(), seq);
        for seq in [0, 1, 9, 10, 11, 20, 24, 25] {
            let mut tail = after(seq);
            assert_eq!(seqs(&mut tail), (seq + 1..=25).collect::<Vec<_>>(), "after {seq}");
            assert_eq!(tail.take_missed(), 0);
        }
        let mut tail = after(23);
        assert_eq!(seqs(&mut tail), [24, 25]);
        fs::write(&events, lines(21..=26)).unwrap();
        let mut file = fs::OpenOptions::new().append(true).open(&events).unwrap();
        // Written in place of the half: the reader has that half, and the rest of the line.
        drop(tail);
        let mut tail = after(25);
        assert_eq!(seqs(&mut tail), [26]);
        file.write_all(&line(27).as_bytes()[..20]).unwrap();
        assert!(seqs(&mut tail).is_empty());
        file.write_all(&line(27).as_bytes()[20..]).unwrap();
        assert_eq!(seqs(&mut tail), [27]);
        // Begun anew while it was read.
        file.write_all(line(28).as_bytes()).unwrap();
        fs::rename(&events, dir.path().join("events-00000000000000000021.ndjson")).unwrap();
        assert_eq!(seqs(&mut tail), [28]);
        assert!(seqs(&mut tail).is_empty());
        fs::write(&events, lines(29..=30)).unwrap();
        assert_eq!(seqs(&mut tail), [29, 30]);
        assert_eq!(tail.take_missed(), 0);
        // Gone before it was read.
        fs::remove_file(dir.path().join("events-00000000000000000001.ndjson.gz")).unwrap();
        let mut tail = after(3);
        assert_eq!(seqs(&mut tail).first(), Some(&11));
        assert_eq!(tail.take_missed(), 7);
        // No further than its writer says, until another file is written to.
        let metadata = fs::metadata(&events).unwrap();
        let inode = (metadata.dev(), metadata.ino());
        says.send_replace(Extent { inode, bytes: line(29).len() as u64 });
        let mut tail = after(28);
        assert_eq!(seqs(&mut tail), [29]);
        assert!(seqs(&mut tail).is_empty());
        says.send_replace(Extent::default());
        assert_eq!(seqs(&mut tail), [30]);
        assert_eq!((newest(&events).unwrap(), newest(&dir.path().join("none")).unwrap()), (30, 0));
    }

    #[test]
    fn of_a_part_that_is_broken_comes_what_can_be_read_and_the_rest_is_missed_once() {
        let dir = tempfile::tempdir().unwrap();
        let events = dir.path().join("events.ndjson");
        let part = dir.path().join("events-00000000000000000001.ndjson.gz");
        fs::write(dir.path().join("events-00000000000000005001.ndjson"), lines(5_001..=5_010)).unwrap();
        fs::write(&events, lines(5_011..=5_020)).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(lines(1..=5_000).as_bytes()).unwrap();
        let whole = gz.finish().unwrap();
        let half = whole.len() / 2;
        let mut altered = whole.clone();
        altered[half..half + 64].fill(0xff);
        let mut sum = whole.clone();
        let last = sum.len() - 8;
        sum[last] ^= 1;
        for (name, holds, at_least) in [
            ("cut", &whole[..half], 1_500),
            ("altered", &altered[..], 500),
            ("its sum", &sum[..], 5_000),
            ("no gzip", b"half".as_slice(), 0),
            ("empty", b"".as_slice(), 0),
        ] {
            fs::write(&part, holds).unwrap();
            let mut tail = Tail::after(&events, watch::Sender::default().subscribe(), 0);
            let mut found = Vec::new();
            while let Some(more) = Some(seqs(&mut tail)).filter(|more| !more.is_empty()) {
                found.extend(more);
            }
            let of_it = found.iter().filter(|seq| **seq <= 5_000).count() as u64;
            assert!(of_it >= at_least, "{name}: {of_it}");
            assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{name}");
            assert!(found.ends_with(&(5_001..=5_020).collect::<Vec<_>>()), "{name}: {:?}", found.last());
            assert_eq!(tail.take_missed(), 5_000 - of_it, "{name}");
            // Behind a broken connection again, and not counted again.
            tail.again_after(3);
            while !seqs(&mut tail).is_empty() {}
            assert_eq!((tail.take_missed(), tail.told), (0, Some(1)), "{name}");
        }
        fs::write(&events, "").unwrap();
        fs::remove_file(dir.path().join("events-00000000000000005001.ndjson")).unwrap();
        fs::write(&part, &whole[..half]).unwrap();
        assert!(end(&events).unwrap() >= 1_500);
    }
}
