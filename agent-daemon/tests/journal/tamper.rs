//! The tamper matrix: a small journal of two segments, and everything that can be done to it by who has not the key.

use std::{collections::BTreeMap, fs, path::Path};

use chaperone::record::journal::{
    chain::{Hash, Link, split},
    segment,
    verify::{Broken, Question, Report, verify},
};

use super::{append, check, key, open, settings, wait_until};

/// A journal as files: closed segments, the event file, the head.
pub(super) struct Made {
    pub(super) dir: tempfile::TempDir,
    pub(super) closed: Vec<String>,
    /// File name → lines, each with its end.
    pub(super) lines: BTreeMap<String, Vec<Vec<u8>>>,
}

/// The file that is written to.
pub(super) const ACTIVE: &str = "events.ndjson";
/// Records behind the last checkpoint.
const UNSIGNED: usize = 3;

pub(super) fn made(segments: u32) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let events_file = settings(dir.path(), 0).events_file;
    let mut journal = open(dir.path(), 1_500);
    let head = events_file.with_extension("ndjson.head");
    for segment in 0..segments {
        append(&mut journal, segment * 10 + 1..=segment * 10 + 3);
        journal.checkpoint();
        let signed = journal.standing_of_journal().seq - 1;
        wait_until("the head has the checkpoint", || {
            // Nothing is there that it could sign.
            journal.tick();
            let head = fs::read(&head).unwrap_or_default();
            let head: serde_json::Value = serde_json::from_slice(&head).unwrap_or_default();
            // The one beside the key is written before it.
            head["seq"].as_u64() == Some(signed)
        });
        append(&mut journal, segment * 10 + 4..=segment * 10 + if segment + 1 < segments { 8 } else { 6 });
    }
    // What is behind the last checkpoint is what was added since.
    assert_eq!(journal.standing_of_journal().unsigned as usize, UNSIGNED);
    let closed = || segment::closed(&events_file).unwrap();
    wait_until("all are compressed", || {
        closed().len() as u32 == segments - 1 && closed().iter().all(|one| one.compressed)
    });
    drop(journal);
    // Plain, so that a byte is a byte; and nobody compresses them any more.
    let mut lines = BTreeMap::new();
    for segment in segment::all(&events_file).unwrap() {
        let mut content = Vec::new();
        std::io::Read::read_to_end(&mut segment::open(&segment.path).unwrap(), &mut content).unwrap();
        let path = if segment.compressed { segment.path.with_extension("") } else { segment.path.clone() };
        if segment.compressed {
            fs::remove_file(&segment.path).unwrap();
            fs::write(&path, &content).unwrap();
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        lines.insert(name, content.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect());
    }
    let closed = lines.keys().filter(|name| *name != ACTIVE).cloned().collect();
    let made = Made { dir, closed, lines };
    let report = check(made.dir.path());
    assert!(report.whole && report.unsigned as usize == UNSIGNED && report.notes.is_empty(), "{report:?}");
    made
}

impl Made {
    /// What a check says of it with this in a file's place.
    fn with(&self, name: &str, lines: &[Vec<u8>]) -> Report {
        let path = self.dir.path().join("log").join(name);
        fs::write(&path, lines.concat()).unwrap();
        let report = check(self.dir.path());
        fs::write(&path, self.lines[name].concat()).unwrap();
        report
    }

    fn files(&self) -> impl Iterator<Item = (&String, &Vec<Vec<u8>>)> {
        self.lines.iter()
    }

    /// Lines of a file that a checkpoint signs.
    pub(super) fn signed(&self, name: &str) -> usize {
        self.lines[name].len() - if name == ACTIVE { UNSIGNED } else { 0 }
    }
}

fn is_at(broken: &Option<Broken>, name: &str, line: usize) -> bool {
    broken.as_ref().is_some_and(|broken| broken.file.ends_with(name) && broken.line == line as u64)
}

#[test]
fn every_byte_that_is_altered_is_found_and_its_record_named() {
    let made = made(2);
    let mut tried = 0;
    for (name, lines) in made.files() {
        for (at, line) in lines.iter().enumerate() {
            for byte in 0..line.len() {
                for value in [line[byte] ^ 1, line[byte] ^ 0x20, b'\n'] {
                    if value == line[byte] {
                        continue;
                    }
                    let mut altered = lines.clone();
                    altered[at][byte] = value;
                    let report = made.with(name, &altered);
                    tried += 1;
                    // The very last end of a line that is still written to: as if it was being written.
                    let at_the_end = name == ACTIVE && at + 1 == lines.len() && byte + 1 == line.len();
                    if at_the_end {
                        assert!(report.whole && report.unfinished_bytes as usize == line.len());
                    } else {
                        assert!(
                            is_at(&report.broken, name, at + 1),
                            "{name}:{} byte {byte}: {report:?}",
                            at + 1
                        );
                    }
                }
            }
        }
    }
    assert!(tried > 10_000, "{tried}");
}

#[test]
fn every_record_that_is_removed_is_missed() {
    let made = made(2);
    for (name, lines) in made.files() {
        for at in 0..lines.len() {
            let mut without = lines.clone();
            without.remove(at);
            let report = made.with(name, &without);
            if name == ACTIVE && at + 1 == lines.len() {
                // Not signed yet, and the last: nothing hangs on it.
                assert!(report.whole, "{report:?}");
                continue;
            }
            let (broken, last) = (report.broken.clone().unwrap(), at + 1 == lines.len());
            assert!(
                is_at(&report.broken, name, if last { at } else { at + 1 }),
                "{name}:{} {broken:?}",
                at + 1
            );
            assert!(broken.what.contains("missing"), "{name}:{} {broken:?}", at + 1);
        }
    }
}

#[test]
fn records_that_change_places_or_come_twice_are_found() {
    let made = made(2);
    for (name, lines) in made.files() {
        for at in 0..lines.len() - 1 {
            let mut swapped = lines.clone();
            swapped.swap(at, at + 1);
            let report = made.with(name, &swapped);
            let broken = report.broken.clone().unwrap();
            assert!(is_at(&report.broken, name, at + 1), "{broken:?}");
            // A segment without its first record is told as that.
            assert!(
                broken.what.contains(if at == 0 { "missing" } else { "reordered" }),
                "{name}:{} {broken:?}",
                at + 1
            );
        }
        for at in 0..lines.len() {
            let mut twice = lines.clone();
            twice.insert(at, lines[at].clone());
            let report = made.with(name, &twice);
            let broken = report.broken.clone().unwrap();
            assert!(is_at(&report.broken, name, at + 2) && broken.what.contains("doubled"), "{broken:?}");
        }
    }
}

#[test]
fn a_tail_that_is_cut_off_is_missed_as_far_as_the_head_has_it() {
    let made = made(2);
    let lines = &made.lines[ACTIVE];
    let whole = lines.concat();
    // The head has the record before the last checkpoint.
    let on_disk: usize = lines[..made.signed(ACTIVE) - 1].iter().map(Vec::len).sum();
    for bytes in 0..whole.len() {
        let report = made.with(ACTIVE, &[whole[..bytes].to_vec()]);
        let ends: usize = lines
            .iter()
            .scan(0, |end, line| {
                *end += line.len();
                Some(*end)
            })
            .take_while(|end| *end <= bytes)
            .last()
            .unwrap_or(0);
        assert_eq!(report.unfinished_bytes as usize, bytes - ends);
        if bytes < on_disk {
            assert!(report.broken.unwrap().what.contains("missing at the end"), "{bytes}");
        } else {
            assert!(report.whole, "{bytes} {report:?}");
        }
    }
    // Without the head nothing tells but what somebody noted elsewhere.
    let log = made.dir.path().join("log");
    let noted = check(made.dir.path());
    let expect = Link { seq: noted.last_seq, hash: Hash::from_digits(noted.last_hash.as_bytes()).unwrap() };
    fs::remove_file(log.join("events.ndjson.head")).unwrap();
    let cut = &lines[..5];
    let report = made.with(ACTIVE, cut);
    assert!(report.whole && report.notes.len() == 1, "{report:?}");
    let question = |expect| {
        let events_file = log.join(ACTIVE);
        verify(&Question { events_file: &events_file, keys: &[key(made.dir.path())], expect }, |_, _| {})
            .unwrap()
    };
    assert!(question(Some(expect)).whole);
    fs::write(log.join(ACTIVE), cut.concat()).unwrap();
    assert!(question(Some(expect)).broken.unwrap().what.contains("is expected"));
}

#[test]
fn segments_that_are_removed_are_missed_unless_the_journal_says_so() {
    let made = made(3);
    let log = made.dir.path().join("log");
    let without = |name: &str| {
        fs::rename(log.join(name), log.join("away")).unwrap();
        let report = check(made.dir.path());
        fs::rename(log.join("away"), log.join(name)).unwrap();
        report
    };
    let first = without(&made.closed[0]);
    assert!(is_at(&first.broken, &made.closed[1], 1), "{first:?}");
    assert!(first.broken.unwrap().what.contains("nothing signed in the journal says that they were removed"));
    let middle = without(&made.closed[1]);
    assert!(is_at(&middle.broken, ACTIVE, 1) && middle.broken.unwrap().what.contains("missing"));
    let last = without(ACTIVE);
    assert!(last.broken.unwrap().what.contains("missing at the end"));
    // Two that change names.
    let (one, two) = (&made.closed[0], &made.closed[1]);
    fs::write(log.join(one), made.lines[two].concat()).unwrap();
    fs::write(log.join(two), made.lines[one].concat()).unwrap();
    assert!(check(made.dir.path()).broken.is_some());
}

pub(super) fn field(line: &[u8], path: &str) -> serde_json::Value {
    serde_json::from_slice::<serde_json::Value>(line).unwrap().pointer(path).unwrap().clone()
}

#[test]
fn what_is_of_another_journal_is_found() {
    let (made, other) = (made(2), made(2));
    let first = &made.closed[0];
    let report = made.with(first, &other.lines[first]);
    assert!(is_at(&report.broken, first, 1) && report.broken.unwrap().what.contains("was not given"));
    let report = made.with(ACTIVE, &other.lines[ACTIVE]);
    assert!(is_at(&report.broken, ACTIVE, 1) && report.broken.unwrap().what.contains("another journal"));
    for at in 1..made.lines[ACTIVE].len() {
        let mut spliced = made.lines[ACTIVE].clone();
        spliced[at] = other.lines[ACTIVE][at].clone();
        let report = made.with(ACTIVE, &spliced);
        assert!(
            is_at(&report.broken, ACTIVE, at + 1)
                && report.broken.clone().unwrap().what.contains("elsewhere"),
            "{report:?}"
        );
        // Its end as a whole.
        let spliced = [&made.lines[ACTIVE][..at], &other.lines[ACTIVE][at..]].concat();
        let report = made.with(ACTIVE, &spliced);
        assert!(is_at(&report.broken, ACTIVE, at + 1), "{report:?}");
    }
}

/// The chain made anew over all files, and no head.
fn remade(
    made: &Made,
    change: impl FnMut(&mut serde_json::Map<String, serde_json::Value>) -> bool,
) -> Report {
    remake(made, change);
    fs::remove_file(made.dir.path().join("log/events.ndjson.head")).unwrap();
    check(made.dir.path())
}

/// Makes the chain anew over all files, as anybody can who may write them; `change` is given each record.
pub(super) fn remake(
    made: &Made,
    mut change: impl FnMut(&mut serde_json::Map<String, serde_json::Value>) -> bool,
) {
    let mut link = Link::default();
    for name in made.closed.iter().map(String::as_str).chain([ACTIVE]) {
        let mut content = Vec::new();
        for line in &made.lines[name] {
            let (body, _) = split(line.trim_ascii_end()).unwrap();
            let mut record: serde_json::Value = serde_json::from_slice(&[body, b"}"].concat()).unwrap();
            let record = record.as_object_mut().unwrap();
            let before = (link.seq, link.hash.to_string());
            for (field, of) in [("journal", "continues"), ("checkpoint", "")] {
                let Some(mut place) = record.get_mut(field) else { continue };
                if !of.is_empty() {
                    match place.get_mut(of) {
                        Some(inner) => place = inner,
                        None => continue,
                    }
                }
                place["seq"] = before.0.into();
                place["hash"] = before.1.as_str().into();
            }
            if !change(record) {
                continue;
            }
            record.insert("seq".into(), (link.seq + 1).into());
            let mut line = serde_json::to_vec(record).unwrap();
            line.push(b'\n');
            link = link.seal(&mut line);
            content.extend(line);
        }
        fs::write(made.dir.path().join("log").join(name), content).unwrap();
    }
}

#[test]
fn a_chain_that_is_made_anew_without_the_key_is_found() {
    let of = made(2);
    let report = remade(&of, |record| {
        if let Some(subject) = record.get_mut("pid").filter(|pid| **pid == 2) {
            *subject = 666.into();
        }
        true
    });
    assert!(report.broken.unwrap().what.contains("forged"));
    // Without the checkpoints, which would tell.
    let report = remade(&made(2), |record| record["kind"] != "checkpoint");
    assert!(report.broken.unwrap().what.contains("does not end with a checkpoint"));
    let report = remade(&made(1), |record| record["kind"] != "checkpoint");
    assert!(report.broken.unwrap().what.contains("nothing is signed"));
}

#[test]
fn a_checkpoint_of_another_key_is_forged() {
    let of = made(1);
    let other = made(1);
    let foreign = other.lines[ACTIVE].iter().find_map(|line| {
        let record: serde_json::Value = serde_json::from_slice(line).unwrap();
        record.get("checkpoint").cloned()
    });
    let foreign = foreign.unwrap();
    let report = remade(&of, |record| {
        if let Some(checkpoint) = record.get_mut("checkpoint") {
            checkpoint["signature"] = foreign["signature"].clone();
        }
        true
    });
    assert!(report.broken.unwrap().what.contains("forged"));
    // The other key as a whole: who was given the right one sees it.
    let wrong = [key(other.dir.path())];
    let events_file = settings(Path::new(of.dir.path()), 0).events_file;
    let report =
        verify(&Question { events_file: &events_file, keys: &wrong, expect: None }, |_, _| {}).unwrap();
    assert!(report.broken.unwrap().what.contains("was not given"));
}

#[test]
fn a_compressed_segment_that_is_altered_is_found() {
    let made = made(2);
    let plain = made.dir.path().join("log").join(&made.closed[0]);
    let gz = plain.with_extension("ndjson.gz");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, &made.lines[&made.closed[0]].concat()).unwrap();
    let bytes = encoder.finish().unwrap();
    fs::remove_file(&plain).unwrap();
    fs::write(&gz, &bytes).unwrap();
    assert!(check(made.dir.path()).whole);
    let mut tried = 0;
    for at in 0..bytes.len() {
        let mut altered = bytes.clone();
        altered[at] ^= 0x20;
        fs::write(&gz, &altered).unwrap();
        let mut content = Vec::new();
        let read = std::io::Read::read_to_end(&mut segment::open(&gz).unwrap(), &mut content);
        if read.is_ok() && content == made.lines[&made.closed[0]].concat() {
            // A bit that says nothing: all records are as they were.
            continue;
        }
        tried += 1;
        let report = check(made.dir.path());
        assert!(report.broken.is_some_and(|broken| broken.file == gz), "byte {at}");
    }
    assert!(tried > bytes.len() / 2, "{tried}");
}
