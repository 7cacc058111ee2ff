//! The moment a program image has replaced another: the label is committed and the event told.

use agent_common::{
    event::{
        Counter, Kind, Text,
        process::{Exec, Namespaces, exec_flags},
        record, text_flags,
    },
    identity::{Instance, Label, Match, Origin, Recognised, Share, THREADS, evidence, match_flags},
    limits,
};
use aya_ebpf::{
    bindings::BPF_ANY,
    helpers::generated::{
        bpf_get_current_pid_tgid, bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_probe_read_user,
    },
    macros::btf_tracepoint,
    programs::BtfTracePointContext,
};

use super::recognise::{self, ByCgroup};
use crate::{
    emit::{self, Scratch},
    kernel::{self, Ptr, offset},
    maps::{EXEC_IDS, INSTANCES, RUNS},
    path, rules, subject,
};

/// An exec has succeeded; its first instruction has not run.
///
/// match-proto:v6.1:include/trace/events/sched.h:sched_process_exec(struct task_struct *p, pid_t old_pid,
/// struct linux_binprm *bprm)
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(ctx: BtfTracePointContext) -> i32 {
    let task: Ptr = ctx.arg::<*const u8>(0);
    let bprm: Ptr = ctx.arg::<*const u8>(2);
    if !kernel::in_scope() {
        return 0;
    }
    let label = match subject::current() {
        Some(label) => label,
        // It ran before the daemon and is being labelled from /proc, with its lineage, which an exec must not cut.
        None if !kernel::scoped() => return 0,
        None => {
            // It has come into the scope from outside, where nobody has a label.
            let mut label = Label::default();
            match subject::give(task, &mut label) {
                Some(label) => label,
                None => return 0,
            }
        }
    };
    let execs = (kernel::load::<u32>(task, offset!(task_execs)) % 255) as u8 + 1;
    if label.execs == execs {
        // Another build's program, which this one takes over from, has committed this exec.
        return 0;
    }
    label.execs = execs;
    if kernel::cgroup_mode() {
        label.pending_agent = 0;
        let script = is_script(bprm);
        if let Some(found) = without_lsm(bprm, script) {
            let how = if script { Recognised::Script } else { Recognised::Exe };
            recognise::note(label, &found, how);
        }
    }
    let parent_instance = label.instance;
    let (how, entry) = commit(task, label);
    // Whoever comes into an agent's container touches it.
    if emit::recorded(label.origin, record::EXEC) || label.evidence & evidence::ENTERED != 0 {
        match emit::acquire() {
            Some(scratch) => {
                tell(scratch, task, bprm, label, parent_instance, how, entry);
                emit::release(scratch);
            }
            None => emit::lose(Kind::Exec, label.instance),
        }
    }
    0
}

/// Whether the file given to execve is a script, and what runs its interpreter.
#[inline(always)]
fn is_script(bprm: Ptr) -> bool {
    kernel::load::<usize>(bprm, offset!(bprm_filename)) != kernel::load::<usize>(bprm, offset!(bprm_interp))
}

/// Recognition where no hook sees each stage: the file that runs, or for a script the path given to execve.
#[inline(always)]
fn without_lsm(bprm: Ptr, script: bool) -> Option<Match> {
    if !script {
        return recognise::file(kernel::follow(bprm, offset!(bprm_file)));
    }
    let scratch = emit::acquire()?;
    let name: Ptr = kernel::load(bprm, offset!(bprm_filename));
    let bytes = kernel::read_str(scratch.path.bytes.as_mut_ptr(), limits::PATH_BYTES_MAX as u32, name);
    let found = recognise::text(scratch, bytes);
    emit::release(scratch);
    match found {
        Some(found) => Some(found),
        None => recognise::file(kernel::follow(bprm, offset!(bprm_file))),
    }
}

/// Writes who this task is from now on; what it was recognised by, if an instance begins here.
#[inline(always)]
fn commit(task: Ptr, label: &mut Label) -> (Recognised, u16) {
    let exec_id = next_exec_id();
    let mut how = Recognised::from_raw(label.pending_how).unwrap_or(Recognised::No);
    let mut found = Match {
        agent: label.pending_agent,
        role: label.pending_role,
        entry: label.pending_entry,
        // Whatever an earlier exec left there: flags belong to what this one has recognised.
        flags: if label.pending_agent == 0 { 0 } else { u16::from(label.pending_flags) },
        generation: 0,
    };
    label.pending_agent = 0;
    label.pending_how = 0;
    let login_program = found.flags & match_flags::LOGIN_PROGRAM != 0;
    if login_program {
        found.agent = 0;
    }

    // SAFETY: takes nothing.
    let pid = (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32;
    // SAFETY: entries of a map stay readable for the program's run.
    if let Some(run) = unsafe { RUNS.get(&pid) } {
        // Inside an instance it was asked for by somebody else, for a process of this number that is gone.
        if label.instance == 0 {
            found = *run;
            how = Recognised::Run;
        }
        let _ = RUNS.remove(&pid);
    }
    // Whoever named a cgroup meant what runs in it, whatever its path ends in.
    let pattern = found.flags & match_flags::PATTERN != 0;
    if label.instance == 0 && (found.agent == 0 || pattern) {
        match recognise::cgroup(label, exec_id) {
            ByCgroup::Agent(by_cgroup) => {
                found = by_cgroup;
                how = Recognised::Cgroup;
            }
            ByCgroup::Entered => label.evidence |= evidence::ENTERED,
            ByCgroup::Nothing => {}
        }
    } else if pattern && rules::role(label) != found.role {
        // Anyone can make a file whose path ends so: it must not lead out of a role.
        (found.agent, how) = (0, Recognised::No);
    }

    label.parent_exec_id = label.exec_id;
    label.exec_id = exec_id;
    // Its other threads have ended, and it leads what comes.
    label.threads = THREADS;
    if found.agent != 0 && !continues(label, &found) {
        begin(task, label, &found, how, pid);
        return (how, found.entry);
    }
    if label.instance != 0 {
        label.evidence &= !evidence::PROGRAM;
        if found.agent != 0 {
            label.evidence |= evidence::PROGRAM;
        }
    }
    if label.instance == 0 {
        let (origin, why) = subject::origin_at_exec(task, label, login_program);
        label.origin = origin as u8;
        label.evidence = why;
    }
    // Keeps the exec id that cgroup hooks tell.
    subject::note(label, task);
    (Recognised::No, 0)
}

/// Whether the instance goes on: its launcher has executed its payload (another entry of the same agent's `match`
/// list), or its program itself again, as some do for every tool call. Started again through another program it is a
/// sub-agent, and a new instance.
#[inline(always)]
fn continues(label: &Label, found: &Match) -> bool {
    if label.instance == 0 || label.agent != found.agent {
        return false;
    }
    if label.evidence & evidence::PROGRAM != 0 {
        return true;
    }
    // SAFETY: entries of a map stay readable for the program's run.
    match unsafe { INSTANCES.get(&label.instance) } {
        Some(instance) => instance.entry != found.entry,
        None => false,
    }
}

/// A new instance: its id is the exec id of its first image.
#[inline(always)]
fn begin(task: Ptr, label: &mut Label, found: &Match, how: Recognised, pid: u32) {
    let left = label.instance;
    let instance = Instance {
        parent: left,
        // SAFETY: entries of a map stay readable for the program's run.
        root: match unsafe { INSTANCES.get(&left) } {
            Some(parent) => parent.root,
            None => label.exec_id,
        },
        // SAFETY: takes nothing.
        started_ns: unsafe { bpf_ktime_get_boot_ns() },
        tasks: 0,
        lost: 0,
        share: Share::NONE,
        agent: found.agent,
        role: found.role,
        root_pid: pid,
        state: 0,
        entry: found.entry,
        how: how as u8,
        _pad: [0; 5],
    };
    label.instance = label.exec_id;
    label.agent = found.agent;
    label.role = found.role;
    label.origin = Origin::Agent as u8;
    label.evidence = evidence::LINEAGE | evidence::PROGRAM;
    if INSTANCES.insert(&label.instance, &instance, u64::from(BPF_ANY)).is_err() {
        emit::count_seldom(Counter::InstanceTableFull);
    }
    emit::count_seldom(Counter::InstancesStarted);
    subject::join(label);
    subject::note(label, task);
    if left != 0 {
        subject::leave(left);
    }
}

/// Unique until reboot: the CPU, and a count that only this CPU raises.
#[inline(always)]
fn next_exec_id() -> u64 {
    let count = match EXEC_IDS.get_ptr_mut(0) {
        // SAFETY: a map value, changed atomically only.
        Some(slot) => (unsafe { emit::atomic_add(slot, 1) }) + 1,
        None => 0,
    };
    // SAFETY: takes nothing.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    (u64::from(cpu) << 48) | count
}

#[inline(always)]
fn tell(
    scratch: &mut Scratch,
    task: Ptr,
    bprm: Ptr,
    label: &Label,
    parent_instance: u64,
    how: Recognised,
    entry: u16,
) {
    let file = kernel::follow(bprm, offset!(bprm_file));
    let (how, entry) = (scratch.forget(how as usize) as u8, scratch.forget(usize::from(entry)) as u16);
    let exec = &mut scratch.exec;
    subject::describe(&mut exec.header.subject, label);
    exec.file = kernel::file_key(file);
    exec.parent_instance = if how == Recognised::No as u8 { 0 } else { parent_instance };
    exec.recognised = how;
    exec.entry = entry;
    exec._pad = 0;
    exec.flags = 0;
    describe_task(exec, task);

    scratch.path.walk(kernel::field(file, offset!(file_path)));
    let (exe, at) = path::append(&mut scratch.text, 0, &mut scratch.path);
    scratch.exec.exe = exe;
    let at = scratch.forget(at);
    if kernel::is_nameless(file) {
        scratch.exec.flags |= exec_flags::NAMELESS;
        scratch.exec.exe.flags |= text_flags::DELETED;
    }
    let (script, at) = if is_script(bprm) {
        script_path(&mut scratch.text, at, &mut scratch.path, bprm)
    } else {
        (Text::default(), at)
    };
    scratch.exec.script = script;
    let at = scratch.forget(at);
    let (argv, at) = if emit::recorded(label.origin, record::ARGV) {
        argv(&mut scratch.text, at, &mut scratch.path, task)
    } else {
        (Text::default(), at)
    };
    scratch.exec.argv = argv;
    let at = scratch.forget(at);
    let fs = kernel::follow(task, offset!(task_fs));
    scratch.path.walk(kernel::field(fs, offset!(fs_pwd)));
    let (cwd, at) = path::append(&mut scratch.text, at, &mut scratch.path);
    scratch.exec.cwd = cwd;

    let exec = &mut scratch.exec;
    let bytes = size_of::<Exec>() + (path::opaque(at) & 0xfff);
    emit::head(&mut exec.header, Kind::Exec, bytes);
    emit::submit((&raw const *exec).cast(), bytes, Kind::Exec, label);
}

#[inline(always)]
fn describe_task(exec: &mut Exec, task: Ptr) {
    let cred = kernel::follow(task, offset!(task_cred));
    exec.gid = kernel::peek::<u32>(cred, offset!(cred_gid));
    exec.euid = kernel::peek::<u32>(cred, offset!(cred_euid));
    exec.egid = kernel::peek::<u32>(cred, offset!(cred_egid));
    if exec.euid != exec.header.subject.uid || exec.egid != exec.gid {
        exec.flags |= exec_flags::SETID;
    }
    exec.session_id = kernel::load(task, offset!(task_sessionid));
    let parent = kernel::follow(task, offset!(task_real_parent));
    exec.ppid = kernel::peek::<u32>(parent, offset!(task_tgid));
    let signal = kernel::follow(task, offset!(task_signal));
    exec.tty = match kernel::read_ptr(signal, offset!(signal_tty)) {
        Some(tty) => {
            let driver = kernel::follow(tty, offset!(tty_driver));
            let minor = kernel::peek::<u32>(driver, offset!(driver_minor_start))
                + kernel::peek::<u32>(tty, offset!(tty_index));
            (kernel::peek::<u32>(driver, offset!(driver_major)) << 20) | (minor & 0xf_ffff)
        }
        None => 0,
    };
    let ns = kernel::follow(task, offset!(task_nsproxy));
    let user_ns = kernel::follow(cred, offset!(cred_user_ns));
    exec.namespaces = Namespaces {
        mnt: kernel::namespace(ns, offset!(nsproxy_mnt), offset!(mnt_ns_inum)),
        pid: pid_namespace(task),
        net: kernel::namespace(ns, offset!(nsproxy_net), offset!(net_ns_inum)),
        user: kernel::peek::<u32>(user_ns, offset!(user_ns_inum)),
        uts: kernel::namespace(ns, offset!(nsproxy_uts), offset!(uts_ns_inum)),
        ipc: kernel::namespace(ns, offset!(nsproxy_ipc), offset!(ipc_ns_inum)),
        cgroup: kernel::namespace(ns, offset!(nsproxy_cgroup), offset!(cgroup_ns_inum)),
        time: kernel::namespace(ns, offset!(nsproxy_time), offset!(time_ns_inum)),
    };
}

/// As task_active_pid_ns(): the namespace of the innermost number of `thread_pid`.
#[inline(always)]
fn pid_namespace(task: Ptr) -> u32 {
    let pid = kernel::follow(task, offset!(task_thread_pid));
    let level = kernel::peek::<u32>(pid, offset!(pid_level)) as usize & 0x1f;
    let upid = kernel::field(pid, offset!(pid_numbers) + level * kernel::upid_bytes());
    kernel::namespace(upid, offset!(upid_ns), offset!(pid_ns_inum))
}

/// The path given to execve, which for a script is the script.
#[inline(always)]
fn script_path(
    text: &mut [u8; emit::TEXT_BUFFER],
    at: usize,
    buffer: &mut path::Path,
    bprm: Ptr,
) -> (Text, usize) {
    let name: Ptr = kernel::load(bprm, offset!(bprm_filename));
    let bytes = kernel::read_str(buffer.bytes.as_mut_ptr(), limits::PATH_BYTES_MAX as u32, name);
    let (mut kept, mut hash, mut flags) = (bytes, 0, text_flags::UNHASHED);
    if bytes > limits::PATH_BYTES_KEPT {
        (kept, hash, flags) = (limits::PATH_BYTES_KEPT, buffer.hash_prefix(bytes), text_flags::TRUNCATED);
    }
    path::copy(text, at, buffer.bytes.as_ptr(), kept, bytes, hash, flags)
}

/// argv as the kernel has just laid it out in the new image, before its first instruction can change it.
#[inline(always)]
fn argv(text: &mut [u8; emit::TEXT_BUFFER], at: usize, buffer: &mut path::Path, task: Ptr) -> (Text, usize) {
    let mm = kernel::follow(task, offset!(task_mm));
    let start: u64 = kernel::peek(mm, offset!(mm_arg_start));
    let end: u64 = kernel::peek(mm, offset!(mm_arg_end));
    let whole = end.wrapping_sub(start) as usize;
    let (mut kept, mut hash, mut flags) = (whole, 0, text_flags::UNHASHED);
    if whole > limits::ARGV_BYTES_KEPT {
        kept = limits::ARGV_BYTES_KEPT;
        hash = buffer.hash_user(start, whole as u64);
        flags = text_flags::TRUNCATED | if buffer.flags == 0 { 0 } else { text_flags::UNHASHED };
    }
    let kept = path::opaque(kept) & 0x7ff;
    // SAFETY: at most 2047 bytes into a buffer of more than 4096.
    let status =
        unsafe { bpf_probe_read_user(buffer.bytes.as_mut_ptr().cast(), kept as u32, start as *const _) };
    if status != 0 {
        flags |= text_flags::UNREADABLE | text_flags::UNHASHED;
        return (Text { hash: 0, full_bytes: whole as u32, kept_bytes: 0, flags }, at);
    }
    path::copy(text, at, buffer.bytes.as_ptr(), kept, whole, hash, flags)
}
