//! Who acts: the label of the current task, and how it comes to have one.

use core::{
    mem::MaybeUninit,
    ptr::{read_volatile, write_volatile},
};

use agent_common::{
    event::{Counter, Subject, record},
    identity::{Label, Origin, Seed, UNREGISTERED_ROLE, evidence},
};
use aya_ebpf::{
    bindings::{BPF_ANY, BPF_LOCAL_STORAGE_GET_F_CREATE, task_struct},
    helpers::generated::{
        bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task_btf,
        bpf_get_current_uid_gid, bpf_send_signal, bpf_task_storage_get,
    },
};

use crate::{
    emit,
    kernel::{self, Ptr, offset},
    maps::{INSTANCES, LABELS, SEEDS, TASKS},
};

const SIGKILL: u32 = 9;
/// /proc counts start times in ticks of 10 ms.
const TICK_NS: u64 = 10_000_000;

#[inline(always)]
pub fn task() -> Ptr {
    // SAFETY: takes nothing; the current task lives while it runs.
    unsafe { bpf_get_current_task_btf() }.cast_const().cast()
}

/// The label of a task (not null), if it has one.
#[inline(always)]
pub fn label_of(task: Ptr) -> Option<&'static mut Label> {
    storage(task, core::ptr::null_mut(), 0)
}

/// The label of the current task. One that has none takes its seed's, its thread group leader's or its parent's.
#[inline(always)]
pub fn current() -> Option<&'static mut Label> {
    let task = task();
    match label_of(task) {
        Some(label) => Some(label),
        None if repair() != 0 => label_of(task),
        None => None,
    }
}

/// The current task's label when it belongs to an instance: the one look-up that everybody else pays.
#[inline(always)]
pub fn agent() -> Option<&'static mut Label> {
    current().filter(|label| label.instance != 0)
}

/// Gives a task a label. Without memory it stays without, and takes its parent's when it first acts.
#[inline(always)]
pub fn give(task: Ptr, label: &mut Label) -> Option<&'static mut Label> {
    let given = storage(task, label, u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE));
    note(label, task);
    if given.is_some() {
        if kernel::load::<u32>(task, offset!(task_pid)) == kernel::load::<u32>(task, offset!(task_tgid)) {
            join(label);
        }
    } else {
        emit::count_seldom(Counter::LabelFailed);
    }
    given
}

/// Counts one more process of the label's instance.
#[inline(always)]
pub fn join(label: &Label) {
    if label.instance == 0 {
        return;
    }
    if let Some(instance) = INSTANCES.get_ptr_mut(&label.instance) {
        // SAFETY: a map value, changed atomically only.
        unsafe { emit::atomic_add(&raw mut (*instance).tasks, 1) };
    }
}

/// Notes a task for the cgroup hooks if they have to know it: an agent's, to judge it; one whose connects are recorded,
/// to tell them.
#[inline(always)]
pub fn note(label: &Label, task: Ptr) {
    if !kernel::cgroup_mode() || label.instance == 0 && !emit::recorded(label.origin, record::NET) {
        return;
    }
    let key = task as u64;
    if TASKS.insert(&key, label, u64::from(BPF_ANY)).is_ok() {
        return;
    }
    emit::count_seldom(Counter::TaskTableFull);
    // Nothing is refused to those outside and to agents that nobody registered.
    if label.instance == 0 || label.role == UNREGISTERED_ROLE {
        return;
    }
    // The cgroup hooks would not know it for an agent's: who bore it ends here, and leaves it its own place.
    let bearer = self::task() as u64;
    if bearer != key && TASKS.remove(&bearer).is_ok() {
        let _ = TASKS.insert(&key, label, u64::from(BPF_ANY));
    }
    // SAFETY: takes a signal number, for the current task.
    unsafe { bpf_send_signal(SIGKILL) };
}

/// Forgets a task that ends.
#[inline(always)]
pub fn forget(task: Ptr) {
    if kernel::cgroup_mode() {
        let _ = TASKS.remove(&(task as u64));
    }
}

/// Counts one process less of an instance; true when that was the last, and the instance is gone.
#[inline(always)]
pub fn leave(instance: u64) -> bool {
    let Some(entry) = INSTANCES.get_ptr_mut(&instance) else { return false };
    // SAFETY: a map value, changed atomically only.
    let before = unsafe { emit::atomic_add(&raw mut (*entry).tasks, -1) };
    if before != 1 {
        return false;
    }
    let _ = INSTANCES.remove(&instance);
    emit::count_seldom(Counter::InstancesEnded);
    true
}

/// Gives the current task its label, that of its seed, thread group leader or parent; not 0 when it has one now.
///
/// Seen from outside the object, so that the verifier looks at it once, by itself, and forgets what was found in it: a
/// function of our own it would follow anew from each state of each caller, and each of its ends back to there.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn repair() -> u64 {
    u64::from(repaired(task()).is_some())
}

#[inline(always)]
fn repaired(task: Ptr) -> Option<&'static mut Label> {
    let tgid = kernel::load::<u32>(task, offset!(task_tgid));
    let leader: Ptr = kernel::load(task, offset!(task_leader));
    if leader.is_null() {
        emit::count_seldom(Counter::ActedUnlabelled);
        return None;
    }
    let of_leader = label_of(leader);
    let mut room = MaybeUninit::uninit();
    let label = match seed(tgid, leader) {
        Some(seeded) => copy(&mut room, seeded),
        None => {
            let found = match of_leader {
                Some(ref label) => Some(&**label),
                None => of_parent(task),
            };
            let Some(found) = found else {
                emit::count_seldom(Counter::ActedUnlabelled);
                return None;
            };
            let label = copy(&mut room, found);
            // A leader that has ended says so in its label.
            label.evidence = label.evidence & !evidence::LEFT | evidence::REPAIRED;
            label.pending_agent = 0;
            label.threads = 0;
            label.execs = 0;
            emit::count_seldom(Counter::LabelRepaired);
            label
        }
    };
    // The leader stands for the process: instances count by it.
    if of_leader.is_none() && kernel::load::<u32>(task, offset!(task_pid)) != tgid {
        give(leader, label);
    }
    give(task, label)
}

/// A label, word by word: a call of memmove is a frame of its own, for which the stack has no room on 6.1.
#[inline(always)]
fn copy<'a>(room: &'a mut MaybeUninit<Label>, label: &Label) -> &'a mut Label {
    let (from, to) = ((&raw const *label).cast::<u64>(), room.as_mut_ptr().cast::<u64>());
    for word in 0..size_of::<Label>() / 8 {
        // SAFETY: inside both, which are aligned to words.
        unsafe { write_volatile(to.add(word), read_volatile(from.add(word))) };
    }
    // SAFETY: every word was written.
    unsafe { room.assume_init_mut() }
}

/// The label that the daemon found for a process older than itself.
#[inline(always)]
fn seed(tgid: u32, leader: Ptr) -> Option<&'static Label> {
    // SAFETY: entries of a map stay readable for the program's run.
    let seed = unsafe { SEEDS.get(&tgid) }?;
    is_of(seed, kernel::load(leader, offset!(task_start))).then_some(&seed.label)
}

/// Whether a seed is for a process that started then, and not for another that had its number.
#[inline(always)]
pub fn is_of(seed: &Seed, start_ns: u64) -> bool {
    start_ns / TICK_NS == seed.start_ticks
}

#[inline(always)]
fn of_parent(task: Ptr) -> Option<&'static Label> {
    let parent: Ptr = kernel::load(task, offset!(task_real_parent));
    if parent.is_null() { None } else { label_of(parent).map(|label| &*label) }
}

#[inline(always)]
fn storage(task: Ptr, init: *mut Label, flags: u64) -> Option<&'static mut Label> {
    // SAFETY: `task` is not null and has the kernel's type; `init` is null or a label on the stack.
    let value = unsafe {
        bpf_task_storage_get(LABELS.as_ptr(), task.cast_mut().cast::<task_struct>(), init.cast(), flags)
    };
    // SAFETY: the helper gives null or a value that lives as long as the task.
    unsafe { value.cast::<Label>().as_mut() }
}

/// The subject of an event by the current task.
#[inline(always)]
pub fn describe(subject: &mut Subject, label: &Label) {
    describe_with(subject, label, uid());
}

/// The same, with a user that is known, and written field by field: a whole subject would lie on the stack first.
#[inline(always)]
pub fn describe_with(subject: &mut Subject, label: &Label, uid: u32) {
    // SAFETY: these helpers take nothing.
    let (ids, cgroup_id) = unsafe { (bpf_get_current_pid_tgid(), bpf_get_current_cgroup_id()) };
    subject.instance = label.instance;
    subject.exec_id = label.exec_id;
    subject.parent_exec_id = label.parent_exec_id;
    subject.cgroup_id = cgroup_id;
    subject.pid = (ids >> 32) as u32;
    subject.tid = ids as u32;
    subject.uid = uid;
    subject.loginuid = current_loginuid();
    subject.agent = label.agent;
    subject.role = label.role;
    subject.evidence = label.evidence;
    subject.origin = label.origin;
    subject._pad = 0;
    subject._pad2 = 0;
    subject.comm = bytemuck::cast(name());
}

/// As much of a label as a policy, and a share of the ring buffer, are found by: of who was noted on a socket.
#[inline(always)]
pub fn noted(subject: &Subject) -> Label {
    Label {
        instance: subject.instance,
        agent: subject.agent,
        role: subject.role,
        origin: subject.origin,
        ..Label::default()
    }
}

/// The same, of an event that is put together as a whole.
#[inline(always)]
pub fn described(label: &Label, uid: u32) -> Subject {
    // SAFETY: these helpers take nothing.
    let (ids, cgroup_id) = unsafe { (bpf_get_current_pid_tgid(), bpf_get_current_cgroup_id()) };
    Subject {
        instance: label.instance,
        exec_id: label.exec_id,
        parent_exec_id: label.parent_exec_id,
        cgroup_id,
        pid: (ids >> 32) as u32,
        tid: ids as u32,
        uid,
        loginuid: current_loginuid(),
        agent: label.agent,
        role: label.role,
        evidence: label.evidence,
        origin: label.origin,
        _pad: 0,
        _pad2: 0,
        comm: bytemuck::cast(name()),
    }
}

/// The current task's real user, as the initial user namespace numbers it.
#[inline(always)]
pub fn uid() -> u32 {
    // SAFETY: takes nothing.
    unsafe { bpf_get_current_uid_gid() as u32 }
}

/// The same, read where it stands: the helper translates both numbers of the initial user namespace to themselves, 100
/// instructions. Not for every program, since it is a pointer more with a type (`kernel::follow`).
#[inline(always)]
pub fn typed_uid() -> u32 {
    kernel::load(kernel::load::<Ptr>(task(), offset!(task_cred)), offset!(cred_uid))
}

/// The task's own name for itself. Two loads where the task has a type: the helper copies byte by byte.
#[inline(always)]
fn name() -> [u64; 2] {
    if kernel::cgroup_mode() {
        let mut name = [0; 2];
        // SAFETY: takes a buffer of its stated size.
        unsafe { bpf_get_current_comm((&raw mut name).cast(), 16) };
        return name;
    }
    let task = task();
    [kernel::load(task, offset!(task_comm)), kernel::load(task, offset!(task_comm) + 8)]
}

/// The audit login uid, `u32::MAX` for none.
#[inline(always)]
fn current_loginuid() -> u32 {
    if !kernel::cgroup_mode() {
        return kernel::load(task(), offset!(task_loginuid));
    }
    // Cgroup hooks have no typed task.
    // SAFETY: takes nothing.
    let task = unsafe { aya_ebpf::helpers::generated::bpf_get_current_task() } as Ptr;
    kernel::read::<u32>(task, offset!(task_loginuid)).unwrap_or(u32::MAX)
}

/// The origin of a program that is outside every instance, when it has just been executed by the current task.
#[inline(always)]
pub fn origin_at_exec(task: Ptr, before: &Label, login_program: bool) -> (Origin, u16) {
    let login =
        if kernel::load::<u32>(task, offset!(task_loginuid)) == u32::MAX { 0 } else { evidence::LOGINUID };
    if before.origin == Origin::Human as u8 {
        return (Origin::Human, before.evidence | login);
    }
    let entered = before.evidence & evidence::ENTERED;
    let signal = kernel::follow(task, offset!(task_signal));
    let tty = kernel::follow(signal, offset!(signal_tty));
    if !tty.is_null() && !login_program {
        return (Origin::Human, evidence::TERMINAL | login | entered);
    }
    if login != 0 && !login_program && in_login_session(task) {
        return (Origin::Human, evidence::SESSION | login | entered);
    }
    (Origin::System, login | entered)
}

/// Whether the task's cgroup is a login session's: systemd-logind names them `session-N.scope`.
#[inline(always)]
fn in_login_session(task: Ptr) -> bool {
    let css_set = kernel::follow(task, offset!(task_cgroups));
    let cgroup = kernel::follow(css_set, offset!(css_set_dfl_cgrp));
    let node = kernel::follow(cgroup, offset!(cgroup_kn));
    let text = kernel::follow(node, offset!(kernfs_name));
    kernel::peek::<[u8; 8]>(text, 0) == *b"session-"
}
