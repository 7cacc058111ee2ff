//! The bpf() system call: what aya does not offer, or offers at a price that a start cannot pay.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use bytemuck::{Pod, Zeroable};
use nix::libc;

/// `enum bpf_cmd` (linux/bpf.h).
const MAP_LOOKUP: libc::c_long = 1;
const MAP_UPDATE: libc::c_long = 2;
const PROG_LOAD: libc::c_long = 5;
const OBJ_PIN: libc::c_long = 6;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const BTF_LOAD: libc::c_long = 18;
const MAP_FREEZE: libc::c_long = 22;
const LINK_CREATE: libc::c_long = 28;

/// `union bpf_attr` for BPF_PROG_LOAD, as far as we fill it; the kernel takes what follows for zeros.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct ProgramLoad {
    pub kind: u32,
    pub instructions_count: u32,
    pub instructions: u64,
    pub license: u64,
    pub log_level: u32,
    pub log_bytes: u32,
    pub log: u64,
    pub kernel_version: u32,
    pub flags: u32,
    pub name: [u8; 16],
    pub interface: u32,
    pub attach_type: u32,
    pub btf: RawFd,
    pub func_info_bytes: u32,
    pub func_info: u64,
    pub func_info_count: u32,
    pub line_info_bytes: u32,
    pub line_info: u64,
    pub line_info_count: u32,
    pub attach_btf_id: u32,
}

/// Loads a program.
pub fn load_program(load: &ProgramLoad) -> io::Result<OwnedFd> {
    owned(bpf(PROG_LOAD, load)?)
}

/// Hands over the BTF of the object's own types.
pub fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attributes {
        btf: u64,
        log: u64,
        btf_bytes: u32,
        log_bytes: u32,
    }
    let btf_bytes = btf.len() as u32;
    owned(bpf(BTF_LOAD, &Attributes { btf: btf.as_ptr() as u64, log: 0, btf_bytes, log_bytes: 0 })?)
}

/// Attaches a program to what it was loaded for: an LSM hook or a tracepoint.
pub fn attach(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attributes {
        name: u64,
        program: RawFd,
        _pad: u32,
    }
    owned(bpf(RAW_TRACEPOINT_OPEN, &Attributes { name: 0, program: program.as_raw_fd(), _pad: 0 })?)
}

/// Attaches a program to a cgroup, beside whatever is attached there.
pub fn attach_to_cgroup(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, kind: u32) -> io::Result<OwnedFd> {
    let attributes = [program.as_raw_fd() as u32, cgroup.as_raw_fd() as u32, kind, 0];
    owned(bpf(LINK_CREATE, &attributes)?)
}

/// Pins an object, which lives as long as its pin from then on.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    #[repr(C)]
    #[derive(Clone, Copy, Pod, Zeroable)]
    struct Attributes {
        path: u64,
        object: RawFd,
        flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    bpf(OBJ_PIN, &Attributes { path: path.as_ptr() as u64, object: object.as_raw_fd(), flags: 0 }).map(drop)
}

/// Fills the one entry of a section's map and closes it to further writes: only then does the verifier take what is in
/// it for constants.
pub fn fill_and_freeze(map: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    let key = 0u32;
    bpf(MAP_UPDATE, &Entry::of(map, (&raw const key) as u64, value.as_ptr() as u64))?;
    bpf(MAP_FREEZE, &[map.as_raw_fd()]).map(drop)
}

/// Looks up task storage by pidfd; `None` when the task is gone or has none.
pub fn task_storage<T: Pod>(map: impl AsFd, pidfd: BorrowedFd<'_>) -> Option<T> {
    let key = pidfd.as_raw_fd();
    let mut value = T::zeroed();
    let entry = Entry::of(map.as_fd(), (&raw const key) as u64, (&raw mut value) as u64);
    bpf(MAP_LOOKUP, &entry).is_ok().then_some(value)
}

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Entry {
    map: RawFd,
    _pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Entry {
    fn of(map: BorrowedFd<'_>, key: u64, value: u64) -> Self {
        Self { map: map.as_raw_fd(), _pad: 0, key, value, flags: 0 }
    }
}

/// `attributes` holds addresses of what outlives the call.
fn bpf<T: Pod>(command: libc::c_long, attributes: &T) -> io::Result<libc::c_long> {
    // SAFETY: every caller in this file gives the attributes of its command, whose addresses point to what it borrows.
    let answer = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn owned(descriptor: libc::c_long) -> io::Result<OwnedFd> {
    let descriptor = RawFd::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: a descriptor that the kernel has just given to this process.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
