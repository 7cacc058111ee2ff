//! Kill -9 at random moments: the chain is whole each time, and what was read is recorded once.

use std::{
    env,
    fs::{self, OpenOptions},
    os::{fd::OwnedFd, unix::fs::FileExt as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use chaperone::record::{
    journal::{Journal, Of, Written},
    progress::Progress,
};

use super::{check, event, numbers, settings, wait_until};

const ROUNDS: u32 = 200;
const CHILD: &str = "CHAPERONE_TEST_JOURNAL";
const RING: u64 = 1;

/// Appends until it is killed, as the pipeline does: numbers come from a ring buffer that is given back when they are
/// written. Where it stands is in a file that outlives it, as the ring buffer does, beside the note of the batch.
#[test]
fn appends_until_it_is_killed() {
    let Some(dir) = env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let ring = OpenOptions::new().read(true).write(true).open(dir.join("ring")).unwrap();
    let released = |to: u64| ring.write_all_at(&to.to_le_bytes(), 0).unwrap();
    let mut position = [0; 8];
    ring.read_exact_at(&mut position, 0).unwrap();
    let mut position = u64::from_le_bytes(position);
    let note: OwnedFd = OpenOptions::new().read(true).write(true).open(dir.join("note")).unwrap().into();
    let mut journal = Journal::open(settings(dir, 20_000), Progress::mapped(&note).unwrap()).unwrap();
    let was = journal.progress().batch();
    let found = journal.settle(&was).unwrap();
    journal.begin(Of { ring: RING, maker: 1, until: position });
    let mut take = |journal: &mut Journal, count: u64| {
        let mut line = Vec::new();
        for number in position + 1..=position + count {
            journal.read_until(number);
            journal.append(&mut event(number as u32), &mut line);
        }
        journal.flush();
        position += count;
        released(position);
        position
    };
    match found {
        _ if was.ring != RING => {}
        Written::All => {
            let count = was.until.saturating_sub(take(&mut journal, 0));
            journal.pass_over(count as usize);
            take(&mut journal, count);
            journal.pass_over(0);
        }
        Written::Lines(lines) if was.until > take(&mut journal, 0) => {
            journal.pass_over(lines);
            take(&mut journal, lines as u64 + 7);
            journal.pass_over(0);
        }
        _ => {}
    }
    for round in 0_u64.. {
        take(&mut journal, 1 + round * 7 % 23);
        if round.is_multiple_of(5) {
            journal.checkpoint();
        }
        if round.is_multiple_of(3) {
            journal.tick();
        }
    }
}

#[test]
fn after_any_kill_the_chain_is_whole_and_nothing_is_there_twice_or_not() {
    let dir = tempfile::tempdir().unwrap();
    let (ring, note) = (dir.path().join("ring"), dir.path().join("note"));
    fs::write(&ring, [0; 8]).unwrap();
    fs::write(&note, vec![0; size_of::<agent_common::progress::Progress>()]).unwrap();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let (mut before, mut grew) = (0, 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "kill::appends_until_it_is_killed"])
            .env(CHILD, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // A fourth of them while they start, the others while they append.
        if round.is_multiple_of(4) {
            thread::sleep(Duration::from_micros(8_000 + random % 25_000));
        } else {
            wait_until("it appends", || given_back(&ring) > before);
            thread::sleep(Duration::from_micros(random % 10_000));
        }
        assert!(child.try_wait().unwrap().is_none(), "round {round}: it ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        let released = given_back(&ring);
        grew += u32::from(released > std::mem::replace(&mut before, released));
        // What the next daemon makes of it is what counts: half a line is set aside at its start, and told.
        // A chain that broke stays broken: a look now and then only says sooner when.
        if round % 40 == 39 {
            let report = check(dir.path());
            assert!(report.whole, "round {round}: {report:?}");
        }
    }
    let released = given_back(&ring);
    let numbers = numbers_whole(dir.path());
    let up_to = numbers.len() as u32;
    assert!(u64::from(up_to) >= released && released > 0, "{up_to} of {released}");
    assert!(grew >= ROUNDS * 3 / 4, "{grew} of {ROUNDS} rounds");
    assert!(numbers.into_iter().eq(1..=up_to), "every number once, in order");
    let report = check(dir.path());
    assert!(report.whole, "{report:?}");
    println!(
        "{ROUNDS} kills, {grew} of them while something was appended, {up_to} records of events, {} torn bytes",
        report.gaps.torn_bytes
    );
}

/// How far the ring buffer was given back.
fn given_back(ring: &Path) -> u64 {
    u64::from_le_bytes(fs::read(ring).unwrap().try_into().unwrap())
}

/// As [`numbers`], once the end is mended as every start does.
fn numbers_whole(dir: &Path) -> Vec<u32> {
    drop(super::open(dir, 0));
    numbers(dir)
}
