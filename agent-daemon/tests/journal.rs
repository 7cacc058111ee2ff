//! The journal as a whole: what it writes, what a check finds of every way to tamper with it, and what a kill leaves.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "journal/between.rs"]
mod between;
#[path = "journal/kill.rs"]
mod kill;
#[path = "journal/power.rs"]
mod power;
#[path = "journal/segments.rs"]
mod segments;
#[path = "journal/tamper.rs"]
mod tamper;
#[path = "journal/writes.rs"]
mod writes;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chaperone::{
    config::settings::Keep,
    event::{Event, Kind, Subject},
    record::{
        journal::{
            Journal, Settings,
            key::{PublicKey, public_key},
            segment,
            verify::{Question, Report, verify},
        },
        progress::Progress,
    },
};

fn settings(dir: &Path, bytes_max: u64) -> Settings {
    let events_file = dir.join("log/events.ndjson");
    Settings { events_file, bytes_max, key_dir: dir.join("key"), keep: Keep::default() }
}

fn open(dir: &Path, bytes_max: u64) -> Journal {
    Journal::open(settings(dir, bytes_max), Progress::of_our_own().unwrap()).unwrap()
}

/// An event that is known by its number.
fn event(number: u32) -> Event {
    let subject = Subject { pid: number, comm: "agent".into(), ..Subject::default() };
    Event { kind: Kind::ProcessExec, host: "host".into(), subject: Some(subject), ..Event::default() }
}

fn append(journal: &mut Journal, numbers: std::ops::RangeInclusive<u32>) {
    let mut line = Vec::new();
    for number in numbers {
        journal.append(&mut event(number), &mut line);
    }
    journal.flush();
}

fn key(dir: &Path) -> PublicKey {
    PublicKey::parse(&fs::read_to_string(public_key(&dir.join("key"))).unwrap()).unwrap()
}

fn check(dir: &Path) -> Report {
    let events_file = settings(dir, 0).events_file;
    verify(&Question { events_file: &events_file, keys: &[key(dir)], expect: None }, |_, _| {}).unwrap()
}

/// All that is in the journal.
fn events(dir: &Path) -> Vec<Event> {
    let mut all = Vec::new();
    for segment in segment::all(&settings(dir, 0).events_file).unwrap() {
        let Ok(mut reader) = segment::open(&segment.path) else { continue };
        let mut text = String::new();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        all.extend(text.lines().map(|line| serde_json::from_str::<Event>(line).unwrap()));
    }
    all
}

/// The numbers of those that are not the journal's own.
fn numbers(dir: &Path) -> Vec<u32> {
    events(dir).iter().filter_map(|event| Some(event.subject.as_ref()?.pid)).collect()
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        fs::read_dir(dir.join("log")).unwrap().flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}

fn wait_until(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
