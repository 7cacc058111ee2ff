//! What every event begins with; one module per hook family holds the rest.

pub mod names;
pub mod net;
pub mod process;
pub mod spoken;

use bytemuck::{Pod, Zeroable};

vocabulary! {
    /// The kind of an event. Ranges: 1–15 process, 16–31 net, 32–47 names, 48–63 file, 64–79 privilege.
    pub enum Kind {
        Exec = 1 => "process_exec",
        Exit = 2 => "process_exit",
        Fork = 3 => "process_fork",
        Cgroup = 4 => "cgroup_created",
        Net = 16 => "net",
        Unix = 17 => "unix",
        Question = 32 => "dns_query",
        Answer = 33 => "dns_answer",
        Spoken = 36 => "spoken",
    }
}

vocabulary! {
    /// What the kernel side counts besides events; slots of `COUNTERS`.
    pub enum Counter {
        /// Tasks born with a label.
        Labelled = 0 => "births_labelled",
        /// Tasks born of a task that had no label: only before everything that ran earlier is labelled.
        BornUnlabelled = 1 => "births_unlabelled",
        /// Task storage could not be had for a newborn; it takes its parent's label when it first acts.
        LabelFailed = 2 => "label_allocation_failed",
        /// Labels taken from a thread group leader, a parent or a seed because there was none.
        LabelRepaired = 3 => "labels_repaired",
        /// Acts of a task that has no label and none to take.
        ActedUnlabelled = 4 => "acts_unlabelled",
        /// Instances that found the table full and are enforced by their label's agent and role alone.
        InstanceTableFull = 5 => "instance_table_full",
        /// Instances begun.
        InstancesStarted = 6 => "instances_started",
        /// Instances whose last task ended.
        InstancesEnded = 7 => "instances_ended",
        /// Verdicts given to agents.
        Verdicts = 8 => "verdicts",
        /// Verdicts that refused.
        Refused = 9 => "refused",
        /// Acts of agents under a role that has no policy in force: refused.
        NoPolicy = 10 => "no_policy",
        /// Tasks that cgroup mode could not note: an agent's process is killed, a person's connects are not recorded.
        TaskTableFull = 11 => "task_table_full",
        /// Tasks that ended.
        TasksEnded = 12 => "tasks_ended",
        /// Events that were lost because their instance holds its share of the ring buffer, while there was room for
        /// others; counted among the lost of their kind too.
        OverShare = 13 => "events_over_share",
        /// Live cgroups of agents that found the table full and are known by their own name alone.
        CgroupTableFull = 14 => "cgroup_table_full",
        /// Times that all work areas of a CPU were in use by programs that were preempted.
        WorkAreasBusy = 15 => "work_areas_busy",
        /// DNS answers that were believed.
        NamesBelieved = 16 => "name_answers_believed",
        /// DNS answers of a server that the network namespace is not configured for.
        NamesUnconfigured = 17 => "name_answers_unconfigured",
        /// DNS answers to what nobody asked, or asked too long ago.
        NamesUnasked = 18 => "name_answers_unasked",
        /// DNS answers whose question is another than was asked with this id.
        NamesOtherQuestion = 19 => "name_answers_other_question",
        /// DNS answers that came by another device than their question left by.
        NamesOtherDevice = 20 => "name_answers_other_device",
        /// DNS answers that an agent sent.
        NamesByAgent = 21 => "name_answers_by_agent",
        /// DNS answers that were not sent through a UDP socket of the port they claim.
        NamesForged = 22 => "name_answers_forged",
        /// DNS answers that are malformed, or longer than is read.
        NamesMalformed = 23 => "name_answers_malformed",
        /// DNS answers that their server has cut.
        NamesTruncated = 24 => "name_answers_truncated",
        /// DNS answers that say that there is nothing, or that the server failed.
        NamesFailed = 25 => "name_answers_failed",
        /// Addresses of believed answers beyond those that one answer may give.
        NamesAddressesCut = 26 => "name_addresses_cut",
        /// Addresses for which the table had no room.
        NamesAddressesFull = 27 => "name_addresses_full",
        /// Addresses that carry too many names at a time to take one more.
        NamesGroupsFull = 28 => "name_groups_full",
        /// Patterns beyond those that one name may meet.
        NamesPatternsCut = 29 => "name_patterns_cut",
        /// Packets of port 53 that found no work area.
        NamesBusy = 30 => "name_work_areas_busy",
        /// DNS answers over TCP of a server on this host, in cgroup mode: whether it is an agent's cannot be known.
        NamesUnattested = 31 => "name_answers_unattested",
        /// Connections that said a name which their role allows.
        SpokenMet = 40 => "spoken_met",
        /// Connections that said another name, none, or one that cannot be read.
        SpokenUnmet = 41 => "spoken_unmet",
        /// Connections whose ClientHello carries an encrypted one, beside a name that the role allows.
        SpokenEch = 42 => "spoken_ech",
        /// Connections that speak neither TLS nor HTTP.
        SpokenOther = 43 => "spoken_other",
        /// Segments with bytes that were not let out, retransmissions included.
        SpokenDropped = 44 => "spoken_segments_dropped",
        /// Connects that were refused since there was no room to await what they say.
        SpokenUnnoted = 45 => "spoken_unnoted",
    }
}

/// Slots of `COUNTERS`.
pub const COUNTERS: u32 = 48;

/// What is recorded of an origin: bits of a `RECORD` slot (the index is the raw `Origin`).
pub mod record {
    pub const EXEC: u32 = 1 << 0;
    pub const ARGV: u32 = 1 << 1;
    pub const EXIT: u32 = 1 << 2;
    pub const FORK: u32 = 1 << 3;
    pub const NET: u32 = 1 << 4;
}

/// Slots of the per-kind counters (`Kind` raw numbers are the index).
pub const KINDS: u32 = 80;

/// Who acts: filled by the kernel side's `subject` for every event.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Subject {
    pub instance: u64,
    pub exec_id: u64,
    pub parent_exec_id: u64,
    /// Id of the cgroup (v2), at the time of the event; 0 when unknown.
    pub cgroup_id: u64,
    /// Process and thread id in the initial pid namespace.
    pub pid: u32,
    pub tid: u32,
    pub uid: u32,
    /// `task_struct.loginuid`; `u32::MAX` for none.
    pub loginuid: u32,
    pub agent: u32,
    pub role: u32,
    /// Bits of [`crate::identity::evidence`].
    pub evidence: u16,
    /// [`crate::identity::Origin`], raw.
    pub origin: u8,
    pub _pad: u8,
    pub _pad2: u32,
    /// `task_struct.comm`, NUL padded.
    pub comm: [u8; 16],
}
const _: () = assert!(size_of::<Subject>() == 80);

/// The head of every event; the decoder reads this first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Header {
    /// [`Kind`], raw.
    pub kind: u8,
    /// Layout of the rest; a decoder that does not know it counts the event as undecodable.
    pub version: u8,
    pub _pad: u16,
    /// Bytes of the whole event, header included.
    pub bytes: u32,
    /// CLOCK_BOOTTIME.
    pub time_ns: u64,
    pub subject: Subject,
}
const _: () = assert!(size_of::<Header>() == 96);

/// The layout this build writes and reads.
pub const VERSION: u8 = 1;

/// A string of varying length that follows an event's fixed part.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Text {
    /// FNV-1a of the whole, also of what was cut. 0 when `text_flags::UNHASHED`.
    pub hash: u64,
    /// Bytes of the whole.
    pub full_bytes: u32,
    /// Bytes that follow in the event; texts stand one behind the other in the order of their fields.
    pub kept_bytes: u16,
    /// Bits of [`text_flags`].
    pub flags: u16,
}
const _: () = assert!(size_of::<Text>() == 16);

/// Bits of [`Text::flags`].
pub mod text_flags {
    /// `kept_bytes` is less than the whole.
    pub const TRUNCATED: u16 = 1 << 0;
    /// Part of it could not be read (paged out, or changed meanwhile): nothing may be matched on it.
    pub const UNREADABLE: u16 = 1 << 1;
    /// `hash` does not cover the whole.
    pub const UNHASHED: u16 = 1 << 2;
    /// The path's file was unlinked.
    pub const DELETED: u16 = 1 << 3;
    /// What is kept is the end of the path, not its beginning.
    pub const TAIL: u16 = 1 << 4;
}
