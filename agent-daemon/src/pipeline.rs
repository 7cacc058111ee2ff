//! The straight line of an event, and the one owner of all state: events, commands, reloads and time come in here.

mod answer;
pub mod baselines;
pub mod bounds;
pub mod content;
pub mod cut;
mod guarantees;
pub mod host;
pub mod hosts;
pub mod in_force;
mod line;
mod loss;
mod predecessor;
pub mod react;
pub mod resolvers;
mod tell;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};
use tracing::{error, info, warn};

pub use self::line::{Host, Line};
use self::{baselines::Keeper, in_force::InForce};
use crate::{
    config::{
        Config, Documents, kept,
        problem::{Problems, Texts},
        reaction::Effect,
    },
    control::Command,
    event::{
        Event, Kind,
        word::{InstanceId, Time},
    },
    identity::registry::Agent,
    kernel::{Counters, Kernel, KernelMode, Ring},
    policy,
    record::sinks::AllStats,
};

/// Everything the daemon knows and may change, owned by one task.
pub struct Pipeline {
    pub kernel: Kernel,
    pub line: Line,
    pub in_force: InForce,
    pub keeper: Keeper,
    /// How it stands with the sinks, which run by themselves.
    pub sinks: AllStats,
    /// Agents that are recognised although nobody registered them: the built-in catalogue.
    pub known: Vec<Agent>,
    config_dir: PathBuf,
    state_dir: PathBuf,
    /// Tells the watcher where files that identify agents may appear.
    watched: watch::Sender<Vec<PathBuf>>,
    started: std::time::SystemTime,
    /// As they were told to the kernel side.
    resolvers: BTreeSet<IpAddr>,
    /// As they were at the last look.
    resolvers_seen: BTreeSet<IpAddr>,
    /// The file of static names as it was told to the kernel side, with the rules in force then.
    hosts: Option<hosts::Stamp>,
    ticks: u64,
    /// Reactions to findings, by effect.
    reacted: BTreeMap<&'static str, u64>,
    /// Those that left something of the instance, likewise.
    incomplete: BTreeMap<&'static str, u64>,
    /// Instance → the last reaction, and when.
    reactions: BTreeMap<InstanceId, (Effect, Time)>,
    /// What is wrong with the last configuration, if it was refused.
    rejected: Option<Vec<Box<str>>>,
    /// Whether the kernel side may hold something else than `in_force`, after a change that could not be taken back.
    by_half: bool,
}

/// What reaches the pipeline from outside.
pub struct Inputs {
    /// Records as the kernel side sent them.
    pub events: Ring,
    pub commands: mpsc::Receiver<Command>,
    pub requests: mpsc::Receiver<Request>,
    /// Programs that were identified.
    pub identified: mpsc::Receiver<Event>,
    /// Asks for the end; dropping the sender does too.
    pub shutdown: mpsc::Receiver<()>,
}

/// What the daemon's own watchers ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read the configuration again; the word says what brought it about.
    Reload(&'static str),
    /// Look again at the files that identify agents.
    Identify,
}

impl Pipeline {
    /// A pipeline with its configuration already in force.
    #[must_use]
    pub fn new(kernel: Kernel, line: Line, in_force: InForce, keeper: Keeper, config: &Config) -> Self {
        let (config_dir, state_dir) = (config.config_dir.clone(), config.state_dir.clone());
        let watched = watch::Sender::new(kernel.watched().iter().cloned().collect());
        let started = std::time::SystemTime::now();
        Self {
            kernel,
            line,
            in_force,
            keeper,
            sinks: AllStats::new(),
            known: Vec::new(),
            config_dir,
            state_dir,
            watched,
            started,
            resolvers: BTreeSet::new(),
            resolvers_seen: BTreeSet::new(),
            hosts: None,
            ticks: 0,
            reacted: BTreeMap::new(),
            incomplete: BTreeMap::new(),
            reactions: BTreeMap::new(),
            rejected: None,
            by_half: false,
        }
    }

    /// Where files that identify agents may appear or be replaced, now and after every change.
    #[must_use]
    pub fn watched(&self) -> watch::Receiver<Vec<PathBuf>> {
        self.watched.subscribe()
    }

    /// Runs until it is asked to end; what is still in the ring buffer is recorded.
    ///
    /// # Errors
    /// When the kernel side's events cannot be read any more: another start is what can help.
    pub async fn run(&mut self, mut inputs: Inputs) -> Result<()> {
        // What a daemon before has told, should no rule have a name now.
        self.follow_hosts();
        let mut tick = interval_at(Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rest = std::pin::pin!(sleep_until(Instant::now()));
        let mut resting = false;
        let end = loop {
            tokio::select! {
                ready = inputs.events.ready(), if !resting => {
                    if let Err(error) = ready {
                        error!(error = format!("{error:#}"), "events cannot be read any more");
                        break Err(error.context("read events"));
                    }
                    // An event that comes alone is recorded at once; where one follows the other, waking up and
                    // writing for each would cost more than the events themselves.
                    resting = self.take(&mut inputs.events) < BATCH_EVENTS_MAX;
                    rest.as_mut().reset(Instant::now() + REST);
                }
                () = &mut rest, if resting => resting = false,
                Some(command) = inputs.commands.recv() => self.answer(command),
                Some(request) = inputs.requests.recv() => match request {
                    Request::Reload(trigger) => {
                        self.reload(trigger);
                        host::give_back_memory();
                    }
                    Request::Identify => self.identify(),
                },
                Some(event) = inputs.identified.recv() => {
                    self.line.tell_now(event);
                    self.line.tell_due();
                    self.react();
                }
                _ = tick.tick() => self.tick(),
                _ = inputs.shutdown.recv() => break Ok(()),
            }
        };
        self.drain(&mut inputs.events);
        self.close_baselines();
        end
    }

    /// Takes a batch of events; how many it was.
    fn take(&mut self, events: &mut Ring) -> usize {
        let offset = host::boot_offset_ns();
        let taken = events.take(BATCH_EVENTS_MAX, |record, end| {
            if let Some(journal) = &mut self.line.recorder.journal {
                journal.read_until(end);
            }
            self.line.take(record, offset);
            self.line.recorder.journal.as_ref().is_none_or(|journal| !journal.is_full())
        });
        self.line.recorder.flush();
        // Written, or counted as not written. Until here the next daemon would read them again.
        events.release();
        self.line.tell_due();
        self.cut();
        self.react();
        taken
    }

    fn drain(&mut self, events: &mut Ring) {
        let deadline = Instant::now() + DRAIN_MAX;
        while self.take(events) > 0 {
            if Instant::now() > deadline {
                // Submitted and not lost, as the kernel side counts: no counter has what goes with an unpinned buffer.
                let rest = if self.kernel.unpinned().is_empty() {
                    "the next daemon reads the rest"
                } else {
                    "the rest goes with the ring buffer, uncounted"
                };
                warn!("events kept coming while the daemon was to end: {rest}");
                break;
            }
        }
        self.tick();
    }

    fn tick(&mut self) {
        // From here and not from a task of its own: a pipeline that hangs must not look alive.
        let _ = sd_notify::notify(false, &[sd_notify::NotifyState::Watchdog]);
        match self.kernel.counters() {
            Ok(counters) => self.count_losses(&counters),
            Err(error) => warn!(%error, "the kernel side's counters cannot be read"),
        }
        if self.line.lineage.cgroups.take_missed() {
            self.line.learn_cgroups();
        }
        self.line.recorder.tick();
        if self.in_force.table.reads_names() {
            self.follow_resolvers();
        }
        self.follow_hosts();
        self.keep_baselines();
        self.ticks += 1;
        if self.ticks.is_multiple_of(TICKS_PER_ROUND) {
            if self.line.watch.is_none() {
                self.open_baselines();
            }
            self.reap();
            self.line.forget();
            self.forget_names();
            self.line.own_addresses = host::addresses();
        }
    }

    fn count_losses(&mut self, counters: &Counters) {
        self.line.recorder.flush();
        let Some(journal) = &mut self.line.recorder.journal else { return };
        let account = journal.progress().account();
        let lost = loss::untold(&counters.lost, &account);
        if lost.is_empty() {
            return;
        }
        let event = Event { kind: Kind::EventsLost, lost: Some(lost.clone()), ..Event::default() };
        // What nobody could read is told later.
        if self.line.tell_if_written(event) {
            warn!(?lost, "events were lost");
            if let Some(journal) = &mut self.line.recorder.journal {
                journal.progress().settle(loss::told(&counters.lost, &account));
            }
        }
    }

    /// Puts the configuration in force as it now lies on the disk, or leaves what is in force.
    fn reload(&mut self, trigger: &'static str) {
        let (documents, mut found) = Documents::read(&self.config_dir, Some(&self.state_dir));
        found.extend(kept::vanished(&self.state_dir, &documents));
        match policy::build(&documents, found) {
            Err(Problems(all)) => self.reject(trigger, all.iter().map(|p| p.to_string().into()).collect()),
            Ok((mut registry, table)) => {
                registry.recognise_too(&self.known);
                if !self.by_half && self.in_force.is_same(&registry, &table) {
                    if self.rejected.take().is_some() {
                        info!(trigger, "the configuration has no errors any more; it is the one in force");
                        self.tell_policy(Kind::PolicyChanged, trigger, Vec::new());
                    }
                    return;
                }
                if let Some(role) = table.collides(&self.in_force.table) {
                    self.reject(trigger, vec![collision(role).into()]);
                    return;
                }
                let hosts = table.reads_names().then(hosts::Reading::now);
                if let Some(hosts) = &hosts {
                    if !self.in_force.table.reads_names() {
                        self.resolvers = resolvers::configured();
                        resolvers::believe(&mut self.kernel, &self.resolvers);
                    }
                    // Before the rules, so that a name of the file holds from the first moment on.
                    hosts::honour(&mut self.kernel, &table, hosts);
                }
                self.hosts = None;
                if let Err(error) = self.kernel.apply(&table, &registry) {
                    let former = self.restore();
                    self.reject(trigger, vec![format!("{error:#}; {former}").into()]);
                    return;
                }
                self.by_half = false;
                keep(&self.state_dir, &documents.texts);
                self.in_force.succeed(registry, table);
                self.publish_watched();
                self.line.names = self.in_force.names.clone();
                if let Some(hosts) = &hosts {
                    self.know_hosts(hosts);
                }
                self.rejected = None;
                info!(
                    trigger,
                    agents = self.in_force.agents(),
                    roles = self.in_force.roles(),
                    "configuration is in force"
                );
                self.tell_policy(Kind::PolicyChanged, trigger, Vec::new());
            }
        }
    }

    /// Puts in force again what was before a change that failed half way; answers with what is in force now.
    fn restore(&mut self) -> &'static str {
        let restored = self.kernel.apply(&self.in_force.table, &self.in_force.registry);
        self.by_half = restored.is_err();
        match restored {
            Ok(()) => "the configuration before it is in force",
            Err(error) => {
                error!(
                    error = format!("{error:#}"),
                    "a configuration was put in force by half, and the one before it cannot be put back"
                );
                "some of it may be in force beside the configuration before it"
            }
        }
    }

    /// A file that identifies an agent may have been replaced or have appeared.
    fn identify(&mut self) {
        if let Err(error) = self.kernel.identify(&self.in_force.registry) {
            warn!(
                error = format!("{error:#}"),
                "the files that identify agents cannot be looked up; what was known stays"
            );
        }
        self.publish_watched();
    }

    fn publish_watched(&self) {
        let now: Vec<PathBuf> = self.kernel.watched().iter().cloned().collect();
        self.watched.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    }

    /// Leaves in force what is; the same mistakes are told once.
    pub fn reject(&mut self, trigger: &str, problems: Vec<Box<str>>) {
        for problem in &problems {
            warn!(trigger, "configuration refused: {problem}");
        }
        if self.rejected.as_ref() == Some(&problems) {
            return;
        }
        self.rejected = Some(problems.clone());
        self.tell_policy(Kind::PolicyRejected, trigger, problems);
    }

    fn mode(&self) -> &'static str {
        match self.kernel.mode() {
            KernelMode::Lsm => "lsm",
            KernelMode::Cgroup => "cgroup",
        }
    }
}

/// Keeps the texts of what is in force now for a start at which the files have mistakes.
pub fn keep(state_dir: &Path, texts: &Texts) {
    if let Err(error) = kept::keep(state_dir, texts) {
        warn!(%error, path = %state_dir.display(), "the configuration in force cannot be kept for the next start");
    }
}

/// Two contents of 32 bits of hash in four thousand million: seldom enough to be told and left to a person.
fn collision(role: &str) -> String {
    format!(
        "role `{role}`: its policy has the number of another that is in force, so the two would be mixed while one \
         takes the place of the other (add a rule to the role, or take one away)"
    )
}

/// Events taken at a time: enough that a storm costs one write per batch, few enough that commands get their turn.
pub const BATCH_EVENTS_MAX: usize = 512;
/// Pause between two batches. The ring buffer holds what a storm brings in many times this.
const REST: Duration = Duration::from_millis(10);
/// How often what is dearer than a look is done: instances that ran before the daemon (a walk through /proc while
/// there are any), what has ended without an event, and this host's own addresses.
const TICKS_PER_ROUND: u64 = 5;
/// Commands that wait for the pipeline; the server's clients wait with them.
pub const COMMANDS_WAITING_MAX: usize = 64;
/// Requests of the watchers that wait; each of them waits in turn.
pub const REQUESTS_WAITING_MAX: usize = 4;
const TICK: Duration = Duration::from_secs(1);
const DRAIN_MAX: Duration = Duration::from_secs(5);
