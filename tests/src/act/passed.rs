//! The socket or the caller comes from elsewhere: duplicated, inherited, passed, lent; threads, vfork children, new images.

use std::{
    env,
    ffi::{CStr, CString, OsString},
    fs,
    io::{Read, Write},
    os::{
        fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd},
        unix::{ffi::OsStrExt, net::UnixStream},
    },
    ptr, thread,
};

use crate::act::{
    ctx::{Ctx, Dest},
    inet::{self, connect_and_send},
    sys::{self, Outcome, Refused, cmsg},
    ways::{
        Family::{Inet, Packet, Raw},
        Seen, Way, way,
    },
};

pub const WAYS: &[Way] = &[
    way("tcp4-dup", Inet, Dest::V4, duplicated),
    way("tcp4-inherited", Inet, Dest::V4, inherited),
    way("tcp4-scm", Inet, Dest::V4, passed),
    way("tcp4-pidfd-getfd", Inet, Dest::V4, taken).kernel(5, 6),
    way("tcp4-thread", Inet, Dest::V4, threaded),
    way("tcp4-vfork", Inet, Dest::V4, vforked),
    way("tcp4-exec", Inet, Dest::V4, |ctx| new_image(ctx, Via::Path)),
    way("tcp4-fexecve", Inet, Dest::V4, |ctx| new_image(ctx, Via::Fexecve)),
    way("tcp4-memfd", Inet, Dest::V4, |ctx| new_image(ctx, Via::Memfd)),
    way("lent-tcp4", Inet, Dest::V4, |ctx| connect_and_send(ctx, &borrow_socket(ctx, "tcp4")?)),
    way("lent-tcp4-connected", Inet, Dest::V4, |ctx| {
        sys::write(&borrow_socket(ctx, "tcp4-connected")?, &ctx.payload())
    }),
    way("lent-udp4", Inet, Dest::V4, |ctx| {
        sys::sendto(&borrow_socket(ctx, "udp4")?, &ctx.payload(), 0, Some(&ctx.addr()?))
    }),
    way("lent-udp4-connected", Inet, Dest::V4, |ctx| {
        sys::write(&borrow_socket(ctx, "udp4-connected")?, &ctx.payload())
    }),
    way("lent-raw4", Raw, Dest::V4, |ctx| crate::act::raw::udp_on(ctx, &borrow_socket(ctx, "raw4")?))
        .seen(Seen::Token),
    way("lent-packet", Packet, Dest::V4, |ctx| {
        crate::act::packet::frame_on(ctx, &borrow_socket(ctx, "packet")?)
    }),
];

/// Runs `act` in a forked child and brings its outcome back. A child that a signal ended says ENOSYS: that is how an
/// entry that the kernel lacks ends.
pub fn in_child(act: impl FnOnce() -> Outcome) -> Outcome {
    let (read, write) = sys::pipe()?;
    // SAFETY: the actor runs one thread here, so the child is a whole copy.
    let child = sys::call("fork", unsafe { libc::fork() })?;
    if child == 0 {
        let outcome = serde_json::to_vec(&act()).unwrap_or_default();
        drop(sys::write(&write, &outcome));
        // SAFETY: ends the child without running the parent's exit work a second time.
        unsafe { libc::_exit(0) };
    }
    drop(write);
    let mut told = Vec::new();
    let read_all = fs::File::from(read).read_to_end(&mut told);
    reap(child);
    read_all.map_err(|error| Refused::io("child", &error))?;
    serde_json::from_slice(&told).unwrap_or_else(|_| Err(Refused::new("child", libc::ENOSYS)))
}

pub fn reap(child: usize) {
    let child = libc::pid_t::try_from(child).unwrap_or(-1);
    // SAFETY: a null status is allowed.
    unsafe { libc::waitpid(child, ptr::null_mut(), 0) };
}

fn duplicated(ctx: &Ctx) -> Outcome {
    let first = inet::stream(ctx, 0)?;
    // SAFETY: no pointers are passed.
    let second = sys::own("dup", unsafe { libc::dup(first.as_raw_fd()) })?;
    drop(first);
    connect_and_send(ctx, &second)
}

/// The parent makes the socket, the child uses it.
fn inherited(ctx: &Ctx) -> Outcome {
    let fd = inet::stream(ctx, 0)?;
    in_child(|| connect_and_send(ctx, &fd))
}

/// A child makes the socket and passes it up.
fn passed(ctx: &Ctx) -> Outcome {
    let (ours, theirs) = sys::pair(libc::SOCK_STREAM)?;
    in_child(|| {
        send_fd(&theirs, &inet::stream(ctx, 0)?)?;
        Ok(sys::Sent { bytes: 0 })
    })?;
    connect_and_send(ctx, &receive_fd(&ours)?)
}

/// The socket is taken out of another process with pidfd_getfd.
fn taken(ctx: &Ctx) -> Outcome {
    let (ours, theirs) = sys::pair(libc::SOCK_STREAM)?;
    // SAFETY: the actor runs one thread here, so the child is a whole copy.
    let child = sys::call("fork", unsafe { libc::fork() })?;
    if child == 0 {
        drop(ours);
        let number = inet::stream(ctx, 0).map_or(-1, IntoRawFd::into_raw_fd);
        drop(sys::write(&theirs, &number.to_ne_bytes()));
        // The socket lives until the parent closes its end.
        drop(sys::read(&theirs, &mut [0]));
        // SAFETY: ends the child without running the parent's exit work a second time.
        unsafe { libc::_exit(0) };
    }
    drop(theirs);
    let outcome = take_from(child, &ours).and_then(|fd| connect_and_send(ctx, &fd));
    drop(ours);
    reap(child);
    outcome
}

fn take_from(child: usize, link: &OwnedFd) -> Result<OwnedFd, Refused> {
    let mut number = [0; 4];
    sys::read(link, &mut number)?;
    let number =
        usize::try_from(RawFd::from_ne_bytes(number)).map_err(|_| Refused::new("socket", libc::EBADF))?;
    // SAFETY: no pointers are passed.
    let pidfd = own_raw(unsafe { sys::raw("pidfd_open", libc::SYS_pidfd_open, [child, 0, 0, 0, 0, 0]) }?);
    let pidfd_number = usize::try_from(pidfd.as_raw_fd()).unwrap_or(0);
    // SAFETY: no pointers are passed.
    Ok(own_raw(unsafe {
        sys::raw("pidfd_getfd", libc::SYS_pidfd_getfd, [pidfd_number, number, 0, 0, 0, 0])
    }?))
}

fn own_raw(fd: usize) -> OwnedFd {
    // SAFETY: the kernel just returned this descriptor, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).expect("the kernel's descriptors are ints")) }
}

fn threaded(ctx: &Ctx) -> Outcome {
    thread::scope(|scope| {
        let act = scope.spawn(|| connect_and_send(ctx, &inet::stream(ctx, 0)?));
        act.join().unwrap_or_else(|_| Err(Refused::new("thread", libc::EIO)))
    })
}

/// The child shares the parent's memory, and the parent sleeps until it is gone.
fn vforked(ctx: &Ctx) -> Outcome {
    let mut outcome = Err(Refused::new("child", libc::EIO));
    let child = sys::vfork(|| {
        outcome = inet::stream(ctx, 0).and_then(|fd| connect_and_send(ctx, &fd));
        0
    })?;
    reap(usize::try_from(child).unwrap_or(0));
    outcome
}

/// How a process takes a new image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// execve of a path.
    Path,
    /// execveat(AT_EMPTY_PATH) of the open file.
    Fexecve,
    /// The same of a copy that lies in no directory.
    Memfd,
}

fn new_image(ctx: &Ctx, via: Via) -> Outcome {
    if env::var_os(SECOND_IMAGE).is_some() {
        return connect_and_send(ctx, &inet::stream(ctx, 0)?);
    }
    Err(reexec(via, &[(SECOND_IMAGE, "1".to_owned())]))
}

/// Starts this program again with the same arguments; comes back only when refused.
pub fn reexec(via: Via, marks: &[(&str, String)]) -> Refused {
    let args: Vec<_> = env::args_os().collect();
    let marks = marks.iter().map(|(name, value)| (name.into(), value.into()));
    let vars: Vec<_> = env::vars_os().chain(marks).collect();
    exec(c"/proc/self/exe", via, &args, &vars)
}

/// This process's environment as exec wants it.
pub fn environment() -> Vec<CString> {
    strings(&env::vars_os().collect::<Vec<_>>())
}

fn strings(vars: &[(OsString, OsString)]) -> Vec<CString> {
    let vars = vars.iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    vars.filter_map(|var| CString::new(var).ok()).collect()
}

/// Executes the file at `path` in one of the ways; comes back only when refused.
pub fn exec(path: &CStr, via: Via, args: &[OsString], vars: &[(OsString, OsString)]) -> Refused {
    let args: Vec<_> = args.iter().filter_map(|arg| CString::new(arg.as_bytes()).ok()).collect();
    let vars = strings(vars);
    let args: Vec<_> = args.iter().map(|arg| arg.as_ptr()).chain([ptr::null()]).collect();
    let vars: Vec<_> = vars.iter().map(|var| var.as_ptr()).chain([ptr::null()]).collect();
    let file = match via {
        Via::Path => {
            // SAFETY: path and both lists are null-terminated and outlive the call.
            unsafe { libc::execve(path.as_ptr(), args.as_ptr(), vars.as_ptr()) };
            return Refused::last("execve");
        }
        Via::Fexecve => sys::open(path, libc::O_RDONLY),
        Via::Memfd => copy_of(path),
    };
    let file = match file {
        Ok(file) => file,
        Err(refused) => return refused,
    };
    let number = usize::try_from(file.as_raw_fd()).unwrap_or(0);
    let flags = usize::try_from(libc::AT_EMPTY_PATH).unwrap_or(0);
    let arguments = [number, c"".as_ptr().addr(), args.as_ptr().addr(), vars.as_ptr().addr(), flags, 0];
    // SAFETY: both lists are null-terminated and outlive the call.
    match unsafe { sys::raw("execveat", libc::SYS_execveat, arguments) } {
        Ok(_) => Refused::new("execveat", libc::EIO),
        Err(refused) => refused,
    }
}

fn copy_of(path: &CStr) -> Result<OwnedFd, Refused> {
    // SAFETY: the name is a C string.
    let memory = sys::own("memfd_create", unsafe { libc::memfd_create(c"act".as_ptr(), libc::MFD_CLOEXEC) })?;
    let mut memory = fs::File::from(memory);
    let mut file = fs::File::from(sys::open(path, libc::O_RDONLY)?);
    std::io::copy(&mut file, &mut memory).map_err(|error| Refused::io("copy", &error))?;
    Ok(memory.into())
}

/// Asks the receiver, which is outside, for a socket that it made.
fn borrow_socket(ctx: &Ctx, kind: &str) -> Result<OwnedFd, Refused> {
    let mut lender =
        UnixStream::connect(ctx.site.unix("lend")).map_err(|error| Refused::io("lender", &error))?;
    lender.write_all(format!("{kind}\n").as_bytes()).map_err(|error| Refused::io("lender", &error))?;
    receive_fd(&lender)
}

pub fn send_fd(link: &impl AsRawFd, fd: &impl AsRawFd) -> Result<(), Refused> {
    let control = cmsg(libc::SOL_SOCKET, libc::SCM_RIGHTS, &fd.as_raw_fd().to_ne_bytes());
    sys::Message { bytes: b"+", control: &control, ..sys::Message::default() }.send(link).map(drop)
}

fn receive_fd(link: &impl AsRawFd) -> Result<OwnedFd, Refused> {
    let mut byte = [0_u8; 1];
    let mut control = [0_u8; CONTROL_BYTES];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    // SAFETY: all zeroes is a valid msghdr: null pointers with zero lengths.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = control.len() as _;
    // SAFETY: the header's parts live until the call returns.
    let got = unsafe { libc::recvmsg(link.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    sys::call("recvmsg", got as i64)?;
    // A control message of 16 bytes of header and the descriptor; nothing came if its length is still zero.
    match control {
        [0, ..] => Err(Refused::new("recvmsg", libc::ENOENT)),
        [.., a, b, c, d, _, _, _, _] => sys::own("recvmsg", RawFd::from_ne_bytes([a, b, c, d])),
    }
}

const SECOND_IMAGE: &str = "CHAPERONE_ACT_SECOND_IMAGE";
const CONTROL_BYTES: usize = 24;
