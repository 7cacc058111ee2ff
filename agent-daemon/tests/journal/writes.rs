//! What the journal writes, and goes on with: after an order, a crash, a full or vanished directory.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
};

use chaperone::{
    event::{Kind, journal::Range},
    record::{
        Recorder,
        journal::{Of, Written},
    },
};

use super::{append, check, event, events, files, numbers, open, settings, wait_until};

#[test]
fn numbers_and_hashes_go_on_over_starts_and_what_was_before_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut first = open(dir.path(), 0);
    assert_eq!(first.previous(), None);
    append(&mut first, 1..=3);
    first.end();
    drop(first);
    let mut second = open(dir.path(), 0);
    let previous = second.previous().unwrap();
    assert!(!previous.orderly, "nobody said that it ends");
    let mut line = Vec::new();
    let mut stopped = chaperone::event::Event { kind: Kind::DaemonStopped, ..Default::default() };
    append(&mut second, 4..=5);
    second.append(&mut stopped, &mut line);
    second.end();
    drop(second);
    assert!(open(dir.path(), 0).previous().unwrap().orderly);
    let report = check(dir.path());
    assert!(report.whole, "{report:?}");
    let all = events(dir.path());
    assert!(all.iter().map(|event| event.seq).eq(1..=all.len() as u64));
    assert!(all.iter().all(|event| event.hash.is_some()));
    let kinds: Vec<_> =
        all.iter().map(|event| event.kind.name()).filter(|name| *name != "process_exec").collect();
    assert_eq!(kinds, ["journal_opened", "checkpoint", "journal_opened", "daemon_stopped", "checkpoint"]);
    assert_eq!((report.checkpoints, report.unsigned, report.first_seq), (2, 0, 1));
}

#[test]
fn followers_get_the_line_that_is_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut recorder = Recorder::new(Some(open(dir.path(), 0)));
    let mut follower = recorder.followers.add(Default::default());
    recorder.append(&mut event(1));
    recorder.append(&mut event(2));
    recorder.flush();
    recorder.tick();
    let mut seen = Vec::new();
    while let Ok(line) = follower.lines.try_recv() {
        seen.extend_from_slice(&line);
    }
    let file = fs::read(settings(dir.path(), 0).events_file).unwrap();
    assert_eq!(String::from_utf8(seen).unwrap(), String::from_utf8(file).unwrap());
    assert_eq!(events(dir.path()).len(), 4);
}

#[test]
fn without_a_journal_events_are_numbered_from_one_and_have_no_hash() {
    let mut recorder = Recorder::new(None);
    let mut follower = recorder.followers.add(Default::default());
    recorder.append(&mut event(1));
    recorder.append(&mut event(2));
    recorder.tick();
    let second = [follower.lines.try_recv().unwrap(), follower.lines.try_recv().unwrap()][1].clone();
    let second: serde_json::Value = serde_json::from_slice(&second).unwrap();
    assert_eq!((&second["seq"], second.get("hash")), (&2.into(), None));
}

#[test]
fn a_torn_end_is_set_aside_and_told() {
    // Half a line, zeros of a file that grew without its content, anything.
    for torn in [&b"{\"time\":\"2026-"[..], &[0; 5000], b"\xff\n\n{}\n{\"half", b"\n"] {
        let dir = tempfile::tempdir().unwrap();
        let path = settings(dir.path(), 0).events_file;
        let mut journal = open(dir.path(), 0);
        append(&mut journal, 1..=3);
        journal.end();
        drop(journal);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(torn).unwrap();
        let mut journal = open(dir.path(), 0);
        append(&mut journal, 4..=4);
        journal.end();
        let report = check(dir.path());
        assert!(report.whole && report.gaps.torn_bytes == torn.len() as u64, "{report:?}");
        assert_eq!(numbers(dir.path()), [1, 2, 3, 4]);
        let aside = path.with_file_name("events.ndjson.torn-5");
        assert_eq!(fs::read(aside).unwrap(), torn);
    }
}

#[test]
fn records_that_the_head_has_and_the_file_has_not_are_missing_and_their_numbers_are_not_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = settings(dir.path(), 0).events_file;
    let mut journal = open(dir.path(), 0);
    append(&mut journal, 1..=2);
    journal.checkpoint();
    append(&mut journal, 3..=5);
    journal.end();
    drop(journal);
    let text = fs::read_to_string(&path).unwrap();
    let cut: String = text.split_inclusive('\n').take(5).collect();
    fs::write(&path, cut).unwrap();
    let mut journal = open(dir.path(), 0);
    append(&mut journal, 6..=6);
    journal.end();
    // The third is there, and nothing that is left proves it.
    let opened = events(dir.path()).into_iter().filter_map(|event| event.journal).last().unwrap();
    assert_eq!(opened.missing, Some(Range { from: 5, to: 7 }));
    let report = check(dir.path());
    assert!(report.whole && report.gaps.missing == 3 && report.gaps.torn_bytes > 0, "{report:?}");
    assert_eq!(numbers(dir.path()), [1, 2, 6]);
    assert_eq!(events(dir.path())[4].seq, 8);
}

#[test]
fn a_record_that_does_not_hold_is_not_repaired_and_recording_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = settings(dir.path(), 0).events_file;
    for altered_line in [0, 2] {
        drop(fs::remove_dir_all(dir.path().join("log")));
        let mut journal = open(dir.path(), 0);
        append(&mut journal, 1..=5);
        journal.end();
        drop(journal);
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        lines[altered_line] = lines[altered_line].replace("\"host\":\"host\"", "\"host\":\"evil\"");
        let altered = lines.concat();
        assert_ne!(altered, text);
        fs::write(&path, altered).unwrap();
        let mut journal = open(dir.path(), 0);
        append(&mut journal, 6..=7);
        journal.end();
        let report = check(dir.path());
        let broken = report.broken.unwrap();
        assert_eq!(broken.line, altered_line as u64 + 1, "{broken:?}");
        let opened = events(dir.path()).into_iter().filter_map(|event| event.journal).last().unwrap();
        assert!(opened.broken_at.is_some() && opened.continues.is_none());
        assert_eq!(numbers(dir.path()), [1, 2, 3, 4, 5, 6, 7]);
    }
}

#[test]
fn a_file_that_is_no_journal_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let path = settings(dir.path(), 0).events_file;
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "{\"time\":\"2026-01-01T00:00:00Z\",\"seq\":1}\n").unwrap();
    let mut journal = open(dir.path(), 0);
    append(&mut journal, 1..=1);
    journal.end();
    let report = check(dir.path());
    assert!(report.whole && report.gaps.set_aside[0].starts_with("events.ndjson.foreign-"), "{report:?}");
}

#[test]
fn a_file_that_was_moved_away_is_begun_anew_and_missed() {
    let dir = tempfile::tempdir().unwrap();
    let path = settings(dir.path(), 0).events_file;
    let mut journal = open(dir.path(), 0);
    append(&mut journal, 1..=2);
    fs::rename(&path, path.with_extension("moved")).unwrap();
    journal.tick();
    append(&mut journal, 3..=3);
    journal.end();
    assert_eq!(numbers(dir.path()), [3]);
    assert!(
        check(dir.path())
            .broken
            .unwrap()
            .what
            .contains("nothing signed in the journal says that they were removed")
    );
}

#[test]
fn what_cannot_be_written_is_counted_and_the_chain_goes_on_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut journal = open(dir.path(), 0);
    append(&mut journal, 1..=2);
    let kept = dir.path().join("kept");
    fs::rename(&log, &kept).unwrap();
    journal.tick();
    append(&mut journal, 3..=5);
    assert_eq!(journal.unwritten(), 3);
    let mut line = Vec::new();
    assert!(!journal.write_alone(&mut event(6), &mut line), "and this is no loss");
    assert_eq!(journal.unwritten(), 3);
    fs::rename(&kept, &log).unwrap();
    fs::rename(log.join("events.ndjson"), log.join("events-00000000000000000001.ndjson")).unwrap();
    assert!(journal.write_alone(&mut event(7), &mut line));
    append(&mut journal, 8..=8);
    journal.end();
    assert_eq!((journal.unwritten(), numbers(dir.path())), (3, vec![1, 2, 7, 8]));
    let all = events(dir.path());
    let seqs: Vec<_> = all.iter().map(|event| event.seq).collect();
    assert!(seqs.iter().copied().eq(1..=all.len() as u64), "{seqs:?}");
}

#[test]
fn of_a_killed_daemon_whole_lines_count_and_half_a_one_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = settings(dir.path(), 0).events_file;
    let mut journal = open(dir.path(), 0);
    append(&mut journal, 1..=1);
    let before = fs::metadata(&path).unwrap().len();
    journal.begin(Of { ring: 1, maker: 1, until: 0 });
    journal.read_until(700);
    append(&mut journal, 2..=4);
    let noted = journal.progress().batch();
    drop(journal);
    let whole = fs::read_to_string(&path).unwrap();
    assert_eq!((noted.from, noted.to, noted.until), (before, whole.len() as u64, 700));

    assert_eq!(open(dir.path(), 0).settle(&noted).unwrap(), Written::All);
    let half: usize = whole.split_inclusive('\n').take(3).map(str::len).sum();
    fs::write(&path, &whole.as_bytes()[..half + 20]).unwrap();
    let mut next = open(dir.path(), 0);
    assert_eq!(next.settle(&noted).unwrap(), Written::Lines(1));
    next.pass_over(1);
    append(&mut next, 2..=3);
    // Killed again: both daemons' lines are one batch.
    let noted = next.progress().batch();
    assert_eq!(noted.from, before);
    next.pass_over(0);
    append(&mut next, 4..=4);
    next.end();
    assert_eq!(numbers(dir.path()), [1, 2, 3, 4]);
    let report = check(dir.path());
    assert!(report.whole && report.gaps.torn_bytes == 20, "{report:?}");

    fs::write(&path, &whole.as_bytes()[..before as usize]).unwrap();
    assert_eq!(open(dir.path(), 0).settle(&noted).unwrap(), Written::Nothing);
    // What no checkpoint proves was set aside, where the head has more.
    assert!(!path.exists());
    fs::write(&path, &whole).unwrap();
    assert_eq!(open(dir.path(), 0).settle(&noted).unwrap(), Written::Nothing, "another file");
}

#[test]
fn the_head_is_behind_what_is_signed_and_there_soon() {
    let dir = tempfile::tempdir().unwrap();
    let head = settings(dir.path(), 0).events_file.with_extension("ndjson.head");
    let mut journal = open(dir.path(), 0);
    append(&mut journal, 1..=2);
    assert!(!head.exists());
    journal.tick();
    wait_until("the head is written", || head.exists());
    let report = check(dir.path());
    assert!(report.whole && report.notes.is_empty(), "{report:?}");
    assert!(files(dir.path()).iter().all(|file| file.extension().is_none_or(|ending| ending != "new")));
}

#[test]
fn a_file_that_is_moved_away_and_back_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = settings(dir.path(), 0).events_file;
    let mut journal = open(dir.path(), 0);
    append(&mut journal, 1..=2);
    fs::rename(&path, path.with_extension("away")).unwrap();
    journal.tick();
    fs::rename(path.with_extension("away"), &path).unwrap();
    append(&mut journal, 3..=4);
    journal.end();
    assert_eq!(numbers(dir.path()), [1, 2, 3, 4]);
    assert!(check(dir.path()).whole);
    assert!(!files(dir.path()).iter().any(|file| file.to_string_lossy().contains("foreign")));
}

#[test]
fn what_is_recorded_is_not_for_everybody() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let path = settings(dir.path(), 0).events_file;
    let mut journal = open(dir.path(), 0);
    append(&mut journal, 1..=2);
    journal.end();
    drop(journal);
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut file, b"{\"half\":").unwrap();
    drop(open(dir.path(), 0));
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(path.parent().unwrap()) & 0o007, 0);
    let torn: Vec<_> =
        files(dir.path()).into_iter().filter(|f| f.to_string_lossy().contains("torn")).collect();
    assert!(torn.len() == 1 && mode(&path) & 0o007 == 0, "{torn:?}");
    assert_eq!(mode(&path.with_file_name(&torn[0])) & 0o007, 0);
}

#[test]
fn a_key_that_is_gone_is_told_by_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = open(dir.path(), 0);
    append(&mut journal, 1..=2);
    journal.end();
    drop(journal);
    let first = super::key(dir.path());
    fs::remove_dir_all(dir.path().join("key")).unwrap();
    let mut journal = open(dir.path(), 0);
    append(&mut journal, 3..=3);
    journal.end();
    let events_file = settings(dir.path(), 0).events_file;
    let check = |keys: &[_]| {
        let question =
            chaperone::record::journal::verify::Question { events_file: &events_file, keys, expect: None };
        chaperone::record::journal::verify::verify(&question, |_, _| {}).unwrap()
    };
    let broken = check(std::slice::from_ref(&first)).broken.unwrap();
    assert!(broken.what.contains("which was not given"), "{broken:?}");
    assert!(check(&[first, super::key(dir.path())]).whole);
}
