//! The system calls the ways are made of; each answers with the step at which the kernel said no.

use std::{
    ffi::{CStr, c_int, c_void},
    fmt, io,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

use serde::{Deserialize, Serialize};

/// What left the process when a way succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub bytes: usize,
}

/// The kernel's no: the step of the way that failed, and with which errno. `errno` 0 means that the call reported
/// less done than asked, without saying why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub step: String,
    pub errno: i32,
    /// Bytes or messages that went out before the refusal.
    pub sent: usize,
}

pub type Outcome = Result<Sent, Refused>;

impl Refused {
    pub fn new(step: impl Into<String>, errno: i32) -> Self {
        Self { step: step.into(), errno, sent: 0 }
    }

    pub fn last(step: impl Into<String>) -> Self {
        Self::new(step, io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    pub fn io(step: impl Into<String>, error: &io::Error) -> Self {
        Self::new(step, error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// The same refusal, told as part of a longer step.
    pub fn within(mut self, what: &str) -> Self {
        self.step = format!("{what} {}", self.step);
        self
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, errno_name(self.errno))
    }
}

/// Turns a system call's return value into a count or a refusal.
pub fn call(step: &str, returned: impl Into<i64>) -> Result<usize, Refused> {
    let returned = returned.into();
    usize::try_from(returned).map_err(|_| Refused::last(step))
}

/// Takes ownership of a descriptor that a system call returned.
pub fn own(step: &str, returned: impl Into<i64>) -> Result<OwnedFd, Refused> {
    let fd = call(step, returned)?;
    let fd = RawFd::try_from(fd).map_err(|_| Refused::new(step, libc::EBADF))?;
    // SAFETY: the kernel just returned this descriptor to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads a result that carries its errno negated, as rings and compat calls do.
pub fn result_of(step: &str, result: i64) -> Outcome {
    match usize::try_from(result) {
        Ok(bytes) => Ok(Sent { bytes }),
        Err(_) => Err(Refused::new(step, i32::try_from(-result).unwrap_or(libc::EIO))),
    }
}

/// A socket address as the bytes that the kernel reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addr(Vec<u8>);

impl Addr {
    pub fn raw(family: c_int, rest: &[u8]) -> Self {
        let family = u16::try_from(family).unwrap_or(0);
        Self([&family.to_ne_bytes()[..], rest].concat())
    }

    pub fn inet(to: SocketAddr) -> Self {
        match to {
            SocketAddr::V4(to) => Self::v4(to),
            SocketAddr::V6(to) => Self::v6(to),
        }
    }

    pub fn v4(to: SocketAddrV4) -> Self {
        Self::raw(libc::AF_INET, &[&to.port().to_be_bytes()[..], &to.ip().octets(), &[0; 8]].concat())
    }

    pub fn v6(to: SocketAddrV6) -> Self {
        let rest = [
            &to.port().to_be_bytes()[..],
            &to.flowinfo().to_be_bytes(),
            &to.ip().octets(),
            &to.scope_id().to_ne_bytes(),
        ];
        Self::raw(libc::AF_INET6, &rest.concat())
    }

    /// `::ffff:a.b.c.d`, which an AF_INET6 socket sends as IPv4.
    pub fn mapped(to: SocketAddrV4) -> Self {
        Self::v6(SocketAddrV6::new(to.ip().to_ipv6_mapped(), to.port(), 0, 0))
    }

    pub fn unix_path(path: &[u8]) -> Self {
        Self::raw(libc::AF_UNIX, &[path, &[0]].concat())
    }

    pub fn unix_abstract(name: &[u8]) -> Self {
        Self::raw(libc::AF_UNIX, &[&[0], name].concat())
    }

    pub fn vsock(cid: u32, port: u32) -> Self {
        Self::raw(libc::AF_VSOCK, &[&[0, 0], &port.to_ne_bytes()[..], &cid.to_ne_bytes(), &[0; 4]].concat())
    }

    pub fn netlink(pid: u32, groups: u32) -> Self {
        Self::raw(libc::AF_NETLINK, &[&[0, 0], &pid.to_ne_bytes()[..], &groups.to_ne_bytes()].concat())
    }

    pub fn link(ifindex: u32, protocol: u16) -> Self {
        let rest = [&protocol.to_be_bytes()[..], &ifindex.to_ne_bytes(), &[0, 0, 0, 6], &[0; 8]];
        Self::raw(libc::AF_PACKET, &rest.concat())
    }

    /// The same address under another family number.
    pub fn with_family(mut self, family: c_int) -> Self {
        let family = u16::try_from(family).unwrap_or(0);
        self.0[..2].copy_from_slice(&family.to_ne_bytes());
        self
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn ptr(&self) -> *const libc::sockaddr {
        self.0.as_ptr().cast()
    }

    pub fn length(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(0)
    }
}

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

/// One message for sendmsg, with the control data already laid out by [`cmsg`].
#[derive(Default)]
pub struct Message<'a> {
    pub to: Option<&'a Addr>,
    pub bytes: &'a [u8],
    pub control: &'a [u8],
    pub flags: c_int,
}

impl Message<'_> {
    /// Calls `with` with the kernel's view of this message, which points into it.
    pub fn with<T>(&self, with: impl FnOnce(&mut libc::msghdr) -> T) -> T {
        let mut part =
            libc::iovec { iov_base: self.bytes.as_ptr().cast_mut().cast(), iov_len: self.bytes.len() };
        // SAFETY: all zeroes is a valid msghdr: null pointers with zero lengths.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if let Some(to) = self.to {
            header.msg_name = to.ptr().cast_mut().cast();
            header.msg_namelen = to.length();
        }
        if !self.control.is_empty() {
            header.msg_control = self.control.as_ptr().cast_mut().cast();
            header.msg_controllen = self.control.len() as _;
        }
        with(&mut header)
    }

    pub fn send(&self, fd: &impl AsRawFd) -> Outcome {
        // SAFETY: the header points into this message, which outlives the call.
        let sent = self.with(|header| unsafe { libc::sendmsg(fd.as_raw_fd(), header, self.flags) });
        call("sendmsg", sent as i64).map(|bytes| Sent { bytes })
    }
}

/// One control message, padded so that another may follow.
pub fn cmsg(level: c_int, kind: c_int, data: &[u8]) -> Vec<u8> {
    let len = CMSG_HEADER_BYTES + data.len();
    let mut bytes = Vec::with_capacity(len + 8);
    bytes.extend_from_slice(&len.to_ne_bytes());
    bytes.extend_from_slice(&level.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(data);
    bytes.resize(len.next_multiple_of(8), 0);
    bytes
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

pub fn is_root() -> bool {
    // SAFETY: geteuid cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Nanoseconds of CLOCK_MONOTONIC, which all processes of a host share.
pub fn now_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid timespec to fill.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

pub fn errno_name(errno: i32) -> String {
    match ERRNO_NAMES.iter().find(|(number, _)| *number == errno) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("E{errno}"),
    }
}

/// Enough for a way or an exec.
const CHILD_STACK_BYTES: usize = 256 * 1024;
const CMSG_HEADER_BYTES: usize = 16;

const ERRNO_NAMES: &[(i32, &str)] = &[
    (libc::EPERM, "EPERM"),
    (libc::ENOENT, "ENOENT"),
    (libc::EINTR, "EINTR"),
    (libc::EIO, "EIO"),
    (libc::ENXIO, "ENXIO"),
    (libc::EBADF, "EBADF"),
    (libc::ECHILD, "ECHILD"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::EACCES, "EACCES"),
    (libc::EFAULT, "EFAULT"),
    (libc::EBUSY, "EBUSY"),
    (libc::EEXIST, "EEXIST"),
    (libc::ENODEV, "ENODEV"),
    (libc::ENOTDIR, "ENOTDIR"),
    (libc::EINVAL, "EINVAL"),
    (libc::EMFILE, "EMFILE"),
    (libc::ENOTTY, "ENOTTY"),
    (libc::EROFS, "EROFS"),
    (libc::EPIPE, "EPIPE"),
    (libc::ENOSYS, "ENOSYS"),
    (libc::EPROTO, "EPROTO"),
    (libc::EBADMSG, "EBADMSG"),
    (libc::ENOTSOCK, "ENOTSOCK"),
    (libc::EDESTADDRREQ, "EDESTADDRREQ"),
    (libc::EMSGSIZE, "EMSGSIZE"),
    (libc::EPROTOTYPE, "EPROTOTYPE"),
    (libc::ENOPROTOOPT, "ENOPROTOOPT"),
    (libc::EPROTONOSUPPORT, "EPROTONOSUPPORT"),
    (libc::ESOCKTNOSUPPORT, "ESOCKTNOSUPPORT"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP"),
    (libc::EPFNOSUPPORT, "EPFNOSUPPORT"),
    (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
    (libc::EADDRINUSE, "EADDRINUSE"),
    (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL"),
    (libc::ENETDOWN, "ENETDOWN"),
    (libc::ENETUNREACH, "ENETUNREACH"),
    (libc::ECONNABORTED, "ECONNABORTED"),
    (libc::ECONNRESET, "ECONNRESET"),
    (libc::ENOBUFS, "ENOBUFS"),
    (libc::EISCONN, "EISCONN"),
    (libc::ENOTCONN, "ENOTCONN"),
    (libc::ETIMEDOUT, "ETIMEDOUT"),
    (libc::ECONNREFUSED, "ECONNREFUSED"),
    (libc::EHOSTUNREACH, "EHOSTUNREACH"),
    (libc::EALREADY, "EALREADY"),
    (libc::EINPROGRESS, "EINPROGRESS"),
    (libc::ECANCELED, "ECANCELED"),
    (libc::ENOKEY, "ENOKEY"),
    (libc::EKEYREJECTED, "EKEYREJECTED"),
];
