//! Millions of events through the whole daemon: what it takes of memory and file descriptors as instances, programs and
//! endpoints come and go, segments are closed, compressed and removed, and baselines learn.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use crate::harness::{Daemon, Start, program, script};

/// The daemon after so many events.
#[derive(Debug, Serialize)]
struct Row {
    events: u64,
    lost: u64,
    per_second: u64,
    instances: u64,
    resident_kib: u64,
    most_kib: u64,
    descriptors: u64,
    threads: u64,
    segments_kib: u64,
}

/// Has agents connect to many addresses and start programs until there are [`EVENTS`].
pub fn run(mode: &str) -> Result<Value> {
    script(AGENT.as_ref(), "#!/bin/sh\nfor line in \"$@\"; do $line; done\n")?;
    let documents = format!(
        "apiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: soak }}\nspec: {{ owner: tests, role: soak, match: \
         [ {{ exe: {AGENT} }} ] }}\n---\napiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: soak }}\nspec:\n  \
         mode: enforce\n  network: {{ default: deny, rules: [ {{ to: 127.0.0.0/9, verdict: allow }} ] }}\n"
    );
    let start = Start {
        documents,
        mode: Some(mode.to_owned()),
        settings: format!(
            "  journal: {{ bytes_max: {SEGMENTS_BYTES_MAX} }}\n  sinks: {{ refused: {{ to: \"file:{REFUSED}\", kinds: \
             [net_connect], verdicts: [deny] }} }}\n"
        ),
        place: Some(ON_DISK.into()),
        events_file_bytes_max: SEGMENT_BYTES_MAX,
        ..Start::default()
    };
    let daemon = Daemon::start(&start)?;
    let (begun, mut before) = (Instant::now(), (0, Instant::now()));
    let (mut rows, mut instances) = (Vec::new(), 0);
    loop {
        let text = daemon.metrics()?;
        let events = text.value("chaperone_events_recorded_total")? as u64;
        if events >= EVENTS || events >= (rows.len() as u64 + 1) * EACH || begun.elapsed() > TIME_MAX {
            let rate = (events - before.0) * 1000 / u64::try_from(before.1.elapsed().as_millis())?.max(1);
            before = (events, Instant::now());
            let row = Row {
                events,
                lost: text.family("chaperone_events_lost_total") as u64,
                per_second: rate,
                instances,
                ..of_daemon(&daemon)?
            };
            eprintln!("{}", serde_json::to_string(&row)?);
            rows.push(row);
        }
        if events >= EVENTS || begun.elapsed() > TIME_MAX {
            break;
        }
        load(instances)?;
        instances += 1;
    }
    // All that is there still is whole, and says what was removed.
    let output = daemon.cli(&["journal", "verify", "-o", "json"])?;
    let verified: Value = serde_json::from_slice(&output.stdout).context("verify gave no JSON")?;
    drop(fs::remove_file(REFUSED));
    Ok(json!({
        "unit": "KiB of the daemon's memory; its maps in the kernel are not among it",
        "whole": verified["whole"],
        "wrong": u64::from(verified["whole"] != true),
        "records": verified["records"],
        "last_seq": verified["last_seq"],
        "rows": rows,
    }))
}

/// One instance: connects, to an address of its own too, and programs.
fn load(at: u64) -> Result<()> {
    let tests = program("chaperone-tests")?;
    let [_, _, high, low] = u32::try_from(at)?.to_be_bytes();
    let storm = |to: &str, count: u64| format!("{} act storm --to {to} --connects {count}", tests.display());
    let mut command = Command::new(AGENT);
    command
        .arg(storm("127.0.0.9:9", CONNECTS))
        .arg(storm(&format!("127.{}.{high}.{low}:9", 1 + at % 254), 1));
    command.arg(format!("{} act storm --forks {FORKS}", tests.display()));
    let output = command.stdin(Stdio::null()).output().context("start the agent")?;
    ensure!(output.status.success(), "the agent failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn of_daemon(daemon: &Daemon) -> Result<Row> {
    let place = format!("/proc/{}", daemon.pid());
    let status = fs::read_to_string(format!("{place}/status"))?;
    let field = |name: &str| -> Result<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.with_context(|| format!("no {name}"))
    };
    let segments = fs::read_dir(&daemon.directory)?.flatten().filter(|entry| is_segment(&entry.path()));
    Ok(Row {
        events: 0,
        lost: 0,
        per_second: 0,
        instances: 0,
        resident_kib: field("VmRSS")?,
        most_kib: field("VmHWM")?,
        descriptors: fs::read_dir(format!("{place}/fd"))?.count() as u64,
        threads: field("Threads")?,
        segments_kib: segments.filter_map(|entry| Some(entry.metadata().ok()?.len() / 1024)).sum(),
    })
}

fn is_segment(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("events"))
}

const EVENTS: u64 = 5_000_000;
/// A row after so many.
const EACH: u64 = 250_000;
const TIME_MAX: Duration = Duration::from_secs(6000);
const CONNECTS: u64 = 4000;
const FORKS: u64 = 200;
const SEGMENT_BYTES_MAX: u64 = 16 << 20;
const SEGMENTS_BYTES_MAX: u64 = 64 << 20;
const AGENT: &str = "/opt/chaperone-soak";
const ON_DISK: &str = "/var/tmp";
const REFUSED: &str = "/var/tmp/refused.ndjson";
