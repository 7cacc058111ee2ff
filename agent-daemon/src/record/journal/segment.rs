//! Segments: what they are called, which there are, and reading them in order, compressed or not.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};

use flate2::bufread::MultiGzDecoder;

use crate::{
    config::settings::SEGMENT_DIGITS as DIGITS,
    event::{Event, word::Time},
};

/// A part of the journal, in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub path: PathBuf,
    /// Number of its first record; `None` for the one that is written to.
    pub first: Option<u64>,
    pub compressed: bool,
}

/// All segments that there are, the oldest first; the one that is written to comes last, also if it does not exist.
///
/// # Errors
/// When the directory cannot be read.
pub fn all(events_file: &Path) -> io::Result<Vec<Segment>> {
    let mut closed = closed(events_file)?;
    closed.push(Segment { path: events_file.to_owned(), first: None, compressed: false });
    Ok(closed)
}

/// Those that are not written to any more. Of one that is there twice, for its compressing was cut off, the plain one.
///
/// # Errors
/// When the directory cannot be read.
pub fn closed(events_file: &Path) -> io::Result<Vec<Segment>> {
    // One that gets its other name meanwhile may be passed over once, and not twice.
    let mut before = list(events_file)?;
    for _ in 0..LISTINGS_MAX {
        let now = list(events_file)?;
        if now.iter().map(|segment| segment.first).eq(before.iter().map(|segment| segment.first)) {
            return Ok(now);
        }
        before = now;
    }
    Ok(before)
}

fn list(events_file: &Path) -> io::Result<Vec<Segment>> {
    let (Some(stem), Some(ending)) = (events_file.file_stem(), events_file.extension().or(Some("".as_ref())))
    else {
        return Ok(Vec::new());
    };
    let (stem, ending) = (stem.to_string_lossy(), ending.to_string_lossy());
    let mut found = Vec::new();
    for entry in fs::read_dir(directory(events_file))? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(&*stem)?.strip_prefix('-')) else {
            continue;
        };
        let Some((digits, of)) = rest.split_at_checked(DIGITS) else { continue };
        let (Ok(first), Some(of)) = (digits.parse(), of.strip_prefix('.')) else { continue };
        let compressed = match of.strip_prefix(&*ending) {
            Some("") => false,
            Some(".gz") => true,
            _ => continue,
        };
        // One that blocks its reader is none of ours.
        if fs::metadata(entry.path()).is_ok_and(|of| of.is_file()) {
            found.push(Segment { path: entry.path(), first: Some(first), compressed });
        }
    }
    found.sort_by_key(|segment| (segment.first, segment.compressed));
    found.dedup_by_key(|segment| segment.first);
    Ok(found)
}

/// What the segment that begins with this record is called when it is closed.
#[must_use]
pub fn closed_path(events_file: &Path, first: u64) -> PathBuf {
    let stem = events_file.file_stem().unwrap_or_default().to_string_lossy();
    let ending = events_file.extension().map(|e| format!(".{}", e.to_string_lossy())).unwrap_or_default();
    events_file.with_file_name(format!("{stem}-{first:0DIGITS$}{ending}"))
}

/// The directory of a journal.
#[must_use]
pub fn directory(events_file: &Path) -> &Path {
    events_file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Opens a segment to be read from its beginning, whatever its form.
///
/// # Errors
/// When it cannot be opened.
pub fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    let file = match File::open(path) {
        // It may have been compressed since somebody looked which there are.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_compressed(path) => {
            let compressed = compressed_path(path);
            return if compressed.exists() { open(&compressed) } else { Err(error) };
        }
        file => file?,
    };
    Ok(if is_compressed(path) {
        Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER_BYTES, file)))
    } else {
        Box::new(file)
    })
}

/// Whether a read failed for what a compressed segment holds, so that it would again: it is cut, or altered.
#[must_use]
pub fn is_broken(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | UnexpectedEof)
}

/// Opens it to be read from a place in what it holds. What lies before a compressed one's place is read over.
///
/// # Errors
/// When it cannot be opened, or read so far.
pub fn open_at(path: &Path, bytes: u64) -> io::Result<Box<dyn Read + Send>> {
    if is_compressed(path) {
        let mut reader = open(path)?;
        io::copy(&mut reader.by_ref().take(bytes), &mut io::sink())?;
        return Ok(reader);
    }
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(bytes))?;
    Ok(Box::new(file))
}

/// How many bytes it holds; of a compressed one as its end says, for which a segment is small enough.
///
/// # Errors
/// When it cannot be looked at.
pub fn content_bytes(path: &Path) -> io::Result<u64> {
    let mut file = File::open(path)?;
    if !is_compressed(path) {
        return Ok(file.metadata()?.len());
    }
    file.seek(SeekFrom::End(-4))?;
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes).into())
}

/// Its first record; `None` where that cannot be read.
#[must_use]
pub fn first_record(path: &Path) -> Option<Event> {
    begin_of(path).ok().flatten()
}

/// Its first record; `None` where it holds none, or is cut or altered.
///
/// # Errors
/// When it cannot be read.
pub fn begin_of(path: &Path) -> io::Result<Option<Event>> {
    let mut line = Vec::new();
    match BufReader::new(open(path)?.take(LINE_BYTES_MAX)).read_until(b'\n', &mut line) {
        Err(error) if !is_broken(&error) => Err(error),
        _ => Ok(serde_json::from_slice(&line).ok()),
    }
}

fn first_of(from: impl Read) -> Option<Event> {
    let mut line = Vec::new();
    BufReader::new(from.take(LINE_BYTES_MAX)).read_until(b'\n', &mut line).ok()?;
    serde_json::from_slice(&line).ok()
}

/// A name beside a journal's file for what is set aside of it, which nothing has yet.
#[must_use]
pub fn aside(events_file: &Path, why: &str) -> PathBuf {
    let name = |ending: &str| {
        let mut name = events_file.as_os_str().to_owned();
        name.push(format!(".{why}{ending}"));
        PathBuf::from(name)
    };
    let (mut path, mut times) = (name(""), 1_u64);
    while path.symlink_metadata().is_ok() {
        times += 1;
        path = name(&format!(".{times}"));
    }
    path
}

/// A segment that is to be read.
#[derive(Debug)]
pub struct Part {
    pub path: PathBuf,
    /// The one that is written to is held from before it was looked which others there are: when it is closed meanwhile,
    /// and another begun, it is neither passed over nor read twice.
    held: Option<File>,
    closed: bool,
}

impl Part {
    /// A file that is no part of a journal, or one that is closed.
    #[must_use]
    pub fn of(path: PathBuf) -> Self {
        Self { path, held: None, closed: false }
    }

    /// Lets go of a closed segment that cannot be read, for there are others: what is to be told of it. Nothing of one that
    /// was removed meanwhile, which is recorded.
    ///
    /// # Errors
    /// When it is not one that may be left out.
    pub fn pass_over(&self, error: io::Error) -> io::Result<Option<String>> {
        match error.kind() {
            io::ErrorKind::NotFound if self.closed => Ok(None),
            _ if self.closed && is_broken(&error) => Ok(Some(format!(
                "{} is cut or altered ({error}): only what stands before that is told of it; `chaperone journal verify` says more",
                self.path.display()
            ))),
            io::ErrorKind::PermissionDenied => {
                Err(io::Error::new(error.kind(), format!("{error}: run this as root")))
            }
            _ => Err(error),
        }
    }

    /// Opens it to be read from its beginning, whatever its form; one reader at a time.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        match &self.held {
            Some(held) => Ok(Box::new(from_begin(held)?)),
            None => open(&self.path),
        }
    }

    /// Opens it to be read from any place; `None` where it is compressed, or cannot be opened under this name.
    #[must_use]
    pub fn plain(&self) -> Option<File> {
        match &self.held {
            Some(held) => from_begin(held).ok(),
            None if is_compressed(&self.path) => None,
            None => File::open(&self.path).ok(),
        }
    }
}

fn from_begin(held: &File) -> io::Result<File> {
    let mut file = held.try_clone()?;
    file.rewind()?;
    Ok(file)
}

/// The segments in which there can be records that happened since a time, the oldest first; a file that is not there where
/// there is no segment at all. A record is written soon after it happened; what lay in the ring buffer while no daemon
/// ran is at the beginning of what the next one wrote. Where the directory cannot be read, the file alone.
#[must_use]
pub fn since(events_file: &Path, time: Option<Time>) -> Vec<Part> {
    let (held, there) = match File::open(events_file) {
        Ok(file) => (Some(file), true),
        // Who reads it tells the error.
        Err(error) => (None, error.kind() != io::ErrorKind::NotFound),
    };
    let active = Part { path: events_file.to_owned(), held, closed: false };
    let active_first = active.open().ok().and_then(first_of).map(|first| first.seq);
    let Ok(closed) = closed(events_file) else { return vec![active] };
    let closed = closed.into_iter().filter(|one| active_first.is_none() || one.first != active_first);
    let mut parts: Vec<Part> =
        closed.map(|segment| Part { closed: true, ..Part::of(segment.path) }).collect();
    // Between two segments there is no such file for a moment.
    if there || parts.is_empty() {
        parts.push(active);
    }
    if let Some(time) = time {
        let begins_before =
            |part: &Part| part.open().ok().and_then(first_of).is_some_and(|first| first.time < time);
        // Only the first lines are read, and from the end: what is asked for is mostly of late.
        if let Some(at) = parts.iter().rposition(begins_before) {
            parts.drain(..at);
        }
    }
    parts
}

/// What a segment is called once it is compressed.
#[must_use]
pub fn compressed_path(plain: &Path) -> PathBuf {
    let mut name = plain.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "gz")
}

const LISTINGS_MAX: usize = 10;
const BUFFER_BYTES: usize = 256 << 10;
/// Longer first lines are none of ours.
const LINE_BYTES_MAX: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn segments_come_in_order_and_nothing_else_does() {
        let dir = tempfile::tempdir().unwrap();
        let active = dir.path().join("events.ndjson");
        for name in
            ["events-7.ndjson", "events.ndjson.head", "other-00000000000000000001.ndjson", "events.ndjson.1"]
        {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let plain = closed_path(&active, 12);
        assert!(plain.ends_with("events-00000000000000000012.ndjson"));
        fs::write(&plain, "").unwrap();
        fs::write(plain.with_extension("ndjson.gz"), "").unwrap();
        fs::write(closed_path(&active, 3).with_extension("ndjson.gz"), "").unwrap();
        fs::write(closed_path(&active, 3).with_extension("ndjson.gz.new"), "").unwrap();
        let found: Vec<_> = all(&active).unwrap().iter().map(|s| (s.first, s.compressed)).collect();
        assert_eq!(found, [(Some(3), true), (Some(12), false), (None, false)]);
    }

    #[test]
    fn a_segment_that_is_closed_while_others_are_read_is_read_once() {
        let dir = tempfile::tempdir().unwrap();
        let active = dir.path().join("events.ndjson");
        let line = |seq: u64| {
            let mut line = Vec::new();
            Event { time: Time(seq), seq, ..Event::default() }.write_line(&mut line);
            String::from_utf8(line).unwrap()
        };
        let read = |parts: &[Part]| -> String {
            let texts = parts.iter().map(|part| {
                let mut text = String::new();
                part.open().unwrap().read_to_string(&mut text).unwrap();
                text
            });
            texts.collect()
        };
        fs::write(closed_path(&active, 1), line(1)).unwrap();
        fs::write(&active, line(2)).unwrap();
        let parts = since(&active, None);
        // Twice: what is read once more is the same.
        for _ in 0..2 {
            assert_eq!(read(&parts), line(1) + &line(2));
        }
        fs::rename(&active, closed_path(&active, 2)).unwrap();
        fs::write(&active, line(3)).unwrap();
        assert_eq!(read(&parts), line(1) + &line(2));
        assert_eq!(read(&since(&active, None)), line(1) + &line(2) + &line(3));
        assert_eq!(read(&since(&active, Some(Time(3)))), line(2) + &line(3));
        // Closed between the opening and the listing.
        fs::hard_link(&active, closed_path(&active, 3)).unwrap();
        assert_eq!(read(&since(&active, None)), line(1) + &line(2) + &line(3));
        fs::remove_file(&active).unwrap();
        assert_eq!(read(&since(&active, None)), line(1) + &line(2) + &line(3));
    }

    #[test]
    fn a_closed_segment_that_is_gone_or_broken_does_not_end_the_reading() {
        let dir = tempfile::tempdir().unwrap();
        let active = dir.path().join("events.ndjson");
        fs::write(closed_path(&active, 1), "{\"seq\":1}\n").unwrap();
        fs::write(&active, "{\"seq\":2}\n").unwrap();
        let parts = since(&active, None);
        let error = |kind: io::ErrorKind| io::Error::from(kind);
        assert!(matches!(parts[0].pass_over(error(io::ErrorKind::NotFound)), Ok(None)));
        let told = parts[0].pass_over(error(io::ErrorKind::UnexpectedEof)).unwrap().unwrap();
        assert!(told.contains("events-00000000000000000001.ndjson is cut or altered"), "{told}");
        assert!(parts[0].pass_over(error(io::ErrorKind::PermissionDenied)).is_err());
        for part in [&parts[1], &Part::of(active)] {
            assert!(part.pass_over(error(io::ErrorKind::NotFound)).is_err());
        }
    }

    #[test]
    fn what_is_set_aside_takes_no_other_files_place() {
        let dir = tempfile::tempdir().unwrap();
        let active = dir.path().join("events.ndjson");
        for wanted in ["events.ndjson.torn-7", "events.ndjson.torn-7.2", "events.ndjson.torn-7.3"] {
            let path = aside(&active, "torn-7");
            assert!(path.ends_with(wanted), "{}", path.display());
            fs::write(path, "").unwrap();
        }
    }

    #[test]
    fn a_compressed_segment_reads_like_a_plain_one_from_any_place() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, gz) = (dir.path().join("a.ndjson"), dir.path().join("a.ndjson.gz"));
        let text = "{\"n\":1}\n{\"n\":2}\n".repeat(5_000);
        fs::write(&plain, &text).unwrap();
        let mut encoder =
            flate2::write::GzEncoder::new(File::create(&gz).unwrap(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
        for path in [&plain, &gz] {
            assert_eq!(content_bytes(path).unwrap(), text.len() as u64);
            for at in [0, 9, text.len(), text.len() + 100] {
                let mut read = String::new();
                open_at(path, at as u64).unwrap().read_to_string(&mut read).unwrap();
                assert_eq!(read, text.get(at..).unwrap_or_default());
            }
        }
    }
}
