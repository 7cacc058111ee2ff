//! What is in force outlives the daemon: enforcement, labels, instances, events and the count of those that are lost.

use std::{collections::BTreeSet, fs, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{TRY_CONNECT, agent, end_marked, launcher, origin, place, run, start, was_refused};
use crate::{
    bench::gaps::{self, Effort},
    case::{Case, Outcome, case},
    guest::Shared,
    harness::{Daemon, Start, find_marked, marked_command, program},
};

pub const CASES: &[Case<Shared>] = &[
    case("nothing_passes_while_the_daemon_is_killed_reloaded_and_replaced", no_gap),
    case("instances_and_labels_outlive_the_daemon", adopted),
    case("an_instance_that_ends_while_the_daemon_is_dead_is_gone", ended),
    case("an_upgrade_counts_every_birth_exec_and_end_once", once),
    case("events_of_the_dead_time_are_read_or_counted_once", events),
    case("a_daemon_that_is_killed_in_a_storm_loses_nothing_uncounted", killed),
    case("a_build_with_another_contract_records_what_the_one_before_left", inherited),
    case("a_second_daemon_is_refused_and_detach_waits_for_the_first", alone),
];

fn no_gap(shared: &mut Shared) -> Result<Outcome> {
    let (rows, _) = gaps::perform(&shared.mode, Effort { rounds: 2, attempts: 500 })?;
    let (last, rows) = rows.split_last().context("no case was tried")?;
    for row in rows {
        ensure!(row.passed == 0, "{}: {} of {} passed", row.case, row.passed, row.attempts + row.started);
    }
    ensure!(last.passed > 0, "nothing passed after detach either");
    Ok(Outcome::Held)
}

fn adopted(shared: &mut Shared) -> Result<Outcome> {
    let (place, mut daemon) = pinned(shared, "adopted")?;
    let bot = place.join("bot").display().to_string();
    let mut old = start(&[&bot, "bash", "-c", &marked_command("old", 900)])?;
    let mut human =
        start(&["script", "-qec", &format!("bash -c '{}'", marked_command("human", 900)), "/dev/null"])?;
    let (old_pid, human_pid) = (find_marked("old")?, find_marked("human")?);
    let before = [daemon.label(old_pid)?, daemon.label(human_pid)?];
    ensure!(origin(&before[0]) == "agent" && origin(&before[1]) == "human", "before: {before:?}");
    daemon.crash()?;

    let (_, text) = run(&[&bot, "bash", "-c", TRY_CONNECT])?;
    ensure!(was_refused(&text)?, "an agent that was started without a daemon was not refused");
    let (_, text) = run(&["bash", "-c", TRY_CONNECT])?;
    ensure!(!was_refused(&text)?, "a person was refused");
    let mut new = start(&[&bot, "bash", "-c", &marked_command("new", 900)])?;
    let new_pid = find_marked("new")?;
    daemon.restart(&[])?;

    let after = [daemon.label(old_pid)?, daemon.label(human_pid)?];
    for (before, after) in before.iter().zip(&after) {
        for field in ["origin", "instance", "agent", "exec_id", "evidence"] {
            ensure!(before[field] == after[field], "{field}: {} became {}", before[field], after[field]);
        }
    }
    let new_label = daemon.label(new_pid)?;
    ensure!(origin(&new_label) == "agent" && new_label["agent"] == "bot", "started meanwhile: {new_label}");
    ensure!(new_label["instance"] != after[0]["instance"], "one instance for two");
    let started = daemon.seen.iter().rev().find(|event| event["kind"] == "daemon_started");
    let daemon_fields = started.map(|event| event["daemon"].clone()).unwrap_or_default();
    ensure!(daemon_fields["took_over"] == "same_build" && daemon_fields["instances"] == 2, "{daemon_fields}");
    daemon.wait(0, "the exec of the dead time", |event| {
        event["kind"] == "process_exec" && event["instance"] == new_label["instance"]
    })?;
    daemon.wait(0, "the refusal of the dead time", |event| event["verdict"] == "deny")?;

    for (child, pid) in [(&mut old, old_pid), (&mut new, new_pid), (&mut human, human_pid)] {
        end_marked(pid);
        child.wait()?;
    }
    daemon.wait(0, "the end of the adopted instance", |event| {
        event["exit"]["instance_ended"] == true && event["instance"] == after[0]["instance"]
    })?;
    Ok(Outcome::Held)
}

fn ended(shared: &mut Shared) -> Result<Outcome> {
    let place = place("ended")?;
    let bot = place.join("bot");
    launcher(&bot)?;
    let bot = bot.display().to_string();
    // Older than the daemon, so that its task count has to be looked after.
    let mut first = start(&[&bot, "bash", "-c", &format!("{}; true", marked_command("first", 900))])?;
    let first_pid = find_marked("first")?;
    let mut daemon = start_pinned(shared, &bot)?;
    let mut second = start(&[&bot, "bash", "-c", &marked_command("second", 900)])?;
    let second_pid = find_marked("second")?;
    let instances: BTreeSet<String> = [first_pid, second_pid]
        .iter()
        .map(|pid| Ok(daemon.label(*pid)?["instance"].to_string()))
        .collect::<Result<_>>()?;
    ensure!(instances.len() == 2, "one instance for two: {instances:?}");
    daemon.crash()?;
    end_marked(first_pid);
    end_marked(second_pid);
    first.wait()?;
    second.wait()?;
    daemon.restart(&[])?;
    daemon.wait(0, "the end of the one that was found running", |event| event["kind"] == "agent_ended")?;
    let processes = daemon.processes()?;
    let left =
        processes.iter().filter(|process| instances.contains(&process["instance"].to_string())).count();
    ensure!(left == 0, "{left} processes of ended instances are shown");
    let metrics = daemon.metrics()?;
    let live =
        metrics.0.lines().find(|line| line.starts_with("chaperone_instances{") && !line.ends_with(" 0"));
    ensure!(
        metrics.value("chaperone_agent_tasks")? == 0.0 && live.is_none(),
        "after all have ended: {live:?}"
    );
    Ok(Outcome::Held)
}

/// While one build replaces another both programs of a hook run: nothing of a process may be done twice.
fn once(shared: &mut Shared) -> Result<Outcome> {
    let (place, mut daemon) = pinned(shared, "once")?;
    let bot = place.join("bot").display().to_string();
    let busy = format!(
        "until [ -e {0}/go ]; do bash -c true; done; {1}",
        place.display(),
        marked_command("busy", 900)
    );
    let mut child = start(&[&bot, "bash", "-c", &busy])?;
    for _ in 0..3 {
        daemon.stop()?;
        daemon.restart(&["--anew"])?;
    }
    fs::write(place.join("go"), "")?;
    let pid = find_marked("busy")?;
    daemon.settle()?;
    let mut seen = BTreeSet::new();
    for event in &daemon.seen {
        let kind = event["kind"].as_str().unwrap_or_default();
        // A process is one exec id until it executes again, so neither its exec nor its end comes twice.
        if matches!(kind, "process_exec" | "process_exit") {
            let key = (kind.to_owned(), event["exec_id"].to_string(), event["pid"].to_string());
            ensure!(seen.insert(key.clone()), "twice: {key:?}");
        }
    }
    ensure!(seen.len() > 10, "only {} events came", seen.len());
    end_marked(pid);
    child.wait()?;
    daemon.wait(0, "the end of the instance", |event| event["exit"]["instance_ended"] == true)?;
    Ok(Outcome::Held)
}

fn events(shared: &mut Shared) -> Result<Outcome> {
    let (place, mut daemon) = pinned(shared, "events")?;
    let bot = place.join("bot").display().to_string();
    daemon.settle()?;
    daemon.crash()?;
    // More than the ring buffer holds.
    let tries: u64 = 30_000;
    let hammer = program("chaperone-tests")?.display().to_string();
    run(&[&bot, &hammer, "act", "hammer", "--count", &tries.to_string()])?;
    daemon.restart(&[])?;
    daemon.wait(0, "events_lost", |event| event["kind"] == "events_lost")?;
    daemon.settle()?;
    let told = |daemon: &Daemon, kind: &str| lost(&daemon.seen, kind);
    let recorded = daemon.seen.iter().filter(|event| event["verdict"] == "deny").count() as u64;
    let lost_connects = told(&daemon, "net");
    ensure!(
        recorded + lost_connects == tries && lost_connects > 0 && recorded > 1000,
        "of {tries} refusals {recorded} are recorded and {lost_connects} counted as lost"
    );
    daemon.crash()?;
    daemon.restart(&[])?;
    daemon.settle()?;
    ensure!(told(&daemon, "net") == lost_connects, "what was lost was told again");
    Ok(Outcome::Held)
}

/// What a daemon has read and not written when it is killed is neither lost nor told twice.
fn killed(shared: &mut Shared) -> Result<Outcome> {
    let (place, mut daemon) = pinned(shared, "killed")?;
    let bot = place.join("bot").display().to_string();
    let hammer = program("chaperone-tests")?.display().to_string();
    daemon.settle()?;
    let from = daemon.seen.len();
    let (rounds, tries): (u32, u64) = (8, 3_000);
    let mut cut = 0;
    for round in 0..rounds {
        let before = daemon.seen.len();
        let mut storm = start(&[&bot, &hammer, "act", "hammer", "--count", &tries.to_string()])?;
        daemon.wait(before, "of the storm", |event| event["verdict"] == "deny")?;
        thread::sleep(Duration::from_millis(u64::from(round) * 20));
        daemon.crash()?;
        daemon.read()?;
        cut += u32::from(denied(&daemon.seen[before..]) < tries);
        storm.wait()?;
        daemon.restart(&[])?;
    }
    ensure!(cut > 0, "the daemon was never killed while it had something to read, so it shows nothing");
    told_to_the_unit(&mut daemon, from, tries * u64::from(rounds))?;
    Ok(Outcome::Held)
}

/// Another mode, or a table of another size, makes another contract: maps of its own.
fn inherited(shared: &mut Shared) -> Result<Outcome> {
    let (place, mut daemon) = pinned(shared, "inherited")?;
    let bot = place.join("bot").display().to_string();
    let hammer = program("chaperone-tests")?.display().to_string();
    daemon.settle()?;
    let from = daemon.seen.len();
    let (few, many): (u64, u64) = (700, 30_000);
    // The last is more than the ring buffer holds.
    for tries in [few, few, many] {
        let mark = daemon.seen.len();
        daemon.crash()?;
        run(&[&bot, &hammer, "act", "hammer", "--count", &tries.to_string()])?;
        daemon.restart_with_another_contract()?;
        let started = daemon.wait(mark, "daemon_started", |event| event["kind"] == "daemon_started")?;
        ensure!(started["daemon"]["took_over"] == "other_build", "{started}");
    }
    told_to_the_unit(&mut daemon, from, 2 * few + many)?;
    ensure!(lost(&daemon.seen[from..], "net") > 0, "nothing was lost, so it shows little");
    let contracts = fs::read_dir("/sys/fs/bpf/chaperone")?.count();
    ensure!(contracts == 1, "{contracts} contracts are pinned");
    Ok(Outcome::Held)
}

/// Refused connects are recorded or counted as lost, and none twice.
fn told_to_the_unit(daemon: &mut Daemon, from: usize, tries: u64) -> Result<()> {
    // Losses are told once a second.
    thread::sleep(Duration::from_millis(1500));
    daemon.settle()?;
    let seen = &daemon.seen[from..];
    let (recorded, lost) = (denied(seen), lost(seen, "net"));
    ensure!(
        recorded + lost == tries && recorded > 0,
        "of {tries} refusals {recorded} are recorded and {lost} counted as lost"
    );
    Ok(())
}

fn alone(shared: &mut Shared) -> Result<Outcome> {
    let (_place, mut daemon) = pinned(shared, "alone")?;
    let second = daemon.cli(&["daemon", "--metrics", "off"])?;
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    ensure!(!second.status.success() && text.contains("another daemon"), "a second daemon: {text}");
    let detach = daemon.cli(&["detach"])?;
    ensure!(!detach.status.success(), "detach with a daemon that runs");
    daemon.stop()?;
    ensure!(daemon.cli(&["detach"])?.status.success(), "detach");
    ensure!(fs::read_dir("/sys/fs/bpf")?.count() == 0, "detach has left something");
    let again = daemon.cli(&["detach"])?;
    ensure!(again.status.success(), "detach where there is nothing");
    Ok(Outcome::Held)
}

fn denied(events: &[Value]) -> u64 {
    events.iter().filter(|event| event["verdict"] == "deny").count() as u64
}

/// Lost events of a kind, as they were told.
fn lost(events: &[Value], kind: &str) -> u64 {
    events.iter().filter_map(|event| event["lost"]["ring"][kind].as_u64()).sum()
}

fn pinned(shared: &Shared, name: &str) -> Result<(std::path::PathBuf, Daemon)> {
    let place = place(name)?;
    let bot = place.join("bot");
    launcher(&bot)?;
    let daemon = start_pinned(shared, &bot)?;
    Ok((place, daemon))
}

fn start_pinned(shared: &Shared, bot: impl AsRef<Path>) -> Result<Daemon> {
    Daemon::start(&Start {
        documents: agent("bot", &[format!("exe: {}", bot.as_ref().display())]),
        mode: Some(shared.mode.clone()),
        pinned: true,
        ..Start::default()
    })
}
