//! Every map: what it holds, who writes it, its bound.
//!
//! Policy and identity tables are written by the daemon's `kernel/tables.rs` only; labels, instances and counters by
//! these programs only. Names are the pin names, so they are part of the upgrade contract.

use core::ffi::c_void;

use agent_common::{
    event::{COUNTERS as COUNTER_SLOTS, KINDS, Subject, spoken::Conversation},
    identity::{
        Basename, CgroupAgent, CgroupName, FileKey, Instance, Label, Match, Owner, PathKey, Seed, Share,
        SuffixKey, SuffixStep,
    },
    limits,
    name::{AddressKey, Known, NameKey, NameRuleKey, Question, QuestionKey},
    progress::Progress,
    rule::{ExactKey, Policy, PrefixKey, Rule, SocketKey, UnixKey},
};
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, bpf_map_type},
    macros::map,
    maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, RingBuf},
};

use crate::{
    emit::{SCRATCHES, Scratch},
    hooks::names::work::{WORKS, Work},
};

/// A storage map (task or socket), as BTF describes it; aya-ebpf has no wrapper for the former.
#[repr(C)]
pub struct Storage<T, const TYPE: usize> {
    r#type: *const [i32; TYPE],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC as usize],
}

// SAFETY: the fields are placeholders for the loader and never dereferenced.
unsafe impl<T, const TYPE: usize> Sync for Storage<T, TYPE> {}

impl<T, const TYPE: usize> Storage<T, TYPE> {
    const fn new() -> Self {
        use core::ptr::null;
        Self { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }

    pub fn as_ptr(&self) -> *mut c_void {
        (&raw const *self).cast_mut().cast()
    }
}

type TaskStorage<T> = Storage<T, { bpf_map_type::BPF_MAP_TYPE_TASK_STORAGE as usize }>;
type SkStorage<T> = Storage<T, { bpf_map_type::BPF_MAP_TYPE_SK_STORAGE as usize }>;

/// The label of every task.
#[unsafe(link_section = ".maps")]
#[unsafe(no_mangle)]
pub static LABELS: TaskStorage<Label> = Storage::new();

/// Who bound or listens on a unix socket.
#[unsafe(link_section = ".maps")]
#[unsafe(no_mangle)]
pub static OWNERS: SkStorage<Owner> = Storage::new();

/// The last target a socket was allowed to send to, so that a stream of datagrams is told once.
#[unsafe(link_section = ".maps")]
#[unsafe(no_mangle)]
pub static FLOWS: SkStorage<u64> = Storage::new();

/// Sockets of port 53 that an agent has sent or connected with: what they answer is not believed.
#[unsafe(link_section = ".maps")]
#[unsafe(no_mangle)]
pub static AGENT_SERVERS: SkStorage<u64> = Storage::new();

/// Sockets through which an agent asks resolvers, with who last did.
#[unsafe(link_section = ".maps")]
#[unsafe(no_mangle)]
pub static ASKERS: SkStorage<Subject> = Storage::new();
/// Connections that a rule allowed by name, and what they have said so far.
#[unsafe(link_section = ".maps")]
#[unsafe(no_mangle)]
pub static SPOKEN: SkStorage<Conversation> = Storage::new();

/// Live instances. Written here; the daemon adds those that ran before it.
#[map]
pub static INSTANCES: HashMap<u64, Instance> = HashMap::with_max_entries(limits::INSTANCES_MAX, 0);

/// What is in force per role id. One write changes a role.
#[map]
pub static ROLES: HashMap<u32, Policy> = HashMap::with_max_entries(limits::ROLES_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static EXACT_RULES: HashMap<ExactKey, Rule> =
    HashMap::with_max_entries(limits::EXACT_RULES_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static PREFIX_RULES: LpmTrie<PrefixKey, Rule> =
    LpmTrie::with_max_entries(limits::PREFIX_RULES_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static UNIX_RULES: LpmTrie<UnixKey, Rule> =
    LpmTrie::with_max_entries(limits::UNIX_RULES_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static SOCKET_RULES: HashMap<SocketKey, Rule> =
    HashMap::with_max_entries(limits::SOCKET_RULES_MAX, BPF_F_NO_PREALLOC);

/// Names that rules have, to the number that rules know them by.
#[map]
pub static NAME_IDS: HashMap<NameKey, u64> = HashMap::with_max_entries(limits::NAMES_MAX, BPF_F_NO_PREALLOC);
#[map]
pub static NAME_RULES: HashMap<NameRuleKey, Rule> =
    HashMap::with_max_entries(limits::NAME_RULES_MAX, BPF_F_NO_PREALLOC);
/// Servers whose answers count, per network namespace.
#[map]
pub static RESOLVERS: HashMap<AddressKey, u32> =
    HashMap::with_max_entries(limits::RESOLVERS_MAX, BPF_F_NO_PREALLOC);
/// Addresses that answers gave a name which rules have. Written here; the daemon takes out what has expired.
#[map]
pub static ADDRESSES: HashMap<AddressKey, Known> =
    HashMap::with_max_entries(limits::ADDRESSES_MAX, BPF_F_NO_PREALLOC);
/// Questions that wait for their answer.
#[map]
pub static QUESTIONS: LruHashMap<QuestionKey, Question> =
    LruHashMap::with_max_entries(limits::QUESTIONS_MAX, 0);
/// Where messages of port 53 are read.
#[map]
pub static NAME_WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(WORKS, 0);

/// Executable and script files that are agents.
#[map]
pub static FILES: HashMap<FileKey, Match> = HashMap::with_max_entries(limits::FILES_MAX, BPF_F_NO_PREALLOC);
/// File names worth walking a path for.
#[map]
pub static BASENAMES: HashMap<Basename, u32> =
    HashMap::with_max_entries(limits::PATHS_MAX, BPF_F_NO_PREALLOC);
/// Whole paths, in the host's mount namespace, that are agents: a replaced file is known at once.
#[map]
pub static PATHS: HashMap<PathKey, Match> = HashMap::with_max_entries(limits::PATHS_MAX, BPF_F_NO_PREALLOC);
/// Steps of path patterns that are agents, from the end of a path upwards.
#[map]
pub static SUFFIXES: HashMap<SuffixKey, SuffixStep> =
    HashMap::with_max_entries(limits::SUFFIXES_MAX, BPF_F_NO_PREALLOC);
/// Names of cgroups that are agents (systemd units, containers).
#[map]
pub static CGROUP_NAMES: HashMap<CgroupName, Match> =
    HashMap::with_max_entries(limits::CGROUPS_MAX, BPF_F_NO_PREALLOC);
/// Whole cgroup paths that are agents.
#[map]
pub static CGROUP_PATHS: HashMap<PathKey, Match> =
    HashMap::with_max_entries(limits::CGROUPS_MAX, BPF_F_NO_PREALLOC);
/// Live cgroups that are agents, by id; children inherit. Written here at birth, by the daemon for older ones.
#[map]
pub static CGROUPS: HashMap<u64, CgroupAgent> =
    HashMap::with_max_entries(limits::CGROUPS_LIVE_MAX, BPF_F_NO_PREALLOC);

/// `chaperone run` requests: the process whose next exec is the agent.
#[map]
pub static RUNS: HashMap<u32, Match> = HashMap::with_max_entries(limits::RUNS_MAX, BPF_F_NO_PREALLOC);
/// Labels of processes that ran before the daemon, by process id.
#[map]
pub static SEEDS: HashMap<u32, Seed> = HashMap::with_max_entries(limits::SEEDS_MAX, BPF_F_NO_PREALLOC);
/// Tasks that cgroup hooks have to know, which have no task storage: by the address of the task, since a thread that
/// executes a program takes another's id.
#[map]
pub static TASKS: HashMap<u64, Label> = HashMap::with_max_entries(limits::TASKS_MAX, BPF_F_NO_PREALLOC);

/// What is recorded per origin: bits of `event::record`.
#[map]
pub static RECORD: Array<u32> = Array::with_max_entries(4, 0);

#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(limits::RING_BYTES, 0);
/// What those outside every instance hold of it, by origin; an instance's own share is in `INSTANCES`.
#[map]
pub static SHARES: Array<Share> = Array::with_max_entries(4, 0);
/// Events handed to the ring buffer, per kind.
#[map]
pub static SUBMITTED: PerCpuArray<u64> = PerCpuArray::with_max_entries(KINDS, 0);
/// Events that found it full, per kind.
#[map]
pub static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(KINDS, 0);
/// How far the record has come and what of the lost has been told: the daemon's own note, for the one after it.
#[map]
pub static PROGRESS: Array<Progress> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// Slots of `event::Counter`.
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTER_SLOTS, 0);
/// Exec ids given out on this CPU.
#[map]
pub static EXEC_IDS: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);
/// Where events are put together: the stack is 512 bytes.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(SCRATCHES, 0);
