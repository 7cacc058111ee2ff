//! Traffic for baselines: real agents and a job like CI's, over tasks to learn from, other tasks, and deviations.
//!
//! What is recorded and what was done when is left in [`PLACE`]; judged is it elsewhere, from these files alone.
//!
//! # Layout
//! - `tasks` what each run does, and which of it deviates
//! - `world` the names and servers that are reached

mod tasks;
mod world;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use self::{
    tasks::{JOB, Run, Set},
    world::World,
};
use super::{
    drive,
    ends::Model,
    plan::{Agent, Plan},
};
use crate::harness::{self, Daemon, Start};

/// One run, and which of its instance's time belongs to which deviation.
#[derive(Debug, Serialize)]
struct Label {
    role: String,
    set: Set,
    instance: Value,
    acts: Vec<Act>,
}

/// A deviation: from when it was asked for until the next step was.
#[derive(Debug, Serialize)]
struct Act {
    what: &'static str,
    begin_us: u64,
    end_us: u64,
}

/// What was started, before its events are read.
struct Started {
    role: String,
    run: &'static Run,
    pid: u32,
    /// When each step began, in microseconds since 1970; `None` where it was never asked for.
    steps: Vec<Option<u64>>,
    status: i32,
    seconds: f32,
}

/// Runs everything and leaves `events.ndjson`, `labels.json` and `documents.yaml`.
pub fn run(mode: &str) -> Result<Value> {
    let plan = Plan::read()?;
    let agents: Vec<&Agent> = AGENTS
        .iter()
        .map(|name| {
            plan.agents.iter().find(|agent| agent.name == *name).with_context(|| format!("no {name}"))
        })
        .collect::<Result<_>>()?;
    ensure!(Path::new(&agents[0].exe).exists(), "{} is empty: boot with `--agents`", plan.prefix);
    let place = PathBuf::from(PLACE);
    let work = PathBuf::from(WORK);
    fs::create_dir_all(&place).context("make a place for what is recorded")?;
    fs::create_dir_all(&work)?;
    let world = World::start()?;
    let model = Model::start(&work, &tasks::scripts(&AGENTS))?;
    harness::script(Path::new(tasks::JOB_FILE), &tasks::job())?;
    let documents = tasks::documents(&agents);
    fs::write(place.join("documents.yaml"), &documents)?;
    let mut daemon = Daemon::start(&Start {
        documents,
        settings: SETTINGS.into(),
        mode: (mode == "cgroup").then(|| mode.to_owned()),
        ..Start::default()
    })?;
    let started = thread::scope(|scope| -> Result<Vec<Started>> {
        let (plan, model) = (&plan, &model);
        let mut workers: Vec<_> = agents
            .iter()
            .map(|agent| {
                scope.spawn(move || tasks::RUNS.iter().map(|run| start(plan, agent, run, model)).collect())
            })
            .collect();
        workers.push(scope.spawn(|| tasks::RUNS.iter().map(start_job).collect()));
        let mut all = Vec::new();
        for worker in workers {
            let part: Result<Vec<Started>> =
                worker.join().map_err(|_| anyhow::anyhow!("a driver panicked"))?;
            all.extend(part?);
        }
        Ok(all)
    })?;
    daemon.settle()?;
    drop(world);
    let labels: Vec<Label> = started.iter().map(|started| label(started, &daemon.seen)).collect();
    fs::write(place.join("labels.json"), serde_json::to_string_pretty(&labels)? + "\n")?;
    fs::copy(daemon.directory.join("events.ndjson"), place.join("events.ndjson"))?;
    let rows: Vec<Value> = started
        .iter()
        .zip(&labels)
        .map(|(started, label)| {
            let events = daemon.seen.iter().filter(|event| event["instance"] == label.instance).count();
            json!({
                "role": started.role, "run": started.run.name, "events": events, "status": started.status,
                "steps": started.steps.iter().flatten().count(), "of": started.run.steps.len(),
                "acts": label.acts.len(), "seconds": started.seconds.round(),
            })
        })
        .collect();
    let lost = daemon.seen.iter().filter(|event| event["kind"] == "events_lost").count();
    Ok(json!({ "mode": mode, "events": daemon.seen.len(), "losses": lost, "rows": rows }))
}

/// One agent to its end. Its home is the same for all its runs, as a person's is; its directory is new.
fn start(plan: &Plan, agent: &Agent, run: &'static Run, model: &Model) -> Result<Started> {
    let (home, work) = (PathBuf::from(WORK).join(&agent.name), directory(&agent.name, run)?);
    fs::create_dir_all(&home)?;
    let script = format!("{}-{}", agent.name, run.name);
    let (words, environment) = agent.prepare(plan, &home, &script)?;
    let begun = Instant::now();
    let mut child = drive::spawn(agent, &words, environment, &work, &home)?;
    let pid = child.id();
    let status = drive::end(&mut child, RUN_MAX)?;
    let log = model.log()?;
    let asked = |step: usize| {
        let request = log.iter().find(|request| request["script"] == script && request["step"] == step)?;
        Some((request["time"].as_f64()? * 1e6) as u64)
    };
    let steps = (0..=run.steps.len()).map(asked).collect();
    let seconds = begun.elapsed().as_secs_f32();
    println!("{script} ran for {seconds:.0} s");
    Ok(Started { role: agent.name.clone(), run, pid, steps, status, seconds })
}

/// The job to its end; it writes down itself when each step begins.
fn start_job(run: &'static Run) -> Result<Started> {
    let work = directory(JOB, run)?;
    let begun = Instant::now();
    let mut child = Command::new(tasks::JOB_FILE)
        .arg(run.name)
        .env("PATH", "/usr/bin:/bin")
        .current_dir(&work)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start the job")?;
    let pid = child.id();
    let status = drive::end(&mut child, RUN_MAX)?;
    let marks = fs::read_to_string(work.join(".steps")).unwrap_or_default();
    let steps = marks.lines().map(|line| line.replace('.', "").parse().ok()).collect();
    Ok(Started { role: JOB.into(), run, pid, steps, status, seconds: begun.elapsed().as_secs_f32() })
}

fn directory(role: &str, run: &Run) -> Result<PathBuf> {
    let work = PathBuf::from(WORK).join(format!("task-{role}-{}", run.name));
    fs::create_dir_all(&work).with_context(|| format!("make {}", work.display()))?;
    fs::write(work.join("notes.txt"), "one\ntwo\nthree\n")?;
    Ok(work)
}

fn label(started: &Started, events: &[Value]) -> Label {
    let first = events.iter().find(|event| {
        event["kind"] == "process_exec" && event["pid"] == started.pid && event["recognised"].is_string()
    });
    let steps = started.run.steps.iter().zip(started.steps.windows(2));
    let acts = steps.filter_map(|(step, times)| {
        let (begin_us, what) = (times[0]?, step.deviates?);
        // One that is never asked for the next has ended with its run.
        Some(Act { what, begin_us, end_us: times[1].unwrap_or(u64::MAX) })
    });
    Label {
        role: started.role.clone(),
        set: started.run.set,
        instance: first.map(|event| event["instance"].clone()).unwrap_or_default(),
        acts: acts.collect(),
    }
}

/// Installed from npm and from PyPI.
const AGENTS: [&str; 3] = ["codex", "gemini", "mini-swe-agent"];
const PLACE: &str = "/tmp/traffic";
const WORK: &str = "/srv/work";
const RUN_MAX: Duration = Duration::from_secs(700);
/// What agents do, and nothing else. A guest has one day.
const SETTINGS: &str = "  record:
    agent: { processes: true, network: true, argv: false }
    human: { processes: false, network: false, argv: false }
    system: { processes: false, network: false, argv: false }
  baselines: { support: { instances: 2, days: 1 } }
";
