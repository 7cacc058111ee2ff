//! The system calls the ways are made of; each answers with the step at which the kernel said no.

mod address;
mod birth;
mod message;
mod refusal;

use std::{
    ffi::{CStr, c_int, c_void},
    os::fd::{AsRawFd, OwnedFd, RawFd},
    ptr,
};

pub use self::{
    address::Addr,
    birth::{CLONE_PARENT, clone3, vfork},
    message::{Message, cmsg},
    refusal::{Outcome, Refused, Sent, call, errno_name, own, result_of},
};

pub fn socket(domain: c_int, kind: c_int, protocol: c_int) -> Result<OwnedFd, Refused> {
    // SAFETY: no pointers are passed.
    own("socket", unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })
}

pub fn connect(fd: &impl AsRawFd, to: &Addr) -> Result<(), Refused> {
    // SAFETY: the address outlives the call and its length is its own.
    call("connect", unsafe { libc::connect(fd.as_raw_fd(), to.ptr(), to.length()) }).map(drop)
}

pub fn bind(fd: &impl AsRawFd, to: &Addr) -> Result<(), Refused> {
    // SAFETY: the address outlives the call and its length is its own.
    call("bind", unsafe { libc::bind(fd.as_raw_fd(), to.ptr(), to.length()) }).map(drop)
}

pub fn listen(fd: &impl AsRawFd) -> Result<(), Refused> {
    // SAFETY: no pointers are passed.
    call("listen", unsafe { libc::listen(fd.as_raw_fd(), 1024) }).map(drop)
}

pub fn sendto(fd: &impl AsRawFd, bytes: &[u8], flags: c_int, to: Option<&Addr>) -> Outcome {
    let (to, len) = to.map_or((ptr::null(), 0), |to| (to.ptr(), to.length()));
    let step = if to.is_null() { "send" } else { "sendto" };
    // SAFETY: buffer and address outlive the call and their lengths are their own.
    let sent = unsafe { libc::sendto(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags, to, len) };
    call(step, sent as i64).map(|bytes| Sent { bytes })
}

pub fn write(fd: &impl AsRawFd, bytes: &[u8]) -> Outcome {
    // SAFETY: the buffer outlives the call and its length is its own.
    let sent = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    call("write", sent as i64).map(|bytes| Sent { bytes })
}

pub fn read(fd: &impl AsRawFd, buffer: &mut [u8]) -> Result<usize, Refused> {
    // SAFETY: the buffer outlives the call and its length is its own.
    let got = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    call("read", got as i64)
}

pub fn setsockopt(fd: &impl AsRawFd, level: c_int, name: c_int, value: &[u8]) -> Result<(), Refused> {
    let len = u32::try_from(value.len()).unwrap_or(0);
    // SAFETY: the value outlives the call and its length is its own.
    let returned = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    call("setsockopt", returned).map(drop)
}

pub fn set_int(fd: &impl AsRawFd, level: c_int, name: c_int, value: c_int) -> Result<(), Refused> {
    setsockopt(fd, level, name, &value.to_ne_bytes())
}

/// Calls a raw system call whose pointers the caller keeps alive.
///
/// # Safety
/// The arguments must be what the kernel expects of `number`.
pub unsafe fn raw(step: &str, number: libc::c_long, args: [usize; 6]) -> Result<usize, Refused> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the caller answers for the arguments.
    call(step, unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

pub fn pair(kind: c_int) -> Result<(OwnedFd, OwnedFd), Refused> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors.
    call("socketpair", unsafe {
        libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr())
    })?;
    Ok((own("socketpair", fds[0])?, own("socketpair", fds[1])?))
}

pub fn pipe() -> Result<(OwnedFd, OwnedFd), Refused> {
    let mut fds = [0; 2];
    // SAFETY: `fds` has room for the two descriptors.
    call("pipe2", unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    Ok((own("pipe2", fds[0])?, own("pipe2", fds[1])?))
}

pub fn open(path: &CStr, flags: c_int) -> Result<OwnedFd, Refused> {
    // SAFETY: the path is a C string that outlives the call.
    own("open", unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC, 0o600) })
}

/// Waits until `fd` is ready for `events`; false when the time is over.
pub fn wait_for(fd: &impl AsRawFd, events: i16, timeout_ms: c_int) -> Result<bool, Refused> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one pollfd, as told.
    Ok(call("poll", unsafe { libc::poll(&raw mut poll, 1, timeout_ms) })? > 0)
}

/// The error a non-blocking operation left on the socket.
pub fn pending_error(fd: &impl AsRawFd) -> Result<c_int, Refused> {
    let mut error: c_int = 0;
    let mut len: libc::socklen_t = 4;
    let at: *mut c_void = (&raw mut error).cast();
    // SAFETY: `error` has the room that `len` tells.
    let returned =
        unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR, at, &raw mut len) };
    call("getsockopt", returned)?;
    Ok(error)
}

pub fn ifindex(name: &str) -> Result<u32, Refused> {
    let name = std::ffi::CString::new(name).map_err(|_| Refused::new("interface", libc::EINVAL))?;
    // SAFETY: the name is a C string that outlives the call.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(Refused::last("interface")),
        index => Ok(index),
    }
}

/// Shared memory for rings: never unmapped, the process is short.
pub fn map(bytes: usize, flags: c_int, fd: RawFd, offset: i64) -> Result<*mut u8, Refused> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the kernel chooses the place, so nothing that exists is replaced.
    let at = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, fd, offset) };
    if at == libc::MAP_FAILED { Err(Refused::last("mmap")) } else { Ok(at.cast()) }
}

/// Nanoseconds of CLOCK_MONOTONIC, which all processes of a host share.
pub fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// As kernel programs tell time.
pub fn boot_ns() -> u64 {
    clock_ns(libc::CLOCK_BOOTTIME)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to fill.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}
