//! What somebody who has not the key does between two daemons: the next one must not sign it.

use std::{fs, path::Path};

use chaperone::record::{
    journal::{
        Journal,
        chain::{Hash, Link, split},
        checkpoint,
        verify::Report,
    },
    progress::Progress,
};

use super::{
    append, check, events, numbers, open, settings,
    tamper::{ACTIVE, field, made, remake},
    wait_until,
};

#[test]
fn a_removal_that_is_not_signed_excuses_nothing() {
    let made = made(2);
    let log = made.dir.path().join("log");
    let lines = &made.lines[ACTIVE];
    fs::remove_file(log.join(&made.closed[0])).unwrap();
    let before = field(&lines[0], "/journal/continues");
    let removed = serde_json::json!({
        "from": 1, "to": before["seq"], "last_hash": before["hash"], "until": "2026-01-31T12:00:00.000000000Z",
        "segments": 1, "why": "age", "early": false,
    });
    let last = field(lines.last().unwrap(), "/seq").as_u64().unwrap();
    fs::write(log.join(ACTIVE), planted(lines, last + 1, "segments_removed", "removed", removed).concat())
        .unwrap();
    let told = |report: Report| report.broken.unwrap().what;
    assert!(told(check(made.dir.path())).contains("nothing signed in the journal says"));
    // Nor does a daemon sign it that finds it there.
    let mut journal = open(made.dir.path(), 0);
    append(&mut journal, 90..=91);
    journal.end();
    assert!(told(check(made.dir.path())).contains("nothing signed in the journal says"));
}

#[test]
fn a_hole_that_is_not_signed_for_is_found_and_told_by_the_next_daemon() {
    let made = made(1);
    let log = made.dir.path().join("log");
    let lines = &made.lines[ACTIVE];
    let head = fs::read(log.join("events.ndjson.head")).unwrap();
    let head = field(&head, "/seq").as_u64().unwrap();
    let cut = &lines[..2];
    let last = field(&cut[1], "/seq").as_u64().unwrap();
    assert!(last + 1 < head);
    let mut opened = field(&lines[0], "/journal");
    opened["continues"] = serde_json::json!({ "seq": last, "hash": field(&cut[1], "/hash") });
    opened["missing"] = serde_json::json!({ "from": last + 1, "to": head });
    let planted = planted(cut, head + 1, "journal_opened", "journal", opened);
    fs::write(log.join(ACTIVE), planted.concat()).unwrap();
    let what = check(made.dir.path()).broken.unwrap().what;
    assert!(what.contains("the record that says so is not signed"), "{what}");
    // The next one says in its own name what is gone, and signs it before anything else.
    let mut journal = open(made.dir.path(), 0);
    append(&mut journal, 90..=90);
    let report = check(made.dir.path());
    // No checkpoint was left that proves the two before the hole.
    assert!(report.whole && report.gaps.missing == head && report.gaps.torn_bytes > 0, "{report:?}");
    assert_eq!(report.unsigned, 0);
    journal.end();
}

#[test]
fn what_a_checkpoint_says_beside_what_it_signs_excuses_nothing() {
    let made = made(2);
    let log = made.dir.path().join("log");
    let mut journal = open(made.dir.path(), 0);
    append(&mut journal, 80..=80);
    journal.end();
    drop(journal);
    let text = fs::read_to_string(log.join(ACTIVE)).unwrap();
    let mut lines: Vec<Vec<u8>> = text.split_inclusive('\n').map(|line| line.as_bytes().to_vec()).collect();
    let before = field(&lines[0], "/journal/continues");
    let (body, _) = split(lines.last().unwrap().trim_ascii_end()).unwrap();
    let mut last: serde_json::Value = serde_json::from_slice(&[body, b"}"].concat()).unwrap();
    assert_eq!(last["kind"], "checkpoint");
    // Nothing is signed behind the last checkpoint, so that it can be put together anew.
    last["removed"] = serde_json::json!({
        "from": 1, "to": before["seq"], "last_hash": before["hash"], "until": "2026-01-31T12:00:00.000000000Z",
        "segments": 1, "why": "age", "early": false,
    });
    let link = split(lines[lines.len() - 2].trim_ascii_end()).unwrap().1;
    let mut line = serde_json::to_vec(&last).unwrap();
    line.push(b'\n');
    Link { seq: last["seq"].as_u64().unwrap() - 1, hash: link }.seal(&mut line);
    *lines.last_mut().unwrap() = line;
    fs::write(log.join(ACTIVE), lines.concat()).unwrap();
    fs::remove_file(log.join(&made.closed[0])).unwrap();
    let mut journal = open(made.dir.path(), 0);
    append(&mut journal, 90..=91);
    journal.end();
    let what = check(made.dir.path()).broken.unwrap().what;
    assert!(what.contains("nothing signed in the journal says"), "{what}");
}

#[test]
fn what_was_signed_before_a_hole_that_is_not_stays() {
    let made = made(1);
    let log = made.dir.path().join("log");
    let lines = &made.lines[ACTIVE];
    let signed = made.signed(ACTIVE);
    let head = field(&fs::read(log.join("events.ndjson.head")).unwrap(), "/seq").as_u64().unwrap();
    let last = field(&lines[signed - 1], "/seq").as_u64().unwrap();
    let mut opened = field(&lines[0], "/journal");
    opened["continues"] = serde_json::json!({ "seq": last, "hash": field(&lines[signed - 1], "/hash") });
    opened["missing"] = serde_json::json!({ "from": last + 1, "to": last + 9 });
    let planted = planted(&lines[..signed], last + 10, "journal_opened", "journal", opened);
    fs::write(log.join(ACTIVE), planted.concat()).unwrap();
    assert!(head < last);
    let mut journal = open(made.dir.path(), 0);
    append(&mut journal, 90..=90);
    journal.end();
    let report = check(made.dir.path());
    assert!(report.whole && report.gaps.missing == 0 && report.gaps.torn_bytes > 0, "{report:?}");
    let kept = events(made.dir.path());
    assert!(kept.iter().any(|event| event.seq == last) && numbers(made.dir.path()).contains(&90));
}

#[test]
fn nobody_keeps_the_newest_checkpoint_from_beside_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let events_file = settings(dir.path(), 0).events_file;
    let key_dir = settings(dir.path(), 0).key_dir;
    let kept = checkpoint::kept(&key_dir, &events_file);
    let made = dir.path().join("log/events.ndjson.head.new");
    let seq =
        |path: &Path| field(&fs::read(path).unwrap_or_else(|_| b"{\"seq\":0}".to_vec()), "/seq").as_u64();
    let mut journal = open(dir.path(), 0);
    append(&mut journal, 1..=2);
    // A link to what is beside the key, and then a directory in the way.
    std::os::unix::fs::symlink(key_dir.join("key.pem"), &made).unwrap();
    let pem = fs::read(key_dir.join("key.pem")).unwrap();
    journal.checkpoint();
    let signed = Some(journal.standing_of_journal().seq - 1);
    wait_until("both heads are there", || {
        seq(&kept) == signed && seq(&events_file.with_extension("ndjson.head")) == signed
    });
    assert_eq!(fs::read(key_dir.join("key.pem")).unwrap(), pem);
    fs::create_dir(&made).unwrap();
    append(&mut journal, 3..=4);
    journal.checkpoint();
    let signed = Some(journal.standing_of_journal().seq - 1);
    wait_until("it is told that one cannot be", || journal.standing_of_journal().sync_failures > 0);
    assert_eq!(seq(&kept), signed);
}

#[test]
fn each_event_file_has_its_own_newest_checkpoint() {
    let made = made(1);
    // Another event file with the same key, for a while.
    let mut other = settings(made.dir.path(), 0);
    other.events_file = made.dir.path().join("elsewhere/events.ndjson");
    let mut journal = Journal::open(other, Progress::of_our_own().unwrap()).unwrap();
    append(&mut journal, 1..=1);
    journal.end();
    drop(journal);
    fs::remove_file(made.dir.path().join("log/events.ndjson.head")).unwrap();
    remake(&made, |record| {
        if record.remove("checkpoint").is_some() {
            record.insert("kind".into(), "process_exit".into());
        }
        true
    });
    let mut journal = open(made.dir.path(), 0);
    append(&mut journal, 95..=96);
    journal.end();
    assert!(check(made.dir.path()).broken.is_some());
}

/// What somebody does to the head while no daemon runs.
#[derive(Clone, Copy, Debug)]
enum Head {
    AsItWas,
    Gone,
    Older,
}

#[test]
fn a_chain_that_is_made_anew_while_no_daemon_runs_is_not_signed_by_the_next() {
    for head in [Head::AsItWas, Head::Gone, Head::Older] {
        for shortened in [false, true] {
            let made = made(1);
            let path = made.dir.path().join("log/events.ndjson.head");
            let older = fs::read(&path).unwrap();
            if matches!(head, Head::Older) {
                let mut journal = open(made.dir.path(), 0);
                append(&mut journal, 90..=91);
                journal.end();
            }
            // Checkpoints would tell: they become something else, or go.
            remake(&made, |record| {
                if record.get("pid").is_some_and(|pid| *pid == 2) {
                    record.insert("pid".into(), 666.into());
                }
                let is_checkpoint = record.remove("checkpoint").is_some();
                if is_checkpoint {
                    record.insert("kind".into(), "process_exit".into());
                }
                !(is_checkpoint && shortened)
            });
            match head {
                Head::AsItWas => {}
                Head::Gone => fs::remove_file(&path).unwrap(),
                Head::Older => fs::write(&path, older).unwrap(),
            }
            let mut journal = open(made.dir.path(), 0);
            append(&mut journal, 95..=96);
            journal.end();
            let report = check(made.dir.path());
            let is_there =
                events(made.dir.path()).iter().any(|e| e.subject.as_ref().is_some_and(|s| s.pid == 666));
            // Found, or not in the journal any more, which says that something is missing.
            let found = report.broken.is_some();
            let told = report.gaps.missing > 0 && report.gaps.torn_bytes > 0 && !is_there;
            assert!(found || told, "{head:?}, shortened: {shortened}: {report:?}");
        }
    }
}

#[test]
fn a_journal_whose_files_are_all_gone_says_so() {
    let made = made(2);
    let last = check(made.dir.path()).signed_seq;
    fs::remove_dir_all(made.dir.path().join("log")).unwrap();
    let mut journal = open(made.dir.path(), 0);
    append(&mut journal, 95..=96);
    journal.end();
    let report = check(made.dir.path());
    assert!(report.whole && report.gaps.missing == last && report.first_seq == last + 1, "{report:?}");
}

/// A record that anybody can add who may write the files, behind these lines.
fn planted(lines: &[Vec<u8>], seq: u64, kind: &str, field: &str, says: serde_json::Value) -> Vec<Vec<u8>> {
    let (_, hash) = split(lines.last().unwrap().trim_ascii_end()).unwrap();
    let record = serde_json::json!({
        "time": "2026-01-31T12:00:00.000000000Z", "seq": seq, "kind": kind, field: says,
    });
    let mut line = serde_json::to_vec(&record).unwrap();
    line.push(b'\n');
    Link { seq: seq - 1, hash }.seal(&mut line);
    [lines, &[line]].concat()
}

#[test]
fn a_number_that_nobody_could_have_come_to_takes_no_numbers_away() {
    for seq in [u64::MAX, u64::MAX - 3, 1 << 60] {
        // Behind the chain, and as a part of it.
        for holds in [false, true] {
            let made = made(1);
            let log = made.dir.path().join("log");
            let lines = &made.lines[ACTIVE];
            let (_, hash) = split(lines.last().unwrap().trim_ascii_end()).unwrap();
            let mut line = format!(
                "{{\"time\":\"2026-01-31T12:00:00.000000000Z\",\"seq\":{seq},\"kind\":\"process_exit\"}}\n"
            )
            .into_bytes();
            let before = if holds { hash } else { Hash::default() };
            Link { seq: 0, hash: before }.seal(&mut line);
            fs::write(log.join(ACTIVE), [lines.concat(), line].concat()).unwrap();
            let mut journal = open(made.dir.path(), 0);
            append(&mut journal, 90..=91);
            journal.end();
            let newest = events(made.dir.path()).last().unwrap().seq;
            assert!(newest < 1_000, "{seq}, holds: {holds}: {newest}");
        }
    }
}

#[test]
fn what_would_block_its_writer_or_reader_is_no_journal() {
    let made = made(2);
    let log = made.dir.path().join("log");
    let active = log.join(ACTIVE);
    // A segment's name that leads to a FIFO, and one in the place of the file while it is written to.
    nix::unistd::mkfifo(&log.join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    std::os::unix::fs::symlink("fifo", log.join("events-00000000000000000002.ndjson")).unwrap();
    let mut journal = open(made.dir.path(), 0);
    append(&mut journal, 90..=90);
    for round in 0..2 {
        fs::rename(&active, log.join(format!("away-{round}"))).unwrap();
        match round {
            0 => nix::unistd::mkfifo(&active, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            _ => std::os::unix::fs::symlink("target", &active).unwrap(),
        }
        journal.tick();
        append(&mut journal, 91..=92);
        assert!(fs::symlink_metadata(&active).unwrap().is_file() && !log.join("target").exists());
    }
    journal.end();
}
