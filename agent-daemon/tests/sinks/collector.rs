//! A real OpenTelemetry collector, rotel, which hands what it takes on to a receiver of ours by OTLP's own encoding.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::Ordering,
    thread,
    time::Duration,
};

use nix::sys::signal::Signal;

use super::{LAST, Peer, Place, counts, free_port, http, text, wait_for_all};

fn program() -> Option<PathBuf> {
    let program = Path::new(&std::env::var_os("CHAPERONE_PEERS")?).join("collector/rotel/rotel-agent");
    program.exists().then_some(program)
}

/// What it took, it holds in memory for a moment: it is stopped in order here. One that is killed loses that, as any
/// collector without a queue on a disk.
#[test]
fn a_collector_that_is_stopped_and_started_hands_on_all_records() {
    let Some(program) = program() else {
        println!("passed over: no rotel-agent (CHAPERONE_PEERS)");
        return;
    };
    let place = Place::new();
    let behind = http(&place, None);
    let (port, grpc) = (free_port(), free_port());
    let (to, pid) = (format!("http://127.0.0.1:{}/otlp", behind.port), place.path("collector.pid"));
    let mut collector = Peer::start(port, move || {
        let mut command = Command::new(&program);
        command.arg("start").args(["--exporter", "otlp", "--otlp-exporter-protocol", "http"]);
        command.args(["--otlp-exporter-endpoint", &to, "--otlp-exporter-retry-initial-backoff", "100ms"]);
        command.arg("--otlp-http-endpoint").arg(format!("127.0.0.1:{port}"));
        command.arg("--otlp-grpc-endpoint").arg(format!("127.0.0.1:{grpc}"));
        command.arg("--pid-file").arg(&pid);
        command
    });
    let stats = place.start(&format!("otlp+http://127.0.0.1:{port}/v1/logs"), |_| {});
    thread::scope(|scope| {
        let writer = scope.spawn(|| place.write(1, LAST, Duration::from_millis(20)));
        for _ in 0..2 {
            thread::sleep(Duration::from_millis(1_000));
            collector.end();
            thread::sleep(Duration::from_millis(300));
            collector.begin();
        }
        collector.signal(Signal::SIGSTOP);
        thread::sleep(Duration::from_millis(500));
        collector.signal(Signal::SIGCONT);
        writer.join().unwrap();
    });
    let found = wait_for_all(LAST, || counts(&text(&place.path("kept"))), &stats);
    assert!(stats["one"].failures.load(Ordering::Relaxed) > 0, "it was never down");
    println!("{} records, {} of them again", found.len(), found.values().map(|count| count - 1).sum::<u32>());
}
