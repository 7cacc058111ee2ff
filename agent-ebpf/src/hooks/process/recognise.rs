//! Which agent a file, script, cgroup or run request stands for.

use core::mem::MaybeUninit;

use agent_common::{
    identity::{Basename, CgroupName, Label, Match, Origin, PathKey, Recognised, match_flags},
    limits,
};
use aya_ebpf::{
    helpers::generated::{bpf_get_current_cgroup_id, bpf_probe_read_kernel, bpf_probe_read_kernel_str},
    macros::lsm,
    programs::LsmContext,
};

use super::suffix;
use crate::{
    emit::{self, Scratch},
    enforce,
    kernel::{self, Ptr, offset},
    maps::{BASENAMES, CGROUP_NAMES, CGROUPS, FILES, INSTANCES, PATHS},
    path, subject,
};

/// Each stage of an exec, before the first instruction: `bprm->file` is the script first and then its interpreter.
///
/// match-proto:v6.1:security/security.c:int security_bprm_check(struct linux_binprm *bprm)
/// Only notes what was recognised; sched_process_exec commits it when the exec has succeeded.
#[lsm(hook = "bprm_check_security")]
pub fn bprm_check_security(ctx: LsmContext) -> i32 {
    let bprm: Ptr = ctx.arg::<*const u8>(0);
    let previous: i32 = ctx.arg(1);
    let Some(label) = subject::current() else { return enforce::pass(previous) };
    let first = kernel::load::<usize>(bprm, offset!(bprm_filename))
        == kernel::load::<usize>(bprm, offset!(bprm_interp));
    if first {
        label.pending_agent = 0;
        label.pending_how = 0;
    } else if label.pending_agent != 0 {
        // The file given to execve was recognised, and this is its interpreter.
        label.pending_how = Recognised::Script as u8;
        return enforce::pass(previous);
    }
    if let Some(found) = file(kernel::follow(bprm, offset!(bprm_file))) {
        note(label, &found, Recognised::Exe);
    }
    enforce::pass(previous)
}

#[inline(always)]
pub fn note(label: &mut Label, found: &Match, how: Recognised) {
    label.pending_agent = found.agent;
    label.pending_role = found.role;
    label.pending_entry = found.entry;
    label.pending_how = how as u8;
    label.pending_flags = found.flags as u8;
}

/// The agent that an open file is: as somebody named it, or by the end of its path.
#[inline(always)]
pub fn file(file: Ptr) -> Option<Match> {
    match named(file) {
        Some(found) => Some(found),
        None => {
            let mut found = Match::default();
            if suffix::of_file(file, &mut found) { Some(found) } else { None }
        }
    }
}

/// By identity, or by its path in the host's mount namespace, so that a file which a package manager has just put
/// there is known before the daemon has seen it.
#[inline(always)]
fn named(file: Ptr) -> Option<Match> {
    let mut key = kernel::file_key(file);
    let generation = key.generation;
    key.generation = 0;
    // SAFETY: entries of a map stay readable for the program's run.
    if let Some(found) = unsafe { FILES.get(&key) }
        && (found.generation == 0 || found.generation == generation)
    {
        return Some(*found);
    }
    let dentry = kernel::follow(kernel::field(file, offset!(file_path)), offset!(path_dentry));
    let name = kernel::follow(dentry, offset!(dentry_name));
    let mut room = MaybeUninit::uninit();
    // SAFETY: as above.
    unsafe { BASENAMES.get(basename(name, &mut room)) }?;
    if !in_host_mounts() {
        return None;
    }
    if kernel::is_nameless(file) {
        return None;
    }
    let scratch = emit::acquire()?;
    scratch.path.walk(kernel::field(file, offset!(file_path)));
    let found = if scratch.path.flags == 0 {
        let (from, bytes) = (scratch.path.walked_ptr(), scratch.path.walked());
        by_path(scratch, from, bytes)
    } else {
        None
    };
    emit::release(scratch);
    found
}

/// The agent at the path that lies in the `bytes` bytes from `from` on.
#[inline(always)]
fn by_path(scratch: &mut Scratch, from: Ptr, bytes: usize) -> Option<Match> {
    if bytes > PathKey::LONGEST {
        return None;
    }
    let key = scratch.path_key();
    let bytes = path::opaque(bytes) & (limits::PATH_KEY_BYTES - 1);
    // SAFETY: masked to the key; the helper checks the source.
    let status = unsafe { bpf_probe_read_kernel((&raw mut *key).cast(), bytes as u32, from.cast()) };
    // SAFETY: entries of a map stay readable for the program's run.
    if status == 0 { unsafe { PATHS.get(&*key) }.copied() } else { None }
}

/// The agent at a path as it was given to execve, which lies in the first `bytes` bytes of the scratch's
/// `path`.
#[inline(always)]
pub fn text(scratch: &mut Scratch, bytes: usize) -> Option<Match> {
    let from = scratch.path.bytes.as_ptr();
    if in_host_mounts()
        && let Some(found) = by_path(scratch, from, bytes)
    {
        return Some(found);
    }
    let mut found = Match::default();
    if suffix::of_text(&mut scratch.walk, &mut scratch.path, bytes, &mut found) { Some(found) } else { None }
}

#[inline(always)]
fn basename(name: Ptr, room: &mut MaybeUninit<[u64; limits::BASENAME_BYTES / 8]>) -> &Basename {
    let words = emit::zeroed(room);
    // SAFETY: the buffer has the size that is said; the helper checks the source and always ends with NUL.
    unsafe {
        bpf_probe_read_kernel_str(words.as_mut_ptr().cast(), limits::BASENAME_BYTES as u32, name.cast());
    }
    // SAFETY: of the same size, and any bytes are a name.
    unsafe { &*words.as_ptr().cast::<Basename>() }
}

/// Whether the current task sees the host's mounts. Elsewhere a path proves nothing: whoever makes a mount
/// namespace chooses what lies there.
#[inline(always)]
fn in_host_mounts() -> bool {
    let nsproxy = kernel::follow(subject::task(), offset!(task_nsproxy));
    kernel::namespace(nsproxy, offset!(nsproxy_mnt), offset!(mnt_ns_inum)) == kernel::host_mnt_ns()
}

/// What the current task's cgroup says of a program that no instance has executed.
pub enum ByCgroup {
    Nothing,
    Agent(Match),
    /// It came into an agent's container from outside.
    Entered,
}

/// The agent that the current task's cgroup is by its own name. In a scratch: the key is a quarter of the stack.
#[inline(always)]
fn by_own_name() -> Option<Match> {
    let css_set = kernel::follow(subject::task(), offset!(task_cgroups));
    let cgroup = kernel::follow(css_set, offset!(css_set_dfl_cgrp));
    let node = kernel::follow(cgroup, offset!(cgroup_kn));
    let name = kernel::follow(node, offset!(kernfs_name));
    let scratch = emit::acquire()?;
    let key: *mut CgroupName = scratch.text.as_mut_ptr().cast();
    // SAFETY: the text is longer than a name and aligned to words, and bytes have no alignment.
    unsafe { emit::zero::<u64>(key.cast(), limits::CGROUP_NAME_BYTES) };
    kernel::read_str(key.cast(), limits::CGROUP_NAME_BYTES as u32, name);
    // SAFETY: entries of a map stay readable for the program's run.
    let found = unsafe { CGROUP_NAMES.get(&*key) }.copied();
    emit::release(scratch);
    found
}

#[inline(always)]
pub fn cgroup(label: &Label, begins: u64) -> ByCgroup {
    // SAFETY: takes nothing.
    let id = unsafe { bpf_get_current_cgroup_id() };
    let Some(entry) = CGROUPS.get_ptr_mut(&id) else {
        // One that found the table full when it was born.
        return match by_own_name() {
            Some(_) if label.origin == Origin::Human as u8 => ByCgroup::Entered,
            Some(found) => ByCgroup::Agent(found),
            None => ByCgroup::Nothing,
        };
    };
    // SAFETY: entries of a map stay readable for the program's run.
    let entry = unsafe { &mut *entry };
    if label.origin == Origin::Human as u8 {
        return ByCgroup::Entered;
    }
    if entry.found.flags & match_flags::CONTAINER != 0 {
        // SAFETY: as above.
        if entry.instance != 0 && unsafe { INSTANCES.get(&entry.instance) }.is_some() {
            return ByCgroup::Entered;
        }
        entry.instance = begins;
    }
    ByCgroup::Agent(entry.found)
}
