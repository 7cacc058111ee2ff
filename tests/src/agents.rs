//! Programs that people run, driven by a scripted model, with people doing the same things beside them.
//!
//! # Layout
//! - `plan` the agents as tests/agents/agents.json has them, and the documents they are registered with
//! - `ends` the other ends of their connections: the model, a server that the role names, one that it does not
//! - `drive` runs an agent to its end, and a person beside it
//! - `traffic` several runs of each, for baselines: what is learned, other tasks, and deviations
//! - `seen` what the events tell of one run; `check` what must be seen to hold; `summary` the numbers

mod check;
mod drive;
mod ends;
mod plan;
mod seen;
mod summary;
pub mod traffic;

use std::{fs, path::PathBuf, process::ExitCode, sync::Mutex, thread};

use anyhow::{Context as _, Result, ensure};
use clap::Args;

use self::{
    drive::Ran,
    ends::{Model, Servers},
    plan::{Agent, Plan},
    seen::Seen,
};
use crate::{
    case::Tally,
    guest::names::{
        self,
        real::{self, clients::NODE},
    },
    harness::{Daemon, Start},
};

/// Runs real agents from /opt/agents by a scripted model, and people beside them.
#[derive(Debug, Args)]
pub struct Agents {
    /// What the guest was booted for: `lsm` or `cgroup`.
    #[arg(long, default_value = "lsm")]
    mode: String,
    /// Only agents whose name contains one of these, divided by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// How many run at a time.
    #[arg(long, default_value_t = 2, value_name = "N")]
    at_once: usize,
    /// Refuse nothing, and list what the role would have refused: what a new agent needs.
    #[arg(long)]
    alert: bool,
    /// Print the tree of each agent as its execs tell it.
    #[arg(long)]
    tree: bool,
}

impl Agents {
    pub fn run(self) -> Result<ExitCode> {
        let plan = Plan::read()?;
        let agents: Vec<&Agent> = plan.agents.iter().filter(|agent| self.wants(&agent.name)).collect();
        ensure!(!agents.is_empty(), "no agent has such a name");
        let prefix = &plan.prefix;
        ensure!(PathBuf::from(&agents[0].exe).exists(), "{prefix} is empty: boot with `--agents`");

        let place = PathBuf::from(format!("/var/tmp/chaperone-agents-{}", std::process::id()));
        fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
        let servers = Servers::start()?;
        let model = Model::start(&place, &plan.scripts())?;
        let mut daemon = Daemon::start(&Start {
            documents: plan.documents(if self.alert { "alert" } else { "enforce" }),
            settings: RECORD.into(),
            // A guest with BPF LSM is in lsm mode by itself.
            mode: (self.mode == "cgroup").then(|| self.mode.clone()),
            ..Start::default()
        })?;
        let started = daemon.seen.iter().find(|event| event["kind"] == "daemon_started");
        let mode = started.map(|event| event["daemon"]["mode"].clone()).unwrap_or_default();
        ensure!(mode == self.mode, "the daemon is in mode {mode}");
        let ran = self.drive(&plan, &agents, &place, &model)?;
        daemon.settle()?;

        let mut tally = Tally::default();
        let log = model.log()?;
        let hits = servers.hits();
        let mut rows = Vec::new();
        for ran in &ran {
            let mut seen = Seen::new(ran, &daemon.seen, &log, &hits);
            if self.tree {
                seen.tree().iter().for_each(|line| println!("  {line}"));
            }
            if self.alert {
                seen.would_be_refused().iter().for_each(|line| println!("{}: {line}", ran.agent.name));
                continue;
            }
            rows.push(summary::row(&seen, &self.mode));
            check::all(&mut tally, &mut seen);
        }
        drop(fs::remove_dir_all(&place));
        if self.alert {
            return Ok(ExitCode::SUCCESS);
        }
        drop(daemon);
        let by_node = "names by Node's fetch hold at the first packet";
        tally.perform(by_node, || real::by(NODE, &self.mode));
        let spoken_by_node = "names that Node speaks are compared";
        tally.perform(spoken_by_node, || names::spoken::by_node(&self.mode));
        summary::tell(&tally, &rows)?;
        Ok(tally.exit_code())
    }

    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| name.contains(only.as_str()))
    }

    /// Runs them all, a few at a time, longest first.
    fn drive<'a>(
        &self,
        plan: &Plan,
        agents: &[&'a Agent],
        place: &std::path::Path,
        model: &Model,
    ) -> Result<Vec<Ran<'a>>> {
        let pending = Mutex::new(agents.to_vec());
        let next = || pending.lock().ok().and_then(|mut pending| pending.pop());
        let mut ran = thread::scope(|scope| -> Result<Vec<Ran<'a>>> {
            let workers: Vec<_> = (0..self.at_once.clamp(1, agents.len()))
                .map(|_| {
                    scope.spawn(|| {
                        std::iter::from_fn(next)
                            .map(|agent| drive::run(plan, agent, place, model))
                            .collect::<Result<Vec<_>>>()
                    })
                })
                .collect();
            let mut all = Vec::new();
            for worker in workers {
                let part = worker.join().map_err(|_| anyhow::anyhow!("a driver panicked"))?;
                all.extend(part?);
            }
            Ok(all)
        })?;
        ran.sort_by_key(|ran| agents.iter().position(|agent| agent.name == ran.agent.name));
        Ok(ran)
    }
}

/// Everything of everybody, so that what is attributed wrongly is seen and not merely missed.
const RECORD: &str = "  record:
    agent: { processes: true, network: true, argv: true }
    human: { processes: true, network: true, argv: true }
    system: { processes: true, network: true, argv: true }
";
