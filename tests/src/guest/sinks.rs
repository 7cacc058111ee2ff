//! Sinks while the daemon enforces: one is dead, comes up, is killed under load, or stands still; the other and the
//! verdicts go on.

mod network;

pub use self::network::CASES as NETWORK_CASES;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::{
    disk::{Disk, Frozen},
    process::{TRY_CONNECT, was_refused},
};
use crate::{
    case::{Case, Outcome, case},
    guest::Shared,
    harness::{Daemon, Ended, Start, script},
};

pub const CASES: &[Case<Shared>] = &[
    case("a_sink_that_is_dead_or_killed_holds_up_nobody_and_misses_nothing", killed),
    case("a_sink_whose_disk_stands_still_holds_up_nobody_and_misses_nothing", held),
];

/// For a guest that runs systemd.
pub const SYSTEMD_CASES: &[Case<Shared>] =
    &[case("journald has every event with its fields, killed and restarted under load", journald)];

fn killed(shared: &mut Shared) -> Result<Outcome> {
    let place = Place::make("/run/chaperone-sinks")?;
    let (copy, kept) = (place.0.join("copy"), place.0.join("kept"));
    let sinks =
        format!("{{ copy: {{ to: \"file:{}\" }}, hook: {{ to: \"http://{AT}/in\" }} }}", copy.display());
    let mut daemon = place.daemon(shared, &sinks)?;

    // Dead from the beginning.
    place.act(20)?;
    wait("the copy while the other is dead", || Ok(value(&daemon, "waiting", "copy")? == 0.0))?;
    wait("the other told dead", || Ok(value(&daemon, "failures_total", "hook")? >= 1.0))?;
    ensure!(
        value(&daemon, "up", "hook")? == 0.0 && value(&daemon, "waiting", "hook")? >= 20.0,
        "it is not behind"
    );
    let doctor = doctor(&daemon)?;
    let (up, why) = (&doctor["hook"]["running"]["up"], doctor["hook"]["running"]["error"].to_string());
    ensure!(*up == false && why.contains("refused") && doctor["copy"]["running"]["up"] == true, "{doctor}");

    let mut receiver = start_receiver(&kept)?;
    wait("all that it missed", || Ok(value(&daemon, "waiting", "hook")? == 0.0))?;
    ensure!(value(&daemon, "up", "hook")? == 1.0, "it is not up");

    // Killed twice while events come.
    let load = place.load()?;
    for _ in 0..2 {
        wait("it is up", || Ok(value(&daemon, "up", "hook")? == 1.0))?;
        thread::sleep(Duration::from_secs(2));
        receiver.0.kill()?;
        receiver.0.wait()?;
        let failures = value(&daemon, "failures_total", "hook")?;
        place.act(5)?;
        wait("a failure told", || Ok(value(&daemon, "failures_total", "hook")? > failures))?;
        wait("the copy meanwhile", || Ok(value(&daemon, "up", "copy")? == 1.0))?;
        receiver = start_receiver(&kept)?;
    }
    drop(load);
    // Read before the wait: a checkpoint may come behind it.
    daemon.settle()?;
    for sink in ["copy", "hook"] {
        wait(sink, || Ok(value(&daemon, "waiting", sink)? == 0.0 && value(&daemon, "up", sink)? == 1.0))?;
        ensure!(value(&daemon, "missed_total", sink)? == 0.0, "{sink} missed some");
    }
    ensure!(value(&daemon, "failures_total", "copy")? == 0.0, "the copy was held up");
    let (hook, copied) = (seqs(&kept)?, seqs(&copy)?);
    has_all(&daemon, "the receiver", &hook)?;
    has_all(&daemon, "the copy", &copied)?;
    ensure!(copied.len() == copied.iter().collect::<BTreeSet<_>>().len(), "the copy has some twice");
    println!(
        "# {} events, of which the receiver has {} twice",
        copied.len(),
        hook.len() - copied.len().min(hook.len())
    );
    Ok(Outcome::Held)
}

/// A file on a disk that takes no write, and a copy on one that does.
fn held(shared: &mut Shared) -> Result<Outcome> {
    let disk = Disk::ext4()?;
    let place = Place::make("/run/chaperone-sinks")?;
    let (copy, kept) = (place.0.join("copy"), disk.0.join("kept"));
    let sinks = format!(
        "{{ copy: {{ to: \"file:{}\" }}, held: {{ to: \"file:{}\" }} }}",
        copy.display(),
        kept.display()
    );
    let mut daemon = place.daemon(shared, &sinks)?;
    place.act(5)?;
    wait("the first ones", || Ok(value(&daemon, "waiting", "held")? == 0.0))?;
    let frozen = Frozen::freeze(&disk.0)?;
    place.act(20)?;
    daemon.settle()?;
    wait("the copy meanwhile", || Ok(value(&daemon, "waiting", "copy")? == 0.0))?;
    // The write has not ended, and is told all the same.
    wait("the other told down", || Ok(value(&daemon, "up", "held")? == 0.0))?;
    ensure!(value(&daemon, "up", "copy")? == 1.0, "the copy is down too");
    has_all(&daemon, "the copy", &seqs(&copy)?)?;
    drop(frozen);
    wait("all that it missed", || Ok(value(&daemon, "waiting", "held")? == 0.0))?;
    let numbers = seqs(&kept)?;
    has_all(&daemon, "the other", &numbers)?;
    let twice = numbers.len() - numbers.iter().collect::<BTreeSet<_>>().len();
    println!("# {} events, {twice} twice in the one that was held", numbers.len());
    Ok(Outcome::Held)
}

fn journald(shared: &mut Shared) -> Result<Outcome> {
    let place = Place::make("/run/chaperone-journald")?;
    let mut daemon = place.daemon(shared, "{ journal: { to: \"journald:\" } }")?;
    let load = place.load()?;
    for how in [&["kill", "-s", "KILL", UNIT][..], &["restart", UNIT], &["kill", "-s", "KILL", UNIT]] {
        thread::sleep(Duration::from_secs(2));
        ensure!(Command::new("systemctl").args(how).status()?.success(), "systemctl {how:?}");
        place.act(3)?;
    }
    drop(load);
    daemon.settle()?;
    wait("journald's own", || Ok(value(&daemon, "waiting", "journal")? == 0.0))?;
    daemon.read()?;

    let entries = || -> Result<Vec<Value>> {
        let output = Command::new("journalctl")
            .args(["-o", "json", "--no-pager", "--all", "SYSLOG_IDENTIFIER=chaperone"])
            .arg(format!("_PID={}", daemon.pid()))
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        // The daemon's own log has the same identifier where its standard error is the journal's.
        let all = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
        Ok(all.into_iter().filter(|entry| entry["CHAPERONE_SEQ"].is_string()).collect())
    };
    let number = |entry: &Value| entry["CHAPERONE_SEQ"].as_str().and_then(|seq| seq.parse().ok());
    let newest = daemon.seen.last().and_then(|event| event["seq"].as_u64());
    wait("the last in the journal", || Ok(entries()?.iter().any(|entry| number(entry) == newest)))?;
    let entries = entries()?;
    let numbers: Vec<u64> = entries.iter().filter_map(number).collect();
    // What a killed journald held it has not acknowledged, for it never does, and nobody can tell that it is lost. What
    // came before and after each kill is there, and all that came around the restart in order.
    let missing = missing(&daemon, &numbers)?;
    ensure!(
        missing.len() <= KILLS,
        "journald lacks {missing:?} of {} after {KILLS} kills",
        daemon.seen.len()
    );
    let denied = daemon.seen.iter().find(|e| e["verdict"] == "deny").context("nothing was refused")?;
    let entry = entries.iter().find(|entry| number(entry) == denied["seq"].as_u64()).context("no entry")?;
    let message: Value = serde_json::from_str(entry["MESSAGE"].as_str().context("no message")?)?;
    ensure!(message == *denied, "another message: {message}");
    ensure!(
        entry["PRIORITY"] == "4"
            && entry["CHAPERONE_KIND"] == denied["kind"]
            && entry["CHAPERONE_VERDICT"] == "deny",
        "other fields: {entry}"
    );
    let (events, entries) = (daemon.seen.len(), numbers.len());
    println!("# {events} events, {entries} entries, {} lost with a killed journald", missing.len());
    Ok(Outcome::Held)
}

/// How often the case kills journald; each can take the one entry that it was at.
const KILLS: usize = 2;

/// A directory with an agent that may connect to nothing.
struct Place(PathBuf);

impl Place {
    fn make(path: &str) -> Result<Self> {
        drop(fs::remove_dir_all(path));
        fs::create_dir_all(path)?;
        script(&Path::new(path).join("agent"), &format!("#!/bin/bash\n{TRY_CONNECT}\n"))?;
        Ok(Self(path.into()))
    }

    fn daemon(&self, shared: &Shared, sinks: &str) -> Result<Daemon> {
        let documents = DOCUMENTS.replace("AGENT", &self.0.join("agent").display().to_string());
        let settings = format!("  sinks: {sinks}\n");
        Daemon::start(&Start { documents, settings, mode: Some(shared.mode.clone()), ..Start::default() })
    }

    /// Has the agent try so often, and sees it refused each time.
    fn act(&self, times: usize) -> Result<()> {
        for _ in 0..times {
            let output = Command::new(self.0.join("agent")).stdin(Stdio::null()).output()?;
            ensure!(was_refused(&String::from_utf8_lossy(&output.stderr))?, "the agent's connect passed");
        }
        Ok(())
    }

    /// The agent tries until this is killed.
    fn load(&self) -> Result<Ended> {
        let line = format!("while true; do {}; done", self.0.join("agent").display());
        let mut shell = Command::new("bash");
        shell.args(["-c", &line]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Ended(shell.spawn().context("start the load")?))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

fn start_receiver(kept: &Path) -> Result<Ended> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["sink", AT]).arg(kept).stdin(Stdio::null());
    Ok(Ended(command.spawn().context("start the receiver")?))
}

/// What the metrics say of a sink.
fn value(daemon: &Daemon, family: &str, sink: &str) -> Result<f64> {
    daemon.metrics()?.value(&format!("chaperone_sink_{family}{{sink=\"{sink}\"}}"))
}

fn doctor(daemon: &Daemon) -> Result<Value> {
    let output = daemon.cli(&["doctor", "-o", "json"])?;
    let mut all: Value = serde_json::from_slice(&output.stdout).context("doctor gave no JSON")?;
    Ok(all["sinks"].take())
}

fn seqs(file: &Path) -> Result<Vec<u64>> {
    let text = fs::read_to_string(file)?;
    // A line may be being written.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let events = whole.map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>()?;
    Ok(events.iter().filter_map(|event| event["seq"].as_u64()).collect())
}

/// Which of all recorded events, which must have been a load, are not among these.
fn missing(daemon: &Daemon, numbers: &[u64]) -> Result<Vec<u64>> {
    ensure!(daemon.seen.len() > EVENTS_MIN, "{} events are no load", daemon.seen.len());
    let there: BTreeSet<u64> = numbers.iter().copied().collect();
    let all = daemon.seen.iter().filter_map(|event| event["seq"].as_u64());
    Ok(all.filter(|seq| !there.contains(seq)).collect())
}

fn has_all(daemon: &Daemon, what: &str, numbers: &[u64]) -> Result<()> {
    let missing = missing(daemon, numbers)?;
    ensure!(missing.is_empty(), "{what} lacks {missing:?} of {}", daemon.seen.len());
    Ok(())
}

/// A sink is tried again half a minute after a failure at the latest.
fn wait(what: &str, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(90);
    while !look()? {
        if Instant::now() > end {
            bail!("{what} did not come");
        }
        thread::sleep(Duration::from_millis(300));
    }
    Ok(())
}

const DOCUMENTS: &str = "apiVersion: chaperone/v1
kind: Agent
metadata: { name: bot }
spec: { owner: tests@example.com, version: \"1\", role: bot, match: [ { exe: AGENT } ] }
---
apiVersion: chaperone/v1
kind: Role
metadata: { name: bot }
spec: { mode: enforce, network: { default: deny, defaults: { unix: allow } } }
";
const UNIT: &str = "systemd-journald";
const AT: &str = "127.0.0.1:9876";
const EVENTS_MIN: usize = 60;
