//! The system calls that make a process or a thread.

use std::{ffi::c_void, ptr, thread};

use super::{Born, Command, Row, fork_then, give_up, row, wait};
use io_uring::IoUring;

use crate::act::sys::{self, Refused};

pub(super) const ROWS: &[Row] = &[
    row("plain", "no birth: exec in place", |command| command.exec()),
    row("fork", "fork, exec", fork),
    row("vfork", "CLONE_VM | CLONE_VFORK, exec", |command| vfork(command, false)),
    row("vfork-setsid", "the same, and setsid before the exec", |command| vfork(command, true)),
    row("spawn", "posix_spawn", spawn),
    row("clone3", "clone3, exec", |command| clone3(command, 0, None)),
    row("clone-parent", "clone3(CLONE_PARENT): a sibling of this process", clone_parent),
    row("thread-exec", "exec from a thread that is not the leader", |command| {
        in_threads(1, || command.exec())
    }),
    row("thread-chain", "a thread of a thread of a thread execs", |command| in_threads(3, || command.exec())),
    row("thread-fork", "a thread forks, the child execs", thread_fork),
    row("uring", "fork from a process whose ring has a polling thread", uring),
    row("ptrace", "a child that this process traces", ptrace),
    row("pid-reuse", "the pid of a process that just ended", pid_reuse).root(),
    row("fork-storm", "twenty forks, each of the one before", |command| nested(command, 20)),
];

fn fork(command: &Command) -> Result<Born, Refused> {
    fork_then(|| command.exec()).map(Born::Child)
}

fn vfork(command: &Command, new_session: bool) -> Result<Born, Refused> {
    let child = sys::vfork(|| {
        if new_session {
            // SAFETY: no pointers are passed.
            unsafe { libc::setsid() };
        }
        command.exec()
    });
    child.map(Born::Child)
}

fn spawn(command: &Command) -> Result<Born, Refused> {
    let words: Vec<_> =
        command.words.iter().map(|word| word.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect();
    let vars = crate::act::passed::environment();
    let vars: Vec<_> = vars.iter().map(|var| var.as_ptr().cast_mut()).chain([ptr::null_mut()]).collect();
    let (mut pid, file) = (0, words[0]);
    // SAFETY: both lists are null-terminated and outlive the call.
    let errno = unsafe {
        libc::posix_spawnp(&raw mut pid, file, ptr::null(), ptr::null(), words.as_ptr(), vars.as_ptr())
    };
    if errno == 0 { Ok(Born::Child(pid)) } else { Err(Refused::new("posix_spawn", errno)) }
}

/// Executes the command in a child that clone3 made.
pub(super) fn clone3(command: &Command, flags: u64, pid: Option<libc::pid_t>) -> Result<Born, Refused> {
    let child = sys::clone3(flags, pid)?;
    if child == 0 {
        command.exec();
    }
    Ok(Born::Child(child))
}

fn clone_parent(command: &Command) -> Result<Born, Refused> {
    clone3(command, sys::CLONE_PARENT, None)?;
    Ok(Born::Orphan)
}

/// Runs `act` in the last of `depth` threads, each started by the one before. When it execs, all others end and the
/// process keeps its pid.
fn in_threads<T: Send>(depth: u32, act: impl FnOnce() -> T + Send) -> T {
    if depth == 0 {
        return act();
    }
    thread::scope(|scope| {
        scope.spawn(|| in_threads(depth - 1, Box::new(act) as Box<dyn FnOnce() -> T + Send>)).join()
    })
    .unwrap_or_else(|_| give_up(&Refused::new("thread", libc::EIO)))
}

fn thread_fork(command: &Command) -> Result<Born, Refused> {
    in_threads(1, || fork(command))
}

fn uring(command: &Command) -> Result<Born, Refused> {
    let ring: IoUring = IoUring::builder()
        .setup_sqpoll(1000)
        .build(8)
        .map_err(|error| Refused::io("io_uring_setup", &error))?;
    let born = fork(command);
    std::mem::forget(ring);
    born
}

/// The child stops at its exec and at every signal; the tracer lets it go on each time.
fn ptrace(command: &Command) -> Result<Born, Refused> {
    let none: *mut c_void = ptr::null_mut();
    let child = fork_then(|| {
        // SAFETY: PTRACE_TRACEME takes no arguments.
        sys::call("ptrace", unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, none, none) })?;
        command.exec()
    })?;
    loop {
        let mut status = 0;
        // SAFETY: `status` is a valid int to fill.
        sys::call("waitpid", unsafe { libc::waitpid(child, &raw mut status, 0) })?;
        if !libc::WIFSTOPPED(status) {
            super::exit(if libc::WIFEXITED(status) {
                libc::WEXITSTATUS(status)
            } else {
                128 + libc::WTERMSIG(status)
            });
        }
        let signal = libc::WSTOPSIG(status);
        let signal = if signal == libc::SIGTRAP { 0 } else { usize::try_from(signal).unwrap_or(0) };
        // SAFETY: the child is traced by us and stopped; the signal is passed as a number.
        sys::call("ptrace", unsafe {
            libc::ptrace(libc::PTRACE_CONT, child, none, ptr::without_provenance_mut::<c_void>(signal))
        })?;
    }
}

/// A first child ends, and the next is asked for with its pid.
fn pid_reuse(command: &Command) -> Result<Born, Refused> {
    let former = fork_then(|| super::exit(0))?;
    wait(former)?;
    clone3(command, 0, Some(former))
}

fn nested(command: &Command, depth: u32) -> Result<Born, Refused> {
    if depth == 0 {
        command.exec();
    }
    fork_then(|| match nested(command, depth - 1)? {
        Born::Child(child) => super::exit(wait(child)?),
        Born::Orphan => super::exit(0),
    })
    .map(Born::Child)
}
