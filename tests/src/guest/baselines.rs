//! What is usual for a role is learned by the daemon while it runs, and what differs is told.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    case::{Case, Outcome, case},
    guest::{Shared, promoted::rewrite},
    harness::{Daemon, Start, program, script},
};

pub const CASES: &[Case<Shared>] = &[
    case("a_call_to_an_endpoint_that_the_role_has_never_called_is_found", found),
    case("what_is_forgotten_is_found_again_and_what_is_imported_is_usual", forgotten),
    case("a_role_that_is_renamed_or_deleted_while_it_learns_loses_nothing", renamed),
    case("a_killed_daemon_has_learned_what_its_event_file_says_and_nothing_twice", killed),
];

/// An agent that connects to what it is told, `ADDRESS/PORT` each.
pub fn bot(path: &str, mode: &str, spec: &str) -> Result<(PathBuf, Daemon)> {
    let bot = PathBuf::from(path);
    script(
        &bot,
        "#!/bin/bash\n[ \"$1\" = do ] && { shift; \"$@\"; exit; }\nfor to in \"$@\"; do (exec 3<>/dev/tcp/$to) 2>&1; done; \
         true\n",
    )?;
    let documents = documents(path, spec);
    // A guest has one day.
    let settings = "  baselines: { support: { instances: 2, days: 1 } }\n".to_owned();
    let start = Start { documents, settings, mode: Some(mode.to_owned()), ..Start::default() };
    Ok((bot, Daemon::start(&start)?))
}

/// The agent and its role.
pub fn documents(path: &str, spec: &str) -> String {
    format!(
        "apiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: bot }}\nspec: {{ owner: tests, role: bot, match: [ {{ \
         exe: {path} }} ] }}\n---\napiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: bot }}\nspec: {spec}\n"
    )
}

const ALERT: &str = "{ mode: alert, network: { default: allow } }";

pub fn run(bot: &Path, to: &[&str]) -> Result<String> {
    Ok(String::from_utf8_lossy(&Command::new(bot).args(to).output().context("run the agent")?.stdout)
        .into_owned())
}

/// Usual, once two instances have done it.
const USUAL: &str = "127.0.0.9/9";

fn of_kind<'a>(daemon: &'a Daemon, from: usize, what: &'a str) -> impl Iterator<Item = &'a Value> {
    daemon.seen[from..].iter().filter(move |e| e["kind"] == "finding" && e["finding"]["what"] == what)
}

fn found(shared: &mut Shared) -> Result<Outcome> {
    let (bot, mut daemon) = bot("/run/chaperone-usual", &shared.mode, ALERT)?;
    run(&bot, &[USUAL])?;
    daemon.settle()?;
    let early = of_kind(&daemon, 0, "new_endpoint").next();
    ensure!(early.is_none(), "found before anything was usual: {early:?}");
    // What begins the second run is usual before its connect is: that one may be found, or not.
    run(&bot, &[USUAL])?;
    daemon.settle()?;
    let from = daemon.seen.len();
    run(&bot, &[USUAL])?;
    daemon.settle()?;
    ensure!(of_kind(&daemon, from, "new_endpoint").count() == 0, "what is usual was found");
    let from = daemon.seen.len();
    run(&bot, &["127.0.0.10/9", "127.0.0.10/9", "127.0.0.10/9"])?;
    daemon.settle()?;
    let told: Vec<&Value> = of_kind(&daemon, from, "new_endpoint").collect();
    let counts: Vec<u64> = told.iter().filter_map(|e| e["finding"]["count"].as_u64()).collect();
    ensure!(counts == [1, 2], "told at {counts:?}");
    let finding = told[0];
    ensure!(finding["agent"] == "bot" && finding["origin"] == "agent", "{finding}");
    ensure!(
        finding["finding"]["behaviour"].as_str().is_some_and(|b| b.ends_with("-> 127.0.0.10:9/tcp")),
        "{finding}"
    );
    let act = daemon.seen.iter().find(|e| e["seq"] == finding["finding"]["of"]["seq"]);
    let act = act.with_context(|| format!("no event is what {finding} is of"))?;
    ensure!(act["network"]["address"] == "127.0.0.10" && act["instance"] == finding["instance"], "{act}");
    let metrics = daemon.metrics()?;
    let found = "chaperone_findings_total{role=\"bot\",what=\"new_endpoint\",severity=\"medium\"}";
    ensure!(metrics.value(found)? == 3.0, "another number of findings");
    ensure!(metrics.value("chaperone_baselines_on")? == 1.0, "baselines are off");
    Ok(Outcome::Held)
}

fn forgotten(shared: &mut Shared) -> Result<Outcome> {
    let (bot, mut daemon) = bot("/run/chaperone-forgotten", &shared.mode, ALERT)?;
    for _ in 0..2 {
        run(&bot, &[USUAL])?;
    }
    daemon.settle()?;
    // Written only now and then, and by the daemon alone: what asks for it has it done there.
    let done = json(&daemon, &["baseline", "forget", "--role", "bot", "--host", "nobody", "-o", "json"])?;
    ensure!(done["forgotten"]["behaviours"] == 0, "{done}");
    let exported = daemon.cli(&["baseline", "export", "--role", "bot"])?;
    let file = daemon.directory.join("exported.json");
    std::fs::write(&file, &exported.stdout)?;
    let again = |daemon: &mut Daemon| -> Result<usize> {
        daemon.settle()?;
        let from = daemon.seen.len();
        run(&bot, &[USUAL])?;
        daemon.settle()?;
        Ok(of_kind(daemon, from, "new_endpoint").count())
    };
    ensure!(again(&mut daemon)? == 0, "what is usual was found");
    let from = daemon.seen.len();
    let done = json(
        &daemon,
        &["baseline", "forget", "--role", "bot", "--behaviour", "connect*127.0.0.9:9*", "-o", "json"],
    )?;
    ensure!(done["forgotten"]["behaviours"] == 1, "{done}");
    daemon.wait(from, "the forgetting", |e| {
        e["baseline"]["action"] == "forgotten"
            && e["baseline"]["role"] == "bot"
            && e["baseline"]["by"]["uid"] == 0
    })?;
    ensure!(again(&mut daemon)? == 1, "what was forgotten was not found");
    let from = daemon.seen.len();
    json(&daemon, &["baseline", "import", "-o", "json", &file.display().to_string()])?;
    daemon.wait(from, "the import", |e| e["baseline"]["action"] == "imported")?;
    ensure!(again(&mut daemon)? == 0, "what was imported was found");
    // Done is done: also for a daemon that is killed right after it. What programs are is found out beside it.
    daemon.wait(0, "the shell identified", |e| e["program"]["package"] == "bash")?;
    daemon.wait(0, "the agent identified", |e| e["program"]["path"] == "/run/chaperone-forgotten")?;
    json(&daemon, &["baseline", "forget", "--role", "bot", "--all", "-o", "json"])?;
    daemon.crash()?;
    daemon.restart(&[])?;
    let shown = json(&daemon, &["baseline", "show", "-o", "json"])?;
    ensure!(shown == Value::Array(Vec::new()), "{shown}");
    Ok(Outcome::Held)
}

/// Acts that the baseline of a role has of a behaviour; none where there is no such role.
fn acts(daemon: &Daemon, role: &str, behaviour: &str) -> Result<u64> {
    let all = json(daemon, &["baseline", "show", "-o", "json"])?;
    if !all.as_array().is_some_and(|all| all.iter().any(|one| one["role"] == role)) {
        return Ok(0);
    }
    let shown = json(daemon, &["baseline", "show", "--role", role, "-o", "json"])?;
    let found = shown["behaviours"].as_array().context("behaviours")?.iter();
    let of = found.filter(|one| one["behaviour"].as_str().is_some_and(|text| text.ends_with(behaviour)));
    Ok(of.filter_map(|one| one["breadth"]["count"].as_u64()).sum())
}

fn renamed(shared: &mut Shared) -> Result<Outcome> {
    let path = "/run/chaperone-renamed";
    let (bot, mut daemon) = bot(path, &shared.mode, ALERT)?;
    const CALL: &str = "-> 127.0.0.9:9/tcp";
    let stored = |daemon: &mut Daemon| -> Result<()> {
        daemon.settle()?;
        // Forgetting what nobody did has the store written.
        json(daemon, &["baseline", "forget", "--role", "bot", "--host", "nobody", "-o", "json"]).map(drop)
    };
    // One that goes on running while its role gets another name.
    let script = "(exec 3<>/dev/tcp/127.0.0.9/9) 2>/dev/null; read x < /run/renamed.fifo; (exec 3<>/dev/tcp/127.0.0.9/9) 2>/dev/null; true";
    let fifo = Path::new("/run/renamed.fifo");
    drop(std::fs::remove_file(fifo));
    nix::unistd::mkfifo(fifo, nix::sys::stat::Mode::S_IRWXU)?;
    let from = daemon.seen.len();
    let mut running =
        Command::new(&bot).args(["do", "bash", "-c", script]).spawn().context("start the agent")?;
    daemon.wait(from, "its call", |e| e["network"]["address"] == "127.0.0.9")?;
    run(&bot, &[USUAL])?;
    stored(&mut daemon)?;
    ensure!(acts(&daemon, "bot", CALL)? == 2, "bot: {}", acts(&daemon, "bot", CALL)?);
    // The agent goes over to another role; the one that runs keeps the one that it began with.
    let role = |name: &str| {
        format!("---\napiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: {name} }}\nspec: {ALERT}\n")
    };
    let renamed = documents(path, ALERT).replace("role: bot", "role: other") + &role("other");
    rewrite(&mut daemon, &renamed)?;
    run(&bot, &[USUAL])?;
    crate::harness::tell(fifo, "")?;
    running.wait()?;
    stored(&mut daemon)?;
    let (before, after) = (acts(&daemon, "bot", CALL)?, acts(&daemon, "other", CALL)?);
    ensure!((before, after) == (3, 1), "{before} and {after} acts");
    // Deleted, and the agent with it: it is nobody's, and what was learned stays until it is forgotten.
    let lone = "apiVersion: chaperone/v1\nkind: Role\nmetadata: { name: lone }\nspec: { mode: alert, network: { default: allow } }\n";
    rewrite(&mut daemon, lone)?;
    run(&bot, &[USUAL])?;
    stored(&mut daemon)?;
    ensure!(
        (acts(&daemon, "bot", CALL)?, acts(&daemon, "other", CALL)?) == (before, after),
        "nobody's call was learned"
    );
    json(&daemon, &["baseline", "forget", "--role", "other", "--all", "-o", "json"])?;
    ensure!((acts(&daemon, "bot", CALL)?, acts(&daemon, "other", CALL)?) == (before, 0), "not forgotten");
    drop(std::fs::remove_file(fifo));
    Ok(Outcome::Held)
}

/// What a verb prints for machines.
pub fn json(daemon: &Daemon, words: &[&str]) -> Result<Value> {
    let output = daemon.cli(words)?;
    ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("{words:?} printed {}", String::from_utf8_lossy(&output.stdout)))
}

fn killed(shared: &mut Shared) -> Result<Outcome> {
    let (bot, mut daemon) = bot("/run/chaperone-killed-usual", &shared.mode, ALERT)?;
    for round in 0..4 {
        for _ in 0..2 {
            run(&bot, &[USUAL, &format!("127.0.1.{round}/9")])?;
        }
        daemon.settle()?;
        if round % 2 == 1 {
            // Written by then, so that the next one has not all of the file to learn again.
            json(&daemon, &["baseline", "forget", "--role", "bot", "--host", "nobody", "-o", "json"])?;
            run(&bot, &[USUAL])?;
            daemon.settle()?;
        }
        daemon.crash()?;
        daemon.restart(&[])?;
    }
    // What was learned before is usual after it; what is found in what is learned again is told first.
    daemon.settle()?;
    let from = daemon.seen.len();
    run(&bot, &[USUAL, "127.0.1.0/9", "127.0.7.7/9"])?;
    daemon.settle()?;
    let news: Vec<&Value> = of_kind(&daemon, from, "new_endpoint").collect();
    ensure!(news.len() == 1 && news[0]["finding"]["behaviour"].to_string().contains("127.0.7.7"), "{news:?}");
    daemon.stop()?;
    let learned = export(&daemon.directory.join("state/baseline.db"))?;
    // The same events, learned from the file in one go.
    let store = daemon.directory.join("again.db");
    let events = daemon.directory.join("events.ndjson");
    baseline(&["learn", "--from"], &[&events], &store)?;
    let again = export(&store)?;
    ensure!(learned == again, "the daemon has learned\n{learned}\nthe file says\n{again}");
    // And the daemon has left nothing of the file to be learned.
    let rest = baseline(
        &["learn", "-o", "json", "--from"],
        &[&events],
        &daemon.directory.join("state/baseline.db"),
    )?;
    let rest: Value = serde_json::from_str(&rest)?;
    ensure!(rest["files"][0]["observations"] == 0, "{rest}");
    Ok(Outcome::Held)
}

fn export(store: &Path) -> Result<String> {
    baseline(&["export", "--role", "bot"], &[], store)
}

/// What a verb of `chaperone baseline` prints.
fn baseline(words: &[&str], files: &[&Path], store: &Path) -> Result<String> {
    let mut command = Command::new(program("chaperone")?);
    let output = command.arg("baseline").args(words).args(files).arg("--store").arg(store).output()?;
    ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
