//! The record beside what else could keep one: plain appends of the same bytes, the journal by the daemon's own path,
//! auditd with a rule for the same call of the same program. What each takes, and at which rate nothing is lost yet.

mod auditd;

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Seek as _, SeekFrom, Write as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike as _,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    act::cost::processor_ns,
    harness::{Daemon, Start, program, script},
};

/// One load at one rate.
#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    /// Acts a second that were asked for; absent for as fast as it goes.
    per_second: Option<u64>,
    /// Acts a second that were performed.
    performed_per_second: u64,
    performed: u64,
    recorded: u64,
    lost: u64,
    bytes_each: u64,
    /// Of what records, beside the act: processor milliseconds for a thousand acts.
    recorder_ms: f64,
    /// Of who acts, with what records in its own calls.
    actor_ms: f64,
}

/// Measures all that there is: auditd where it is unpacked at `/opt/auditd`.
pub fn run(mode: &str) -> Result<Value> {
    if std::env::var_os("TMPDIR").is_none() {
        // /tmp is memory, which cannot be synced.
        let mut again = Command::new(std::env::current_exe()?);
        return Err(again.args(std::env::args_os().skip(1)).env("TMPDIR", ON_DISK).exec().into());
    }
    script(AGENT.as_ref(), "#!/bin/sh\nexec \"$@\"\n")?;
    let mut rows = Vec::new();
    let mut tell = |row: Row| -> Result<()> {
        eprintln!("{}", serde_json::to_string(&row)?);
        rows.push(row);
        Ok(())
    };
    for rate in RATES {
        let load = Load::perform(rate)?;
        tell(load.row("nothing", rate))?;
    }
    let documents = format!(
        "apiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: bench }}\nspec: {{ owner: tests, role: bench, match: \
         [ {{ exe: {AGENT} }} ] }}\n---\napiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: bench }}\nspec:\n  \
         mode: enforce\n  network: {{ default: allow }}\n"
    );
    let mut daemon = Daemon::start(&Start { documents, mode: Some(mode.to_owned()), ..Start::default() })?;
    let events = daemon.directory.join("events.ndjson");
    // What the agent's programs are is found out once.
    Load::perform(Some(WARM_UP))?;
    for rate in RATES {
        let from = quiet(&events)?;
        let before = processor_ns(daemon.pid());
        let load = Load::perform(rate)?;
        quiet(&events)?;
        let used = processor_ns(daemon.pid()) - before;
        let (bytes, lines) = count(&events, from, "\"kind\":\"net_connect\"")?;
        let lost = count(&events, from, "\"kind\":\"events_lost\"")?.1;
        // Of lost events the exact number is what was not recorded; that they were told is what is checked.
        let missing = load.asked.saturating_sub(lines);
        ensure!((missing == 0) == (lost == 0), "{missing} events are missing and {lost} losses were told");
        tell(Row {
            recorded: lines,
            lost: missing,
            bytes_each: bytes / lines.max(1),
            recorder_ms: per_thousand(used, load.asked),
            ..load.row("journal", rate)
        })?;
    }
    tell(plain(&events)?)?;
    daemon.stop()?;
    drop(daemon);
    let audited = auditd::there();
    for flush in auditd::FLUSHES.into_iter().filter(|_| audited) {
        let mut auditd = auditd::Auditd::start(flush)?;
        for rate in RATES {
            tell(auditd.measure(rate)?)?;
        }
    }
    let unit = "processor milliseconds for a thousand acts; by the guest's clock";
    Ok(json!({ "unit": unit, "auditd": audited, "rows": rows }))
}

/// What the actor did.
struct Load {
    asked: u64,
    ns: u64,
    actor_ns: u64,
}

#[derive(Deserialize)]
struct Told {
    asked: u64,
    ns: u64,
}

impl Load {
    /// An agent connects where nobody listens, so many times a second, or as fast as it can.
    fn perform(rate: Option<u64>) -> Result<Self> {
        let before = of_children()?;
        let count = rate.map_or(COUNT_MAX, |rate| rate * SECONDS);
        let mut actor = Command::new(AGENT);
        actor.arg(program("chaperone-tests")?).args(["act", "storm", "--to", NOWHERE, "--connects"]);
        actor.arg(count.to_string());
        if let Some(rate) = rate {
            actor.args(["--per-second", &rate.to_string()]);
        }
        let output = actor.stdin(Stdio::null()).output().context("start the agent")?;
        ensure!(output.status.success(), "the agent failed: {}", String::from_utf8_lossy(&output.stderr));
        let told: Told = serde_json::from_slice(&output.stdout).context("what the agent told")?;
        Ok(Self { asked: told.asked, ns: told.ns, actor_ns: of_children()? - before })
    }

    fn row(&self, what: &'static str, per_second: Option<u64>) -> Row {
        Row {
            what,
            per_second,
            performed_per_second: self.asked * 1_000_000_000 / self.ns.max(1),
            performed: self.asked,
            recorded: 0,
            lost: 0,
            bytes_each: 0,
            recorder_ms: 0.0,
            actor_ms: per_thousand(self.actor_ns, self.asked),
        }
    }
}

/// The bytes of the journal once more, as batches of the pipeline's size are written, synced each second.
fn plain(events: &Path) -> Result<Row> {
    let whole = std::fs::read(events)?;
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let mut file = File::create(events.with_file_name("plain"))?;
    let (before, begun, mut due) = (of_us()?, Instant::now(), Instant::now() + Duration::from_secs(1));
    for batch in lines.chunks(BATCH) {
        file.write_all(&batch.concat())?;
        if Instant::now() >= due {
            file.sync_data()?;
            due = Instant::now() + Duration::from_secs(1);
        }
    }
    file.sync_data()?;
    let (used, count) = (of_us()? - before, lines.len() as u64);
    let ns = u64::try_from(begun.elapsed().as_nanos())?;
    Ok(Row {
        recorded: count,
        bytes_each: whole.len() as u64 / count.max(1),
        recorder_ms: per_thousand(used, count),
        ..Load { asked: count, ns, actor_ns: 0 }.row("plain appends", None)
    })
}

/// Waits until nothing is written any more; answers how much there is.
fn quiet(file: &Path) -> Result<u64> {
    let (mut before, mut same) = (u64::MAX, 0);
    while same < SAME {
        thread::sleep(QUIET);
        // Where the clock counts instructions it leaps over what a disk takes: only a sync of our own waits for it.
        let mut probe = File::create(format!("{ON_DISK}/probe"))?;
        probe.write_all(b"probe")?;
        probe.sync_all()?;
        let now = file.metadata().map_or(0, |file| file.len());
        same = if now == before { same + 1 } else { 0 };
        before = now;
    }
    Ok(before)
}

/// Bytes since a place, and lines there with a text.
fn count(file: &Path, from: u64, text: &str) -> Result<(u64, u64)> {
    let mut file = File::open(file)?;
    file.seek(SeekFrom::Start(from))?;
    let (mut reader, mut line, mut bytes, mut lines) = (BufReader::new(file), String::new(), 0, 0);
    while reader.read_line(&mut line)? > 0 {
        bytes += line.len() as u64;
        lines += u64::from(line.contains(text));
        line.clear();
    }
    Ok((bytes, lines))
}

fn per_thousand(ns: u64, count: u64) -> f64 {
    (ns as f64 / 1000.0 / count.max(1) as f64 * 1000.0).round() / 1000.0
}

fn of_children() -> Result<u64> {
    used(UsageWho::RUSAGE_CHILDREN)
}

fn of_us() -> Result<u64> {
    used(UsageWho::RUSAGE_SELF)
}

fn used(who: UsageWho) -> Result<u64> {
    let usage = getrusage(who)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(u64::try_from(micros)? * 1000)
}

/// Acts a second; at last as fast as it goes.
const RATES: [Option<u64>; 5] = [Some(1000), Some(2000), Some(4000), Some(8000), None];
const SECONDS: u64 = 2;
const WARM_UP: u64 = 500;
/// Far more than the ring buffer or the kernel's backlog for auditd holds.
const COUNT_MAX: u64 = 40_000;
/// Longer than what records waits before it writes or syncs.
const QUIET: Duration = Duration::from_millis(500);
const SAME: u32 = 4;
/// As many as the pipeline takes at a time.
const BATCH: usize = 512;
const AGENT: &str = "/opt/chaperone-bench";
const NOWHERE: &str = "127.0.0.9:9";
const ON_DISK: &str = "/var/tmp";
