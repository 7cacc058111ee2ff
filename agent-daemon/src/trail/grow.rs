//! The second pass: the tree of images and what each of them did, in order of time, what repeats folded.

use std::collections::{HashMap, HashSet, VecDeque};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    Found, Pass, Wanted,
    act::{names_a_key, refused, same},
    needles::{Needle, Needles},
};
use crate::event::{
    Event, Kind, Name, Subject,
    names::DnsAnswer,
    process::{Exit, Program},
    word::{ExecId, InstanceId, Time},
};

/// What is known of one subject.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Trail {
    /// What was asked for.
    pub wanted: String,
    /// Time of the first and of the last event.
    pub first: Time,
    pub last: Time,
    /// The instances it runs through, in the order in which they were met.
    pub instances: Vec<Instance>,
    /// The tree, in order of time; a node's parent stands before it.
    pub nodes: Vec<Node>,
    pub counts: Counts,
}

/// An instance of an agent.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Instance {
    pub id: InstanceId,
    pub boot_id: Name,
    pub host: Name,
    pub agent: Option<Name>,
    pub role: Option<Name>,
    /// The instance that started it.
    pub parent: Option<InstanceId>,
    /// When it began; absent where that is not recorded.
    pub began: Option<Time>,
    /// When its last process ended; absent where that is not recorded.
    pub ended: Option<Time>,
}

/// A program image, an act, a finding, or something that happened to the whole host meanwhile.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Node {
    /// Place in `nodes` of the image that did it, or that executed this one; of the act that was found.
    pub parent: Option<usize>,
    pub kind: NodeKind,
    /// The event; of those that repeat, the first. Of an image whose exec is not recorded, the first that tells of it.
    pub event: Event,
    /// How often it was seen: same image, same act, same target, same decision.
    pub count: u64,
    /// The last time.
    pub last: Time,
    /// Why it stands out.
    pub marks: Vec<Mark>,
    /// How the image's process ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Children that were born to the image and are recorded.
    #[serde(skip_serializing_if = "is_zero")]
    pub forks: u64,
    /// What a question was answered first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<DnsAnswer>,
    /// The answer's code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<Box<str>>,
    /// What the image's program is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<Box<Program>>,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A program image: from one exec to the next, or to the end of the process.
    Image,
    /// Something it did, or was done to it.
    Act,
    /// What was found of an act, or done about it.
    Finding,
    /// A change of policy or baseline, a start or an end of the daemon, lost events.
    Host,
}

/// Why a node stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// It is what was asked for.
    Wanted,
    /// It was refused, held or alerted.
    Refused,
    /// It differs from what is usual, with a severity of medium or more; or something was done about it.
    Finding,
    /// Work left the tree.
    HandedOff,
    /// Work entered the tree: somebody outside acted on it, or an instance began.
    Entered,
    /// Its arguments name a file that usually holds keys.
    Key,
    /// The record has a hole here, or what was allowed changed.
    Host,
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// Events that the tree holds.
    pub events: u64,
    pub images: u64,
    pub refused: u64,
    pub findings: u64,
    pub handed_off: u64,
    /// Events that were counted and not kept: the tree had its most nodes.
    pub beyond: u64,
    /// Instances that were not followed.
    pub instances_beyond: u64,
}

/// Makes the tree.
#[derive(Debug)]
pub struct Grower {
    wanted: Wanted,
    range: (Option<Time>, Option<Time>),
    needles: Needles,
    everything: bool,
    instances: HashSet<(Name, InstanceId)>,
    followed: HashSet<(Name, ExecId)>,
    images: HashMap<(Name, ExecId), usize>,
    acts: HashMap<Act, usize>,
    /// Where the latest events are, for the findings that name them.
    recent: VecDeque<(Name, u64, usize)>,
    trail: Trail,
}

/// What makes two acts the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Act(Option<usize>, Kind, String);

impl Grower {
    /// For what was found of the subject.
    #[must_use]
    pub fn new(wanted: &Wanted, found: Found, range: (Option<Time>, Option<Time>)) -> Self {
        let everything = *wanted == Wanted::Everything;
        let instances = found.instances.iter().map(|(_, id)| id.to_string());
        let images = found.images.iter().map(|(_, id)| id.to_string());
        let texts = instances.chain(images).map(Needle::Text).collect();
        let counts = Counts { instances_beyond: found.beyond, ..Counts::default() };
        Self {
            wanted: wanted.clone(),
            range,
            needles: if everything { Needles::default() } else { Needles::of(HOST, texts) },
            everything,
            instances: found.instances.into_iter().collect(),
            followed: found.images.into_iter().collect(),
            images: HashMap::new(),
            acts: HashMap::new(),
            recent: VecDeque::new(),
            trail: Trail { wanted: wanted.to_string(), counts, ..Trail::default() },
        }
    }

    /// The tree. What happened to the host before or after it is none of its story.
    #[must_use]
    pub fn trail(mut self) -> Trail {
        let of_it = |node: &&Node| node.kind != NodeKind::Host;
        let first = self.trail.nodes.iter().filter(of_it).map(|n| n.event.time).min().unwrap_or_default();
        let last = self.trail.nodes.iter().filter(of_it).map(|n| n.last).max().unwrap_or_default();
        (self.trail.first, self.trail.last) = (first, last);
        let within =
            |node: &Node| node.kind != NodeKind::Host || node.event.time >= first && node.event.time <= last;
        self.keep(within);
        self.trail
    }

    fn keep(&mut self, wanted: impl Fn(&Node) -> bool) {
        let mut moved = Vec::with_capacity(self.trail.nodes.len());
        let mut kept = Vec::new();
        for mut node in std::mem::take(&mut self.trail.nodes) {
            let stays = wanted(&node);
            moved.push(stays.then_some(kept.len()));
            if stays {
                node.parent = node.parent.and_then(|parent| moved[parent]);
                kept.push(node);
            }
        }
        self.trail.nodes = kept;
    }

    fn take(&mut self, event: Event) {
        let (since, until) = self.range;
        if since.is_some_and(|since| event.time < since) || until.is_some_and(|until| event.time > until) {
            return;
        }
        let Some(subject) = event.subject.clone() else { return self.host(event) };
        if !self.concerns(&event, &subject) {
            return;
        }
        self.trail.counts.events += 1;
        let boot = event.boot_id.clone();
        self.instance(&event, &subject);
        let image = self.image(&event, &subject);
        let place = match event.kind {
            Kind::ProcessExec | Kind::AgentFound => image,
            Kind::ProcessExit | Kind::AgentEnded => {
                if let Some(node) = image.and_then(|at| self.trail.nodes.get_mut(at)) {
                    node.last = event.time;
                    node.exit = event.exit.or(node.exit);
                }
                None
            }
            Kind::ProcessFork => {
                if let Some(node) = image.and_then(|at| self.trail.nodes.get_mut(at)) {
                    node.forks += 1;
                    node.last = node.last.max(event.time);
                }
                None
            }
            Kind::ProgramIdentified => {
                if let Some(node) = image.and_then(|at| self.trail.nodes.get_mut(at)) {
                    node.program = event.program;
                }
                return;
            }
            Kind::DnsAnswer if self.answer(&event, image) => return,
            Kind::Finding | Kind::Reaction => return self.finding(event, image),
            _ => self.act(event.clone(), image),
        };
        if let Some(place) = place {
            if self.recent.len() == RECENT_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back((boot, event.seq, place));
        }
    }

    /// Whether the event is of what is followed; what it started is followed too.
    fn concerns(&mut self, event: &Event, subject: &Subject) -> bool {
        if self.everything {
            return true;
        }
        let boot = &event.boot_id;
        let instance =
            |id: Option<InstanceId>| id.is_some_and(|id| self.instances.contains(&(boot.clone(), id)));
        let image = |id: Option<ExecId>| id.is_some_and(|id| self.followed.contains(&(boot.clone(), id)));
        if instance(subject.instance) || subject.instance.is_none() && image(subject.exec_id) {
            return true;
        }
        let started = event.exec.as_ref().is_some_and(|exec| instance(exec.parent_instance));
        if let (true, Some(id)) = (started || image(subject.parent_exec_id), subject.instance) {
            if self.instances.len() < super::find::FOLLOWED_MAX {
                self.instances.insert((boot.clone(), id));
                self.needles.add(id.to_string());
            } else {
                self.trail.counts.instances_beyond += 1;
            }
            return true;
        }
        if let (true, Some(id)) = (image(subject.parent_exec_id), subject.exec_id) {
            // Each of its images is named by its children as their parent: the tree is followed without end.
            if self.followed.len() < super::find::FOLLOWED_MAX {
                self.followed.insert((boot.clone(), id));
                self.needles.add(id.to_string());
            } else {
                self.trail.counts.instances_beyond += 1;
            }
            return true;
        }
        // Somebody else acts on it.
        event.unix.as_ref().and_then(|unix| unix.peer.as_ref()).is_some_and(|peer| instance(peer.instance))
    }

    fn instance(&mut self, event: &Event, subject: &Subject) {
        let Some(id) = subject.instance else { return };
        let same = |known: &&mut Instance| known.id == id && known.boot_id == event.boot_id;
        let began = event.exec.as_ref().is_some_and(|exec| exec.recognised.is_some());
        let ended = event.kind == Kind::AgentEnded || event.exit.is_some_and(|exit| exit.instance_ended);
        let at = match self.trail.instances.iter_mut().rev().find(same) {
            Some(known) => known,
            None => {
                if self.trail.instances.len() >= INSTANCES_MAX {
                    return;
                }
                self.trail.instances.push(Instance {
                    id,
                    boot_id: event.boot_id.clone(),
                    host: event.host.clone(),
                    agent: subject.agent.clone(),
                    role: subject.role.clone(),
                    parent: event.exec.as_ref().and_then(|exec| exec.parent_instance),
                    began: None,
                    ended: None,
                });
                let last = self.trail.instances.len() - 1;
                &mut self.trail.instances[last]
            }
        };
        if began && at.began.is_none() {
            at.began = Some(event.time);
        }
        if ended {
            at.ended = Some(event.time);
        }
    }

    /// The image that acts; made where it is met first.
    fn image(&mut self, event: &Event, subject: &Subject) -> Option<usize> {
        let id = subject.exec_id?;
        let key = (event.boot_id.clone(), id);
        if let Some(at) = self.images.get(&key) {
            return Some(*at);
        }
        let above = subject.parent_exec_id.map(|parent| (event.boot_id.clone(), parent));
        let mut parent = above.and_then(|above| self.images.get(&above).copied());
        // A process that executes one program after another is one line of images, not a tree of them.
        while let Some(node) = parent.map(|at| &self.trail.nodes[at]) {
            let same_process = node.event.subject.as_ref().is_some_and(|s| s.pid == subject.pid);
            match (same_process, node.parent) {
                (true, Some(above)) => parent = Some(above),
                _ => break,
            }
        }
        let exec = event.kind == Kind::ProcessExec;
        let shown = if exec { event.clone() } else { unrecorded(event, subject) };
        let mut marks = self.marks(&shown);
        if exec && event.exec.as_ref().is_some_and(|exec| exec.recognised.is_some()) && parent.is_some() {
            marks.push(Mark::Entered);
        }
        // One that finds no room is met again with each act of it, which is counted by itself.
        if !exec && !self.has_room(&marks) {
            return None;
        }
        self.trail.counts.images += 1;
        let at = self.push(NodeKind::Image, shown, parent, marks)?;
        self.images.insert(key, at);
        Some(at)
    }

    fn act(&mut self, event: Event, image: Option<usize>) -> Option<usize> {
        let key = Act(image, event.kind, same(&event));
        if let Some(at) = self.acts.get(&key).copied() {
            let node = &mut self.trail.nodes[at];
            node.count += 1;
            node.last = event.time;
            self.count(&event);
            return Some(at);
        }
        let mut marks = self.marks(&event);
        let peer = event.unix.as_ref().and_then(|unix| unix.peer.as_ref()).and_then(|peer| peer.instance);
        let own = event.subject.as_ref().and_then(|s| s.instance);
        if peer.is_some() && peer != own {
            marks.push(Mark::Entered);
        }
        self.count(&event);
        let at = self.push(NodeKind::Act, event, image, marks)?;
        self.acts.insert(key, at);
        Some(at)
    }

    fn count(&mut self, event: &Event) {
        self.trail.counts.refused += u64::from(refused(event));
    }

    /// An answer to a question that is there.
    fn answer(&mut self, event: &Event, image: Option<usize>) -> bool {
        let Some(dns) = &event.dns else { return false };
        let asked = self.recent.iter().rev().take(ANSWER_WITHIN).find(|(boot, _, at)| {
            let node = &self.trail.nodes[*at];
            let question = node.event.dns.as_ref().filter(|_| node.event.kind == Kind::DnsQuery);
            *boot == event.boot_id
                && node.parent == image
                && question.is_some_and(|q| q.name == dns.name && q.kind == dns.kind)
        });
        let Some(at) = asked.map(|(_, _, at)| *at) else { return false };
        let node = &mut self.trail.nodes[at];
        if node.code.is_none() {
            node.code.clone_from(&dns.code);
            node.answers.clone_from(&dns.answers);
        }
        true
    }

    fn finding(&mut self, event: Event, image: Option<usize>) {
        let of = event.finding.as_ref().map(|f| f.of).or(event.reaction.as_ref().map(|r| r.of));
        let act = of.and_then(|of| {
            let found = |(boot, seq, _): &&(Name, u64, usize)| *boot == event.boot_id && *seq == of.seq;
            self.recent.iter().rev().find(found).map(|(_, _, at)| *at)
        });
        let parent = act.or(image);
        self.trail.counts.findings += u64::from(event.kind == Kind::Finding);
        let what = event.finding.as_ref().map(|f| format!("{} {}", f.what, f.behaviour));
        let key = Act(parent, event.kind, what.unwrap_or_else(|| event.seq.to_string()));
        if let Some(at) = self.acts.get(&key).copied() {
            let wanted = self.wanted.is(&event);
            let node = &mut self.trail.nodes[at];
            node.last = event.time;
            node.event.finding = event.finding;
            if wanted && !node.marks.contains(&Mark::Wanted) {
                node.marks.push(Mark::Wanted);
            }
            return;
        }
        let severe = event.finding.as_ref().is_none_or(|f| !matches!(&*f.severity, "info" | "low"));
        let mut marks = if severe { vec![Mark::Finding] } else { Vec::new() };
        if self.wanted.is(&event) {
            marks.push(Mark::Wanted);
        }
        if let Some(at) = self.push(NodeKind::Finding, event, parent, marks) {
            self.acts.insert(key, at);
        }
    }

    fn host(&mut self, event: Event) {
        let role = event.baseline.as_ref().and_then(|change| change.role.clone());
        let ours = role.is_none_or(|role| {
            self.everything || self.trail.instances.iter().any(|i| i.role.as_ref() == Some(&role))
        });
        let told = matches!(
            event.kind,
            Kind::BaselineChanged
                | Kind::PolicyChanged
                | Kind::PolicyRejected
                | Kind::EventsLost
                | Kind::DaemonStarted
                | Kind::DaemonStopped
                | Kind::GuaranteeChanged
                | Kind::SegmentsRemoved
        ) || event.journal.as_ref().is_some_and(|opened| {
            // The journal is opened now and then; it matters where something is not there.
            opened.missing.is_some() || opened.torn_bytes > 0 || opened.broken_at.is_some()
        });
        if !told || !ours {
            return;
        }
        // Below the first image, so that it stands in its place in time.
        let root = self.trail.nodes.iter().position(|node| node.kind == NodeKind::Image);
        let hosts = self.trail.nodes.iter().filter(|node| node.kind == NodeKind::Host).count();
        if hosts < HOST_MAX {
            self.push(NodeKind::Host, event, root, vec![Mark::Host]);
        } else {
            self.trail.counts.beyond += 1;
        }
    }

    fn marks(&mut self, event: &Event) -> Vec<Mark> {
        let mut marks = Vec::new();
        if self.wanted.is(event) {
            marks.push(Mark::Wanted);
        }
        if refused(event) {
            marks.push(Mark::Refused);
        }
        if event.handed_off.is_some() {
            marks.push(Mark::HandedOff);
            self.trail.counts.handed_off += 1;
        }
        if event.exec.as_ref().is_some_and(|exec| exec.argv.iter().any(|arg| names_a_key(arg))) {
            marks.push(Mark::Key);
        }
        marks
    }

    fn has_room(&self, marks: &[Mark]) -> bool {
        self.trail.nodes.len() < if marks.is_empty() { NODES_MAX } else { NODES_MAX + MARKED_MAX }
    }

    fn push(
        &mut self,
        kind: NodeKind,
        event: Event,
        parent: Option<usize>,
        marks: Vec<Mark>,
    ) -> Option<usize> {
        if !self.has_room(&marks) {
            self.trail.counts.beyond += 1;
            return None;
        }
        let last = event.time;
        self.trail.nodes.push(Node {
            parent,
            kind,
            event,
            count: 1,
            last,
            marks,
            exit: None,
            forks: 0,
            answers: Vec::new(),
            code: None,
            program: None,
        });
        Some(self.trail.nodes.len() - 1)
    }
}

impl Pass for Grower {
    fn next(&self, block: &[u8]) -> Option<usize> {
        self.needles.next(block)
    }

    fn line(&mut self, line: &[u8]) {
        if let Ok(event) = Event::read_line(line) {
            self.take(event);
        }
    }
}

/// An image of which only an act is recorded.
fn unrecorded(event: &Event, subject: &Subject) -> Event {
    Event {
        time: event.time,
        seq: event.seq,
        kind: if event.kind == Kind::AgentFound { Kind::AgentFound } else { Kind::Unknown },
        host: event.host.clone(),
        boot_id: event.boot_id.clone(),
        subject: Some(subject.clone()),
        ..Event::default()
    }
}

/// Kinds of events that concern every tree.
const HOST: &[&str] = &[
    "baseline_changed",
    "policy_changed",
    "policy_rejected",
    "events_lost",
    "daemon_started",
    "daemon_stopped",
    "guarantee_changed",
    "journal_opened",
    "segments_removed",
];

/// Nodes kept, each of about two kilobytes; and so many more of those that stand out.
pub const NODES_MAX: usize = 20_000;
pub const MARKED_MAX: usize = 20_000;
/// Nodes of the host among them.
const HOST_MAX: usize = 2_000;
const INSTANCES_MAX: usize = 4_096;
/// Events looked through for the one that a finding names.
const RECENT_MAX: usize = 4_096;
/// Events looked through for the question of an answer.
const ANSWER_WITHIN: usize = 256;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}
