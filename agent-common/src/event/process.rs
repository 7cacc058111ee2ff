//! The process family: exec, exit, birth, and the cgroups processes live in.

use bytemuck::{Pod, Zeroable};

use super::{Header, Text};
use crate::identity::FileKey;

/// Inode numbers of the namespaces a process is in (`/proc/PID/ns/*`); 0 when unknown.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Namespaces {
    pub mnt: u32,
    pub pid: u32,
    pub net: u32,
    pub user: u32,
    pub uts: u32,
    pub ipc: u32,
    pub cgroup: u32,
    pub time: u32,
}

/// A program image replaced another. Texts: exe, script, argv, cwd.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Exec {
    pub header: Header,
    /// The file whose code runs; for a script, its interpreter.
    pub file: FileKey,
    pub namespaces: Namespaces,
    /// The instance's parent instance when `recognised` began a new one.
    pub parent_instance: u64,
    /// Parent's process id at this time (may be init after re-parenting: lineage is `header.subject`).
    pub ppid: u32,
    /// `task_struct.sessionid` of the audit system; `u32::MAX` for none.
    pub session_id: u32,
    /// Controlling terminal as the kernel's dev_t; 0 for none.
    pub tty: u32,
    pub gid: u32,
    pub euid: u32,
    pub egid: u32,
    /// [`crate::identity::Recognised`], raw: anything but `No` began a new instance here.
    pub recognised: u8,
    /// Bits of [`exec_flags`].
    pub flags: u8,
    /// Which entry of the agent's `match` list recognised it.
    pub entry: u16,
    pub _pad: u32,
    pub exe: Text,
    /// The path given to execve when that was a `#!` script; empty otherwise.
    pub script: Text,
    /// NUL-separated, as in /proc/PID/cmdline.
    pub argv: Text,
    pub cwd: Text,
}
const _: () = assert!(size_of::<Exec>() == 96 + 16 + 32 + 8 + 24 + 8 + 64);

/// Bits of [`Exec::flags`].
pub mod exec_flags {
    /// The file has no name any more or never had (memfd, unlinked).
    pub const NAMELESS: u8 = 1 << 0;
    /// Set-id: the effective ids differ from the real ones.
    pub const SETID: u8 = 1 << 1;
}

/// A process's last thread ended (or, with `instance_ended`, an instance's last task).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Exit {
    pub header: Header,
    /// Wait status: exit code << 8 | signal.
    pub status: u32,
    /// 1 when no task of the instance is left.
    pub instance_ended: u32,
}
const _: () = assert!(size_of::<Exit>() == 104);

/// A process (not a thread) was born; the subject is its parent.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Fork {
    pub header: Header,
    pub child_pid: u32,
    pub _pad: u32,
    /// CLONE_* flags.
    pub clone_flags: u64,
}
const _: () = assert!(size_of::<Fork>() == 112);

/// A cgroup of the unified hierarchy was created. Text: path.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct CgroupCreated {
    pub header: Header,
    pub cgroup_id: u64,
    /// Path below the root of the hierarchy.
    pub path: Text,
}
const _: () = assert!(size_of::<CgroupCreated>() == 120);
