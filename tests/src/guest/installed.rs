//! The daemon as its unit starts it, with the rights that this gives it and no more.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::{baselines::documents, disk::run};
use crate::{
    case::{Case, Outcome, case},
    guest::Shared,
    harness::{Ended, find_marked, marked_command, program, script, wait_until},
};

pub const CASES: &[Case<Shared>] =
    &[case("by its unit it enforces, and stops an ordinary user's agent as a whole", unit)];

fn unit(_: &mut Shared) -> Result<Outcome> {
    let installed = Installed::new()?;
    script(
        BOT.as_ref(),
        "#!/bin/bash\n[ \"$1\" = do ] && { shift; \"$@\"; exit; }\n(exec 3<>/dev/tcp/$1) 2>&1; true\n",
    )?;
    // What is usual, taught by two instances of an ordinary user's.
    let call = |to: &str| -> Result<String> {
        let output = as_alice(&[BOT, to]).output().context("run the agent")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    for _ in 0..2 {
        ensure!(call(USUAL)?.contains("refused"), "nobody listens");
    }
    let (go, tree) = ("/run/installed.go", marked_command("installed", 600));
    let text = format!(
        "{tree} & until [ -e {go} ]; do sleep 0.1; done; (exec 3<>/dev/tcp/127.0.0.77/9) 2>/dev/null; sleep 600"
    );
    for _ in 0..2 {
        let mut shell =
            Ended(as_alice(&[BOT, "do", "bash", "-c", &text.replace("127.0.0.77", "127.0.0.9")]).spawn()?);
        let leaf = find_marked("installed")?;
        let from = installed.events()?.len();
        fs::write(go, "")?;
        installed.wait(from, "its call", |e| e["network"]["address"] == "127.0.0.9" && e["uid"] == 1000)?;
        fs::remove_file(go)?;
        shell.0.kill()?;
        run("pkill", &["-KILL", "-u", "alice"])?;
        wait_until("the tree ends", || !Path::new(&format!("/proc/{leaf}")).exists())?;
    }
    let rules = "network: { default: allow, rules: [ { to: 127.0.66.1, verdict: deny } ] }";
    // What is refused is found, too: nothing is to follow from that.
    installed.role(&format!("{{ mode: enforce, {rules} }}"))?;
    ensure!(call("127.0.66.1/9")?.contains("Operation not permitted"), "the unit's daemon refuses nothing");
    installed.role(&format!("{{ mode: enforce, {REACTS}, {rules} }}"))?;
    let _shell = Ended(as_alice(&[BOT, "do", "bash", "-c", &text]).spawn()?);
    let leaf = find_marked("installed")?;
    let from = installed.events()?.len();
    fs::write(go, "")?;
    let done = installed.wait(from, "the stop", |e| e["kind"] == "reaction")?;
    let state = fs::read_to_string(format!("/proc/{leaf}/stat")).unwrap_or_default();
    run("pkill", &["-KILL", "-u", "alice"])?;
    fs::remove_file(go)?;
    ensure!(done["reaction"]["incomplete"].is_null() && done["uid"] == 1000, "{done}");
    ensure!(state.contains(") T "), "the leaf is not stopped: {state}");
    let log = Command::new("journalctl").args(["-u", "chaperone", "--no-pager", "-o", "cat"]).output()?;
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    ensure!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
    Ok(Outcome::Held)
}

/// Where an administrator puts it; gone when this is dropped.
struct Installed;

impl Installed {
    fn new() -> Result<Self> {
        drop(fs::remove_file("/usr/bin/chaperone"));
        symlink(program("chaperone")?, "/usr/bin/chaperone")?;
        fs::write(UNIT, include_str!("../../../deploy/systemd/chaperone.service"))?;
        fs::create_dir_all("/etc/chaperone/agents")?;
        fs::create_dir_all("/etc/chaperone/roles")?;
        let settings = "apiVersion: chaperone/v1\nkind: Daemon\nspec: { baselines: { support: { instances: 2, days: 1 } } }\n";
        fs::write("/etc/chaperone/chaperone.yaml", settings)?;
        let installed = Self;
        fs::write(
            DOCUMENTS,
            documents(BOT, &format!("{{ mode: alert, {REACTS}, network: {{ default: allow }} }}")),
        )?;
        run("systemctl", &["daemon-reload"])?;
        run("systemctl", &["start", "chaperone"])?;
        Ok(installed)
    }

    /// Has the role changed, and waits until it is in force.
    fn role(&self, spec: &str) -> Result<()> {
        let from = self.events()?.len();
        fs::write("/etc/chaperone/new", documents(BOT, spec))?;
        fs::rename("/etc/chaperone/new", DOCUMENTS)?;
        self.wait(from, "the change", |e| e["kind"] == "policy_changed").map(drop)
    }

    fn events(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string("/var/log/chaperone/events.ndjson").context("read the record")?;
        let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        whole.map(|line| serde_json::from_str(line).context("not JSON")).collect()
    }

    /// Waits for an event that was not there among so many.
    fn wait(&self, from: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut found = None;
        wait_until(what, || {
            found = self.events().ok().and_then(|all| all.into_iter().skip(from).find(|event| wanted(event)));
            found.is_some()
        })?;
        found.context("found")
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        drop(Command::new("systemctl").args(["stop", "chaperone"]).status());
        drop(Command::new("/usr/bin/chaperone").arg("detach").output());
        for file in [UNIT, "/usr/bin/chaperone", BOT] {
            drop(fs::remove_file(file));
        }
        for directory in ["/etc/chaperone", "/var/log/chaperone", "/var/lib/chaperone"] {
            drop(fs::remove_dir_all(directory));
        }
        drop(Command::new("systemctl").arg("daemon-reload").status());
    }
}

fn as_alice(words: &[&str]) -> Command {
    let mut command = Command::new("runuser");
    command.args(["-u", "alice", "--"]).args(words).stdin(Stdio::null());
    command
}

const BOT: &str = "/usr/local/bin/installed-bot";
const UNIT: &str = "/run/systemd/system/chaperone.service";
const DOCUMENTS: &str = "/etc/chaperone/agents/all.yaml";
const USUAL: &str = "127.0.0.9/9";
const REACTS: &str = "baseline: { stop: medium }";
