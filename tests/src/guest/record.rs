//! The record on a bad disk, one that is full, read-only, or stands still: enforcement goes on, and what is not recorded is counted and told.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{
    baselines::documents,
    disk::{Disk, Frozen, run},
};
use crate::{
    case::{Case, Outcome, case},
    guest::Shared,
    harness::{Daemon, Start, script},
};

pub const CASES: &[Case<Shared>] = &[
    case("on_a_full_disk_enforcement_goes_on_and_the_loss_is_told_to_the_unit", full),
    case("on_a_read_only_disk_enforcement_goes_on_and_the_loss_is_told_to_the_unit", read_only),
    case("on_a_disk_that_stands_still_enforcement_goes_on_and_nothing_is_lost", frozen),
];

const BOT: &str = "/run/chaperone-record";
const SPEC: &str =
    "{ mode: enforce, network: { default: allow, rules: [ { to: 127.0.66.1, verdict: deny } ] } }";

fn full(shared: &mut Shared) -> Result<Outcome> {
    let disk = Disk::tmpfs()?;
    let filler = disk.0.join("filler");
    let fill = format!("cat /dev/zero > {} 2>/dev/null; true", filler.display());
    unwritable(shared, &disk, &|| run("sh", &["-c", &fill]), &|| {
        fs::remove_file(&filler).context("make room")
    })
}

/// As a file system makes itself when it meets an error; a remount is refused while files are written to.
fn read_only(shared: &mut Shared) -> Result<Outcome> {
    let disk = Disk::ext4()?;
    let place = disk.0.display().to_string();
    let make = || {
        fs::write("/proc/sysrq-trigger", "u").context("have all disks made read-only")?;
        let end = Instant::now() + TOLD_MAX;
        while fs::write(disk.0.join("probe"), "").is_ok() {
            ensure!(Instant::now() < end, "{place} can still be written to");
            thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    };
    let mend = || {
        run("mount", &["-o", "remount,rw", "/"])?;
        run("mount", &["-o", "remount,rw", &place])
    };
    let outcome = unwritable(shared, &disk, &make, &mend);
    // Other cases need it, whatever became of this one.
    run("mount", &["-o", "remount,rw", "/"])?;
    outcome
}

/// Every write to it waits, without end.
fn frozen(shared: &mut Shared) -> Result<Outcome> {
    let disk = Disk::ext4()?;
    let mut daemon = start(shared, &disk)?;
    ensure!(acts(1)? == 1, "the connect was not refused on a good disk");
    daemon.settle()?;
    let frozen = Frozen::freeze(&disk.0)?;
    // A checkpoint may have come until here.
    daemon.read()?;
    let from = daemon.seen.len();
    // What is written first holds the daemon.
    acts(1)?;
    thread::sleep(Duration::from_secs(2));
    let begun = Instant::now();
    let refused = acts(ROUNDS)?;
    let took = begun.elapsed();
    ensure!(refused == ROUNDS, "{refused} of {ROUNDS} connects were refused");
    let output = daemon.cli(&["metrics"])?;
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(!output.status.success() && error.contains("has said nothing"), "metrics says: {error}");
    daemon.read()?;
    ensure!(daemon.seen[from..].is_empty(), "it was written to");
    drop(frozen);
    let connects = |daemon: &Daemon, verdict: &str| {
        let of = |e: &&Value| e["kind"] == "net_connect" && e["verdict"] == verdict;
        daemon.seen[from..].iter().filter(of).count() as u64
    };
    let end = Instant::now() + TOLD_MAX;
    while connects(&daemon, "deny") < ROUNDS + 1 {
        ensure!(
            Instant::now() < end,
            "{} of {} refusals are recorded",
            connects(&daemon, "deny"),
            ROUNDS + 1
        );
        daemon.settle()?;
    }
    daemon.settle()?;
    let recorded = (connects(&daemon, "deny"), connects(&daemon, "allow"));
    ensure!(recorded == (ROUNDS + 1, ROUNDS + 1), "{recorded:?} refusals and allowances are recorded");
    ensure!(unwritten(&daemon)? == 0, "lines are counted as lost");
    let lost = daemon.seen.iter().find(|e| e["lost"].is_object());
    ensure!(lost.is_none(), "a loss is told: {lost:?}");
    verified(&daemon, 0)?;
    println!("   {} connects in {:.1} s while the disk stood still", 2 * ROUNDS, took.as_secs_f32());
    Ok(Outcome::Held)
}

type Change<'a> = &'a dyn Fn() -> Result<()>;

fn start(shared: &Shared, disk: &Disk) -> Result<Daemon> {
    script(
        Path::new(BOT),
        "#!/bin/bash\nfor to in \"$@\"; do (: 3<>/dev/tcp/$to) 2>&1 | grep -m1 -o 'Operation not permitted'; done; true\n",
    )?;
    let mode = Some(shared.mode.clone());
    Daemon::start(&Start {
        documents: documents(BOT, SPEC),
        mode,
        place: Some(disk.0.clone()),
        ..Start::default()
    })
}

/// Nothing can be written, and then it can again.
fn unwritable(shared: &Shared, disk: &Disk, break_it: Change<'_>, mend: Change<'_>) -> Result<Outcome> {
    let mut daemon = start(shared, disk)?;
    let refused = acts(1)?;
    ensure!(refused == 1, "{refused} of 1 connects were refused on a good disk");
    daemon.settle()?;
    break_it()?;
    let before = unwritten(&daemon)?;
    let begun = Instant::now();
    let refused = acts(ROUNDS)?;
    let took = begun.elapsed();
    thread::sleep(Duration::from_secs(2));
    let lost = unwritten(&daemon)?;
    mend()?;
    ensure!(refused == ROUNDS, "{refused} of {ROUNDS} connects were refused");
    ensure!(lost >= before + 2 * ROUNDS, "{lost} lines are counted as unwritten of {} acts", 2 * ROUNDS);
    let from = daemon.seen.len();
    acts(1)?;
    let told = all_told(&mut daemon)?;
    let last = &daemon.seen[from..];
    let refused = last.iter().filter(|e| e["kind"] == "net_connect" && e["verdict"] == "deny").count();
    ensure!(refused >= 1, "nothing is recorded on the mended disk");
    verified(&daemon, told)?;
    println!("   {told} lines not written, {} connects in {:.1} s", 2 * ROUNDS, took.as_secs_f32());
    Ok(Outcome::Held)
}

/// The journal is whole, and says of so many lines that they are not in it; at the latest when its first checkpoint is
/// written, which could not be on a bad disk.
fn verified(daemon: &Daemon, unwritten: u64) -> Result<()> {
    let end = Instant::now() + TOLD_MAX;
    loop {
        let output = daemon.cli(&["journal", "verify", "-o", "json"])?;
        let report: Value = serde_json::from_slice(&output.stdout).context("verify gave no JSON")?;
        let said = report["gaps"]["lost"]["unwritten"].as_u64().unwrap_or(0);
        let is_signed = report["checkpoints"].as_u64() > Some(0);
        if is_signed || Instant::now() > end {
            ensure!(report["whole"] == true && said == unwritten, "{report}");
            return Ok(());
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// So many times one connect that is refused and one that is allowed; how many were refused.
fn acts(rounds: u64) -> Result<u64> {
    let to = (0..rounds).flat_map(|_| ["127.0.66.1/9", "127.0.66.2/9"]);
    let output = Command::new(BOT).args(to).output().context("run the agent")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().count() as u64)
}

/// Waits until as many lines are told as are counted: what was lost is told in parts, each about a second after it was,
/// the first ones while the disk had room for a short record and not for a batch.
fn all_told(daemon: &mut Daemon) -> Result<u64> {
    let end = Instant::now() + TOLD_MAX;
    loop {
        daemon.settle()?;
        let counted = unwritten(daemon)?;
        let told: u64 = daemon.seen.iter().filter_map(|e| e["lost"]["unwritten"].as_u64()).sum();
        if told == counted && counted > 0 {
            return Ok(told);
        }
        ensure!(Instant::now() < end, "{told} are told and {counted} are counted");
    }
}

/// Lines that could not be written, as the metrics have them.
fn unwritten(daemon: &Daemon) -> Result<u64> {
    let lost = "chaperone_events_lost_total{kind=\"line\",place=\"file\"}";
    Ok(daemon.metrics()?.value(lost)? as u64)
}

const ROUNDS: u64 = 20;
const TOLD_MAX: Duration = Duration::from_secs(30);
