//! What was learned about processes from their own events: program images, cgroups, instances. Pure: no I/O.

mod cgroups;
mod ids;
mod images;
pub mod names;
mod resolved;

use std::collections::BTreeMap;

use agent_common::{
    identity::{self, Recognised},
    verdict::{Source, Verdict},
};
use serde::{Deserialize, Serialize};

pub use self::{
    cgroups::{CGROUPS_MAX, Cgroup, Cgroups},
    images::{IMAGES_MAX, Image, Images},
    names::{NamedRule, Names},
    resolved::{RESOLVED_MAX, Resolved},
};
use crate::event::{
    Event, Kind, Name,
    word::{InstanceId, UNKNOWN, Word},
};

/// Processes as their events told of them.
#[derive(Debug, Default)]
pub struct Lineage {
    pub cgroups: Cgroups,
    pub images: Images,
    pub resolved: Resolved,
    /// Live instances by id.
    instances: BTreeMap<u64, Instance>,
}

/// One live instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    pub instance: InstanceId,
    pub agent: Name,
    pub role: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<InstanceId>,
    /// How it was recognised.
    pub recognised: Word<Recognised>,
    pub root_pid: u32,
    /// Live processes, where the kernel's own table was asked.
    #[serde(default)]
    pub tasks: u64,
    /// Events of this instance that were lost.
    #[serde(default)]
    pub lost: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<Name>,
    /// ns since boot.
    #[serde(default)]
    pub started_ns: u64,
}

impl Lineage {
    /// Takes in what an event says about processes; call before [`Lineage::attribute`].
    pub fn learn(&mut self, event: &Event) {
        let Some(subject) = &event.subject else { return };
        match event.kind {
            Kind::ProcessExec => {
                if let (Some(exe), Some(exec_id)) = (&subject.exe, subject.exec_id) {
                    let image = Image {
                        exe: exe.clone(),
                        script: subject.script.clone(),
                        pid: subject.pid,
                        agent: subject.instance.is_some(),
                    };
                    self.images.insert(exec_id.0, image);
                }
            }
            Kind::ProcessExit => {
                if let Some(exec_id) = subject.exec_id {
                    self.images.ended(exec_id.0, subject.pid);
                }
                if let (Some(id), true) = (subject.instance, event.exit.is_some_and(|e| e.instance_ended)) {
                    self.forget(id);
                }
            }
            Kind::DnsAnswer => {
                if let (Some(id), Some(dns)) = (subject.instance, &event.dns) {
                    for answer in &dns.answers {
                        self.resolved.insert(id, answer.address, &dns.name);
                    }
                }
            }
            Kind::CgroupCreated => {
                if let Some(new) = &event.new_cgroup {
                    self.cgroups.insert(new.id, &new.path);
                }
            }
            _ => {}
        }
    }

    /// Puts names to the numbers: agent, role, cgroup, container, executable, rule.
    pub fn attribute(&mut self, event: &mut Event, names: &Names) {
        let Some(subject) = &mut event.subject else { return };
        if subject.instance.is_some() || subject.ids.agent != 0 {
            subject.agent = Some(names.agent(subject.ids.agent));
            subject.agent_state = names.agent_state(subject.ids.agent);
            subject.role = Some(names.role(subject.ids.role));
        }
        let cgroup = self.cgroups.at(subject.ids.cgroup);
        subject.cgroup = Some(cgroup.map_or_else(|| names.unknown(), |c| c.path.clone()));
        subject.container = cgroup.and_then(|c| c.container.clone());
        subject.unit = cgroup.and_then(|c| c.unit.clone());
        if subject.exe.is_none()
            && let Some(image) = subject.exec_id.and_then(|id| self.images.of(id.0))
        {
            subject.exe = Some(image.exe.clone());
            subject.script.clone_from(&image.script);
        }
        let (role, instance) = (subject.ids.role, subject.instance);
        if let (Kind::ProcessExec, Some(id), Some(exec)) = (event.kind, instance, &event.exec)
            && let Some(recognised) = exec.recognised
        {
            let began = Instance {
                instance: id,
                agent: subject.agent.clone().unwrap_or_default(),
                role: subject.role.clone().unwrap_or_default(),
                parent: exec.parent_instance,
                recognised,
                root_pid: subject.pid,
                tasks: 1,
                lost: 0,
                exe: subject.script.clone().or_else(|| subject.exe.clone()),
                started_ns: 0,
            };
            if self.instances.len() < INSTANCES_MAX {
                self.instances.insert(id.0, began);
            }
        }
        if let (Some(id), Some(network)) = (instance, &mut event.network) {
            network.name = network.address.and_then(|address| self.resolved.name(id, address).cloned());
        }
        if let Some(decision) = &mut event.decision {
            decision.mode = names.mode(role);
            if let Some(rule) = &mut decision.rule {
                let known = names.rule(decision.ids.policy, decision.ids.rule);
                rule.text = known.map_or_else(|| names.unknown(), |known| known.text.clone());
                rule.source = known.map(|known| known.source.clone()).filter(|source| !source.is_empty());
                if known.is_some_and(|known| known.promoted) {
                    decision.source = Word::from(Source::Baseline);
                }
                if let Some(network) = &mut event.network {
                    let denied = event.verdict.and_then(|verdict| verdict.known()) == Some(Verdict::Deny);
                    network.unread = !denied
                        && network.protocol.as_deref() == Some("udp")
                        && known.is_some_and(|known| known.by_name);
                }
            }
        }
        if let Some(peer) = event.unix.as_mut().and_then(|u| u.peer.as_mut()) {
            let instance = peer.instance.and_then(|id| self.instances.get(&id.0));
            peer.agent = peer.instance.map(|_| instance.map_or_else(|| names.unknown(), |i| i.agent.clone()));
            peer.exe = peer.exec_id.and_then(|id| self.images.of(id.0)).map(|image| image.exe.clone());
        }
    }

    /// Replaces what is known of instances by the kernel's own table.
    pub fn take_instances(&mut self, table: &BTreeMap<u64, identity::Instance>, names: &Names) {
        let mut known = std::mem::take(&mut self.instances);
        for (id, raw) in table {
            let old = known.remove(id);
            let instance = Instance {
                instance: InstanceId(*id),
                agent: names.agent(raw.agent),
                role: names.role(raw.role),
                parent: InstanceId::some(raw.parent),
                recognised: Word::from_raw(raw.how),
                root_pid: raw.root_pid,
                tasks: raw.tasks,
                lost: raw.lost,
                // Its id is its first image's.
                exe: old.and_then(|i| i.exe).or_else(|| self.images.of(*id).map(Image::program)),
                started_ns: raw.started_ns,
            };
            self.instances.insert(*id, instance);
        }
    }

    /// Forgets an instance that has ended.
    pub fn forget(&mut self, instance: InstanceId) {
        self.instances.remove(&instance.0);
        self.resolved.forget(instance);
    }

    /// Live instances, oldest id first.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values()
    }

    /// The agent of an instance, or `unknown`.
    #[must_use]
    pub fn agent_of(&self, instance: u64) -> Option<&Name> {
        self.instances.get(&instance).map(|i| &i.agent).filter(|name| &***name != UNKNOWN)
    }
}

/// As many as the kernel keeps.
const INSTANCES_MAX: usize = agent_common::limits::INSTANCES_MAX as usize;

#[cfg(test)]
mod tests;
