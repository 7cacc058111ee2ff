//! The births that the standard library has no name for: clone3 and vfork.

use std::ffi::{c_int, c_void};

use super::{Refused, call, raw};

/// Makes a child as fork does, with further flags and, where it is said, with a pid of the caller's choice.
/// Returns 0 in the child.
pub fn clone3(flags: u64, pid: Option<libc::pid_t>) -> Result<libc::pid_t, Refused> {
    // A sibling tells its end to whom our own end is told.
    let signal = if flags & CLONE_PARENT == 0 { libc::SIGCHLD.cast_unsigned().into() } else { 0 };
    let chosen = pid.map(|pid| [pid]);
    let (pids, count) = chosen.as_ref().map_or((0, 0), |pids| (pids.as_ptr().addr() as u64, 1));
    // struct clone_args up to cgroup (Linux 5.7): flags, pidfd, child and parent tid, exit signal, stack and its size,
    // tls, set_tid and its size, cgroup.
    let args: [u64; 11] = [flags, 0, 0, 0, signal, 0, 0, 0, pids, count, 0];
    let size = size_of_val(&args);
    // SAFETY: without a stack of its own the child goes on in a copy of this one, as after fork.
    let child = unsafe { raw("clone3", libc::SYS_clone3, [args.as_ptr().addr(), size, 0, 0, 0, 0]) }?;
    Ok(libc::pid_t::try_from(child).unwrap_or(-1))
}

/// Runs `act` in a child that shares this process's memory, while this process sleeps until the child ends or execs.
pub fn vfork(act: impl FnOnce() -> c_int) -> Result<libc::pid_t, Refused> {
    extern "C" fn start<F: FnOnce() -> c_int>(act: *mut c_void) -> c_int {
        // SAFETY: the parent passed an `Option<F>` of its own, and sleeps.
        let act = unsafe { &mut *act.cast::<Option<F>>() };
        act.take().map_or(127, |act| act())
    }
    fn begin<F: FnOnce() -> c_int>(act: F) -> c_int {
        let mut act = Some(act);
        let mut stack = vec![0_u128; CHILD_STACK_BYTES / 16];
        let (top, flags) =
            (stack.as_mut_ptr_range().end.cast(), libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD);
        // SAFETY: the stack is the child's alone, and it and `act` live until the child needs them no more.
        unsafe { libc::clone(start::<F>, top, flags, (&raw mut act).cast()) }
    }
    let child = begin(act);
    call("vfork", child)?;
    Ok(child)
}

pub const CLONE_PARENT: u64 = 0x8000;

/// Enough for a way or an exec.
const CHILD_STACK_BYTES: usize = 256 * 1024;
