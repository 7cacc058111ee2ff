//! io_uring: the same acts asked for through a ring, which no system call tracepoint sees.

use std::{
    env,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use io_uring::{IoUring, Parameters, opcode, squeue, squeue::Flags, types};

use crate::act::{
    ctx::{Ctx, Dest},
    inet,
    passed::{self, Via},
    sys::{self, Message, Outcome, Refused, Sent},
    ways::{
        Family::{Inet, Inet6, Unix},
        Way, way,
    },
};

pub const WAYS: &[Way] = &[
    way("uring-connect", Inet, Dest::V4, |ctx| connect(ctx, Mode::Plain)),
    way("uring-connect6", Inet6, Dest::V6, |ctx| connect(ctx, Mode::Plain)),
    way("uring-connect-async", Inet, Dest::V4, |ctx| connect(ctx, Mode::Worker)),
    way("uring-connect-sqpoll", Inet, Dest::V4, |ctx| connect(ctx, Mode::Polled)),
    way("uring-connect-unix", Unix, Dest::UnixPath("stream"), connect_unix),
    way("uring-send-addr", Inet, Dest::V4, |ctx| datagram(ctx, Mode::Plain, Carrier::Send)).kernel(6, 1),
    way("uring-send-addr6", Inet6, Dest::V6, |ctx| datagram(ctx, Mode::Plain, Carrier::Send)).kernel(6, 1),
    way("uring-sendzc-addr", Inet, Dest::V4, |ctx| datagram(ctx, Mode::Plain, Carrier::SendZc)).kernel(6, 0),
    way("uring-sendzc-addr-async", Inet, Dest::V4, |ctx| datagram(ctx, Mode::Worker, Carrier::SendZc))
        .kernel(6, 0),
    way("uring-sendmsg", Inet, Dest::V4, |ctx| datagram(ctx, Mode::Plain, Carrier::SendMsg)),
    way("uring-sendmsg6", Inet6, Dest::V6, |ctx| datagram(ctx, Mode::Plain, Carrier::SendMsg)),
    way("uring-sendmsg-async", Inet, Dest::V4, |ctx| datagram(ctx, Mode::Worker, Carrier::SendMsg)),
    way("uring-sendmsg-sqpoll", Inet, Dest::V4, |ctx| datagram(ctx, Mode::Polled, Carrier::SendMsg)),
    way("uring-sendmsgzc", Inet, Dest::V4, |ctx| datagram(ctx, Mode::Plain, Carrier::SendMsgZc)).kernel(6, 1),
    way("uring-sendmsg-fastopen", Inet, Dest::V4, fastopen),
    way("uring-write", Inet, Dest::V4, write),
    way("uring-fixed", Inet, Dest::V4, fixed),
    way("uring-socket", Inet, Dest::V4, socket).kernel(5, 19),
    way("uring-chain", Inet, Dest::V4, chain).kernel(5, 19),
    way("uring-chain-sqpoll", Inet, Dest::V4, |ctx| chain_on(ctx, &mut ring(Mode::Polled)?)).kernel(5, 19),
    way("uring-forked", Inet, Dest::V4, forked),
    way("uring-forked-sqpoll", Inet, Dest::V4, forked_sqpoll),
    way("uring-exec", Inet, Dest::V4, execed),
];

/// Who in the kernel carries the request out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// The submitting task itself.
    Plain,
    /// An io worker (IOSQE_ASYNC).
    Worker,
    /// The ring's own polling thread.
    Polled,
}

#[derive(Debug, Clone, Copy)]
enum Carrier {
    Send,
    SendZc,
    SendMsg,
    SendMsgZc,
}

fn ring(mode: Mode) -> Result<IoUring, Refused> {
    let mut builder = IoUring::builder();
    if mode == Mode::Polled {
        builder.setup_sqpoll(POLL_IDLE_MS);
    }
    builder.build(ENTRIES).map_err(|error| Refused::io("io_uring_setup", &error))
}

/// Submits one request and waits for its result. What the request points to must live in the caller.
fn perform(ring: &mut IoUring, step: &str, mode: Mode, request: squeue::Entry) -> Result<usize, Refused> {
    let flags = if mode == Mode::Worker { Flags::ASYNC } else { Flags::empty() };
    submit(ring, &[request.flags(flags)])?;
    completion(ring, step)
}

fn submit(ring: &mut IoUring, requests: &[squeue::Entry]) -> Result<(), Refused> {
    // SAFETY: each caller keeps what its requests point to until their completions have been read.
    let pushed = unsafe { ring.submission().push_multiple(requests) };
    pushed.map_err(|_| Refused::new("submission queue", libc::EBUSY))?;
    ring.submit_and_wait(1).map_err(|error| Refused::io("io_uring_enter", &error))?;
    Ok(())
}

fn completion(ring: &mut IoUring, step: &str) -> Result<usize, Refused> {
    loop {
        if let Some(done) = ring.completion().next() {
            return sys::result_of(step, done.result().into()).map(|sent| sent.bytes);
        }
        ring.submit_and_wait(1).map_err(|error| Refused::io("io_uring_enter", &error))?;
    }
}

fn connect(ctx: &Ctx, mode: Mode) -> Outcome {
    let fd = inet::stream(ctx, 0)?;
    connect_on(ctx, &mut ring(mode)?, mode, &fd)
}

fn connect_unix(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    connect_on(ctx, &mut ring(Mode::Plain)?, Mode::Plain, &fd)
}

fn connect_on(ctx: &Ctx, ring: &mut IoUring, mode: Mode, fd: &OwnedFd) -> Outcome {
    let to = ctx.addr()?;
    let request = opcode::Connect::new(types::Fd(fd.as_raw_fd()), to.ptr(), to.length()).build();
    perform(ring, "connect", mode, request)?;
    let payload = ctx.payload();
    let request = opcode::Send::new(types::Fd(fd.as_raw_fd()), payload.as_ptr(), length(&payload)).build();
    perform(ring, "send", mode, request).map(|bytes| Sent { bytes })
}

fn datagram(ctx: &Ctx, mode: Mode, carrier: Carrier) -> Outcome {
    let family = if ctx.inet()?.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let socket = sys::socket(family, libc::SOCK_DGRAM, 0)?;
    send_on(ctx, &mut ring(mode)?, mode, carrier, &socket)
}

fn send_on(ctx: &Ctx, ring: &mut IoUring, mode: Mode, carrier: Carrier, socket: &OwnedFd) -> Outcome {
    let fd = types::Fd(socket.as_raw_fd());
    let (payload, to) = (ctx.payload(), ctx.addr()?);
    let (at, len) = (payload.as_ptr(), length(&payload));
    let message = Message { to: Some(&to), bytes: &payload, ..Message::default() };
    let bytes = message.with(|header| match carrier {
        Carrier::Send => {
            let request =
                opcode::Send::new(fd, at, len).dest_addr(to.ptr()).dest_addr_len(to.length()).build();
            perform(ring, "send", mode, request)
        }
        Carrier::SendZc => {
            let request =
                opcode::SendZc::new(fd, at, len).dest_addr(to.ptr()).dest_addr_len(to.length()).build();
            perform(ring, "send_zc", mode, request)
        }
        Carrier::SendMsg => perform(ring, "sendmsg", mode, opcode::SendMsg::new(fd, header).build()),
        Carrier::SendMsgZc => perform(ring, "sendmsg_zc", mode, opcode::SendMsgZc::new(fd, header).build()),
    })?;
    Ok(Sent { bytes })
}

/// A handshake begun by SENDMSG with MSG_FASTOPEN.
fn fastopen(ctx: &Ctx) -> Outcome {
    let fd = inet::stream(ctx, 0)?;
    let (payload, to) = (ctx.payload(), ctx.addr()?);
    let message = Message { to: Some(&to), bytes: &payload, ..Message::default() };
    let flags = libc::MSG_FASTOPEN.cast_unsigned();
    let sent = message.with(|header| {
        let request = opcode::SendMsg::new(types::Fd(fd.as_raw_fd()), header).flags(flags).build();
        perform(&mut ring(Mode::Plain)?, "sendmsg", Mode::Plain, request)
    });
    match sent {
        // Without a cookie the SYN went out alone, and the bytes follow when it is answered.
        Err(refused) if refused.errno == libc::EINPROGRESS => {
            sys::wait_for(&fd, libc::POLLOUT, inet::PATIENCE_MS)?;
            sys::write(&fd, &payload)
        }
        sent => sent.map(|bytes| Sent { bytes }),
    }
}

/// A plain WRITE to a connected datagram socket.
fn write(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    sys::connect(&fd, &ctx.addr()?)?;
    let payload = ctx.payload();
    let request = opcode::Write::new(types::Fd(fd.as_raw_fd()), payload.as_ptr(), length(&payload)).build();
    perform(&mut ring(Mode::Plain)?, "write", Mode::Plain, request).map(|bytes| Sent { bytes })
}

/// The socket is a registered file: the request names a slot and no descriptor.
fn fixed(ctx: &Ctx) -> Outcome {
    let fd = inet::stream(ctx, 0)?;
    let mut ring = ring(Mode::Plain)?;
    ring.submitter()
        .register_files(&[fd.as_raw_fd()])
        .map_err(|error| Refused::io("register_files", &error))?;
    drop(fd);
    let (to, payload) = (ctx.addr()?, ctx.payload());
    let request = opcode::Connect::new(types::Fixed(0), to.ptr(), to.length()).build();
    perform(&mut ring, "connect", Mode::Plain, request)?;
    let request = opcode::Send::new(types::Fixed(0), payload.as_ptr(), length(&payload)).build();
    perform(&mut ring, "send", Mode::Plain, request).map(|bytes| Sent { bytes })
}

/// The ring makes the socket too.
fn socket(ctx: &Ctx) -> Outcome {
    let mut ring = ring(Mode::Plain)?;
    let request = opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build();
    let fd = perform(&mut ring, "socket", Mode::Plain, request)?;
    let fd = RawFd::try_from(fd).map_err(|_| Refused::new("socket", libc::EBADF))?;
    // SAFETY: the ring just made this descriptor for us.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    connect_on(ctx, &mut ring, Mode::Plain, &fd)
}

/// Socket into a slot, connect and send as one linked submission: one system call, and never a descriptor.
fn chain(ctx: &Ctx) -> Outcome {
    chain_on(ctx, &mut ring(Mode::Plain)?)
}

fn chain_on(ctx: &Ctx, ring: &mut IoUring) -> Outcome {
    ring.submitter().register_files(&[-1]).map_err(|error| Refused::io("register_files", &error))?;
    let (to, payload) = (ctx.addr()?, ctx.payload());
    let slot =
        types::DestinationSlot::try_from_slot_target(0).map_err(|_| Refused::new("slot", libc::EINVAL))?;
    let requests = [
        opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0)
            .file_index(Some(slot))
            .build()
            .flags(Flags::IO_LINK),
        opcode::Connect::new(types::Fixed(0), to.ptr(), to.length()).build().flags(Flags::IO_LINK),
        opcode::Send::new(types::Fixed(0), payload.as_ptr(), length(&payload)).build(),
    ];
    submit(ring, &requests)?;
    completion(ring, "socket")?;
    completion(ring, "connect")?;
    completion(ring, "send").map(|bytes| Sent { bytes })
}

/// The parent set the ring up; the child submits to it.
fn forked(ctx: &Ctx) -> Outcome {
    let mut ring = ring(Mode::Plain)?;
    passed::in_child(|| connect_on(ctx, &mut ring, Mode::Plain, &inet::stream(ctx, 0)?))
}

/// The child asks, and the parent's polling thread acts: on the parent's descriptors and in the parent's memory, so the
/// message is laid out before the fork.
fn forked_sqpoll(ctx: &Ctx) -> Outcome {
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut ring = ring(Mode::Polled)?;
    let (payload, to) = (ctx.payload(), ctx.addr()?);
    let message = Message { to: Some(&to), bytes: &payload, ..Message::default() };
    message.with(|header| {
        let request = opcode::SendMsg::new(types::Fd(socket.as_raw_fd()), header).build();
        passed::in_child(|| perform(&mut ring, "sendmsg", Mode::Plain, request).map(|bytes| Sent { bytes }))
    })
}

/// The ring is made before an exec and used by the new image, which maps it again.
fn execed(ctx: &Ctx) -> Outcome {
    if let Some(kept) = env::var_os(RING_KEPT).and_then(|text| text.into_string().ok()) {
        let mut ring = reopen(&kept).ok_or_else(|| Refused::new("reopen ring", libc::EINVAL))?;
        return connect_on(ctx, &mut ring, Mode::Plain, &inet::stream(ctx, 0)?);
    }
    let ring = ring(Mode::Plain)?;
    let fd = ring.as_raw_fd();
    // SAFETY: the parameters are plain integers, and the copy is as large as they are.
    let params: [u8; PARAMS_BYTES] = unsafe { std::mem::transmute_copy(ring.params()) };
    // SAFETY: F_SETFD takes an int.
    sys::call("fcntl", unsafe { libc::fcntl(fd, libc::F_SETFD, 0) })?;
    let hex: String = params.iter().map(|byte| format!("{byte:02x}")).collect();
    Err(passed::reexec(Via::Path, &[(RING_KEPT, format!("{fd}:{hex}"))]))
}

fn reopen(kept: &str) -> Option<IoUring> {
    let (fd, hex) = kept.split_once(':')?;
    let fd: RawFd = fd.parse().ok()?;
    let mut params = [0_u8; PARAMS_BYTES];
    for (index, byte) in params.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    // SAFETY: the bytes are those of the Parameters that the image before the exec wrote down.
    let params: Parameters = unsafe { std::mem::transmute(params) };
    // SAFETY: the descriptor is the ring that the image before the exec left open for us.
    unsafe { IoUring::from_fd(fd, params) }.ok()
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(0)
}

const ENTRIES: u32 = 8;
const POLL_IDLE_MS: u32 = 1000;
const PARAMS_BYTES: usize = size_of::<Parameters>();
const RING_KEPT: &str = "CHAPERONE_ACT_RING";
