//! File sinks whose file cannot be written to, beside one whose can.

use std::{
    fs,
    path::Path,
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use chaperone::{
    config::sinks::{Sink, Sinks, Target},
    record::sinks::{self, AllStats},
};

use super::{Place, counts, text, wait_for_all, whole};

/// Starts `bad` beside `one`.
fn both(place: &Place, bad: &Path) -> AllStats {
    let sink = |path: &Path| Sink::new(Target::parse(&format!("file:{}", path.display())).unwrap());
    let all: Sinks = [("bad".to_owned(), sink(bad)), ("one".to_owned(), sink(&place.path("copy")))].into();
    sinks::start(&all, &place.path("events.ndjson"), &whole(), &place.path("state")).unwrap()
}

#[test]
fn a_fifo_is_refused_and_the_sink_beside_it_gets_all() {
    let place = Place::new();
    let fifo = place.path("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let stats = both(&place, &fifo);
    place.write(1, 2_000, Duration::ZERO);
    wait_for_all(2_000, || counts(&text(&place.path("copy"))), &stats);
    let error = stats["bad"].error().unwrap().error;
    assert!(error.contains("fifo is a FIFO, and a sink writes to a regular file alone"), "{error}");
    assert_eq!(stats["bad"].acknowledged.load(Ordering::Relaxed), 0);
}

#[test]
fn a_part_of_the_event_file_that_is_cut_stops_no_sink() {
    let place = Place::new();
    place.write(1, 2_500, Duration::ZERO);
    let plain = place.path(&format!("events-{:020}.ndjson", 1_001));
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, text(&plain).as_bytes()).unwrap();
    let whole = gz.finish().unwrap();
    fs::write(plain.with_extension("ndjson.gz"), &whole[..whole.len() / 2]).unwrap();
    fs::remove_file(&plain).unwrap();
    place.begin_behind(0);
    let stats = place.start(&format!("file:{}", place.path("copy").display()), |_| {});
    let (stats, end) = (&stats["one"], Instant::now() + Duration::from_secs(30));
    while stats.acknowledged.load(Ordering::Relaxed) < 2_500 {
        assert!(Instant::now() < end, "{stats:?}");
        thread::sleep(Duration::from_millis(20));
    }
    let found = counts(&text(&place.path("copy")));
    let of_it = (1_001..=2_000).filter(|seq| found.contains_key(seq)).count() as u64;
    assert!((300..1_000).contains(&of_it), "{of_it}");
    assert_eq!(found.len() as u64, 1_500 + of_it);
    assert!(found.keys().copied().take_while(|seq| *seq <= 2_000).eq(1..=1_000 + of_it));
    assert_eq!(stats.missed.load(Ordering::Relaxed), 1_000 - of_it);
    assert_eq!(stats.failures.load(Ordering::Relaxed), 0);
}
