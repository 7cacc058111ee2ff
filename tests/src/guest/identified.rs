//! What agents' programs are: the bytes that ran, their package, and an upgrade as the same program in another version.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::baselines::bot;
use crate::{
    case::{Case, Outcome, case},
    guest::Shared,
    harness::Daemon,
};

pub const CASES: &[Case<Shared>] =
    &[case("a_replaced_program_is_the_same_in_another_version_and_is_told_by_its_bytes", replaced)];

/// What the system says a file's hash is.
fn sha256(path: &Path) -> Result<String> {
    let output = Command::new("sha256sum").arg(path).output().context("run sha256sum")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().next().context("a hash")?.to_owned())
}

fn told<'a>(daemon: &'a Daemon, path: &str) -> Vec<&'a Value> {
    let of = |e: &&Value| e["kind"] == "program_identified" && e["program"]["path"] == path;
    daemon.seen.iter().filter(of).collect()
}

/// Programs are identified beside the pipeline, by a thread that gives way to all others.
fn identified(daemon: &mut Daemon, path: &str, hash: &str) -> Result<()> {
    let what = format!("{path} to be identified as {hash}");
    daemon.wait(0, &what, |e| e["program"]["path"] == path && e["program"]["sha256"] == hash).map(drop)?;
    daemon.settle()
}

fn replaced(shared: &mut Shared) -> Result<Outcome> {
    let (bot, mut daemon) =
        bot("/run/chaperone-identified", &shared.mode, "{ mode: alert, network: { default: allow } }")?;
    let tool = Path::new("/run/chaperone-tool");
    // Two programs that are not the same file, in one place one after the other.
    fs::copy("/usr/bin/true", tool)?;
    let run = |daemon: &mut Daemon| -> Result<()> {
        // More than a second, so that it is asked for again.
        thread::sleep(Duration::from_millis(1_200));
        let done =
            Command::new(&bot).args(["do", "/run/chaperone-tool"]).status().context("run the agent")?;
        ensure!(done.success(), "{done}");
        daemon.settle()
    };
    for _ in 0..3 {
        run(&mut daemon)?;
    }
    let path = tool.display().to_string();
    let first = sha256(tool)?;
    identified(&mut daemon, &path, &first)?;
    let all = told(&daemon, &path);
    ensure!(all.len() == 1, "told {} times", all.len());
    ensure!(all[0]["program"]["sha256"] == *first && all[0]["role"] == "bot", "{} is not {first}", all[0]);
    ensure!(all[0]["program"]["bytes"] == fs::metadata(tool)?.len(), "{}", all[0]);
    let of = &all[0]["program"]["of"]["seq"];
    ensure!(
        daemon.seen.iter().any(|e| e["seq"] == *of && e["kind"] == "process_exec"),
        "no exec is what it is of"
    );
    // A program of a package.
    let shell: Vec<&Value> = daemon.seen.iter().filter(|e| e["program"]["package"] == "bash").collect();
    ensure!(!shell.is_empty() && shell[0]["program"]["version"].is_string(), "no package of bash was told");

    // A script by its own bytes, beside its interpreter's.
    let hash = sha256(&bot)?;
    identified(&mut daemon, "/run/chaperone-identified", &hash)?;
    let script = told(&daemon, "/run/chaperone-identified");
    ensure!(script.len() == 1 && script[0]["program"]["sha256"] == *hash, "{script:?} is not {hash}");

    // As a package manager does it, then in place.
    let from = daemon.seen.len();
    fs::copy("/usr/bin/id", "/run/chaperone-tool.new")?;
    fs::rename("/run/chaperone-tool.new", tool)?;
    run(&mut daemon)?;
    let second = sha256(tool)?;
    identified(&mut daemon, &path, &second)?;
    let mut bytes = fs::read(tool)?;
    bytes.push(0);
    fs::write(tool, bytes)?;
    run(&mut daemon)?;
    let third = sha256(tool)?;
    identified(&mut daemon, &path, &third)?;
    let hashes: Vec<&Value> = told(&daemon, &path).iter().map(|e| &e["program"]["sha256"]).collect();
    ensure!(hashes == [&*first, &*second, &*third], "{hashes:?}, not {first}, {second}, {third}");
    let found: Vec<&Value> = daemon.seen[from..].iter().filter(|e| e["kind"] == "finding").collect();
    let versions: Vec<&&Value> = found.iter().filter(|e| e["finding"]["what"] == "new_version").collect();
    ensure!(!versions.is_empty() && versions[0]["finding"]["severity"] == "low", "{found:?}");
    let why = versions[0]["finding"]["how_unusual"].as_str().unwrap_or_default();
    ensure!(why.contains(&second[..12]) && why.contains(&first[..12]), "{why}");
    ensure!(found.iter().all(|e| e["finding"]["what"] != "new_program"), "an upgrade is a new program");
    // The agent's own script in another version, by a name that was not its own.
    let from = daemon.seen.len();
    let text = fs::read_to_string(&bot)?;
    fs::write("/run/chaperone-identified.new", text + "# more\n")?;
    fs::set_permissions("/run/chaperone-identified.new", fs::Permissions::from_mode(0o755))?;
    fs::rename("/run/chaperone-identified.new", &bot)?;
    run(&mut daemon)?;
    let again = sha256(&bot)?;
    identified(&mut daemon, "/run/chaperone-identified", &again)?;
    let hashes: Vec<&Value> =
        told(&daemon, "/run/chaperone-identified").iter().map(|e| &e["program"]["sha256"]).collect();
    ensure!(hashes == [&*hash, &*again], "{hashes:?}, not {hash}, {again}");
    let found = daemon.seen[from..].iter().find(|e| e["finding"]["what"] == "new_version");
    let why = found.and_then(|e| e["finding"]["how_unusual"].as_str()).unwrap_or_default();
    ensure!(why.contains(&again[..12]) && why.contains(&hash[..12]), "{found:?}");
    let unidentified = "chaperone_programs_unidentified_total{reason=\"changed\"}";
    ensure!(daemon.metrics()?.value(unidentified)? == 0.0, "some were not identified");
    fs::remove_file(tool)?;
    Ok(Outcome::Held)
}
