//! What a power cut leaves of a segment that was closed a moment before: its new name, and not its last records.

use std::{fs, path::PathBuf};

use chaperone::record::journal::{checkpoint, segment};

use super::{append, check, events, numbers, open, settings, wait_until};

/// What is left of the file that was written to when the power went.
#[derive(Clone, Copy, Debug)]
enum Active {
    Gone,
    Empty,
    Whole,
}

/// A journal whose last closed segment is not yet compressed, and whose head is of a time before it.
fn closed_a_moment_ago(dir: &std::path::Path) -> (PathBuf, PathBuf) {
    let events_file = settings(dir, 0).events_file;
    // Beside the event file and beside the key.
    let heads = [
        events_file.with_extension("ndjson.head"),
        checkpoint::kept(&settings(dir, 0).key_dir, &events_file),
    ];
    let mut journal = open(dir, 4_000);
    append(&mut journal, 1..=3);
    journal.end();
    wait_until("the heads are there", || heads.iter().all(|head| head.exists()));
    let before = heads.each_ref().map(|head| fs::read(head).unwrap());
    drop(journal);
    let mut journal = open(dir, 4_000);
    append(&mut journal, 4..=20);
    append(&mut journal, 21..=22);
    journal.end();
    let closed = || segment::closed(&events_file).unwrap().pop().unwrap();
    wait_until("it is compressed", || closed().compressed);
    let gz = closed().path;
    let mut text = Vec::new();
    std::io::Read::read_to_end(&mut segment::open(&gz).unwrap(), &mut text).unwrap();
    fs::write(gz.with_extension(""), text).unwrap();
    fs::remove_file(&gz).unwrap();
    for (head, before) in heads.iter().zip(before) {
        fs::write(head, before).unwrap();
    }
    (events_file, gz.with_extension(""))
}

#[test]
fn a_closed_segment_that_lost_its_end_goes_on_and_the_loss_is_told() {
    for active in [Active::Gone, Active::Empty, Active::Whole] {
        let dir = tempfile::tempdir().unwrap();
        let (events_file, closed) = closed_a_moment_ago(dir.path());
        let text = fs::read(&closed).unwrap();
        // In the middle of a record, some before the end.
        fs::write(&closed, &text[..text.len() - 2_000]).unwrap();
        match active {
            Active::Gone => fs::remove_file(&events_file).unwrap(),
            Active::Empty => fs::write(&events_file, "").unwrap(),
            Active::Whole => {}
        }
        let mut journal = open(dir.path(), 0);
        append(&mut journal, 101..=102);
        journal.end();
        let report = check(dir.path());
        assert!(report.whole, "{active:?}: {report:?}");
        assert!(report.gaps.torn_bytes > 0 && report.gaps.missing == 0, "{active:?}: {report:?}");
        let all = events(dir.path());
        assert!(all.iter().map(|event| event.seq).eq(1..=all.len() as u64), "{active:?}");
        let numbers = numbers(dir.path());
        assert!(
            numbers.starts_with(&[1, 2, 3, 4]) && numbers.ends_with(&[101, 102]),
            "{active:?}: {numbers:?}"
        );
        assert!(!numbers.contains(&20) && !numbers.contains(&21), "{active:?}: {numbers:?}");
    }
}

#[test]
fn one_that_was_surely_on_the_disk_is_not_taken_back() {
    let dir = tempfile::tempdir().unwrap();
    let (events_file, closed) = closed_a_moment_ago(dir.path());
    let text = fs::read(&closed).unwrap();
    fs::write(&closed, &text[..text.len() - 2_000]).unwrap();
    let mut journal = open(dir.path(), 0);
    append(&mut journal, 101..=102);
    journal.end();
    drop(journal);
    // Now the head has all of it: an end that is cut off is somebody's doing.
    let lines = fs::read_to_string(&events_file).unwrap();
    let kept: String = lines.split_inclusive('\n').take(4).collect();
    let renamed = segment::closed_path(&events_file, 1);
    fs::write(&renamed, kept).unwrap();
    fs::remove_file(&events_file).unwrap();
    let mut journal = open(dir.path(), 0);
    append(&mut journal, 201..=201);
    journal.end();
    assert!(!check(dir.path()).whole);
    assert!(renamed.with_extension("ndjson.gz").exists() || renamed.exists());
}
