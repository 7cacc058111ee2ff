//! The process family: recognised before the first instruction, followed through every birth, told apart from people.

mod births;
mod known;
pub mod lifetime;
mod recognised;
mod told;

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    case::Case,
    guest::Shared,
    harness::{self, Daemon, Start},
};

pub use known::CASES as KNOWN;

/// All cases of the family but those of [`KNOWN`], where user space does the recognising.
#[must_use]
pub fn cases() -> Vec<Case<Shared>> {
    [recognised::CASES, births::CASES, told::CASES].into_iter().flatten().map(|c| Case { ..*c }).collect()
}

/// A place for programs, on a file system with a name.
const PLACE: &str = "/opt/chaperone-cases";

/// A fresh directory below [`PLACE`].
fn place(name: &str) -> Result<PathBuf> {
    let place = Path::new(PLACE).join(name);
    drop(std::fs::remove_dir_all(&place));
    std::fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    Ok(place)
}

/// An agent's document: `matches` are entries of its list, such as `exe: /opt/x`.
fn agent(name: &str, matches: &[String]) -> String {
    let entries: Vec<String> = matches.iter().map(|entry| format!("{{ {entry} }}")).collect();
    format!(
        "apiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: {name} }}\nspec: {{ owner: tests, role: {name}, \
         match: [ {} ] }}\n---\n{}",
        entries.join(", "),
        role(name, "    rules: []\n")
    )
}

/// A role that refuses what its rules do not name.
fn role(name: &str, rules: &str) -> String {
    format!(
        "apiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: {name} }}\nspec:\n  mode: enforce\n  network:\n    \
         default: deny\n    defaults: {{ unix: allow }}\n{rules}---\n"
    )
}

fn daemon(shared: &Shared, documents: String) -> Result<Daemon> {
    Daemon::start(&Start { documents, mode: Some(shared.mode.clone()), ..Start::default() })
}

/// A script that executes its arguments: the agent of most cases.
fn launcher(path: &Path) -> Result<()> {
    harness::script(path, "#!/bin/bash\n\"$@\"\n")
}

/// Starts a command in the background, its output kept out of the way.
fn start(words: &[&str]) -> Result<Child> {
    Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start {}", words.join(" ")))
}

/// Runs a command to its end; its exit status and what it printed.
fn run(words: &[&str]) -> Result<(Option<i32>, String)> {
    let output = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {}", words.join(" ")))?;
    let text = [output.stdout, output.stderr].concat();
    Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
}

/// A shell command that tries to connect to a port nobody listens on: `Connection refused` where nothing stands in
/// the way, `Operation not permitted` where Chaperone does.
pub const TRY_CONNECT: &str = "exec 3<>/dev/tcp/127.0.0.9/9";

/// Whether what a shell printed of [`TRY_CONNECT`] says that it was refused by Chaperone.
pub fn was_refused(text: &str) -> Result<bool> {
    let (refused, passed) = (text.contains("Operation not permitted"), text.contains("Connection refused"));
    ensure!(refused != passed, "neither refused nor passed: {text}");
    Ok(refused)
}

fn origin(label: &Value) -> &str {
    label["origin"].as_str().unwrap_or("-")
}

/// Ends what a case left behind.
fn end_marked(pid: u32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
}
