//! What the pipeline answers when a client of the control socket asks.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use agent_common::name::{FOR_GOOD, Group};

use tracing::warn;

use super::{Pipeline, bounds, host};
use crate::{
    control::{
        Command, Refusal,
        api::{AgentView, JournalView, Labelled, NameView, PolicyView, SinkView, Status},
    },
    event::word::{Evidence, ExecId, InstanceId, Word},
    kernel::capability::guarantee,
    record::{
        journal::{Journal, Standing},
        metrics::{self, Gauges, Guarantee, Hook},
        sinks::Stats,
    },
};

impl Pipeline {
    /// Who asks may have gone away meanwhile: an answer that nobody takes is no error.
    pub(super) fn answer(&mut self, command: Command) {
        match command {
            Command::Labels { pids, reply } => {
                let _ = reply.send(pids.iter().map(|pid| self.labelled(*pid)).collect());
            }
            Command::Agents { name, reply } => {
                let _ = reply.send(self.agents(name.as_deref()));
            }
            Command::Names { reply } => {
                let _ = reply.send(self.names());
            }
            Command::Status { reply } => {
                let _ = reply.send(self.status());
            }
            Command::Metrics { processes, reply } => {
                let gauges = self.gauges(processes);
                let text = metrics::render(&self.line.recorder.metrics, &gauges);
                let _ = reply.send(text);
            }
            Command::Run { pid, agent, reply } => {
                let _ = reply.send(self.expect_run(pid, &agent));
            }
            Command::Baseline { ask, by, reply } => {
                let _ = reply.send(self.change_baselines(ask, by));
            }
            Command::Follow { filter, reply } => {
                let _ = reply.send(self.line.recorder.followers.add(filter));
            }
        }
    }

    fn labelled(&self, pid: u32) -> Option<Labelled> {
        let label = self.kernel.label(pid)?;
        let names = &self.line.names;
        let inside = label.instance != 0 || label.agent != 0;
        Some(Labelled {
            origin: Word::from_raw(label.origin),
            evidence: Evidence(label.evidence),
            instance: InstanceId::some(label.instance),
            agent: inside.then(|| names.agent(label.agent)),
            agent_state: names.agent_state(label.agent).filter(|_| inside),
            role: inside.then(|| names.role(label.role)),
            exec_id: ExecId(label.exec_id),
        })
    }

    fn names(&self) -> Vec<NameView> {
        let text = |bytes: &[u8]| {
            String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
        };
        let patterns: BTreeMap<u64, String> =
            self.in_force.table.hosts.iter().map(|(name, id)| (*id, text(&name.text))).collect();
        let address = |bytes: [u8; 16]| IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical();
        let (now, all) = self.kernel.known_names();
        let rows = all.iter().flat_map(|(key, known)| {
            let live = known.groups.iter().filter(|group| Group::in_force(group.expires_ns, now));
            live.map(|group| {
                let answered = group.since_ns != FOR_GOOD;
                let seconds = |ns: u64| answered.then_some(ns / 1_000_000_000);
                NameView {
                    name: text(&known.name),
                    address: address(key.address),
                    patterns: group.patterns.iter().filter_map(|id| patterns.get(id).cloned()).collect(),
                    since_s: seconds(now.saturating_sub(group.since_ns)),
                    expires_s: seconds(group.expires_ns.saturating_sub(now)),
                    resolver: answered.then(|| address(known.resolver)),
                }
            })
        });
        let mut rows: Vec<NameView> = rows.collect();
        rows.sort_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
        rows
    }

    fn expect_run(&mut self, pid: u32, agent: &str) -> Result<(), Refusal> {
        let Some(agent) = self.in_force.registry.agent_named(agent) else {
            let known = self.in_force.registry.agents().map(|a| a.name.clone()).collect();
            return Err(Refusal::NoSuchAgent { name: agent.to_owned(), known });
        };
        let Some(label) = self.kernel.label(pid) else {
            return Err(Refusal::Kernel(format!("process {pid} is gone, or not known to the kernel side")));
        };
        if let Some(id) = InstanceId::some(label.instance) {
            return Err(Refusal::InsideInstance(id));
        }
        self.kernel
            .expect_run(pid, agent.id, agent.role_id)
            .map_err(|error| Refusal::Kernel(format!("{error:#}")))
    }

    fn agents(&mut self, name: Option<&str>) -> Vec<AgentView> {
        self.learn_instances();
        let registry = &self.in_force.registry;
        let known = registry.agents().chain(registry.unregistered());
        let wanted = known.filter(|agent| name.is_none_or(|name| agent.name == name));
        wanted
            .map(|agent| AgentView {
                state: self.line.names.agent_state(agent.id),
                labels: agent.labels.clone(),
                name: agent.name.clone(),
                role: agent.role.clone(),
                owner: agent.owner.clone(),
                version: agent.version.clone(),
                description: agent.description.clone(),
                matches: agent.matches.iter().filter_map(|m| serde_json::to_value(m).ok()).collect(),
                source: agent.source.to_string(),
                mode: self.line.names.mode(agent.role_id),
                instances: self
                    .line
                    .lineage
                    .instances()
                    .filter(|i| *i.agent == *agent.name)
                    .cloned()
                    .collect(),
            })
            .collect()
    }

    pub(super) fn learn_instances(&mut self) {
        match self.kernel.instances() {
            Ok(table) => self.line.lineage.take_instances(&table, &self.line.names),
            Err(error) => warn!(%error, "the kernel side's instances cannot be read"),
        }
    }

    fn status(&mut self) -> Status {
        self.learn_instances();
        let kernel = self.kernel.measure();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            mode: self.mode().to_owned(),
            mode_reason: self.kernel.reason().to_owned(),
            started_unix_s: unix_seconds(self.started),
            events_recorded: self.line.recorder.metrics.recorded,
            instances: self.line.lineage.instances().count(),
            followers: self.line.recorder.followers.len(),
            policy: PolicyView {
                generation: self.in_force.generation,
                agents: self.in_force.agents(),
                roles: self.in_force.roles(),
                problems: self.rejected.iter().flatten().map(ToString::to_string).collect(),
            },
            baselines_off: self.keeper.off().map(str::to_owned),
            promoted: self.in_force.table.names.promoted().map(|(role, v)| (role.to_owned(), v)).collect(),
            counters: self.kernel.counters().unwrap_or_default(),
            resident_bytes: host::resident_bytes(),
            bounds: self.bounds(&kernel),
            journal: self.line.recorder.journal.as_ref().map(|journal| {
                let Standing { seq, unsigned, sync_failures, removed_early } = journal.standing_of_journal();
                JournalView { seq, unsigned, unwritten: journal.unwritten(), sync_failures, removed_early }
            }),
            sinks: self.sinks.iter().map(|(name, of)| (name.clone(), self.sink_view(of))).collect(),
            kernel,
        }
    }

    fn sink_view(&self, stats: &Stats) -> SinkView {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let (acknowledged, error) = (read(&stats.acknowledged), stats.error());
        SinkView {
            form: stats.form.name().to_owned(),
            to: stats.to.clone(),
            up: read(&stats.up) != 0,
            acknowledged,
            waiting: self.line.recorder.newest().saturating_sub(acknowledged),
            sent: read(&stats.sent),
            filtered: read(&stats.filtered),
            missed: read(&stats.missed),
            refused: read(&stats.refused),
            failures: read(&stats.failures),
            error_at: error.as_ref().map(|failure| failure.at),
            error: error.map(|failure| failure.error),
        }
    }

    fn gauges(&mut self, processes: BTreeMap<&'static str, u64>) -> Gauges {
        self.learn_instances();
        let counters = self.kernel.counters().unwrap_or_default();
        let measured = self.kernel.measure();
        let bounds = bounds::BOUNDS.iter().filter_map(|bound| {
            let used = self.used(bound.name, &measured)?;
            Some(metrics::Bound { name: bound.name, used, max: self.limit(bound, &measured) })
        });
        let guarantees = guarantee::of(self.kernel.mode(), "").into_iter();
        let hooks = measured.hooks.iter().filter(|_| measured.runs_are_counted);
        let recorder = &self.line.recorder;
        let mut gauges = Gauges {
            version: env!("CARGO_PKG_VERSION"),
            mode: self.mode().to_owned(),
            started_unix_s: unix_seconds(self.started),
            generation: self.in_force.generation,
            agents: self.in_force.agents(),
            roles: self.in_force.roles(),
            followers: recorder.followers.len(),
            followers_cut: recorder.followers.cut(),
            unwritten: recorder.journal.as_ref().map_or(0, Journal::unwritten),
            journal: recorder.journal.as_ref().map(Journal::standing_of_journal),
            follower_lines_lost: recorder.followers.lines_lost(),
            processes,
            problems: self.rejected.as_ref().map_or(0, Vec::len),
            resident_bytes: host::resident_bytes(),
            kernel_bytes: measured.bytes(),
            ring: measured.ring.map(|ring| (ring.waiting_bytes, ring.size_bytes)),
            hooks: hooks
                .map(|hook| Hook {
                    name: hook.name.clone(),
                    runs: hook.runs,
                    seconds: Duration::from_nanos(hook.run_ns).as_secs_f64(),
                })
                .collect(),
            guarantees: guarantees
                .map(|g| Guarantee { rule: g.rule, way: g.way, guarantee: g.guarantee.word() })
                .collect(),
            bounds: bounds.collect(),
            submitted: counters.submitted,
            lost: counters.lost,
            named: counters.named,
            baselines: self.found_so_far(),
            sinks: self.sinks.iter().map(|(name, of)| sink(name, &self.sink_view(of))).collect(),
            ..Gauges::default()
        };
        for instance in self.line.lineage.instances() {
            *gauges.instances.entry(instance.agent.to_string()).or_default() += 1;
            gauges.tasks += instance.tasks;
        }
        gauges
    }
}

fn unix_seconds(time: std::time::SystemTime) -> f64 {
    time.duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// What the metrics have of it.
fn sink(name: &str, view: &SinkView) -> metrics::Sink {
    let &SinkView { up, sent, failures, filtered, missed, refused, waiting, .. } = view;
    metrics::Sink { name: name.to_owned(), up, sent, failures, filtered, missed, refused, waiting }
}
