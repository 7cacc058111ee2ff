//! Who is whose parent, which session and terminal: all that a daemon or a terminal program changes.

use std::{
    ffi::CStr,
    io::Write,
    os::fd::{AsRawFd, OwnedFd},
    ptr, thread,
    time::Duration,
};

use super::{Born, Command, Row, exit, fork_then, row, wait};
use crate::act::sys::{self, Refused};

pub(super) const ROWS: &[Row] = &[
    row("setsid", "fork, setsid, exec", setsid),
    row("double-fork", "a daemon: fork, setsid, fork, the parent exits", double_fork),
    row("orphan", "the child kills its parent, then execs", orphan),
    row("subreaper", "a daemon that comes back to this process", subreaper),
    row("pty", "a session of its own on a fresh terminal", pty),
    row("nohup", "SIGHUP ignored, a process group of its own", nohup),
    row("comm-bash", "below a process that calls itself bash", |command| renamed(command, c"bash")),
    row("comm-systemd", "below a process that calls itself systemd", |command| renamed(command, c"systemd")),
    row("setuid", "as nobody", setuid).root(),
];

fn new_session() -> Result<(), Refused> {
    // SAFETY: no pointers are passed.
    sys::call("setsid", unsafe { libc::setsid() }).map(drop)
}

fn setsid(command: &Command) -> Result<Born, Refused> {
    fork_then(|| {
        new_session()?;
        command.exec()
    })
    .map(Born::Child)
}

fn double_fork(command: &Command) -> Result<Born, Refused> {
    let middle = fork_then(|| {
        new_session()?;
        let parent = std::process::id();
        fork_then(|| {
            wait_for_other_parent(parent);
            command.exec()
        })?;
        exit(0)
    })?;
    wait(middle)?;
    Ok(Born::Orphan)
}

/// So that the command surely starts as an orphan.
fn wait_for_other_parent(parent: u32) {
    while std::os::unix::process::parent_id() == parent {
        thread::sleep(Duration::from_millis(1));
    }
}

fn orphan(command: &Command) -> Result<Born, Refused> {
    let middle = fork_then(|| {
        let parent = std::process::id();
        fork_then(|| {
            let victim = libc::pid_t::try_from(parent).unwrap_or(libc::pid_t::MAX);
            // SAFETY: the victim is our parent, made for this.
            sys::call("kill", unsafe { libc::kill(victim, libc::SIGKILL) })?;
            wait_for_other_parent(parent);
            command.exec()
        })?;
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    })?;
    wait(middle)?;
    Ok(Born::Orphan)
}

fn subreaper(command: &Command) -> Result<Born, Refused> {
    // SAFETY: numbers only.
    sys::call("prctl", unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) })?;
    double_fork(command)?;
    // The orphan is ours again, and our only child.
    Ok(Born::Child(-1))
}

/// What the command writes to its terminal comes to our output.
fn pty(command: &Command) -> Result<Born, Refused> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: no pointers are passed.
    let ours = sys::own("posix_openpt", unsafe { libc::posix_openpt(flags) })?;
    // SAFETY: no pointers are passed.
    sys::call("grantpt", unsafe { libc::grantpt(ours.as_raw_fd()) })?;
    // SAFETY: no pointers are passed.
    sys::call("unlockpt", unsafe { libc::unlockpt(ours.as_raw_fd()) })?;
    let theirs = other_side(&ours)?;
    let child = fork_then(|| {
        new_session()?;
        // SAFETY: TIOCSCTTY takes a number.
        sys::call("TIOCSCTTY", unsafe { libc::ioctl(theirs.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
        for number in 0..3 {
            // SAFETY: no pointers are passed.
            sys::call("dup2", unsafe { libc::dup2(theirs.as_raw_fd(), number) })?;
        }
        command.exec()
    })?;
    drop(theirs);
    let mut buffer = [0; 4096];
    // EIO: the last holder of the other side is gone.
    while let Ok(got @ 1..) = sys::read(&ours, &mut buffer) {
        let mut out = std::io::stdout();
        out.write_all(&buffer[..got])
            .and_then(|()| out.flush())
            .map_err(|error| Refused::io("stdout", &error))?;
    }
    Ok(Born::Child(child))
}

fn other_side(ours: &OwnedFd) -> Result<OwnedFd, Refused> {
    let mut name = [0; 64];
    // SAFETY: `name` has the room that its length tells.
    let errno = unsafe { libc::ptsname_r(ours.as_raw_fd(), name.as_mut_ptr(), name.len()) };
    if errno != 0 {
        return Err(Refused::new("ptsname", errno));
    }
    // SAFETY: ptsname_r wrote a C string into `name`, which lives on.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    sys::open(name, libc::O_RDWR | libc::O_NOCTTY)
}

fn nohup(command: &Command) -> Result<Born, Refused> {
    fork_then(|| {
        // SAFETY: SIG_IGN is a valid disposition.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
        // SAFETY: no pointers are passed.
        sys::call("setpgid", unsafe { libc::setpgid(0, 0) })?;
        command.exec()
    })
    .map(Born::Child)
}

/// An exec would reset the name, so the renamed process stays as the command's parent.
fn renamed(command: &Command, name: &'static CStr) -> Result<Born, Refused> {
    fork_then(|| {
        // SAFETY: the name is a C string.
        sys::call("prctl", unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) })?;
        let child = fork_then(|| command.exec())?;
        exit(wait(child)?)
    })
    .map(Born::Child)
}

fn setuid(command: &Command) -> Result<Born, Refused> {
    fork_then(|| {
        // SAFETY: an empty list.
        sys::call("setgroups", unsafe { libc::setgroups(0, ptr::null()) })?;
        // SAFETY: no pointers are passed.
        sys::call("setgid", unsafe { libc::setgid(NOBODY) })?;
        // SAFETY: no pointers are passed.
        sys::call("setuid", unsafe { libc::setuid(NOBODY) })?;
        command.exec()
    })
    .map(Born::Child)
}

const NOBODY: u32 = 65534;
