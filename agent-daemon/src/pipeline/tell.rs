//! The daemon's own events: what it found, put in force, and noticed.

use agent_common::identity::Origin;
use tracing::warn;

use super::{Pipeline, host};
use crate::{
    event::{
        Event, Kind, Name, Subject,
        local::{self, Policy},
        word::{Evidence, ExecId, InstanceId, Word},
    },
    identity::discovery::Running,
    kernel::Adopted,
    record::journal::Journal,
};

impl Pipeline {
    /// Records what configuration is in force, or why the new one is not.
    pub fn tell_policy(&mut self, kind: Kind, trigger: &str, problems: Vec<Box<str>>) {
        match kind {
            Kind::PolicyRejected => self.line.recorder.metrics.policy_rejected += 1,
            _ => self.line.recorder.metrics.policy_changed += 1,
        }
        let policy = Policy {
            trigger: trigger.into(),
            generation: self.in_force.generation,
            agents: self.in_force.agents(),
            roles: self.in_force.roles(),
            problems,
        };
        self.line.tell_now(Event { kind, policy: Some(policy), ..Event::default() });
    }

    /// Records the daemon's start or end.
    pub fn tell_daemon(&mut self, kind: Kind) {
        let daemon = local::Daemon {
            version: env!("CARGO_PKG_VERSION").into(),
            mode: self.mode().into(),
            mode_reason: self.kernel.reason().into(),
            pid: std::process::id(),
            kernel: host::kernel_release().into(),
            agents: self.in_force.agents(),
            roles: self.in_force.roles(),
            took_over: match self.kernel.adopted() {
                Adopted::Nothing => "nothing",
                Adopted::Same => "same_build",
                Adopted::Other => "other_build",
            }
            .into(),
            instances: self.kernel.instances().map_or(0, |instances| instances.len()),
            unpinned: self.kernel.unpinned().into(),
            previous: self
                .line
                .recorder
                .journal
                .as_ref()
                .and_then(Journal::previous)
                .filter(|_| kind == Kind::DaemonStarted),
        };
        self.line.tell_now(Event { kind, daemon: Some(daemon), ..Event::default() });
    }

    /// Records the agents that were found running.
    pub fn tell_found(&mut self, found: &[Running]) {
        self.learn_instances();
        for running in found {
            let label = &running.seed.label;
            let Some(instance) = running.begins else { continue };
            let exe = running.exe.as_ref().map(|path| {
                let path = path.to_string_lossy();
                Name::from(self.line.masks.shapes(&path).as_deref().unwrap_or(&path))
            });
            let names = &self.line.names;
            let subject = Subject {
                origin: Word::from_raw(label.origin),
                evidence: Evidence(label.evidence),
                instance: InstanceId::some(label.instance),
                agent: Some(names.agent(instance.agent)),
                agent_state: names.agent_state(instance.agent),
                role: Some(names.role(instance.role)),
                exec_id: ExecId::some(label.exec_id),
                parent_exec_id: ExecId::some(label.parent_exec_id),
                uid: host::uid(running.pid),
                pid: running.pid,
                comm: running.comm.as_str().into(),
                exe,
                ..Subject::default()
            };
            self.line.tell_now(Event { kind: Kind::AgentFound, subject: Some(subject), ..Event::default() });
        }
    }

    pub(super) fn reap(&mut self) {
        let known: Vec<_> = self.line.lineage.instances().map(|i| (i.instance, i.clone())).collect();
        let ended = self.kernel.reap().unwrap_or_else(|error| {
            warn!(
                error = format!("{error:#}"),
                "instances that ran before the daemon cannot be looked after"
            );
            Vec::new()
        });
        for id in ended.into_iter().map(InstanceId) {
            let instance = known.iter().find(|(known, _)| *known == id).map(|(_, instance)| instance);
            let subject = Subject {
                origin: Origin::Agent.into(),
                instance: Some(id),
                agent: instance.map(|i| i.agent.clone()),
                role: instance.map(|i| i.role.clone()),
                pid: instance.map_or(0, |i| i.root_pid),
                exe: instance.and_then(|i| i.exe.clone()),
                ..Subject::default()
            };
            self.line.lineage.forget(id);
            self.line.tell_now(Event { kind: Kind::AgentEnded, subject: Some(subject), ..Event::default() });
        }
    }
}
