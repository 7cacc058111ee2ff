//! Events in order since a time: the journal's segments in blocks, of which a pass chooses the lines.

use std::{
    fs::File,
    io::{ErrorKind, Read as Reader, Seek as _, SeekFrom},
    ops::Range,
    path::Path,
    sync::mpsc::{self, Receiver, SyncSender},
    thread,
};

use anyhow::{Context as _, Result};
use memchr::{memchr, memrchr};

use crate::{
    event::word::Time,
    record::journal::segment::{self, Part},
    trail::Pass,
};

/// Where events are, and which of them are wanted.
#[derive(Debug, Default)]
pub struct Source {
    /// In order of time.
    pub parts: Vec<Part>,
    pub since: Option<Time>,
    pub until: Option<Time>,
}

impl Source {
    /// One file.
    #[must_use]
    pub fn file(path: &Path, since: Option<Time>, until: Option<Time>) -> Self {
        Self { parts: vec![Part::of(path.to_owned())], since, until }
    }

    /// The journal's segments in which there can be events since a time.
    #[must_use]
    pub fn journal(events_file: &Path, since: Option<Time>, until: Option<Time>) -> Self {
        Self { parts: segment::since(events_file, since), since, until }
    }
}

/// What was read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Read {
    /// Times of the first and of the last line.
    pub first: Option<Time>,
    pub last: Option<Time>,
    pub bytes: u64,
}

/// Hands a pass, in order, the lines that may concern it. Where there is a time to begin at, what lies before it is not
/// read.
pub fn read(source: &Source, pass: &mut dyn Pass) -> Result<Read> {
    let mut read = Read::default();
    thread::scope(|scope| {
        // What is read and unpacked ahead is bounded by what these two hold.
        let (full, blocks) = mpsc::sync_channel(AHEAD_BLOCKS);
        let (empty, used) = mpsc::sync_channel(AHEAD_BLOCKS);
        thread::Builder::new()
            .name("trail-read".to_owned())
            .spawn_scoped(scope, move || supply(source, &full, &used))
            .context("start a thread to read with")?;
        for block in blocks {
            let block: Block = block?;
            let lines = &block.bytes[block.lines.clone()];
            read.bytes += block.got;
            let last = note(lines, &mut read);
            some(lines, pass);
            let behind = |at: Time| source.until.is_some_and(|until| at.0 > until.0 + DISORDER_NS);
            // Not one record alone: its clock may have been wrong.
            if last.is_some_and(behind) && lines.split(|byte| *byte == b'\n').filter_map(time).all(behind) {
                break;
            }
            // One too many is let go.
            drop(empty.try_send(block));
        }
        Ok(read)
    })
}

/// Whole lines of a file, with what they were read into.
#[derive(Default)]
struct Block {
    bytes: Vec<u8>,
    lines: Range<usize>,
    got: u64,
}

/// Reads all files in order, until nobody takes the blocks any more.
fn supply(source: &Source, full: &SyncSender<Result<Block>>, used: &Receiver<Block>) {
    for part in &source.parts {
        let path = &part.path;
        let each = begun(part, source.since).and_then(|file| {
            let mut lines = Lines { file, rest: Vec::new(), within_a_giant: false, failed: None };
            loop {
                let mut block = used.try_recv().unwrap_or_default();
                let more = lines.fill(&mut block)?;
                if full.send(Ok(block)).is_err() {
                    return Ok(false);
                }
                if !more {
                    return Ok(true);
                }
            }
        });
        match each.or_else(|error| told(part.pass_over(error)?)) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                let error = if error.kind() == ErrorKind::NotFound {
                    anyhow::anyhow!(
                        "{} does not exist: has the daemon ever run? (--file names another)",
                        path.display()
                    )
                } else {
                    anyhow::Error::new(error).context(format!("read {}", path.display()))
                };
                // Nobody to tell it to: the end of the wanted time was passed before.
                drop(full.send(Err(error)));
                return;
            }
        }
    }
}

/// Tells what was left out, and goes on.
fn told(left_out: Option<String>) -> std::io::Result<bool> {
    if let Some(left_out) = left_out {
        anstream::eprintln!("chaperone: {left_out}");
    }
    Ok(true)
}

/// A segment, where there is a time from a place soon before it. Compressed ones have no places: they are small.
fn begun(part: &Part, since: Option<Time>) -> std::io::Result<Box<dyn Reader + Send>> {
    let Some((since, mut file)) = since.and_then(|since| Some((since, part.plain()?))) else {
        return part.open();
    };
    let at = begin(&mut file, Time(since.0.saturating_sub(DISORDER_NS)))?;
    file.seek(SeekFrom::Start(at))?;
    Ok(Box::new(file))
}

/// A file, cut into blocks of whole lines.
struct Lines {
    file: Box<dyn Reader + Send>,
    /// The begin of a line whose end was not read yet.
    rest: Vec<u8>,
    /// A line that is longer than the largest block is none of ours: it is passed over to its end.
    within_a_giant: bool,
    /// What ended it, told when the lines before it are handed on.
    failed: Option<std::io::Error>,
}

impl Lines {
    /// Whether there may be more.
    fn fill(&mut self, block: &mut Block) -> std::io::Result<bool> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let bytes = &mut block.bytes;
        let mut filled = self.rest.len();
        bytes.resize(bytes.len().max(filled + CHUNK_BYTES), 0);
        bytes[..filled].copy_from_slice(&self.rest);
        block.got = 0;
        loop {
            let got = self.file.read(&mut bytes[filled..]).unwrap_or_else(|error| {
                self.failed = Some(error);
                0
            });
            let at_end = got == 0;
            block.got += got as u64;
            filled += got;
            // What is unpacked comes in small parts.
            if !at_end && filled < CHUNK_BYTES {
                continue;
            }
            let end = match memrchr(b'\n', &bytes[..filled]) {
                Some(newline) => newline + 1,
                None if at_end => filled,
                None if filled < bytes.len() => continue,
                None if filled < BLOCK_BYTES => {
                    bytes.resize((2 * filled).min(BLOCK_BYTES), 0);
                    continue;
                }
                None => {
                    (filled, self.within_a_giant) = (0, true);
                    continue;
                }
            };
            let mut begin = 0;
            if end > 0 && std::mem::take(&mut self.within_a_giant) {
                begin = memchr(b'\n', &bytes[..end]).map_or(end, |newline| newline + 1);
            }
            self.rest.clear();
            self.rest.extend_from_slice(&bytes[end..filled]);
            block.lines = begin..end;
            // What is left at the end is a line that was not finished: the next block is that.
            return Ok(!at_end || !self.rest.is_empty() || self.failed.is_some());
        }
    }
}

/// Hands on the lines of a block that the pass finds something in.
fn some(mut lines: &[u8], pass: &mut dyn Pass) {
    while let Some(at) = pass.next(lines) {
        let begin = memrchr(b'\n', &lines[..at]).map_or(0, |newline| newline + 1);
        let end = memchr(b'\n', &lines[at..]).map_or(lines.len(), |length| at + length);
        pass.line(lines[begin..end].trim_ascii_end());
        lines = &lines[(end + 1).min(lines.len())..];
    }
}

fn note(lines: &[u8], read: &mut Read) -> Option<Time> {
    let whole = lines.trim_ascii_end();
    let last = time(&whole[memrchr(b'\n', whole).map_or(0, |newline| newline + 1)..]);
    read.first = read.first.or_else(|| lines.split(|byte| *byte == b'\n').next().and_then(time));
    read.last = last.or(read.last);
    last
}

/// The time that a line begins with.
fn time(line: &[u8]) -> Option<Time> {
    let text = line.strip_prefix(b"{\"time\":\"")?.get(..30)?;
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Where the first line stands that is not before a time: halved until little is left.
fn begin(file: &mut File, since: Time) -> std::io::Result<u64> {
    let (mut low, mut high) = (0, file.metadata()?.len());
    let mut buffer = vec![0; LINE_BYTES];
    while high - low > CHUNK_BYTES as u64 {
        let middle = low + (high - low) / 2;
        file.seek(SeekFrom::Start(middle))?;
        let mut filled = 0;
        while filled < buffer.len() {
            let got = file.read(&mut buffer[filled..])?;
            if got == 0 {
                break;
            }
            filled += got;
        }
        let whole = buffer[..filled].split(|byte| *byte == b'\n').skip(1).find_map(time);
        match whole {
            Some(at) if at < since => low = middle,
            Some(_) => high = middle,
            None => break,
        }
    }
    if low == 0 {
        return Ok(0);
    }
    // The rest of the line that the place falls into was before it.
    file.seek(SeekFrom::Start(low))?;
    let got = file.read(&mut buffer)?;
    let newline = buffer[..got].iter().position(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok(low + newline as u64)
}

/// No line is longer.
const BLOCK_BYTES: usize = 4 << 20;
/// Read at once: what fits a processor's own cache, until a line is longer.
const CHUNK_BYTES: usize = 256 << 10;
/// Blocks that wait for the pass.
const AHEAD_BLOCKS: usize = 4;
/// Within so much there is the begin of a line and its time.
const LINE_BYTES: usize = 64 << 10;
/// Events of one moment can be recorded in another order; by so much at most.
const DISORDER_NS: u64 = 10_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    struct All(Vec<String>);

    impl Pass for All {
        fn next(&self, block: &[u8]) -> Option<usize> {
            block.windows(2).position(|two| two == b"ye")
        }
        fn line(&mut self, line: &[u8]) {
            self.0.push(String::from_utf8_lossy(line).into_owned());
        }
    }

    #[test]
    fn only_lines_with_the_text_and_since_the_time_are_handed_on() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let line = |n: u64, what: &str| {
            let filler = "x".repeat(1000);
            format!("{{\"time\":\"{}\",\"{what}\":{n},\"f\":\"{filler}\"}}\n", Time(n * 1_000_000_000))
        };
        let text: String = (1..20_001).map(|n| line(n, if n % 5000 == 0 { "yes" } else { "no" })).collect();
        std::fs::write(&path, text + "{\"time\":\"unfinished, yes").unwrap();
        let mut source = Source::file(&path, None, None);
        let mut all = All(Vec::new());
        let read_all = read(&source, &mut all).unwrap();
        assert_eq!((all.0.len(), read_all.first), (5, Some(Time(1_000_000_000))));
        source.since = Some(Time(14_999_000_000_000));
        let mut some = All(Vec::new());
        let read_some = read(&source, &mut some).unwrap();
        assert!(some.0[0].contains("\"yes\":15000"), "{}", some.0[0].len());
        assert_eq!(some.0.len(), 3);
        assert!(read_some.bytes < read_all.bytes / 2, "{} of {}", read_some.bytes, read_all.bytes);
    }

    #[test]
    fn one_record_of_a_clock_put_forward_ends_no_reading() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        let line = |n: u64, what: &str| {
            format!(
                "{{\"time\":\"{}\",\"{what}\":{n},\"f\":\"{}\"}}\n",
                Time(n * 1_000_000_000),
                "x".repeat(1000)
            )
        };
        let mut text = String::new();
        for n in 1..2_001 {
            text += &line(n, if n % 500 == 0 { "yes" } else { "no" });
            // More than one of them ends a block.
            text += &line(n + 900_000, "no");
        }
        text += &(3_000..6_000).map(|n| line(n, "yes")).collect::<String>();
        std::fs::write(&path, text).unwrap();
        let mut all = All(Vec::new());
        let source = Source::file(&path, None, Some(Time(2_100_000_000_000)));
        let read = read(&source, &mut all).unwrap();
        assert_eq!(all.0.iter().filter(|line| !line.contains("\"yes\":3")).count(), 4);
        assert!(read.bytes < path.metadata().unwrap().len(), "what lies behind is not read to its end");
    }

    #[test]
    fn a_line_longer_than_a_block_is_passed_over_and_the_next_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events");
        std::fs::write(&path, format!("yes 1\n{}\nyes 2\n", "ye".repeat(BLOCK_BYTES))).unwrap();
        let mut all = All(Vec::new());
        read(&Source::file(&path, None, None), &mut all).unwrap();
        assert_eq!(all.0, ["yes 1", "yes 2"]);
    }
}
