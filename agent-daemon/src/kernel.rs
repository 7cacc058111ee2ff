//! The kernel side as the daemon sees it: load, attach, tables, ring buffer. The only folder that names aya.

mod attach;
pub mod capability;
pub mod hooks;
pub mod offsets;
mod raw;
mod ring;
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use agent_common::{
    event::{Counter, Kind, record},
    identity::{Instance, Label, Match, Origin, Seed},
    rule::Policy,
};
use anyhow::{Context as _, Result};
use aya::{Ebpf, maps::RingBuf};

pub use self::{attach::Options, ring::Ring};

use crate::{
    config::settings::Config,
    identity::{
        discovery::{self, Running},
        registry::Registry,
    },
    policy::table::Table,
};

/// What this host's kernel lets Chaperone guarantee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KernelMode {
    /// BPF LSM: refused in the call, for every way out.
    Lsm,
    /// No BPF LSM: followed by tracepoints, refused by cgroup hooks where those see it.
    Cgroup,
}

/// One counter per event kind and place; exact.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Counters {
    /// Event kind → events handed to the ring buffer.
    pub submitted: BTreeMap<String, u64>,
    /// Event kind → events that found the ring buffer full.
    pub lost: BTreeMap<String, u64>,
    /// Named counters of the kernel side: births labelled, labels repaired, allocations failed, …
    pub named: BTreeMap<String, u64>,
}

/// The loaded and attached kernel side. Dropping it detaches everything.
pub struct Kernel {
    mode: KernelMode,
    reason: String,
    tables: tables::Tables,
    labels: raw::TaskStorage,
    instances: raw::Hash<u64, Instance>,
    seeds: raw::Hash<u32, Seed>,
    runs: raw::Hash<u32, Match>,
    record: raw::Slots,
    submitted: raw::Counts,
    lost: raw::Counts,
    counters: raw::Counts,
    login_programs: Vec<PathBuf>,
    /// Path below the hierarchy of the one cgroup whose processes are looked at.
    scope: Option<String>,
    /// Instances that ran before the daemon, which hold one task count more than they have tasks.
    pinned: BTreeSet<u64>,
    next_seed: u64,
    /// Holds programs, links and the ring buffer until it is read.
    ebpf: Ebpf,
}

impl Kernel {
    /// Loads and attaches everything; nothing is enforced until the first `apply`.
    ///
    /// # Errors
    /// When the kernel gives neither mode: without BTF, tracing programs or a cgroup v2 hierarchy.
    pub fn load(options: &Options, config: &Config) -> Result<Self> {
        let attach::Attached { mut ebpf, mode, reason } = attach::attach(options)?;
        let ebpf_ref = &mut ebpf;
        let mut kernel = Self {
            mode,
            reason,
            tables: tables::Tables::take(ebpf_ref)?,
            labels: raw::TaskStorage::take(ebpf_ref, "LABELS")?,
            instances: raw::Hash::take(ebpf_ref, "INSTANCES")?,
            seeds: raw::Hash::take(ebpf_ref, "SEEDS")?,
            runs: raw::Hash::take(ebpf_ref, "RUNS")?,
            record: raw::Slots::take(ebpf_ref, "RECORD")?,
            submitted: raw::Counts::take(ebpf_ref, "SUBMITTED")?,
            lost: raw::Counts::take(ebpf_ref, "LOST")?,
            counters: raw::Counts::take(ebpf_ref, "COUNTERS")?,
            login_programs: config.login_programs.clone(),
            scope: scope_below(options)?,
            pinned: BTreeSet::new(),
            next_seed: 0,
            ebpf,
        };
        let record = &config.record;
        let recorded =
            [(Origin::Agent, record.agent), (Origin::Human, record.human), (Origin::System, record.system)];
        for (origin, what) in recorded {
            let mut bits = 0;
            if what.processes {
                bits |= record::EXEC;
                if origin == Origin::Agent {
                    bits |= record::EXIT | record::FORK;
                }
            }
            if what.argv {
                bits |= record::ARGV;
            }
            if what.network {
                bits |= record::NET;
            }
            kernel.record.set(origin as u32, bits)?;
        }
        Ok(kernel)
    }

    #[must_use]
    pub fn mode(&self) -> KernelMode {
        self.mode
    }

    /// Why it is not lsm mode; empty in lsm mode.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Raw events, in ring order; each is one record as `hooks::decode` takes it. Call once, within the runtime.
    pub fn events(&mut self) -> Result<Ring> {
        let map = raw::take(&mut self.ebpf, "EVENTS")?;
        Ring::new(RingBuf::try_from(map).context("open the ring buffer")?)
    }

    /// Puts a policy and a registry in force: new rules beside the old, one write per role, then the old rules go.
    pub fn apply(&mut self, table: &Table, registry: &Registry) -> Result<()> {
        self.tables.apply(table)?;
        self.identify(registry)
    }

    /// Looks again at the files and cgroups that identify agents; call when one of [`Self::watched`] has changed.
    pub fn identify(&mut self, registry: &Registry) -> Result<()> {
        self.tables.identify(registry, &self.login_programs)
    }

    /// Directories where a file that identifies an agent may be replaced or appear.
    #[must_use]
    pub fn watched(&self) -> &BTreeSet<PathBuf> {
        &self.tables.identified().watched
    }

    /// Labels every process that ran before; call after the first `apply`. Answers with the agents among them.
    pub fn label_existing(&mut self) -> Result<Vec<Running>> {
        let mut agents = Vec::new();
        // A process that forks while it is looked at may have a child without a label: until no new one is seen.
        for _round in 0..16 {
            let seeds: BTreeMap<u32, Seed> = self.seeds.entries().into_iter().collect();
            let label = |pid| self.labels.get(pid).or_else(|| seeds.get(&pid).map(|seed| seed.label));
            let mut shown = discovery::running();
            if let Some(scope) = &self.scope {
                shown.retain(|process| process.cgroup.starts_with(scope.as_str()));
            }
            let found = discovery::judge(&shown, self.tables.identified(), label, &mut self.next_seed);
            if found.is_empty() {
                break;
            }
            for running in found {
                if let Some(instance) = running.begins {
                    self.instances.put(running.seed.label.instance, instance)?;
                    self.pinned.insert(running.seed.label.instance);
                }
                self.seeds.put(running.pid, running.seed)?;
                if running.seed.label.instance != 0 {
                    agents.push(running);
                }
            }
        }
        Ok(agents)
    }

    /// Lets go of instances that ran before the daemon and have no process any more; answers with their ids.
    pub fn reap(&mut self) -> Result<Vec<u64>> {
        if self.pinned.is_empty() {
            return Ok(Vec::new());
        }
        let alive: BTreeSet<u64> = discovery::pids()
            .into_iter()
            .filter_map(|pid| self.label(pid))
            .map(|label| label.instance)
            .collect();
        let ended: Vec<u64> = self.pinned.difference(&alive).copied().collect();
        for instance in &ended {
            self.instances.remove(*instance)?;
            self.pinned.remove(instance);
        }
        Ok(ended)
    }

    /// Makes the next exec of process `pid` an instance of an agent (`chaperone run`).
    pub fn expect_run(&mut self, pid: u32, agent: u32, role: u32) -> Result<()> {
        // No entry of the `match` list: never taken for a launcher that goes on to its payload.
        self.runs.put(pid, Match { agent, role, entry: u16::MAX, flags: 0, generation: 0 })
    }

    /// The label of a live process, `None` when it is gone or has none.
    #[must_use]
    pub fn label(&self, pid: u32) -> Option<Label> {
        self.labels.get(pid).or_else(|| self.seeds.get(pid).ok().flatten().map(|seed| seed.label))
    }

    /// Live instances by id.
    pub fn instances(&self) -> Result<BTreeMap<u64, Instance>> {
        Ok(self.instances.entries().into_iter().collect())
    }

    /// What is in force per role id.
    pub fn roles(&self) -> Result<BTreeMap<u32, Policy>> {
        Ok(self.tables.roles())
    }

    pub fn counters(&self) -> Result<Counters> {
        let mut counters = Counters::default();
        for kind in Kind::ALL {
            counters.submitted.insert(kind.name().to_string(), self.submitted.get(*kind as u32)?);
            counters.lost.insert(kind.name().to_string(), self.lost.get(*kind as u32)?);
        }
        for counter in Counter::ALL {
            counters.named.insert(counter.name().to_string(), self.counters.get(*counter as u32)?);
        }
        Ok(counters)
    }
}

fn scope_below(options: &Options) -> Result<Option<String>> {
    let Some(scope) = &options.scope else { return Ok(None) };
    let root = crate::identity::naming::cgroup_root()?;
    let below = scope.strip_prefix(&root).with_context(|| {
        format!("{} is not below the cgroup v2 hierarchy at {}", scope.display(), root.display())
    })?;
    Ok(Some(format!("/{}", below.display())))
}
