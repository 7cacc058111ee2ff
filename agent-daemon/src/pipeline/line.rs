//! One event's straight line: bytes → event → who and by which rule → recorded.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use super::{baselines::finding, content::Identifier, cut::Connection, host, react::Due};
use crate::{
    baseline::{Observation, watch::Watch},
    config::{Arguments, Record},
    event::{
        Event, Kind, Name,
        finding::Reference,
        handed_off,
        mask::Masks,
        word::{InstanceId, Time},
    },
    identity::{
        channel::Channels,
        lineage::{Lineage, Names},
    },
    kernel::hooks::{self, Head, Reading, Undecodable},
    record::{
        Recorder,
        scope::{self, Wanted},
    },
};

/// What the line needs: no kernel, no clock, so that recorded bytes give the same events again.
#[derive(Debug)]
pub struct Line {
    pub host: Host,
    pub record: Record,
    pub masks: Masks,
    pub names: Arc<Names>,
    pub lineage: Lineage,
    pub channels: Channels,
    /// What followed from the records of a batch, to be told behind it: a record is one line at most, so that who finds
    /// half a batch written knows which records the rest is.
    pub due: Vec<Event>,
    /// Connections of a batch whose first words were refused.
    pub refused: Vec<Connection>,
    /// What is due to instances because of what a batch has brought.
    pub reactions: BTreeMap<InstanceId, Due>,
    pub recorder: Recorder,
    /// What is usual for each role; `None` while it cannot be kept.
    pub watch: Option<Watch>,
    /// Finds out what programs are that agents execute.
    pub identifier: Option<Identifier>,
    /// Addresses of this host: a connect to them leads to somebody here.
    pub own_addresses: Vec<IpAddr>,
}

/// Which host, and which of its boots.
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub name: Name,
    pub boot_id: Name,
}

impl Line {
    /// Takes one record; `boot_offset_ns` leads from the record's clock to the time of day.
    pub fn take(&mut self, bytes: &[u8], boot_offset_ns: u64) {
        if let Err(Undecodable { reason }) = self.try_take(bytes, boot_offset_ns) {
            self.recorder.undecodable(reason);
        }
    }

    fn try_take(&mut self, bytes: &[u8], boot_offset_ns: u64) -> Result<(), Undecodable> {
        let head = Head::read(bytes)?;
        let wanted = scope::wanted(&self.record, head.layout, &head.header);
        if wanted == Wanted::No {
            self.recorder.metrics.received(head.kind, head.header.subject.origin);
            return Ok(());
        }
        let argv = match wanted {
            Wanted::Yes { argv } => argv,
            _ => Arguments::None,
        };
        let mut event = hooks::decode(&head, bytes, &Reading { boot_offset_ns, argv, masks: &self.masks })?;
        self.recorder.metrics.received(head.kind, head.header.subject.origin);
        if let Some(cgroup) = &mut event.new_cgroup
            && let Some(shown) = self.masks.shapes(&cgroup.path)
        {
            // What lies in it is told with its path.
            cgroup.path = shown.into();
        }
        self.lineage.learn(&event);
        self.lineage.attribute(&mut event, &self.names);
        self.recorder.metrics.judged(&event);
        self.trace_hand_off(&mut event);
        self.refused.extend(Connection::refused(&event));
        let channel = self.channels.observe(&event);
        if let (Some(subject), true) = (&event.subject, event.exit.is_some_and(|exit| exit.instance_ended)) {
            subject.instance.inspect(|ended| self.channels.forget(*ended));
        }
        match wanted {
            Wanted::Yes { .. } => self.tell(&mut event),
            Wanted::IfItTouchesAnAgent if event.touches_an_agent() => self.tell(&mut event),
            Wanted::IfItTouchesAnAgent | Wanted::ToLearn | Wanted::No => {}
        }
        if let Some(channel) = channel {
            let Event { time, subject, .. } = event;
            let channel = Some(Box::new(channel));
            self.due.push(Event { kind: Kind::DnsChannel, time, subject, channel, ..Event::default() });
        }
        Ok(())
    }

    fn trace_hand_off(&self, event: &mut Event) {
        let inside = event.subject.as_ref().is_some_and(|s| s.instance.is_some());
        let endpoint = event.network.as_ref().and_then(|n| n.address.zip(n.port));
        if let Some((address, port)) = endpoint.filter(|_| inside) {
            event.handed_off = handed_off::by_endpoint(address, port, &self.own_addresses).map(Name::from);
        }
    }

    /// Records what followed from a batch; call when the batch is written and given back.
    pub fn tell_due(&mut self) {
        for mut event in std::mem::take(&mut self.due) {
            self.tell(&mut event);
            self.recorder.flush();
        }
    }

    /// Records an event of the daemon's own at once, with the time of now.
    pub fn tell_now(&mut self, event: Event) {
        self.tell(&mut Event { time: Time::now(), ..event });
        self.recorder.flush();
    }

    /// Records an event of the daemon's own if it can be written now; whether it could.
    pub fn tell_if_written(&mut self, event: Event) -> bool {
        let (host, boot_id) = (self.host.name.clone(), self.host.boot_id.clone());
        self.recorder.append_if_written(&mut Event { time: Time::now(), host, boot_id, ..event })
    }

    fn tell(&mut self, event: &mut Event) {
        event.host = self.host.name.clone();
        event.boot_id = self.host.boot_id.clone();
        self.masks.names(event);
        if self.recorder.append(event) {
            self.watch(event);
        }
    }

    /// Compares an agent's act with what is usual for its role, and learns it.
    fn watch(&mut self, event: &Event) {
        let (Some(watch), Some(subject)) = (&mut self.watch, &event.subject) else { return };
        let Some(instance) = subject.instance else { return };
        if let (Kind::ProcessExec, Some(identifier)) = (event.kind, &mut self.identifier) {
            identifier.ask(event);
        }
        let of = Reference { time: event.time, seq: event.seq };
        for alert in watch.take(&Observation::from(event)) {
            self.due.push(finding(&alert, subject.clone(), of));
        }
        let reactions = self.names.reactions(subject.ids.role);
        if let (Some(severity), Some(reactions)) = (watch.worst(), reactions)
            && let Some(effect) = reactions.to(severity)
        {
            Due { effect, severity, subject: subject.clone(), of }.add(instance, &mut self.reactions);
        }
    }

    /// Reads the paths of all cgroups that there are.
    pub fn learn_cgroups(&mut self) {
        let (cgroups, masks) = (&mut self.lineage.cgroups, &self.masks);
        host::walk_cgroups(&mut |id, path| {
            cgroups.insert(id, masks.shapes(path).as_deref().unwrap_or(path));
        });
    }

    /// Forgets what is there no more and no event said so.
    pub fn forget(&mut self) {
        self.lineage.images.sweep(&host::pids().into_iter().collect());
        if self.lineage.cgroups.begin_sweep() {
            self.learn_cgroups();
            self.lineage.cgroups.end_sweep();
        }
    }
}
