//! The process family: births, executions, ends; and the cgroups that are agents.

pub mod exec;
pub mod recognise;
pub mod suffix;

use agent_common::{
    event::{
        Counter, Kind, Text,
        process::{CgroupCreated, Exit, Fork},
        record, text_flags,
    },
    identity::{CgroupAgent, CgroupName, Label, Match, PathKey, THREADS, evidence},
    limits::{CGROUP_NAME_BYTES, PATH_BYTES_KEPT, PATH_KEY_BYTES},
};
use aya_ebpf::{
    bindings::BPF_ANY, helpers::generated::bpf_get_current_pid_tgid, macros::btf_tracepoint,
    programs::BtfTracePointContext,
};

use crate::{
    emit,
    kernel::{self, Ptr, offset},
    maps::{CGROUP_NAMES, CGROUP_PATHS, CGROUPS, RUNS, SEEDS},
    path, subject,
};

const CLONE_THREAD: u64 = 0x0001_0000;

/// Every birth: fork, vfork, clone, threads, and io_uring's workers, which do not pass sched_process_fork.
///
/// match-proto:v6.1:include/trace/events/task.h:task_newtask(struct task_struct *task, unsigned long clone_flags)
/// Called in copy_process() when nothing can fail any more and the child does not run yet.
#[btf_tracepoint(function = "task_newtask")]
pub fn task_newtask(ctx: BtfTracePointContext) -> i32 {
    let child: Ptr = ctx.arg::<*const u8>(0);
    let flags: u64 = ctx.arg(1);
    if !kernel::in_scope() {
        return 0;
    }
    if subject::label_of(child).is_some() {
        // Another build's program, which this one takes over from, has seen the birth.
        return 0;
    }
    let Some(parent) = subject::current() else {
        emit::count_seldom(Counter::BornUnlabelled);
        return 0;
    };
    let mut label: Label = *parent;
    label.pending_agent = 0;
    let thread = flags & CLONE_THREAD != 0;
    label.threads = if thread { 0 } else { THREADS };
    if thread {
        one_more(child);
    }
    if subject::give(child, &mut label).is_some() {
        emit::count(Counter::Labelled);
    }
    if !thread
        && emit::recorded(label.origin, record::FORK)
        && let Some(room) = emit::reserve::<Fork>(Kind::Fork, &label)
    {
        let event = emit::zeroed(room);
        event.child_pid = kernel::load::<u32>(child, offset!(task_tgid));
        event.clone_flags = flags;
        emit::head(&mut event.header, Kind::Fork, size_of::<Fork>());
        subject::describe(&mut event.header.subject, &label);
        emit::commit(room, Kind::Fork);
    }
    0
}

/// Every end of a task: io_uring's workers and threads too.
///
/// match-proto:v6.1:include/trace/events/sched.h:sched_process_exit(struct task_struct *p)
#[btf_tracepoint(function = "sched_process_exit")]
pub fn sched_process_exit(ctx: BtfTracePointContext) -> i32 {
    let task: Ptr = ctx.arg::<*const u8>(0);
    if !kernel::in_scope() {
        return 0;
    }
    // Before the ways part: for each of them the verifier would follow the pointer again.
    let leader: Ptr = kernel::load(task, offset!(task_leader));
    let label = subject::label_of(task);
    if let Some(label) = &label
        && label.evidence & evidence::LEFT != 0
    {
        // As in task_newtask.
        return 0;
    }
    emit::count(Counter::TasksEnded);
    subject::forget(task);
    // SAFETY: takes nothing.
    let pid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    let last = last_of_process(task, leader);
    if last {
        // A request whose exec failed must not wait for the next process of this number.
        let _ = RUNS.remove(&pid);
    }
    let Some(label) = label else {
        if last {
            let _ = SEEDS.remove(&pid);
        }
        return 0;
    };
    label.evidence |= evidence::LEFT;
    if !last {
        return 0;
    }
    // By the last thread of a process, so that an instance ends with a process and is told with its exit.
    let ended = label.instance != 0 && subject::leave(label.instance);
    if label.evidence & evidence::SEEDED != 0 {
        let _ = SEEDS.remove(&pid);
    }
    if emit::recorded(label.origin, record::EXIT)
        && let Some(room) = emit::reserve::<Exit>(Kind::Exit, label)
    {
        let event = emit::zeroed(room);
        event.status = kernel::load::<u32>(task, offset!(task_exit_code));
        event.instance_ended = u32::from(ended);
        emit::head(&mut event.header, Kind::Exit, size_of::<Exit>());
        subject::describe(&mut event.header.subject, label);
        emit::commit(room, Kind::Exit);
    }
    0
}

/// Counts a thread in its leader's label, before it runs.
#[inline(always)]
fn one_more(thread: Ptr) {
    let leader: Ptr = kernel::load(thread, offset!(task_leader));
    if leader.is_null() {
        return;
    }
    if let Some(label) = subject::label_of(leader)
        && label.threads >= THREADS
    {
        // SAFETY: a map value, changed atomically only.
        unsafe { emit::atomic_add(&raw mut label.threads, 1) };
    }
}

/// Whether this is the last thread of its process to pass here, said to exactly one of them. Where not all threads
/// were counted it is the first that finds `signal->live` at 0, which others may still pass.
#[inline(always)]
fn last_of_process(task: Ptr, leader: Ptr) -> bool {
    if leader.is_null() {
        return true;
    }
    let alive = || kernel::peek::<u32>(kernel::follow(task, offset!(task_signal)), offset!(signal_live)) != 0;
    let Some(label) = subject::label_of(leader) else { return !alive() };
    if label.threads >= THREADS {
        // SAFETY: a map value, changed atomically only.
        return unsafe { emit::atomic_add(&raw mut label.threads, -1) == THREADS };
    }
    // SAFETY: as above.
    !alive() && unsafe { emit::atomic_add(&raw mut label.threads, 1) == 0 }
}

/// A cgroup is born: an agent's by its own name, or by its parent's.
///
/// match-proto:v6.1:include/trace/events/cgroup.h:cgroup_mkdir(struct cgroup *cgrp, const char *path)
#[btf_tracepoint(function = "cgroup_mkdir")]
pub fn cgroup_mkdir(ctx: BtfTracePointContext) -> i32 {
    let cgroup: Ptr = ctx.arg::<*const u8>(0);
    // Only the unified hierarchy: ids of a v1 hierarchy are numbers of another space.
    let root = kernel::follow(cgroup, offset!(cgroup_root));
    if kernel::peek::<u32>(root, offset!(cgroup_root_hierarchy)) != 0 {
        return 0;
    }
    let node = kernel::follow(cgroup, offset!(cgroup_kn));
    let id: u64 = kernel::peek(node, offset!(kernfs_id));
    let found = match by_name(node) {
        Some(found) => Some(found),
        None => by_path(ctx.arg::<*const u8>(1)),
    };
    let found = match found {
        Some(found) => Some(found),
        None => {
            let parent = kernel::follow(node, offset!(kernfs_parent));
            let parent_id: u64 = kernel::peek(parent, offset!(kernfs_id));
            // SAFETY: entries of a map stay readable for the program's run.
            unsafe { CGROUPS.get(&parent_id) }.map(|parent| parent.found)
        }
    };
    if let Some(found) = found {
        let entry = CgroupAgent { found, instance: 0 };
        if CGROUPS.insert(&id, &entry, u64::from(BPF_ANY)).is_err() {
            emit::count_seldom(Counter::CgroupTableFull);
        }
    }
    tell_cgroup(id, ctx.arg::<*const u8>(1));
    0
}

/// Always told, whoever made it: containers are known by the paths of their cgroups, which may be gone when an event
/// that happened in one is read.
#[inline(always)]
fn tell_cgroup(id: u64, path: Ptr) {
    let Some(scratch) = emit::acquire() else {
        emit::lose(Kind::Cgroup, 0);
        return;
    };
    let kept = kernel::read_str(scratch.text.as_mut_ptr(), PATH_BYTES_KEPT as u32, path);
    let mut label = Label::default();
    if let Some(current) = subject::current() {
        label = *current;
    }
    let created: &mut CgroupCreated = scratch.before_text();
    subject::describe(&mut created.header.subject, &label);
    created.cgroup_id = id;
    created.path = Text {
        hash: 0,
        full_bytes: kept as u32,
        kept_bytes: kept as u16,
        // The string read stops at the bound, so a path of just that length counts as cut.
        flags: text_flags::UNHASHED | if kept + 1 >= PATH_BYTES_KEPT { text_flags::TRUNCATED } else { 0 },
    };
    let bytes = size_of::<CgroupCreated>() + (path::opaque(kept) & 0x3ff);
    emit::head(&mut created.header, Kind::Cgroup, bytes);
    emit::submit((&raw const *created).cast(), bytes, Kind::Cgroup, &label);
    emit::release(scratch);
}

#[inline(always)]
fn by_name(node: Ptr) -> Option<Match> {
    let name = kernel::follow(node, offset!(kernfs_name));
    let mut key = CgroupName([0; CGROUP_NAME_BYTES]);
    kernel::read_str((&raw mut key).cast(), CGROUP_NAME_BYTES as u32, name);
    // SAFETY: entries of a map stay readable for the program's run.
    unsafe { CGROUP_NAMES.get(&key) }.copied()
}

/// By the whole path below the hierarchy's root.
#[inline(always)]
fn by_path(path: Ptr) -> Option<Match> {
    let scratch = emit::acquire()?;
    let key = scratch.path_key();
    let bytes = kernel::read_str((&raw mut *key).cast(), PATH_KEY_BYTES as u32, path);
    // SAFETY: entries of a map stay readable for the program's run.
    let found = if bytes > PathKey::LONGEST { None } else { unsafe { CGROUP_PATHS.get(&*key) }.copied() };
    emit::release(scratch);
    found
}

/// A cgroup is gone, and its id with it.
///
/// match-proto:v6.1:include/trace/events/cgroup.h:cgroup_rmdir(struct cgroup *cgrp, const char *path)
#[btf_tracepoint(function = "cgroup_rmdir")]
pub fn cgroup_rmdir(ctx: BtfTracePointContext) -> i32 {
    let cgroup: Ptr = ctx.arg::<*const u8>(0);
    let root = kernel::follow(cgroup, offset!(cgroup_root));
    if kernel::peek::<u32>(root, offset!(cgroup_root_hierarchy)) == 0 {
        let node = kernel::follow(cgroup, offset!(cgroup_kn));
        let _ = CGROUPS.remove(&kernel::peek::<u64>(node, offset!(kernfs_id)));
    }
    0
}
