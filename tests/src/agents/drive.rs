//! Runs one agent to its end as its README says, and a person who does the same beside it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    ends::{Model, PERSON},
    plan::{Agent, Plan},
};

/// What became of one run.
pub struct Ran<'a> {
    pub agent: &'a Agent,
    pub pid: u32,
    /// Exit status; 128 and the signal if one ended it.
    pub status: i32,
    pub seconds: f32,
    /// The last words on its error stream.
    pub complaint: String,
    /// The process that keeps the person's terminal.
    pub person: u32,
    /// What the person's commands wrote.
    pub screen: String,
}

/// Runs it without a terminal, as a service would; the person comes once it speaks with its model.
pub fn run<'a>(plan: &Plan, agent: &'a Agent, place: &Path, model: &Model) -> Result<Ran<'a>> {
    let place = place.join(&agent.name);
    let [home, work, person] = ["home", "work", "person"].map(|name| place.join(name));
    for directory in [&home, &work, &person] {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    }
    let (words, environment) = agent.prepare(plan, &home, &agent.name)?;
    let start = Instant::now();
    let mut child = spawn(agent, &words, environment, &work, &place)?;
    let pid = child.id();
    while child.try_wait()?.is_none() && start.elapsed() < AGENT_MAX && !speaks(model, agent)? {
        thread::sleep(Duration::from_millis(200));
    }
    let screen = place.join("screen");
    let mut terminal = sit_down(plan, agent, &person, &work, &File::create_new(&screen)?)?;
    let status = end(&mut child, AGENT_MAX.saturating_sub(start.elapsed()))?;
    let seconds = start.elapsed().as_secs_f32();
    end(&mut terminal, PERSON_MAX)?;
    let screen = fs::read_to_string(screen).unwrap_or_default();
    let complaint = fs::read_to_string(place.join("stderr")).unwrap_or_default();
    let complaint = complaint.lines().rev().take(3).collect::<Vec<_>>().join(" / ");
    println!("{} ran for {seconds:.1} s", agent.title);
    Ok(Ran { agent, pid, status, seconds, complaint, person: terminal.id(), screen })
}

/// Starts it in a directory without a terminal; what it says is written below `said`.
pub fn spawn(
    agent: &Agent,
    words: &[String],
    environment: BTreeMap<String, String>,
    work: &Path,
    said: &Path,
) -> Result<Child> {
    Command::new(&words[0])
        .args(&words[1..])
        .env_clear()
        .envs(environment)
        .current_dir(work)
        .stdin(Stdio::null())
        .stdout(File::create(said.join("stdout"))?)
        .stderr(File::create(said.join("stderr"))?)
        .spawn()
        .with_context(|| format!("start {}", agent.title))
}

/// Whether the model has been asked for a step of this agent's script.
fn speaks(model: &Model, agent: &Agent) -> Result<bool> {
    Ok(model.log()?.iter().any(|request| request["script"] == agent.name && request["step"].is_u64()))
}

/// A person at a terminal of their own: the same user, directory and commands, and the interpreters by themselves.
fn sit_down(plan: &Plan, agent: &Agent, home: &Path, work: &Path, screen: &File) -> Result<Child> {
    fs::write(home.join(".curlrc"), format!("user-agent = \"{PERSON}\"\n"))?;
    let lines = agent.commands().into_iter().chain(["node --version".into(), "python3 -c pass".into()]);
    let line = lines.collect::<Vec<_>>().join("; ");
    Command::new("script")
        .args(["-q", "-e", "-c", &line, "/dev/null"])
        .env_clear()
        .env("HOME", home)
        .env("PATH", &plan.path)
        .env("SHELL", "/bin/bash")
        .current_dir(work)
        .stdin(Stdio::null())
        .stdout(screen.try_clone()?)
        .stderr(screen.try_clone()?)
        .spawn()
        .context("open a terminal")
}

/// Waits for its end, which is ours to make if it takes too long.
pub fn end(child: &mut Child, max: Duration) -> Result<i32> {
    let end = Instant::now() + max;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
        }
        if Instant::now() > end {
            child.kill()?;
            let status = child.wait()?;
            ensure!(status.signal() == Some(9), "it ended as it was to be killed: {status}");
            return Ok(128 + 9);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

const AGENT_MAX: Duration = Duration::from_secs(1000);
const PERSON_MAX: Duration = Duration::from_secs(300);
