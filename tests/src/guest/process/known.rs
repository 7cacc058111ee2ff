//! The built-in catalogue and path patterns: known agents that nobody registered, and what only looks like them.

use std::{
    fs,
    io::Write as _,
    os::unix::{
        fs::{PermissionsExt as _, symlink},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::stat::Mode;
use serde_json::Value;

use super::{TRY_CONNECT, agent, daemon, place, run, was_refused};
use crate::{
    case::{Case, Outcome, case},
    guest::Shared,
    harness::{Daemon, Start, script},
};

pub const CASES: &[Case<Shared>] = &[
    case("known_agents_are_recognised_without_configuration_and_refused_nothing", started_later),
    case("known_agents_that_run_already_are_found", started_before),
    case("the_catalogue_can_be_turned_off", turned_off),
    case("what_somebody_registered_goes_before_the_catalogue", registered),
    case("a_path_pattern_leads_out_of_no_role", no_way_out),
    case("a_registered_path_pattern_is_enforced", enforced),
];

/// An installed program below a home directory, and the agent that it is.
const INSTALLED: &[(&str, &str)] = &[
    (".local/share/claude/versions/2.1.113", "claude-code"),
    ("node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex", "codex"),
    (".opencode/bin/opencode", "opencode"),
    (".amp/bin/amp", "amp"),
];
const SCRIPTS: &[(&str, &str)] = &[
    ("node_modules/@google/gemini-cli/bundle/gemini.js", "gemini-cli"),
    ("node_modules/@qwen-code/qwen-code/cli.js", "qwen-code"),
    (".local/share/pipx/venvs/aider-chat/bin/aider", "aider"),
    (".local/share/cursor-agent/versions/2026.08.04-a/cursor-agent", "cursor-cli"),
    (".npm/_npx/a3/node_modules/@modelcontextprotocol/server-git/dist/index.js", "mcp-server"),
];
/// Programs and scripts that share a name with an agent, or a part of its path.
const OTHERS: &[&str] = &[
    "bin/node",
    "bin/agent",
    "bin/bun",
    "bin/python3",
    "bin/claude",
    "versions/2.1.113",
    "share/claude/versions/2.1.113",
    ".local/share/claude/versions/2/bin",
];
const OTHER_SCRIPTS: &[&str] =
    &["codex.js", "bin/codex.js", "app/dist/index.js", "gemini-cli/bundle/gemini.js"];

/// Puts everything below a place that all users may read: what is an agent with its name, what is none without.
fn install(name: &str, body: &str) -> Result<Vec<(PathBuf, Option<&'static str>)>> {
    let home = place(name)?.join("home");
    let mut all = Vec::new();
    let agents = |list: &'static [(&str, &str)]| list.iter().map(|(path, agent)| (*path, Some(*agent)));
    let others = |list: &'static [&str]| list.iter().map(|path| (*path, None));
    for (path, agent) in agents(INSTALLED).chain(others(OTHERS)) {
        let file = home.join(path);
        fs::create_dir_all(file.parent().context("it has a directory")?)?;
        fs::copy("/bin/bash", &file)?;
        all.push((file, agent));
    }
    for (path, agent) in agents(SCRIPTS).chain(others(OTHER_SCRIPTS)) {
        let file = home.join(path);
        fs::create_dir_all(file.parent().context("it has a directory")?)?;
        script(&file, &format!("#!/bin/bash\n{body}\n"))?;
        all.push((file, agent));
    }
    Ok(all)
}

fn is_script(file: &Path) -> bool {
    fs::read(file).is_ok_and(|bytes| bytes.starts_with(b"#!"))
}

fn no_configuration(shared: &Shared, settings: &str) -> Result<Daemon> {
    let settings = settings.to_owned();
    Daemon::start(&Start { mode: Some(shared.mode.clone()), settings, ..Start::default() })
}

/// The exec of a file that began an instance, as a reader finds it.
fn began<'a>(seen: &'a [Value], file: &Path) -> Option<&'a Value> {
    let path = file.to_string_lossy();
    seen.iter().find(|e| e["recognised"].is_string() && (e["exe"] == *path || e["script"] == *path))
}

fn started_later(shared: &mut Shared) -> Result<Outcome> {
    let all = install("known", TRY_CONNECT)?;
    let mut daemon = no_configuration(shared, "")?;
    let words = |file: &Path| {
        let name = file.to_string_lossy().into_owned();
        if is_script(file) { vec![name] } else { vec![name, "-c".to_owned(), TRY_CONNECT.to_owned()] }
    };
    for (at, (file, agent)) in all.iter().enumerate() {
        let words = words(file);
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        if at % 3 == 1 {
            command.uid(1000).gid(1000);
        } else if at % 3 == 2 {
            command = Command::new("unshare");
            command.args(["-m", "--"]).args(&words).stdin(Stdio::null());
        }
        let output = command.output().with_context(|| format!("run {}", file.display()))?;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(!was_refused(&text)?, "{} was refused: {agent:?}", file.display());
    }
    daemon.settle()?;
    for (file, agent) in &all {
        let began = began(&daemon.seen, file);
        let Some(agent) = agent else {
            ensure!(began.is_none(), "{} was taken for an agent: {began:?}", file.display());
            continue;
        };
        let began = began.with_context(|| format!("{} was not recognised", file.display()))?;
        let (name, state, role) = (&began["agent"], &began["agent_state"], &began["role"]);
        ensure!(name == agent && state == "unregistered" && role == "unregistered", "{began}");
        let instance = &began["instance"];
        let connect = daemon.seen.iter().find(|e| e["instance"] == *instance && e["kind"] == "net_connect");
        let connect = connect.with_context(|| format!("{agent}'s connect was not told"))?;
        ensure!(connect["verdict"] == "allow" && connect["decision"]["mode"] == "observe", "{connect}");
    }
    if shared.is_lsm() {
        // As npm and pipx put it on PATH.
        let (target, _) = all.iter().find(|(_, agent)| *agent == Some("gemini-cli")).context("installed")?;
        let link = place("known-link")?.join("gemini");
        symlink(target, &link)?;
        let from = daemon.seen.len();
        run(&[&link.to_string_lossy()])?;
        daemon.wait(from, "the agent behind a link", |e| {
            e["agent"] == "gemini-cli" && e["recognised"] == "script"
        })?;
    }
    Ok(Outcome::Held)
}

fn started_before(shared: &mut Shared) -> Result<Outcome> {
    let output = place("known-output")?;
    let go = output.join("go");
    nix::unistd::mkfifo(&go, Mode::S_IRUSR | Mode::S_IROTH)?;
    fs::set_permissions(&go, fs::Permissions::from_mode(0o644))?;
    // Open at both ends, so that nobody waits in open.
    let mut gate = fs::OpenOptions::new().read(true).write(true).open(&go)?;
    let waits = format!("read -r < {}; {TRY_CONNECT}", go.display());
    let all = install("known-before", &waits)?;
    let mut running = Vec::new();
    for (at, (file, agent)) in all.iter().enumerate() {
        let out = output.join(at.to_string());
        let mut command = Command::new(file);
        if !is_script(file) {
            command.args(["-c", &waits]);
        }
        if at % 2 == 1 {
            command.uid(1000).gid(1000);
        }
        let child = command.stdin(Stdio::null()).stderr(fs::File::create(&out)?).spawn()?;
        running.push((child, file, agent, out));
    }
    // A reader of an agent's file, and an interpreter that was given it by name.
    let gemini = all.iter().find(|(_, agent)| *agent == Some("gemini-cli")).context("installed")?.0.clone();
    let mut reader = Command::new("tail").arg("-f").arg(&gemini).stdout(Stdio::null()).spawn()?;
    let mut named = Command::new("/bin/bash").arg(&gemini).stderr(Stdio::null()).spawn()?;
    thread::sleep(Duration::from_millis(500));
    let mut daemon = no_configuration(shared, "")?;
    let checked = (|| {
        for (child, file, agent, _) in &running {
            let label = daemon.label(child.id())?;
            ensure!(label["agent"].as_str() == **agent, "{}: {label}", file.display());
            let state = agent.is_some().then_some("unregistered");
            ensure!(label["agent_state"].as_str() == state, "{}: {label}", file.display());
        }
        let label = daemon.label(reader.id())?;
        ensure!(label["agent"].is_null(), "who reads an agent's file was taken for it: {label}");
        let label = daemon.label(named.id())?;
        ensure!(label["agent"] == "gemini-cli", "who interprets an agent's file is not it: {label}");
        let listed = String::from_utf8(daemon.cli(&["agent", "list", "-o", "json"])?.stdout)?;
        let listed: Vec<Value> = serde_json::from_str(&listed)?;
        ensure!(listed.len() == 9, "agent list shows {} agents", listed.len());
        ensure!(listed.iter().all(|agent| agent["state"] == "unregistered"), "{listed:?}");
        let known = daemon.cli(&["agent", "list", "--catalogue"])?.stdout;
        ensure!(String::from_utf8_lossy(&known).contains("openclaw"), "agent list --catalogue lacks one");
        daemon.wait(0, "a known agent that was found", |e| {
            e["kind"] == "agent_found" && e["agent"] == "claude-code" && e["agent_state"] == "unregistered"
        })?;
        gate.write_all(&[b'\n'; 64])?;
        for (_, file, _, out) in &running {
            let end = Instant::now() + Duration::from_secs(20);
            let mut text = String::new();
            while text.is_empty() && Instant::now() < end {
                thread::sleep(Duration::from_millis(100));
                text = fs::read_to_string(out).unwrap_or_default();
            }
            ensure!(!was_refused(&text)?, "{} was refused", file.display());
        }
        Ok(Outcome::Held)
    })();
    for child in running.iter_mut().map(|(child, ..)| child).chain([&mut reader, &mut named]) {
        drop(child.kill());
        drop(child.wait());
    }
    checked
}

fn turned_off(shared: &mut Shared) -> Result<Outcome> {
    let all = install("known-off", "true")?;
    let mut daemon = no_configuration(shared, "  catalogue: off\n")?;
    for (file, _) in all.iter().filter(|(file, _)| is_script(file)) {
        run(&[&file.to_string_lossy()])?;
    }
    daemon.settle()?;
    ensure!(daemon.seen.iter().all(|e| e["recognised"].is_null()), "an agent was recognised");
    Ok(Outcome::Held)
}

/// The first copy of bash that the catalogue knows.
fn claude(all: &[(PathBuf, Option<&str>)]) -> Result<String> {
    let found = all.iter().find(|(_, agent)| *agent == Some("claude-code")).context("installed")?;
    Ok(found.0.to_string_lossy().into_owned())
}

fn registered(shared: &mut Shared) -> Result<Outcome> {
    let claude = claude(&install("known-registered", TRY_CONNECT)?)?;
    let cgroup = agent("unit", &["unit: known.service".into()]);
    for (how, documents) in [
        ("its path", agent("mine", &[format!("exe: {claude}")])),
        ("a shorter pattern", agent("mine", &["exe: \"**/claude/versions/*\"".into()])),
        ("its name", agent("claude-code", &[format!("exe: {claude}")])),
    ] {
        let mut daemon = daemon(shared, documents)?;
        let (_, text) = run(&[&claude, "-c", TRY_CONNECT])?;
        ensure!(was_refused(&text)?, "registered by {how} it was not refused");
        let began = daemon.wait(0, "the instance", |e| e["recognised"].is_string())?;
        ensure!(began["agent_state"].is_null() && began["role"] != "unregistered", "{began}");
    }
    // A unit that is registered, with a known agent as its program.
    let _daemon = daemon(shared, cgroup)?;
    let unit = Path::new("/sys/fs/cgroup/known.service");
    fs::create_dir_all(unit)?;
    let enter = format!("echo $$ > {}/cgroup.procs; exec {claude} -c '{TRY_CONNECT}'", unit.display());
    let (_, text) = run(&["/bin/bash", "-c", &enter])?;
    fs::remove_dir(unit)?;
    ensure!(was_refused(&text)?, "the unit's role was left for the catalogue's");
    Ok(Outcome::Held)
}

fn no_way_out(shared: &mut Shared) -> Result<Outcome> {
    let claude = claude(&install("known-way-out", TRY_CONNECT)?)?;
    let place = place("way-out")?;
    let (bot, lax) = (place.join("bot"), place.join("lax/program"));
    fs::create_dir_all(place.join("lax"))?;
    fs::copy("/bin/bash", &bot)?;
    fs::copy("/bin/bash", &lax)?;
    let open = agent("open", &["exe: \"**/lax/program\"".into()]).replace("default: deny", "default: allow");
    let mut daemon = daemon(shared, agent("bot", &[format!("exe: {}", bot.display())]) + &open)?;
    let (bot, lax) = (bot.to_string_lossy(), lax.to_string_lossy());
    for program in [&claude, &*lax] {
        let (_, text) = run(&[&bot, "-c", &format!("{program} -c '{TRY_CONNECT}'; true")])?;
        ensure!(was_refused(&text)?, "through {program} the bot left its role");
    }
    let (_, text) = run(&[&lax, "-c", TRY_CONNECT])?;
    ensure!(!was_refused(&text)?, "the open agent was refused");
    daemon.settle()?;
    let led = |e: &&Value| e["recognised"].is_string() && e["parent_instance"].is_string();
    ensure!(!daemon.seen.iter().any(|e| led(&e)), "an instance began inside the bot's");
    Ok(Outcome::Held)
}

fn enforced(shared: &mut Shared) -> Result<Outcome> {
    let all = install("known-enforced", TRY_CONNECT)?;
    let mine = place("enforced")?.join("my-bot/versions/7/program");
    fs::create_dir_all(mine.parent().context("it has a directory")?)?;
    fs::copy("/bin/bash", &mine)?;
    let mine = mine.to_string_lossy();
    let documents = agent("mine", &["exe: \"**/my-bot/versions/*/program\"".into()]);
    let daemon = daemon(shared, documents)?;
    let own = format!("{mine} -c '{TRY_CONNECT}'");
    for words in [&[&*mine, "-c", TRY_CONNECT][..], &["unshare", "-m", "/bin/bash", "-c", &own]] {
        let (_, text) = run(words)?;
        ensure!(was_refused(&text)?, "{words:?} was not refused");
    }
    let (_, text) = run(&[&claude(&all)?, "-c", TRY_CONNECT])?;
    ensure!(!was_refused(&text)?, "a known agent was refused");
    drop(daemon);
    Ok(Outcome::Held)
}
