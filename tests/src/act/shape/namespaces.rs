//! Namespaces and roots: what changes the names of things around a process.

use std::{fs, os::fd::AsRawFd, path::Path};

use super::{Born, Command, Row, births::clone3, exit, fork_then, row, wait};
use crate::act::sys::{self, Refused};

pub(super) const ROWS: &[Row] = &[
    row("user-ns", "unshare(CLONE_NEWUSER), mapped to itself", |command| {
        unshared(command, libc::CLONE_NEWUSER)
    }),
    row("pid-ns", "unshare(CLONE_NEWPID), fork: pid 1 of its own", |command| {
        unshared(command, libc::CLONE_NEWPID)
    })
    .root(),
    row("net-ns", "unshare(CLONE_NEWNET)", |command| unshared(command, libc::CLONE_NEWNET)).root(),
    row("mount-ns", "unshare(CLONE_NEWNS)", |command| unshared(command, libc::CLONE_NEWNS)).root(),
    row("uts-ns", "unshare(CLONE_NEWUTS)", |command| unshared(command, libc::CLONE_NEWUTS)).root(),
    row("ipc-ns", "unshare(CLONE_NEWIPC)", |command| unshared(command, libc::CLONE_NEWIPC)).root(),
    row("cgroup-ns", "unshare(CLONE_NEWCGROUP)", |command| unshared(command, libc::CLONE_NEWCGROUP)).root(),
    row("all-ns", "unshare of all of them by an unprivileged user", |command| unshared(command, ALL)),
    row("clone3-pid-ns", "clone3(CLONE_NEWPID)", clone3_pid_ns).root(),
    row("setns", "setns to the namespaces of pid 1", setns).root(),
    row("chroot", "chroot(/), chdir(/)", chroot).root(),
];

const ALL: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWCGROUP;

fn unshared(command: &Command, namespaces: i32) -> Result<Born, Refused> {
    // SAFETY: getuid and getgid cannot fail.
    let (user, group) = unsafe { (libc::getuid(), libc::getgid()) };
    fork_then(|| {
        // SAFETY: no pointers are passed.
        sys::call("unshare", unsafe { libc::unshare(namespaces) })?;
        if namespaces & libc::CLONE_NEWUSER != 0 {
            write("/proc/self/setgroups", "deny")?;
            write("/proc/self/uid_map", &format!("{user} {user} 1"))?;
            write("/proc/self/gid_map", &format!("{group} {group} 1"))?;
        }
        if namespaces & libc::CLONE_NEWPID != 0 {
            // Only children are born into the new pid namespace.
            let child = fork_then(|| command.exec())?;
            exit(wait(child)?);
        }
        command.exec()
    })
    .map(Born::Child)
}

fn write(path: &str, text: &str) -> Result<(), Refused> {
    fs::write(path, text).map_err(|error| Refused::io(path, &error))
}

fn clone3_pid_ns(command: &Command) -> Result<Born, Refused> {
    clone3(command, libc::CLONE_NEWPID.cast_unsigned().into(), None)
}

fn setns(command: &Command) -> Result<Born, Refused> {
    fork_then(|| {
        for (path, kind) in [(c"/proc/1/ns/net", libc::CLONE_NEWNET), (c"/proc/1/ns/mnt", libc::CLONE_NEWNS)]
        {
            let namespace = sys::open(path, libc::O_RDONLY)?;
            // SAFETY: no pointers are passed.
            sys::call("setns", unsafe { libc::setns(namespace.as_raw_fd(), kind) })?;
        }
        command.exec()
    })
    .map(Born::Child)
}

fn chroot(command: &Command) -> Result<Born, Refused> {
    fork_then(|| {
        let root = Path::new("/");
        std::os::unix::fs::chroot(root).map_err(|error| Refused::io("chroot", &error))?;
        std::env::set_current_dir(root).map_err(|error| Refused::io("chdir", &error))?;
        command.exec()
    })
    .map(Born::Child)
}
