//! Sinks against real other ends: each is killed, stopped and started again under load, and what arrived is counted.
//!
//! rsyslog and nats-server come from Debian, rotel from PyPI: `cargo xtask test` brings them and says where (`CHAPERONE_PEERS`); without
//! them, as under plain `cargo test`, their cases are passed over, and say so.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "sinks/certificates.rs"]
mod certificates;
#[path = "sinks/collector.rs"]
mod collector;
#[path = "sinks/files.rs"]
mod files;
#[path = "sinks/refusals.rs"]
mod refusals;
#[path = "sinks/rsyslog.rs"]
mod rsyslog;
#[path = "sinks/unread.rs"]
mod unread;

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write as _,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use agent_common::verdict::Verdict;
use chaperone::{
    config::sinks::{Sink, Sinks, Target},
    record::{
        journal::Extent,
        severity::Severity,
        sinks::{self, AllStats, tail::seq_of},
    },
};
use tokio::sync::watch;

/// Another end, which can be started again at the same place.
struct Peer {
    command: Box<dyn Fn() -> Command>,
    port: u16,
    child: Option<Child>,
}

impl Peer {
    fn start(port: u16, command: impl Fn() -> Command + 'static) -> Self {
        let mut peer = Self { command: Box::new(command), port, child: None };
        peer.begin();
        peer
    }

    fn begin(&mut self) {
        let mut command = (self.command)();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        self.child = Some(child);
        let end = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < end, "{command:?} does not listen");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = self.child.as_ref().unwrap().id();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal).unwrap();
    }

    /// Asks it to end, and waits until it has.
    fn end(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        let mut child = self.child.take().unwrap();
        child.wait().unwrap();
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program of Debian's, unpacked; with where its libraries are.
fn debian(program: &str) -> Option<Command> {
    let root = std::env::var_os("CHAPERONE_PEERS").map(PathBuf::from);
    let Some(root) = root.filter(|root| root.join("usr/sbin").join(program).exists()) else {
        println!("passed over: no {program} (CHAPERONE_PEERS)");
        return None;
    };
    let mut command = Command::new(root.join("usr/sbin").join(program));
    command.env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu"));
    Some(command)
}

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("events.ndjson"), "").unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Has the sink begin behind this record, not at the end of what there is.
    fn begin_behind(&self, seq: u64) {
        fs::create_dir_all(self.path("state/sinks")).unwrap();
        fs::write(self.path("state/sinks/one.seq"), format!("{seq}\n")).unwrap();
    }

    fn start(&self, to: &str, change: impl Fn(&mut Sink)) -> AllStats {
        let mut sink = Sink::new(Target::parse(to).unwrap());
        change(&mut sink);
        let all: Sinks = [("one".to_owned(), sink)].into();
        sinks::start(&all, &self.path("events.ndjson"), &whole(), &self.path("state")).unwrap()
    }

    /// Appends records, and has the file begun anew now and then.
    fn write(&self, first: u64, last: u64, pause: Duration) {
        let active = self.path("events.ndjson");
        let mut begun = first;
        for seq in first..=last {
            let mut file = OpenOptions::new().create(true).append(true).open(&active).unwrap();
            let verdict = if seq.is_multiple_of(3) { "allow" } else { "deny" };
            let line = format!(
                "{{\"time\":\"2026-01-31T12:00:00.{seq:09}Z\",\"seq\":{seq},\"kind\":\"net_connect\",\"host\":\"h\",\"boot_id\":\"b\",\
                 \"verdict\":\"{verdict}\",\"comm\":\"{}\"}}\n",
                "x".repeat(200)
            );
            file.write_all(line.as_bytes()).unwrap();
            if seq.is_multiple_of(1_000) {
                fs::rename(&active, self.path(&format!("events-{begun:020}.ndjson"))).unwrap();
                begun = seq + 1;
            }
            if seq.is_multiple_of(20) {
                thread::sleep(pause);
            }
        }
    }
}

/// How often each record arrived.
fn counts(text: &str) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        if let Some(seq) = line.find('{').and_then(|at| seq_of(&line.as_bytes()[at..])) {
            *counts.entry(seq).or_default() += 1;
        }
    }
    counts
}

/// How often the records begin again at an earlier one.
fn steps_back(text: &str) -> usize {
    let all: Vec<u64> = text.lines().filter_map(|line| seq_of(&line.as_bytes()[line.find('{')?..])).collect();
    all.windows(2).filter(|pair| pair[1] <= pair[0]).count()
}

/// As often as [`survives`] does it.
const KILLS: usize = 3;

fn wait_for_all(last: u64, read: impl Fn() -> BTreeMap<u64, u32>, stats: &AllStats) -> BTreeMap<u64, u32> {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        let found = read();
        if found.len() as u64 == last && stats["one"].acknowledged.load(Ordering::Relaxed) == last {
            return found;
        }
        let missing: Vec<u64> = (1..=last).filter(|seq| !found.contains_key(seq)).take(5).collect();
        assert!(Instant::now() < end, "{} of {last} arrived, not {missing:?} …; {stats:?}", found.len());
        thread::sleep(Duration::from_millis(100));
    }
}

/// Kills it, stops it and starts it again while records are written; none is missing at the end.
fn survives(place: &Place, peer: &mut Peer, stats: &AllStats, read: impl Fn() -> BTreeMap<u64, u32>) -> u32 {
    thread::scope(|scope| {
        let writer = scope.spawn(|| place.write(1, LAST, Duration::from_millis(20)));
        for round in 0..3 {
            thread::sleep(Duration::from_millis(700));
            peer.kill();
            thread::sleep(Duration::from_millis(300));
            peer.begin();
            if round == 1 {
                peer.signal(nix::sys::signal::Signal::SIGSTOP);
                thread::sleep(Duration::from_millis(500));
                peer.signal(nix::sys::signal::Signal::SIGCONT);
            }
        }
        writer.join().unwrap();
    });
    let found = wait_for_all(LAST, read, stats);
    assert_eq!(stats["one"].missed.load(Ordering::Relaxed), 0);
    assert!(stats["one"].failures.load(Ordering::Relaxed) > 0, "it was never down");
    let again: u32 = found.values().map(|count| count - 1).sum();
    println!("{} records, {again} of them again", found.len());
    again
}

/// As where nobody writes to the file that can take something back.
fn whole() -> watch::Receiver<Extent> {
    watch::Sender::default().subscribe()
}

const LAST: u64 = 4_000;

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn http(place: &Place, certificate: Option<PathBuf>) -> Peer {
    let (port, kept) = (free_port(), place.path("kept"));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sinks/receiver.py");
    Peer::start(port, move || {
        let mut command = Command::new("python3");
        command.arg(script).arg(port.to_string()).arg(&kept).args(&certificate);
        if let Some(definitions) = otlp_definitions() {
            command.env("OTLP_DEFINITIONS", definitions);
        }
        command
    })
}

#[test]
fn a_webhook_that_is_killed_gets_all_that_it_missed() {
    let place = Place::new();
    let mut peer = http(&place, None);
    fs::write(place.path("key"), "key\n").unwrap();
    let stats = place.start(&format!("http://127.0.0.1:{}/in", peer.port), |sink| {
        sink.secret_file = Some(place.path("key"));
    });
    survives(&place, &mut peer, &stats, || counts(&text(&place.path("kept"))));
    assert!(steps_back(&text(&place.path("kept"))) <= KILLS, "records came again where nothing was broken");
}

/// Where OpenTelemetry's definitions lie.
fn otlp_definitions() -> Option<PathBuf> {
    let python = Path::new(&std::env::var_os("CHAPERONE_PEERS")?).join("python");
    python.join("opentelemetry/proto").exists().then_some(python)
}

/// By the definitions that OpenTelemetry publishes, where they are there; each record is read back as the event it was.
#[test]
fn otlp_is_killed_and_gets_all_that_it_missed() {
    let place = Place::new();
    if otlp_definitions().is_none() {
        println!("without OTLP's definitions (CHAPERONE_PEERS): only as JSON");
    }
    let mut peer = http(&place, None);
    let stats = place.start(&format!("otlp+http://127.0.0.1:{}/otlp/v1/logs", peer.port), |_| {});
    survives(&place, &mut peer, &stats, || counts(&text(&place.path("kept"))));
    assert!(steps_back(&text(&place.path("kept"))) <= KILLS, "records came again where nothing was broken");
}

#[test]
fn a_webhook_that_refuses_is_asked_again_and_loses_nothing() {
    let place = Place::new();
    let peer = http(&place, None);
    fs::write(place.path("key"), "another\n").unwrap();
    let to = format!("http://127.0.0.1:{}/in", peer.port);
    let stats = place.start(&to, |sink| sink.secret_file = Some(place.path("key")));
    place.write(1, 10, Duration::ZERO);
    let end = Instant::now() + Duration::from_secs(10);
    while stats["one"].failures.load(Ordering::Relaxed) < 2 {
        assert!(Instant::now() < end, "{stats:?}");
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((text(&place.path("kept")).as_str(), stats["one"].up.load(Ordering::Relaxed)), ("", 0));
    fs::write(place.path("key"), "key\n").unwrap();
    wait_for_all(10, || counts(&text(&place.path("kept"))), &stats);
}

#[test]
fn by_tls_only_the_authority_that_is_named_is_believed() {
    let place = Place::new();
    let (right, wrong) =
        (certificates::of_its_own(&place, "right"), certificates::of_its_own(&place, "wrong"));
    let peer = http(&place, Some(place.path("right.both")));
    fs::write(place.path("key"), "key\n").unwrap();
    let to = format!("https://127.0.0.1:{}/in", peer.port);
    let with = |ca: &Path, name: &str| {
        let sink = Sink {
            ca: Some(ca.to_owned()),
            secret_file: Some(place.path("key")),
            ..Sink::new(Target::parse(&to).unwrap())
        };
        let all: Sinks = [("one".to_owned(), sink)].into();
        sinks::start(&all, &place.path("events.ndjson"), &whole(), &place.path(name)).unwrap()
    };
    let refused = with(&wrong, "wrong-state");
    let stats = with(&right, "state");
    place.write(1, 100, Duration::ZERO);
    wait_for_all(100, || counts(&text(&place.path("kept"))), &stats);
    let refused = &refused["one"];
    assert_eq!((refused.sent.load(Ordering::Relaxed), refused.up.load(Ordering::Relaxed)), (0, 0));
    assert!(refused.failures.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_file_that_is_renamed_is_begun_anew() {
    let place = Place::new();
    let stats = place.start(&format!("file:{}", place.path("copy").display()), |_| {});
    place.write(1, 500, Duration::ZERO);
    wait_for_all(500, || counts(&text(&place.path("copy"))), &stats);
    fs::rename(place.path("copy"), place.path("copy.1")).unwrap();
    place.write(501, 700, Duration::ZERO);
    let both = || counts(&(text(&place.path("copy.1")) + &text(&place.path("copy"))));
    let found = wait_for_all(700, both, &stats);
    assert!(found.values().all(|count| *count == 1) && !text(&place.path("copy")).is_empty());
}

#[test]
fn a_real_nats_server_that_is_killed_gets_all_that_it_missed() {
    if debian("nats-server").is_none() {
        return;
    }
    let place = Place::new();
    let (port, store) = (free_port(), place.path("nats"));
    let mut peer = Peer::start(port, move || {
        let mut command = debian("nats-server").unwrap();
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(&store);
        command
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let context = || async move {
        async_nats::jetstream::new(async_nats::connect(format!("127.0.0.1:{port}")).await.unwrap())
    };
    runtime.block_on(async {
        let config = async_nats::jetstream::stream::Config {
            name: "events".to_owned(),
            subjects: vec!["chaperone.>".to_owned()],
            ..Default::default()
        };
        context().await.create_stream(config).await.unwrap();
    });
    let stats = place.start(&format!("nats://127.0.0.1:{port}"), |sink| {
        sink.subject = Some("chaperone.events".to_owned());
    });
    let read = || {
        runtime.block_on(async {
            let stream = context().await.get_stream("events").await.unwrap();
            let state = stream.cached_info().state.clone();
            let mut counts = BTreeMap::new();
            // Each by its number in the stream: only when all may be there.
            if state.messages >= LAST {
                for at in state.first_sequence..=state.last_sequence {
                    let message = stream.get_raw_message(at).await.unwrap();
                    *counts.entry(seq_of(&message.payload).unwrap()).or_default() += 1;
                }
            }
            counts
        })
    };
    let again = survives(&place, &mut peer, &stats, read);
    assert_eq!(again, 0, "the stream leaves out what comes again");
}

#[test]
fn one_that_never_answers_holds_up_nobody() {
    let place = Place::new();
    // Takes the connection and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let sink = |to: String| Sink::new(Target::parse(&to).unwrap());
    let all: Sinks = [
        ("dead".to_owned(), sink(format!("http://127.0.0.1:{port}/"))),
        ("one".to_owned(), sink(format!("file:{}", place.path("copy").display()))),
    ]
    .into();
    let stats = sinks::start(&all, &place.path("events.ndjson"), &whole(), &place.path("state")).unwrap();
    let begun = Instant::now();
    place.write(1, 2_000, Duration::ZERO);
    wait_for_all(2_000, || counts(&text(&place.path("copy"))), &stats);
    assert!(begun.elapsed() < Duration::from_secs(30), "it waited until the silent one was given up");
    assert_eq!(stats["dead"].acknowledged.load(Ordering::Relaxed), 0);
}

#[test]
fn what_a_sink_does_not_want_is_passed_over_and_not_lost() {
    let place = Place::new();
    let stats = place.start(&format!("file:{}", place.path("copy").display()), |sink| {
        sink.kinds = vec!["net".to_owned()];
        sink.verdicts = vec![Verdict::Deny.into(), Verdict::Kill.into()];
        sink.severity_min = Some(Severity::Medium);
    });
    place.write(1, 3_000, Duration::ZERO);
    let (stats, end) = (&stats["one"], Instant::now() + Duration::from_secs(30));
    // The last is not for it, and its place is behind it all the same.
    while stats.acknowledged.load(Ordering::Relaxed) < 3_000 {
        assert!(Instant::now() < end, "{stats:?}");
        thread::sleep(Duration::from_millis(20));
    }
    let found = counts(&text(&place.path("copy")));
    let wanted: BTreeMap<u64, u32> = (1..=3_000).filter(|seq| seq % 3 != 0).map(|seq| (seq, 1)).collect();
    assert_eq!(found, wanted);
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let counted = (read(&stats.sent), read(&stats.filtered), read(&stats.missed), read(&stats.failures));
    assert_eq!(counted, (2_000, 1_000, 0, 0));
}

#[test]
fn a_sink_is_tried_and_nothing_is_sent() {
    let place = Place::new();
    let (right, wrong) =
        (certificates::of_its_own(&place, "right"), certificates::of_its_own(&place, "wrong"));
    let peer = http(&place, Some(place.path("right.both")));
    let tried = |to: &str, change: &dyn Fn(&mut Sink)| {
        let mut sink = Sink::new(Target::parse(to).unwrap());
        change(&mut sink);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (events, state) = (place.path("events.ndjson"), place.path("state"));
        let found = runtime.block_on(sinks::check("one", &sink, &events, &state));
        (found.reachable, found.problems.join("; "), found.waiting)
    };
    let https = format!("https://127.0.0.1:{}/in", peer.port);
    assert_eq!(tried(&https, &|sink| sink.ca = Some(right.clone())), (true, String::new(), None));
    let (reachable, problems, _) = tried(&https, &|sink| sink.ca = Some(wrong.clone()));
    assert!(!reachable && problems.contains("TLS with 127.0.0.1"), "{problems}");
    let (_, problems, _) = tried(&https, &|sink| {
        sink.ca = Some(place.path("events.ndjson"));
        sink.secret_file = Some(place.path("nowhere"));
    });
    assert!(problems.contains("events.ndjson holds no certificate; read "), "{problems}");
    let (reachable, problems, _) = tried(&format!("http://127.0.0.1:{}/", free_port()), &|_| {});
    assert!(!reachable && problems.contains("refused"), "{problems}");
    let (reachable, problems, _) = tried("file:/nowhere/copy", &|_| {});
    assert!(!reachable && problems.contains("/nowhere"), "{problems}");
    // How far behind, as its place says.
    place.write(1, 30, Duration::ZERO);
    place.begin_behind(10);
    let copy = place.path("copy");
    assert_eq!(tried(&format!("file:{}", copy.display()), &|_| {}), (true, String::new(), Some(20)));
    assert!(!copy.exists() && text(&place.path("kept")).is_empty());
}
