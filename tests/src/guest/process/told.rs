//! What is told of processes: long and secret arguments, people's execs, the policy's changes.

use std::{process::Command, thread, time::Duration};

use agent_common::identity::hash_bytes;
use anyhow::{Result, ensure};

use super::{TRY_CONNECT, agent, daemon, launcher, place, run, was_refused};
use crate::{
    case::{Case, Outcome, case},
    guest::Shared,
};

pub const CASES: &[Case<Shared>] = &[
    case("a_long_argv_is_cut_and_carries_the_hash_of_the_whole", long_argv),
    case("a_long_path_is_cut_and_carries_the_hash_of_the_whole", long_path),
    case("secrets_in_arguments_never_reach_the_file", secrets),
    case("peoples_execs_are_told_without_arguments_and_the_systems_not", people),
    case("a_change_is_in_force_and_a_bad_one_leaves_what_was", reloads),
];

fn long_argv(shared: &mut Shared) -> Result<Outcome> {
    let bot = place("argv")?.join("bot");
    launcher(&bot)?;
    let mut daemon = daemon(shared, agent("bot", &[format!("exe: {}", bot.display())]))?;
    let bot = bot.to_string_lossy().into_owned();
    for bytes in [1_500_usize, 60_000, 120_000] {
        let from = daemon.seen.len();
        let long = "x".repeat(bytes);
        run(&[&bot, "/bin/echo", &long])?;
        let event =
            daemon.wait(from, "the long exec", |e| e["comm"] == "echo" && e["truncated"].is_array())?;
        let whole = format!("/bin/echo\0{long}\0");
        let cut =
            event["truncated"].as_array().into_iter().flatten().find(|cut| cut["field"] == "argv").cloned();
        let cut = cut.unwrap_or_default();
        ensure!(cut["bytes"] == whole.len(), "{bytes}: {cut}");
        let hash = format!("{:016x}", hash_bytes(whole.as_bytes()));
        ensure!(cut["hash"] == hash, "{bytes}: hash {} is not {hash}", cut["hash"]);
    }
    Ok(Outcome::Held)
}

fn long_path(shared: &mut Shared) -> Result<Outcome> {
    let place = place("path")?;
    let bot = place.join("bot");
    launcher(&bot)?;
    let mut deep = place.clone();
    for _ in 0..4 {
        deep.push("d".repeat(200));
    }
    std::fs::create_dir_all(&deep)?;
    let file = deep.join("true");
    std::fs::copy("/bin/true", &file)?;
    let mut daemon = daemon(shared, agent("bot", &[format!("exe: {}", bot.display())]))?;
    run(&[&bot.to_string_lossy(), &file.to_string_lossy()])?;
    let event = daemon.wait(0, "the deep exec", |e| e["comm"] == "true" && e["truncated"].is_array())?;
    let path = file.to_string_lossy();
    let cut = event["truncated"].as_array().into_iter().flatten().find(|cut| cut["field"] == "exe").cloned();
    let cut = cut.unwrap_or_default();
    ensure!(cut["bytes"] == path.len() && cut["tail"] == true, "{cut}");
    ensure!(cut["hash"] == format!("{:016x}", hash_bytes(path.as_bytes())), "{cut}");
    ensure!(
        event["exe"].as_str().is_some_and(|exe| path.ends_with(exe.trim_start_matches('…'))),
        "{}",
        event["exe"]
    );
    Ok(Outcome::Held)
}

fn secrets(shared: &mut Shared) -> Result<Outcome> {
    let bot = place("secrets")?.join("bot");
    launcher(&bot)?;
    let mut daemon = daemon(shared, agent("bot", &[format!("exe: {}", bot.display())]))?;
    let secret = "hunter2-correct-horse";
    let bot = bot.to_string_lossy().into_owned();
    run(&[&bot, "/bin/echo", "--password", secret, &format!("API_TOKEN={secret}"), "plain"])?;
    let event = daemon.wait(0, "the echo", |e| e["comm"] == "echo" && e["kind"] == "process_exec")?;
    ensure!(event["argv"].to_string().contains("plain"), "too much was masked: {}", event["argv"]);
    daemon.settle()?;
    let file = std::fs::read_to_string(daemon.directory.join("events.ndjson"))?;
    ensure!(!file.contains(secret), "the secret is in the file");
    Ok(Outcome::Held)
}

fn people(shared: &mut Shared) -> Result<Outcome> {
    let bot = place("people")?.join("bot");
    launcher(&bot)?;
    let mut daemon = daemon(shared, agent("bot", &[format!("exe: {}", bot.display())]))?;
    Command::new("script").args(["-qec", "/bin/echo told", "/dev/null"]).output()?;
    let event = daemon.wait(0, "a person's echo", |e| e["comm"] == "echo" && e["origin"] == "human")?;
    ensure!(event["evidence"].to_string().contains("terminal"), "{}", event["evidence"]);
    ensure!(!event["argv"].to_string().contains("told"), "a person's arguments are in the event");
    let from = daemon.seen.len();
    run(&["/bin/echo", "untold"])?;
    daemon.settle()?;
    ensure!(!daemon.seen[from..].iter().any(|e| e["comm"] == "echo"), "the system's exec was told");
    Ok(Outcome::Held)
}

fn reloads(shared: &mut Shared) -> Result<Outcome> {
    let bot = place("reloads")?.join("bot");
    launcher(&bot)?;
    let documents = agent("bot", &[format!("exe: {}", bot.display())]);
    let mut daemon = daemon(shared, documents.clone())?;
    let bot = bot.to_string_lossy().into_owned();
    let refused = || -> Result<bool> { was_refused(&run(&[&bot, "/bin/bash", "-c", TRY_CONNECT])?.1) };
    ensure!(refused()?, "not refused at first");
    let from = daemon.seen.len();
    daemon.rewrite(&documents.replace("rules: []", "rules: [ { to: 127.0.0.9, verdict: allow } ]"))?;
    daemon.wait(from, "policy_changed", |e| e["kind"] == "policy_changed")?;
    ensure!(!refused()?, "the new rule is not in force");
    let from = daemon.seen.len();
    daemon.rewrite(&documents.replace("default: deny", "defualt: deny"))?;
    let event = daemon.wait(from, "policy_rejected", |e| e["kind"] == "policy_rejected")?;
    ensure!(event["policy"].to_string().contains("default"), "the nearest name is missing: {event}");
    thread::sleep(Duration::from_millis(300));
    ensure!(!refused()?, "a bad file changed what was in force");
    let from = daemon.seen.len();
    daemon.rewrite(&documents)?;
    daemon.wait(from, "policy_changed", |e| e["kind"] == "policy_changed")?;
    ensure!(refused()?, "the old rule is not in force again");
    Ok(Outcome::Held)
}
