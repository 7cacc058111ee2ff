//! The kernel side as the daemon sees it: load, attach, tables, ring buffer. The only folder that names aya.

mod attach;
mod btf;
pub mod capability;
pub mod hooks;
mod leftover;
pub mod measure;
mod names;
mod object;
mod offsets;
pub mod pins;
pub mod process;
mod raw;
mod ring;
mod sys;
mod tables;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    os::fd::OwnedFd,
    path::PathBuf,
};

use agent_common::{
    event::{Counter, Kind, record},
    identity::{Instance, Label, Match, Origin, Recognised, Seed},
    progress::Progress,
    rule::Policy,
};
use anyhow::{Context as _, Result, anyhow};
use tracing::warn;

use self::tables::rules::Rules;
pub use self::{
    attach::{Adopted, LsmRefused, Options},
    leftover::Leftover,
    ring::Ring,
};

use crate::{
    config::settings::{Arguments, Config},
    identity::{
        discovery::{self, Running},
        identified::Identities,
        naming::Files,
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

/// The kernel side. Where it is pinned it outlives this value, else dropping it detaches everything.
pub struct Kernel {
    programs: attach::Programs,
    tables: tables::Tables,
    /// From the first `apply` on: nothing that follows processes looks there, and making the maps takes a while.
    rules: Option<(Rules, names::Names)>,
    labels: raw::TaskStorage,
    instances: raw::Hash<u64, Instance>,
    seeds: raw::Hash<u32, Seed>,
    runs: raw::Hash<u32, Match>,
    record: raw::Slots<u32>,
    submitted: raw::Counts,
    lost: raw::Counts,
    counters: raw::Counts,
    login_programs: Vec<PathBuf>,
    /// Resolvers that the settings name.
    resolvers: Vec<IpAddr>,
    /// Path below the hierarchy of the one cgroup whose processes are looked at.
    scope: Option<String>,
    /// Instances that were found running, which hold one task count more than they have tasks.
    found_running: BTreeSet<u64>,
    next_seed: u64,
    /// The ring buffer until it is read.
    ring: Option<aya::maps::Map>,
    progress: OwnedFd,
}

impl Kernel {
    /// Loads programs, or finds those that a daemon before this one has left in force. After the first `apply` comes
    /// [`Self::follow`], then [`Self::label_existing`], and then [`Self::enforce`].
    ///
    /// # Errors
    /// When the kernel gives neither mode: without BTF, tracing programs or a cgroup v2 hierarchy; when another daemon
    /// runs; [`LsmRefused`] when cgroup mode is worth a try.
    pub fn load(options: &Options, config: &Config) -> Result<Self> {
        let programs = attach::prepare(options, config.pin_dir.as_deref())?;
        let mut maps = programs.maps()?;
        let maps = &mut maps;
        let since_boot_us = microseconds_since_boot()?;
        // Ids that new maps give must not be those that former ones gave since the boot.
        raw::Counts::take(maps, "EXEC_IDS")?.begin_at(0, since_boot_us)?;
        let mut kernel = Self {
            tables: tables::Tables::take(maps)?,
            rules: None,
            labels: raw::TaskStorage::take(maps, "LABELS")?,
            instances: raw::Hash::take(maps, "INSTANCES")?,
            seeds: raw::Hash::take(maps, "SEEDS")?,
            runs: raw::Hash::take(maps, "RUNS")?,
            record: raw::Slots::take(maps, "RECORD")?,
            submitted: raw::Counts::take(maps, "SUBMITTED")?,
            lost: raw::Counts::take(maps, "LOST")?,
            counters: raw::Counts::take(maps, "COUNTERS")?,
            ring: Some(maps.take("EVENTS")?),
            progress: raw::mappable(maps, "PROGRESS", size_of::<Progress>())?,
            login_programs: config.login_programs.clone(),
            resolvers: config.resolvers.clone(),
            scope: scope_below(options)?,
            found_running: BTreeSet::new(),
            // Instances that this gives numbers to must not share them with those of a daemon before this one.
            next_seed: since_boot_us,
            programs,
        };
        let instances = kernel.instances.entries();
        let seeded = instances.iter().filter(|(_, instance)| instance.how == Recognised::Seed as u8);
        kernel.found_running = seeded.map(|(id, _)| *id).collect();
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
            if what.argv != Arguments::None {
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
        self.programs.mode
    }

    /// Why it is not lsm mode; empty in lsm mode.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.programs.reason
    }

    /// What was in force when this daemon came.
    #[must_use]
    pub fn adopted(&self) -> Adopted {
        self.programs.adopted
    }

    /// Why what is in force ends with the daemon; empty where it is pinned and does not.
    #[must_use]
    pub fn unpinned(&self) -> &str {
        &self.programs.unpinned
    }

    /// Follows processes and recognises agents from now on, in place of what another build has attached.
    pub fn follow(&mut self, registry: &Registry) -> Result<()> {
        self.programs.follow()?;
        // Until here no cgroup was seen that was made; and at a first start nobody has a label yet who could be recognised.
        self.identify(registry)
    }

    /// Refuses from now on, in place of what another build has attached; call when everything that runs is labelled.
    ///
    /// # Errors
    /// [`LsmRefused`] when cgroup mode is worth a try.
    pub fn enforce(&mut self) -> Result<()> {
        self.programs.enforce()
    }

    /// Detaches what other builds have left; call when everything that runs is labelled. Answers with what those with
    /// another contract have not recorded.
    pub fn retire_others(&self) -> Result<Vec<Leftover>> {
        self.programs.retire_others()
    }

    /// The map of what the record's own progress is noted in.
    #[must_use]
    pub fn progress(&self) -> &OwnedFd {
        &self.progress
    }

    /// Raw events, in ring order; each is one record as `hooks::decode` takes it. Call once, within the runtime.
    pub fn events(&mut self) -> Result<Ring> {
        let map = self.ring.take().context("the ring buffer is read already")?;
        Ring::follow(map).context("open the ring buffer")
    }

    /// Puts a policy and a registry in force: new rules beside the old, one write per role, then the old rules go.
    pub fn apply(&mut self, table: &Table, registry: &Registry) -> Result<()> {
        // Before anything is written: a half of it would be in force otherwise.
        self.tables.has_room(registry, &self.login_programs)?;
        if table.reads_names() {
            self.programs.learn_names().map_err(|error| cannot_learn(&table.names_wanted_by(), &error))?;
        }
        self.rules()?.0.apply(table)?;
        self.identify(registry)?;
        if !table.reads_names()
            && let Err(error) = self.programs.forgo_names()
        {
            let error = format!("{error:#}");
            warn!(error, "programs that no rule needs cannot be detached; they cost each packet a little");
        }
        Ok(())
    }

    /// The tables of rules, and with them that of names; made, or found, when they are first wanted.
    fn rules(&mut self) -> Result<(&mut Rules, &mut names::Names)> {
        if self.rules.is_none() {
            let mut maps = self.programs.maps()?;
            self.rules = Some((Rules::take(&mut maps)?, names::Names::take(&mut maps, &self.resolvers)?));
        }
        self.rules.as_mut().map(|(rules, names)| (rules, names)).context("the tables of rules are not open")
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

    /// What identifies agents now.
    #[must_use]
    pub fn identifying(&self) -> &Identities {
        self.tables.identified()
    }

    /// Labels every process that has no label yet; call after `follow`. Answers with the agents among them.
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
            let files = Files::now();
            for running in found {
                let instance = running.seed.label.instance;
                if let Some(begun) = running.begins {
                    // Parents come first, so theirs is known.
                    let parent = self.instances.get(begun.parent)?;
                    let root = parent.map_or(instance, |parent| parent.root);
                    self.instances.put(instance, Instance { root, ..begun })?;
                    self.found_running.insert(instance);
                }
                self.seeds.put(running.pid, running.seed)?;
                // An exec before this was not seen, since the process had no label; one after it is.
                if !running.is_as_seen(&files) {
                    self.seeds.remove(running.pid)?;
                    if running.begins.is_some() {
                        self.instances.remove(instance)?;
                        self.found_running.remove(&instance);
                    }
                    continue;
                }
                if let Some(cgroup) = running.container {
                    self.tables.note_container(cgroup, instance)?;
                }
                if instance != 0 {
                    agents.push(running);
                }
            }
        }
        Ok(agents)
    }

    /// Lets go of instances that ran before the daemon and have no process any more; answers with their ids.
    pub fn reap(&mut self) -> Result<Vec<u64>> {
        if self.found_running.is_empty() {
            return Ok(Vec::new());
        }
        let alive: BTreeSet<u64> = discovery::pids()
            .into_iter()
            .filter_map(|pid| self.label(pid))
            .map(|label| label.instance)
            .collect();
        let ended: Vec<u64> = self.found_running.difference(&alive).copied().collect();
        for instance in &ended {
            self.instances.remove(*instance)?;
            self.found_running.remove(instance);
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
        Ok(self.rules.as_ref().map(|(rules, _)| rules.roles()).unwrap_or_default())
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

/// Why a table that says something of names cannot be put in force.
fn cannot_learn(wanted_by: &str, error: &anyhow::Error) -> anyhow::Error {
    anyhow!(
        "{wanted_by}, and the programs that read questions to resolvers and their answers cannot be put in force: \
         {error:#} (name addresses, or see what else is attached there: `bpftool cgroup tree`)"
    )
}

/// The kernel side's clock.
fn boot_ns() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
        .map_or(0, |now| std::time::Duration::from(now).as_nanos() as u64)
}

fn microseconds_since_boot() -> Result<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).context("read the clock")?;
    Ok(std::time::Duration::from(now).as_micros() as u64)
}

fn scope_below(options: &Options) -> Result<Option<String>> {
    let Some(scope) = &options.scope else { return Ok(None) };
    let root = crate::identity::naming::cgroup_root()?;
    let below = scope.strip_prefix(&root).with_context(|| {
        format!("{} is not below the cgroup v2 hierarchy at {}", scope.display(), root.display())
    })?;
    Ok(Some(format!("/{}", below.display())))
}
