//! A receiver of HTTP that refuses what the test says, and closes the connection behind each refusal.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use chaperone::record::sinks::{Stats, tail::seq_of};

use super::{Place, counts, wait_for_all};

/// What it answers to these records of so many bytes, at this request; none takes them.
type Refuses = fn(&[u64], usize, usize) -> Option<&'static str>;

#[derive(Default)]
struct Seen {
    kept: String,
    /// When there was a request, and what was answered.
    asked: Vec<(Instant, Option<&'static str>)>,
}

struct Receiver {
    port: u16,
    seen: Arc<Mutex<Seen>>,
}

impl Receiver {
    fn start(refuses: Refuses) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let of = seen.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let seen = of.clone();
                thread::spawn(move || serve(stream, &seen, refuses));
            }
        });
        Self { port, seen }
    }

    fn kept(&self) -> BTreeMap<u64, u32> {
        counts(&self.seen.lock().unwrap().kept)
    }

    fn refusals(&self) -> usize {
        self.seen.lock().unwrap().asked.iter().filter(|(_, answer)| answer.is_some()).count()
    }
}

fn serve(stream: TcpStream, seen: &Mutex<Seen>, refuses: Refuses) -> Option<()> {
    let mut answer = stream.try_clone().ok()?;
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut line = String::new();
        while stream.read_line(&mut line).ok()? > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        if line.is_empty() {
            return None;
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let mut text = String::new();
        flate2::read::GzDecoder::new(&*body).read_to_string(&mut text).unwrap();
        let seqs: Vec<u64> = text.lines().filter_map(|line| seq_of(line.as_bytes())).collect();
        let mut seen = seen.lock().unwrap();
        let refused = refuses(&seqs, text.len(), seen.asked.len());
        seen.asked.push((Instant::now(), refused));
        let Some(refused) = refused else {
            seen.kept.push_str(&text);
            answer.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").ok()?;
            continue;
        };
        let says = if refused == TAKEN { PARTIAL } else { "never" };
        let length = says.len();
        answer
            .write_all(format!("HTTP/1.1 {refused}\r\ncontent-length: {length}\r\n\r\n{says}").as_bytes())
            .ok()?;
        if refused != TAKEN {
            return None;
        }
    }
}

const TAKEN: &str = "200 OK";
/// As OTLP has it: a number of 64 bits is a text.
const PARTIAL: &str = r#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too old"}}"#;

fn number(count: &std::sync::atomic::AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn to(receiver: &Receiver) -> String {
    format!("http://127.0.0.1:{}/", receiver.port)
}

/// Waits until this is the last that it is done with.
fn until(stats: &Stats, last: u64) {
    let end = Instant::now() + Duration::from_secs(60);
    while number(&stats.acknowledged) < last {
        assert!(Instant::now() < end, "{stats:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn batches_that_are_too_large_are_sent_in_smaller_ones() {
    let (place, last) = (Place::new(), 3_000);
    let receiver = Receiver::start(|_, bytes, _| (bytes > 20_000).then_some("413 Payload Too Large"));
    let stats = place.start(&to(&receiver), |_| {});
    place.write(1, last, Duration::ZERO);
    let found = wait_for_all(last, || receiver.kept(), &stats);
    assert!(found.values().all(|count| *count == 1));
    let stats = &stats["one"];
    assert_eq!((number(&stats.refused), number(&stats.missed), number(&stats.failures)), (0, 0, 0));
    // At the first batch, not at each.
    assert!(receiver.refusals() < 40, "{}", receiver.refusals());
}

#[test]
fn a_record_that_is_refused_is_passed_over_and_nothing_else() {
    const POISON: [u64; 5] = [1, 777, 778, 1_500, 3_000];
    let (place, last) = (Place::new(), 3_000);
    let receiver = Receiver::start(|seqs, _, _| {
        POISON.iter().any(|bad| seqs.contains(bad)).then_some("422 Unprocessable Content")
    });
    let stats = place.start(&to(&receiver), |_| {});
    place.write(1, last, Duration::ZERO);
    until(&stats["one"], last);
    let wanted: BTreeMap<u64, u32> =
        (1..=last).filter(|seq| !POISON.contains(seq)).map(|seq| (seq, 1)).collect();
    assert_eq!(receiver.kept(), wanted);
    let stats = &stats["one"];
    let counted = (number(&stats.refused), number(&stats.sent), number(&stats.failures));
    assert_eq!(counted, (5, last - 5, 0));
}

#[test]
fn what_a_collector_takes_and_does_not_keep_is_counted_and_not_sent_again() {
    let place = Place::new();
    let receiver = Receiver::start(|_, _, asked| (asked < 3).then_some(TAKEN));
    place.write(1, 2_000, Duration::ZERO);
    // From the beginning, so that no batch holds one record alone.
    place.begin_behind(0);
    let stats = place.start(&format!("otlp+{}v1/logs", to(&receiver)), |_| {});
    until(&stats["one"], 2_000);
    let stats = &stats["one"];
    assert_eq!((number(&stats.refused), number(&stats.sent), number(&stats.failures)), (6, 2_000, 0));
}

#[test]
fn one_that_refuses_everything_is_not_given_everything_up_for() {
    let place = Place::new();
    let receiver = Receiver::start(|_, _, _| Some("400 Bad Request"));
    let stats = place.start(&to(&receiver), |_| {});
    place.write(1, 1_000, Duration::ZERO);
    thread::sleep(Duration::from_secs(5));
    let stats = &stats["one"];
    let refused = number(&stats.refused);
    assert!((17..=24).contains(&refused) && number(&stats.up) == 0, "{stats:?}");
    assert_eq!((number(&stats.sent), number(&stats.acknowledged)), (0, refused));
    let error = stats.error().unwrap().error;
    assert!(error.ends_with("it answered 400 Bad Request: never"), "{error}");
}

#[test]
fn one_that_asks_to_be_let_alone_is_asked_again_when_it_said() {
    let place = Place::new();
    let receiver =
        Receiver::start(|_, _, before| (before < 3).then_some("503 Service Unavailable\r\nretry-after: 2"));
    let stats = place.start(&to(&receiver), |_| {});
    place.write(1, 100, Duration::ZERO);
    let found = wait_for_all(100, || receiver.kept(), &stats);
    assert!(found.values().all(|count| *count == 1));
    let asked: Vec<Instant> = receiver.seen.lock().unwrap().asked.iter().map(|(at, _)| *at).collect();
    for pair in asked[..4].windows(2) {
        let pause = (pair[1] - pair[0]).as_secs_f64();
        assert!((2.0..8.0).contains(&pause), "{pause}");
    }
    assert_eq!((number(&stats["one"].refused), number(&stats["one"].failures)), (0, 3));
}
