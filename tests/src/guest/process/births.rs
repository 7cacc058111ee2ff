//! Births: whatever way a process is born inside an agent's tree, it is the agent's; outside, it is not.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};

use super::{agent, daemon, end_marked, launcher, origin, place, run};
use crate::{
    case::{Case, Outcome, case},
    guest::Shared,
    harness::{Daemon, find_marked, marked_command},
};

pub const CASES: &[Case<Shared>] = &[
    case("every_birth_inside_an_agent_is_the_agents", inside),
    case("the_same_births_outside_are_not", outside),
    case("set_id_programs_keep_the_instance", set_id),
    case("every_task_is_labelled_and_every_instance_ends", accounted),
];

/// The shapes of birth that the actor knows.
fn shapes() -> Result<Vec<String>> {
    let own = std::env::current_exe()?;
    let (_, text) = run(&[&own.to_string_lossy(), "act", "shape", "--list"])?;
    let names: Vec<String> =
        text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect();
    ensure!(names.len() > 30, "only {} shapes", names.len());
    Ok(names)
}

/// Starts a leaf in each shape, a few at a time, and answers with shape and pid.
fn leaves(before: &[&str], tag: &str) -> Result<Vec<(String, u32)>> {
    let own = std::env::current_exe()?.to_string_lossy().into_owned();
    let mut leaves = Vec::new();
    let mut running = Vec::new();
    for shape in shapes()? {
        let leaf = marked_command(&format!("{tag}-{shape}"), 900);
        let words = [before, &[&own, "act", "shape", &shape, "--", "/bin/bash", "-c", &leaf]].concat();
        let child = super::start(&words)?;
        running.push((shape, child));
        if running.len() == 4 {
            for (shape, child) in running.drain(..) {
                leaves.push((shape.clone(), find_marked(&format!("{tag}-{shape}"))?, child));
            }
        }
    }
    for (shape, child) in running {
        leaves.push((shape.clone(), find_marked(&format!("{tag}-{shape}"))?, child));
    }
    Ok(leaves.into_iter().map(|(shape, pid, _child)| (shape, pid)).collect())
}

fn check(
    daemon: &Daemon,
    leaves: &[(String, u32)],
    wrong: impl Fn(&str, &serde_json::Value) -> bool,
) -> Result<()> {
    let all = daemon.processes()?;
    let mut faults = Vec::new();
    for (shape, pid) in leaves {
        match all.iter().find(|process| process["pid"] == *pid) {
            Some(process) if wrong(shape, process) => {
                faults.push(format!("{shape} is {} by {}", origin(process), process["evidence"]));
            }
            Some(_) => {}
            None => faults.push(format!("{shape} is not shown")),
        }
        end_marked(*pid);
    }
    ensure!(faults.is_empty(), "{} of {}: {}", faults.len(), leaves.len(), faults.join(", "));
    Ok(())
}

fn inside(shared: &mut Shared) -> Result<Outcome> {
    let bot = place("inside")?.join("bot");
    launcher(&bot)?;
    let daemon = daemon(shared, agent("bot", &[format!("exe: {}", bot.display())]))?;
    let leaves = leaves(&[&bot.to_string_lossy()], "in")?;
    check(&daemon, &leaves, |_, process| origin(process) != "agent" || process["agent"] != "bot")?;
    Ok(Outcome::Held)
}

fn outside(shared: &mut Shared) -> Result<Outcome> {
    let bot = place("outside")?.join("bot");
    launcher(&bot)?;
    let daemon = daemon(shared, agent("bot", &[format!("exe: {}", bot.display())]))?;
    let leaves = leaves(&["/usr/bin/env"], "out")?;
    check(&daemon, &leaves, |shape, process| {
        // A terminal of its own, outside every instance, is a person's.
        origin(process) != if shape == "pty" { "human" } else { "system" }
    })?;
    Ok(Outcome::Held)
}

fn set_id(shared: &mut Shared) -> Result<Outcome> {
    let bot = place("set_id")?.join("bot");
    launcher(&bot)?;
    let mut daemon = daemon(shared, agent("bot", &[format!("exe: {}", bot.display())]))?;
    let bot = bot.to_string_lossy().into_owned();
    run(&[&bot, "su", "alice", "-s", "/bin/bash", "-c", "sudo -n true"])?;
    let event = daemon.wait(0, "the set-id exec", |e| e["setid"] == true && e["comm"] == "sudo")?;
    ensure!(event["origin"] == "agent" && event["uid"] == 1000 && event["euid"] == 0, "{event}");
    let after =
        daemon.wait(0, "what sudo executed", |e| e["kind"] == "process_exec" && e["comm"] == "true")?;
    ensure!(after["instance"] == event["instance"] && after["uid"] == 0, "{after}");
    Ok(Outcome::Held)
}

fn accounted(shared: &mut Shared) -> Result<Outcome> {
    let bot = place("accounted")?.join("bot");
    launcher(&bot)?;
    let mut daemon = daemon(shared, agent("bot", &[format!("exe: {}", bot.display())]))?;
    let bot = bot.to_string_lossy().into_owned();
    let before = daemon.metrics()?;
    run(&[&bot, "/bin/bash", "-c", "for i in $(seq 50); do /bin/true & (true); done; wait"])?;
    daemon.settle()?;
    thread::sleep(Duration::from_millis(200));
    let after = daemon.metrics()?;
    let grown = |name: &str| -> Result<u64> { Ok(after.counter(name)? - before.counter(name)?) };
    ensure!(grown("births_labelled")? > 100, "only {} births", grown("births_labelled")?);
    for never in ["births_unlabelled", "acts_unlabelled", "label_allocation_failed", "instance_table_full"] {
        ensure!(grown(never)? == 0, "{never} grew by {}", grown(never)?);
    }
    ensure!(grown("instances_started")? == 1 && grown("instances_ended")? == 1, "an instance is left");
    let of = |kind: &str| daemon.seen.iter().filter(|e| e["kind"] == kind && e["agent"] == "bot").count();
    let (forks, exits) = (of("process_fork"), of("process_exit"));
    ensure!(exits == forks + 1, "{forks} processes born below the first, {exits} ended");
    Ok(Outcome::Held)
}
