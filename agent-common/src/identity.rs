//! Who a task is: the label every task carries, and the tables a label points into.

use bytemuck::{Pod, Zeroable};

vocabulary! {
    /// Whose doing a process is.
    pub enum Origin {
        /// Not decided: seen only while the tasks that ran before the daemon are being labelled.
        Unknown = 0 => "unknown",
        /// Descends from an agent instance.
        Agent = 1 => "agent",
        /// An interactive login or terminal outside every instance.
        Human = 2 => "human",
        /// All else.
        System = 3 => "system",
    }
}

vocabulary! {
    /// How an instance came to be recognised.
    pub enum Recognised {
        /// It was not: inherited from the parent.
        No = 0 => "inherited",
        /// The executable file, by device, inode and generation, or by path in the host's mount namespace.
        Exe = 1 => "exe",
        /// The `#!` script file.
        Script = 2 => "script",
        /// The cgroup: a systemd unit or a container.
        Cgroup = 3 => "cgroup",
        /// `chaperone run --agent NAME`.
        Run = 4 => "run",
        /// It ran before the daemon and was matched from /proc.
        Seed = 5 => "seed",
    }
}

/// Why a task has the origin it has; bits of [`Label::evidence`]. Evidence is inherited along with the origin.
pub mod evidence {
    /// Descends from a recognised agent.
    pub const LINEAGE: u16 = 1 << 0;
    /// Has, or descends from a process that had, a controlling terminal.
    pub const TERMINAL: u16 = 1 << 1;
    /// The audit login uid is set (audit_set_loginuid; set once per login by pam_loginuid).
    pub const LOGINUID: u16 = 1 << 2;
    /// Runs in a login session's cgroup (`session-N.scope` of systemd-logind).
    pub const SESSION: u16 = 1 << 3;
    /// Judged from /proc because it ran before the daemon.
    pub const SEEDED: u16 = 1 << 4;
    /// Entered an agent's container from outside (`docker exec`, `nsenter`).
    pub const ENTERED: u16 = 1 << 5;
    /// The label was missing and was taken from the thread group leader or the parent.
    pub const REPAIRED: u16 = 1 << 6;

    /// Runs its agent's own program, and not one that the agent has started. Not evidence: kept here because a label
    /// has no other room, and told to nobody.
    pub const PROGRAM: u16 = 1 << 15;
    /// The task has ended and left its instance. Not evidence either.
    pub const LEFT: u16 = 1 << 14;

    /// Bits with their names in events.
    pub const NAMES: &[(u16, &str)] = &[
        (LINEAGE, "lineage"),
        (TERMINAL, "terminal"),
        (LOGINUID, "loginuid"),
        (SESSION, "login_session"),
        (SEEDED, "seeded"),
        (ENTERED, "entered_container"),
        (REPAIRED, "repaired"),
    ];
}

/// What task storage holds for every task. Copied in tp_btf/task_newtask, rewritten only by an exec of that task.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Label {
    /// The instance it belongs to; 0 outside every instance.
    pub instance: u64,
    /// The program image it runs, unique on this host until reboot: CPU in the high 16 bits, a count below.
    pub exec_id: u64,
    /// The image that executed this one: the same process's earlier image, or its forker's.
    pub parent_exec_id: u64,
    /// The agent of `instance`, kept here so that a full instance table cannot mean "not enforced".
    pub agent: u32,
    /// The role of `agent` when the label was given.
    pub role: u32,
    /// Agent recognised by the exec under way, 0 for none; written by bprm_check_security, used at commit.
    pub pending_agent: u32,
    /// Its role.
    pub pending_role: u32,
    /// Which entry of the agent's `match` list recognised it.
    pub pending_entry: u16,
    /// [`Recognised`], raw.
    pub pending_how: u8,
    /// [`Origin`], raw.
    pub origin: u8,
    /// Bits of [`evidence`].
    pub evidence: u16,
    /// Its [`match_flags`].
    pub pending_flags: u8,
    /// Which exec was committed last, by `task_struct.self_exec_id`; 0 for none. While one build takes over from
    /// another, both run, and the second leaves alone what the first has done. One byte is enough to tell an exec from the
    /// one before it, and eight bytes more would be too many: two frames of the verifier's stack hold a label.
    pub execs: u8,
    /// Of the thread group leader's label only. From [`THREADS`] on: that, and how many threads the process has beside
    /// one. Below, for a process that nobody saw begin: not 0 once a thread was told that it is the last.
    pub threads: u64,
}
const _: () = assert!(size_of::<Label>() == 56);

/// Where [`Label::threads`] of a process whose threads are all counted begins.
pub const THREADS: u64 = 1 << 32;

/// One live instance: what a label's `instance` points to. Changing `state` or `role` is in force for the whole
/// tree at its next system call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Instance {
    /// The instance that started it, 0 for none.
    pub parent: u64,
    /// The first instance of its tree, itself where none has started it: a tree holds one share of the ring buffer.
    pub root: u64,
    /// Start of its first image, ns since boot (CLOCK_BOOTTIME).
    pub started_ns: u64,
    /// Live processes that carry its id. At 0 the kernel side removes the entry.
    pub tasks: u64,
    /// Events of this instance that found no room in the ring buffer.
    pub lost: u64,
    pub share: Share,
    pub agent: u32,
    pub role: u32,
    /// Thread group id of its first process, in the initial pid namespace.
    pub root_pid: u32,
    /// Reserved for quarantine and life-cycle states; 0 is running.
    pub state: u32,
    /// Which entry of the agent's `match` list began it.
    pub entry: u16,
    /// [`Recognised`], raw.
    pub how: u8,
    pub _pad: [u8; 5],
}
const _: () = assert!(size_of::<Instance>() == 96);

/// How much of the ring buffer one instance holds: what it has handed over and nobody has read yet. Counted in windows,
/// so that reading need not be told: when the reader has passed where a window began, all before it is read.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Share {
    /// The ring buffer's producer position when the present window began.
    pub began: u64,
    /// Bytes handed over since.
    pub used: u64,
    /// Bytes handed over in the window before it.
    pub before: u64,
    /// The producer position behind the last of them.
    pub last: u64,
}

impl Share {
    /// Nothing handed over.
    pub const NONE: Self = Self { began: 0, used: 0, before: 0, last: 0 };
}

/// A file, as the kernel names it: `inode.i_sb.s_dev`, `i_ino`, `i_generation`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FileKey {
    pub ino: u64,
    /// The kernel's own encoding: major << 20 | minor.
    pub dev: u32,
    /// Tells apart files that had the same number one after the other. 0 in the keys of `FILES`, where
    /// [`Match::generation`] is compared instead, since not every file system shows it to user space.
    pub generation: u32,
}
const _: () = assert!(size_of::<FileKey>() == 16);

/// The agent that a file, path, cgroup or run request stands for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Match {
    pub agent: u32,
    pub role: u32,
    /// Which entry of the agent's `match` list.
    pub entry: u16,
    /// Bits of [`match_flags`].
    pub flags: u16,
    /// The file's `i_generation`, which guards against a reused inode number; 0 where user space cannot read it.
    pub generation: u32,
}
const _: () = assert!(size_of::<Match>() == 16);

/// A live cgroup that is an agent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct CgroupAgent {
    pub found: Match,
    /// The instance that began in a container; who enters while it lives is not the agent.
    pub instance: u64,
}

/// Who bound or listens on a unix socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Owner {
    pub instance: u64,
    pub exec_id: u64,
    pub pid: u32,
    pub origin: u32,
}

/// A whole path that is an agent, zero padded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct PathKey(pub [u8; crate::limits::PATH_KEY_BYTES]);

impl PathKey {
    /// Bytes of the longest path that has a key.
    pub const LONGEST: usize = crate::limits::PATH_KEY_BYTES - 2;

    /// The key of a path; `None` for one that is too long.
    #[must_use]
    pub fn of(path: &[u8]) -> Option<Self> {
        let mut key = [0; crate::limits::PATH_KEY_BYTES];
        (path.len() <= Self::LONGEST).then(|| key[..path.len()].copy_from_slice(path))?;
        Some(Self(key))
    }
}

/// Bits of [`Match::flags`].
pub mod match_flags {
    /// A container: only the lineage that began in it is the agent; who enters later is not.
    pub const CONTAINER: u16 = 1 << 0;
    /// A login program (agetty, login, sshd): its terminal is not yet a person's.
    pub const LOGIN_PROGRAM: u16 = 1 << 1;
    /// The end of a path alone: anyone can make such a file, so it never takes a task out of an instance that has
    /// another role.
    pub const PATTERN: u16 = 1 << 2;
}

/// The built-in role of agents that have none: observe, everything allowed.
pub const UNREGISTERED: &str = "unregistered";
/// Its number.
pub const UNREGISTERED_ROLE: u32 = name_id(UNREGISTERED);

/// A file name, cut to the part the kernel compares before it walks a path; zero padded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct Basename(pub [u8; crate::limits::BASENAME_BYTES]);

/// A step from the end of a path towards its root: in this state, a component of this name. State 0 is the file's own
/// name; the others are numbers of what is still to come. `*` stands for every name that has no step of its own.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct SuffixKey {
    pub state: u32,
    /// Zero padded. A longer name is no name of a step, and `*` alone.
    pub name: [u8; crate::limits::SUFFIX_NAME_BYTES],
}
const _: () = assert!(size_of::<SuffixKey>() == 4 + crate::limits::SUFFIX_NAME_BYTES);

impl SuffixKey {
    /// The name of a step for all others.
    pub const ANY: u8 = b'*';
    /// The state after a file's name that has no step of its own. No step of it is for `*`, so that one look-up tells
    /// whether such a file is worth a walk.
    pub const AFTER_ANY_NAME: u32 = 1;
}

/// Where a step leads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SuffixStep {
    /// The agent that a path which ends in the steps so far is; `agent` is 0 for none yet.
    pub found: Match,
    /// The next state; 0 when no longer end is known.
    pub next: u32,
    /// Whether the next state has a step for `*`.
    pub any: u32,
}
const _: () = assert!(size_of::<SuffixStep>() == 24);

/// A cgroup's own name, such as `invoice-bot.service`; zero padded.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct CgroupName(pub [u8; crate::limits::CGROUP_NAME_BYTES]);

/// The label of a process that ran before the daemon, until it acts and takes it up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Seed {
    pub label: Label,
    /// `task_struct.start_boottime` in clock ticks of 10 ms as /proc/PID/stat gives it: guards against pid reuse.
    pub start_ticks: u64,
}
const _: () = assert!(size_of::<Seed>() == 64);

/// The stable number of an agent or role: FNV-1a of its name, never 0. Stable over restarts, so that pinned maps
/// and a new daemon agree; two names with one number are a configuration error.
#[must_use]
pub const fn name_id(name: &str) -> u32 {
    let hash = hash_bytes(name.as_bytes());
    let folded = (hash ^ (hash >> 32)) as u32;
    if folded == 0 { 1 } else { folded }
}

/// Starting value of [`hash_step`].
pub const HASH_START: u64 = 0xcbf2_9ce4_8422_2325;

/// One step of 64-bit FNV-1a: what the kernel side runs over paths and argv too.
#[must_use]
#[inline(always)]
pub const fn hash_step(hash: u64, byte: u8) -> u64 {
    (hash ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3)
}

/// 64-bit FNV-1a of a byte string.
#[must_use]
pub const fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = HASH_START;
    let mut i = 0;
    while i < bytes.len() {
        hash = hash_step(hash, bytes[i]);
        i += 1;
    }
    hash
}
