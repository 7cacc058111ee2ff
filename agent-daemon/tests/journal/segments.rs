//! Segments: closed at a size, compressed, read in order, and removed when they are too old or there is no room.

use std::{fs, path::PathBuf};

use chaperone::{
    config::settings::Keep,
    event::word::Time,
    record::{
        journal::{Journal, segment},
        progress::Progress,
    },
};

use super::{append, check, events, numbers, open, settings, wait_until};

#[test]
fn at_its_size_a_segment_is_closed_and_compressed_and_no_line_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let events_file = settings(dir.path(), 0).events_file;
    let mut journal = open(dir.path(), 2_000);
    for number in 1..=40 {
        append(&mut journal, number..=number);
    }
    journal.end();
    let closed = || segment::closed(&events_file).unwrap();
    assert!(closed().len() >= 3);
    wait_until("all are compressed", || closed().iter().all(|segment| segment.compressed));
    // The last line of a segment, its checkpoint included, may lie above the bound.
    assert!(closed().iter().all(|segment| segment::content_bytes(&segment.path).unwrap() < 2_000 + 1_000));
    assert!(numbers(dir.path()).into_iter().eq(1..=40));
    let all = events(dir.path());
    assert!(all.iter().map(|event| event.seq).eq(1..=all.len() as u64));
    let opened: Vec<_> = all.iter().filter_map(|event| event.journal.as_ref()).map(|of| of.segment).collect();
    assert!(opened.into_iter().eq(1..=closed().len() as u64 + 1));
    let report = check(dir.path());
    assert!(report.whole, "{report:?}");
    for (segment, next) in closed().iter().zip(closed().iter().skip(1)) {
        let first = segment::first_record(&next.path).unwrap();
        assert!(Some(first.seq) == next.first && segment.first < next.first);
    }
}

#[test]
fn of_what_is_asked_for_only_late_segments_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let events_file = settings(dir.path(), 0).events_file;
    let mut journal = open(dir.path(), 1_000);
    append(&mut journal, 1..=10);
    append(&mut journal, 11..=20);
    std::thread::sleep(std::time::Duration::from_millis(20));
    let middle = Time::now();
    append(&mut journal, 21..=30);
    append(&mut journal, 31..=40);
    journal.end();
    // None gets its other name between the two listings.
    wait_until("all are compressed", || {
        let closed = segment::closed(&events_file).unwrap();
        closed.len() == 3 && closed.iter().all(|one| one.compressed)
    });
    let since = |time: Option<Time>| -> Vec<PathBuf> {
        segment::since(&events_file, time).into_iter().map(|part| part.path).collect()
    };
    let (all, late) = (since(None), since(Some(middle)));
    assert!(late.len() < all.len() && all.ends_with(&late), "{late:?} of {all:?}");
    assert_eq!(since(Some(Time::now())), std::slice::from_ref(&events_file));
}

#[test]
fn half_done_compressing_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let events_file = settings(dir.path(), 0).events_file;
    let mut journal = open(dir.path(), 1_000);
    append(&mut journal, 1..=10);
    append(&mut journal, 11..=12);
    journal.end();
    drop(journal);
    let gz = || segment::closed(&events_file).unwrap().remove(0).path;
    wait_until("it is compressed", || gz().extension().is_some_and(|ending| ending == "gz"));
    let mut plain = String::new();
    std::io::Read::read_to_string(&mut segment::open(&gz()).unwrap(), &mut plain).unwrap();
    let (compressed, path) = (gz(), gz().with_extension(""));
    fs::write(&path, &plain).unwrap();
    // Killed before the new name, and before the old one went.
    for half in [path.with_extension("ndjson.gz.new"), compressed] {
        fs::write(&half, "half").unwrap();
        assert!(check(dir.path()).whole);
    }
    let mut journal = open(dir.path(), 1_000);
    journal.tick();
    wait_until("it is compressed again", || !path.exists());
    assert!(check(dir.path()).whole);
}

#[test]
fn old_segments_go_and_the_journal_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = settings(dir.path(), 1_000);
    let events_file = settings.events_file.clone();
    // A plain segment has some 3 kB here, a compressed one a fifth of it.
    settings.keep = Keep { keep_days: 366, keep_days_min: 183, bytes_max: 4_000 };
    let mut journal = Journal::open(settings, Progress::of_our_own().unwrap()).unwrap();
    let first = segment::closed_path(&events_file, 1);
    for number in 0..60 {
        append(&mut journal, number * 10 + 1..=number * 10 + 10);
        journal.tick();
    }
    wait_until("the oldest is gone", || {
        journal.tick();
        !first.exists() && !first.with_extension("ndjson.gz").exists()
    });
    journal.end();
    let report = check(dir.path());
    assert!(report.whole, "{report:?}");
    assert!(report.first_seq > 1, "{report:?}");
    // What was said of the first ones may have gone with others by now.
    let before_first = |removed: &&chaperone::event::journal::Removed| removed.to + 1 == report.first_seq;
    let removed = report.gaps.removed.iter().find(before_first).unwrap();
    assert_eq!((&*removed.why, removed.early), ("space", true));
    assert!(journal.standing_of_journal().removed_early > 0);
    // Without the words it would be somebody's doing: see `tamper`.
}

#[test]
fn an_event_file_that_is_a_link_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), 0);
    fs::create_dir_all(dir.path().join("log")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &settings.events_file).unwrap();
    let error = Journal::open(settings.clone(), Progress::of_our_own().unwrap()).unwrap_err().to_string();
    assert!(error.contains("symbolic link"), "{error}");
    assert!(settings.events_file.is_symlink() && !dir.path().join("elsewhere").exists());
}
