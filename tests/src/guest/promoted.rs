//! What was promoted of a baseline is what a role may reach, beside its own rules, in the kernel.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::baselines::{bot, json, run};
use crate::{
    case::{Case, Outcome, case},
    guest::Shared,
    harness::{Daemon, program},
};

pub const CASES: &[Case<Shared>] = &[
    case("what_was_promoted_is_allowed_and_the_rest_is_refused_in_the_call", promoted),
    case("promoting_is_for_root_outside_every_instance_and_for_roles_that_go_by_it", may_promote),
];

fn role(mode: &str, default: &str) -> String {
    format!(
        "{{ mode: {mode}, network: {{ default: {default}, defaults: {{ unix: allow }}, rules: [ {{ to: \"127.0.0.66:66\", \
         verdict: deny }} ] }} }}"
    )
}

/// Has the daemon read the documents of [`bot`] with another role.
pub fn change(daemon: &mut Daemon, path: &str, spec: &str) -> Result<()> {
    rewrite(daemon, &super::baselines::documents(path, spec))
}

/// Writes other documents, and waits until they are in force.
pub fn rewrite(daemon: &mut Daemon, documents: &str) -> Result<()> {
    let from = daemon.seen.len();
    daemon.rewrite(documents)?;
    daemon.wait(from, "the change", |e| e["kind"] == "policy_changed" && e["policy"]["trigger"] == "file")?;
    Ok(())
}

/// Whether a TCP connect was refused in the call: nobody listens anywhere, so that an allowed one is refused by TCP.
fn is_refused(bot: &Path, to: &str) -> Result<bool> {
    let said = run(bot, &[to])?;
    let (refused, allowed) = (said.contains("Operation not permitted"), said.contains("Connection refused"));
    ensure!(refused != allowed, "{to}: {said}");
    Ok(refused)
}

const USUAL: &str = "127.0.0.9/9";
const PATH: &str = "/run/chaperone-promoted";

fn promoted(shared: &mut Shared) -> Result<Outcome> {
    let (bot, mut daemon) = bot(PATH, &shared.mode, &role("alert", "baseline"))?;
    for _ in 0..2 {
        run(&bot, &[USUAL, "127.0.0.66/66", "127.0.0.9/9"])?;
    }
    daemon.settle()?;
    let alerts =
        daemon.seen.iter().filter(|e| e["verdict"] == "alert" && e["network"]["address"] == "127.0.0.9");
    ensure!(alerts.count() == 4, "in alert mode what nothing names is not told");
    // Has it written.
    json(&daemon, &["baseline", "forget", "--role", "bot", "--host", "nobody", "-o", "json"])?;
    change(&mut daemon, PATH, &role("enforce", "baseline"))?;
    ensure!(is_refused(&bot, USUAL)?, "nothing is promoted yet");

    // The dry run, and nothing in force by it.
    let promote = ["baseline", "promote", "--role", "bot", "-o", "json"];
    let shown = json(&daemon, &promote)?;
    let document = shown["document"].as_str().unwrap_or_default();
    ensure!(document.contains("127.0.0.9:9") && !document.contains("127.0.0.66"), "{document}");
    let run_of = &shown["dry_run"];
    ensure!(run_of["targets"].get("127.0.0.66:66 tcp").is_some(), "{run_of}");
    ensure!(run_of["targets"].get("127.0.0.9:9 tcp").is_none(), "{run_of}");
    ensure!(is_refused(&bot, USUAL)?, "a dry run has put something in force");

    daemon.settle()?;
    let from = daemon.seen.len();
    let applied = json(&daemon, &[&promote[..], &["--apply"]].concat())?;
    ensure!(applied["applied"]["version"] == 1, "{applied}");
    let told = daemon.wait(from, "the promotion", |e| e["baseline"]["action"] == "promoted")?;
    ensure!(told["baseline"]["by"]["uid"] == 0 && told["baseline"]["version"] == 1, "{told}");
    daemon.wait(from, "its policy", |e| e["policy"]["trigger"] == "promotion")?;
    holds(&bot, &mut daemon)?;

    // A daemon that is killed finds it again.
    daemon.crash()?;
    daemon.restart(&[])?;
    holds(&bot, &mut daemon)?;

    // A second version that holds nothing, and back.
    let empty = json(&daemon, &[&promote[..], &["--apply", "--support-instances", "99"]].concat())?;
    ensure!(empty["applied"]["version"] == 2 && empty["applied"]["version_before"] == 1, "{empty}");
    ensure!(is_refused(&bot, USUAL)?, "version 2 holds nothing");
    let diff = json(&daemon, &["baseline", "diff", "bot@1", "bot@2", "-o", "json"])?;
    ensure!(diff["only_in_a"][0] == "127.0.0.9:9 tcp" && diff["only_in_b"] == Value::Array(vec![]), "{diff}");
    let from = daemon.seen.len();
    let back = json(&daemon, &["baseline", "rollback", "--role", "bot", "-o", "json"])?;
    ensure!(back["version"] == 1 && back["version_before"] == 2, "{back}");
    daemon.wait(from, "the way back", |e| {
        e["baseline"]["action"] == "rolled_back" && e["baseline"]["version"] == 1
    })?;
    holds(&bot, &mut daemon)?;
    let versions = json(&daemon, &["baseline", "versions", "--role", "bot", "-o", "json"])?;
    let in_force: Vec<&Value> =
        versions.as_array().into_iter().flatten().filter(|v| v["in_force"] == true).collect();
    ensure!(in_force.len() == 1 && in_force[0]["version"] == 1 && in_force[0]["rules"] == 1, "{versions}");
    json(&daemon, &["baseline", "rollback", "--role", "bot", "--to", "0", "-o", "json"])?;
    ensure!(is_refused(&bot, USUAL)?, "nothing is in force any more");
    // Beside a file with a mistake nothing can be put in force, and what was stays.
    let wrong = daemon.directory.join("roles/wrong.yaml");
    std::fs::write(&wrong, "kind: Role\n")?;
    let refused = daemon.cli(&["baseline", "rollback", "--role", "bot", "--to", "1"])?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(!refused.status.success() && said.contains("wrong.yaml:1"), "{said}");
    let versions = json(&daemon, &["baseline", "versions", "--role", "bot", "-o", "json"])?;
    ensure!(!versions.to_string().contains("\"in_force\":true"), "{versions}");
    std::fs::remove_file(&wrong)?;
    ensure!(is_refused(&bot, USUAL)?, "what was refused is in force");
    json(&daemon, &["baseline", "rollback", "--role", "bot", "--to", "1", "-o", "json"])?;
    holds(&bot, &mut daemon)?;
    Ok(Outcome::Held)
}

/// What was promoted, and each way beside it.
fn holds(bot: &Path, daemon: &mut Daemon) -> Result<()> {
    daemon.settle()?;
    let from = daemon.seen.len();
    ensure!(!is_refused(bot, USUAL)?, "what was promoted is refused");
    ensure!(is_refused(bot, "127.0.0.10/9")?, "another address");
    ensure!(is_refused(bot, "127.0.0.9/10")?, "another port");
    ensure!(is_refused(bot, "127.0.0.66/66")?, "the role's own rule denies it");
    let udp = "exec 3<>/dev/udp/127.0.0.9/9 && echo x >&3";
    let udp = Command::new(bot).arg("do").args(["bash", "-c", udp]).output().context("send a datagram")?;
    ensure!(!udp.status.success(), "UDP to an endpoint that was promoted for TCP");
    daemon.settle()?;
    let decided = |to: &str, port: u64, protocol: &str| {
        let found = daemon.seen[from..].iter().find(|e| {
            e["network"]["address"] == to
                && e["network"]["port"] == port
                && e["network"]["protocol"] == protocol
        });
        found.map(|e| (e["verdict"].clone(), e["decision"]["source"].clone(), e["decision"]["rule"].clone()))
    };
    for (to, port, protocol, verdict, source) in [
        ("127.0.0.9", 9, "tcp", "allow", "baseline"),
        ("127.0.0.10", 9, "tcp", "deny", "default"),
        ("127.0.0.9", 10, "tcp", "deny", "default"),
        ("127.0.0.66", 66, "tcp", "deny", "rule"),
        ("127.0.0.9", 9, "udp", "deny", "default"),
    ] {
        let (got, why, rule) =
            decided(to, port, protocol).with_context(|| format!("no event of {to}:{port}"))?;
        ensure!(got == verdict && why == source, "{to}:{port} {protocol}: {got} by {why}");
        let place = rule["source"].as_str().unwrap_or_default();
        ensure!(source != "baseline" || place.contains("/promoted/bot.yaml"), "{rule}");
        let explained = json(
            daemon,
            &[
                "role",
                "explain",
                "--role",
                "bot",
                "--to",
                &format!("{to}:{port}"),
                "--protocol",
                protocol,
                "-o",
                "json",
            ],
        )?;
        ensure!(explained["verdict"] == verdict && explained["source"] == source, "{explained}");
    }
    Ok(())
}

fn may_promote(shared: &mut Shared) -> Result<Outcome> {
    let path = "/run/chaperone-may-promote";
    let (bot, mut daemon) = bot(path, &shared.mode, &role("alert", "baseline"))?;
    for _ in 0..2 {
        run(&bot, &[USUAL])?;
    }
    daemon.settle()?;
    json(&daemon, &["baseline", "forget", "--role", "bot", "--host", "nobody", "-o", "json"])?;
    let chaperone = program("chaperone")?;
    let config = daemon.directory.clone();
    let inside = Command::new(&bot)
        .arg("do")
        .arg(&chaperone)
        .args(["baseline", "promote", "--role", "bot", "--apply", "--config"])
        .arg(&config)
        .output()?;
    let said = String::from_utf8_lossy(&inside.stderr);
    ensure!(!inside.status.success() && said.contains("inside instance"), "{said}");
    change(&mut daemon, path, &role("enforce", "deny"))?;
    let other = daemon.cli(&["baseline", "promote", "--role", "bot", "--apply"])?;
    let said = String::from_utf8_lossy(&other.stderr);
    ensure!(!other.status.success() && said.contains("network.default: baseline"), "{said}");
    change(&mut daemon, path, &role("enforce", "baseline"))?;
    let wrong = daemon.cli(&["baseline", "rollback", "--role", "bot", "--to", "7"])?;
    let said = String::from_utf8_lossy(&wrong.stderr);
    ensure!(!wrong.status.success() && said.contains("no version 7"), "{said}");
    let versions = json(&daemon, &["baseline", "versions", "--role", "bot", "-o", "json"])?;
    ensure!(versions == Value::Array(vec![]), "{versions}");
    Ok(Outcome::Held)
}
