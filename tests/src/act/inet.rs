//! TCP and MPTCP: every call that can start a handshake.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd, OwnedFd},
};

use crate::act::{
    ctx::{Ctx, Dest},
    sys::{self, Addr, Outcome, Refused, Sent},
    ways::{
        Family::{Inet, Inet6},
        Way, way,
    },
};

pub const WAYS: &[Way] = &[
    way("tcp4", Inet, Dest::V4, |ctx| plain(ctx, 0)),
    way("tcp6", Inet6, Dest::V6, |ctx| plain(ctx, 0)),
    way("tcp4-any", Inet, Dest::Any4, |ctx| plain(ctx, 0)),
    way("tcp6-any", Inet6, Dest::Any6, |ctx| plain(ctx, 0)),
    way("tcp6-mapped", Inet6, Dest::V4, mapped),
    way("tcp4-nonblock", Inet, Dest::V4, nonblock),
    way("tcp6-nonblock", Inet6, Dest::V6, nonblock),
    way("tcp4-nonblock-twice", Inet, Dest::V4, nonblock_twice),
    way("tcp4-after-failed", Inet, Dest::V4, after_failed),
    way("tcp4-reconnect", Inet, Dest::V4, reconnect),
    way("tcp4-fastopen-sendto", Inet, Dest::V4, |ctx| fastopen_sendto(ctx, 0)),
    way("tcp6-fastopen-sendto", Inet6, Dest::V6, |ctx| fastopen_sendto(ctx, 0)),
    way("tcp6-mapped-fastopen-sendto", Inet6, Dest::V4, fastopen_mapped),
    way("tcp4-fastopen-connect", Inet, Dest::V4, fastopen_connect),
    way("tcp4-repair", Inet, Dest::V4, repair).root(),
    way("mptcp4", Inet, Dest::V4, |ctx| plain(ctx, libc::IPPROTO_MPTCP)).kernel(5, 6),
    way("mptcp6", Inet6, Dest::V6, |ctx| plain(ctx, libc::IPPROTO_MPTCP)).kernel(5, 6),
    way("mptcp4-fastopen-sendto", Inet, Dest::V4, |ctx| fastopen_sendto(ctx, libc::IPPROTO_MPTCP))
        .kernel(6, 2),
];

/// Connects an unconnected stream socket to the destination and sends the token over it.
pub fn connect_and_send(ctx: &Ctx, fd: &OwnedFd) -> Outcome {
    sys::connect(fd, &ctx.addr()?)?;
    sys::write(fd, &ctx.payload())
}

/// A stream socket of the destination's family.
pub fn stream(ctx: &Ctx, protocol: i32) -> Result<OwnedFd, Refused> {
    let family = if ctx.inet()?.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    sys::socket(family, libc::SOCK_STREAM, protocol)
}

fn plain(ctx: &Ctx, protocol: i32) -> Outcome {
    connect_and_send(ctx, &stream(ctx, protocol)?)
}

fn mapped(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(libc::AF_INET6, libc::SOCK_STREAM, 0)?;
    sys::connect(&fd, &Addr::mapped(ctx.v4()?))?;
    sys::write(&fd, &ctx.payload())
}

fn nonblock(ctx: &Ctx) -> Outcome {
    let fd = stream(ctx, 0)?;
    begin(&fd, &ctx.addr()?)?;
    finish(ctx, &fd)
}

/// The second call asks about the connection that the first one began.
fn nonblock_twice(ctx: &Ctx) -> Outcome {
    let fd = stream(ctx, 0)?;
    begin(&fd, &ctx.addr()?)?;
    sys::wait_for(&fd, libc::POLLOUT, PATIENCE_MS)?;
    begin(&fd, &ctx.addr()?)?;
    finish(ctx, &fd)
}

fn begin(fd: &OwnedFd, to: &Addr) -> Result<(), Refused> {
    let on: libc::c_int = 1;
    // SAFETY: FIONBIO reads one int.
    sys::call("ioctl", unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONBIO, &raw const on) })?;
    match sys::connect(fd, to) {
        Err(refused) if !matches!(refused.errno, libc::EINPROGRESS | libc::EISCONN) => Err(refused),
        _ => Ok(()),
    }
}

fn finish(ctx: &Ctx, fd: &OwnedFd) -> Outcome {
    if !sys::wait_for(fd, libc::POLLOUT, PATIENCE_MS)? {
        return Err(Refused::new("connect", libc::ETIMEDOUT));
    }
    match sys::pending_error(fd)? {
        0 => sys::write(fd, &ctx.payload()),
        errno => Err(Refused::new("connect", errno)),
    }
}

/// The first connect meets a closed port, and the socket is used again.
fn after_failed(ctx: &Ctx) -> Outcome {
    let fd = stream(ctx, 0)?;
    let closed = SocketAddrV4::new(*ctx.first_v4()?.ip(), CLOSED_PORT);
    drop(sys::connect(&fd, &Addr::v4(closed)));
    connect_and_send(ctx, &fd)
}

/// Connected to the first destination, dissolved, connected to the second.
fn reconnect(ctx: &Ctx) -> Outcome {
    let fd = stream(ctx, 0)?;
    sys::connect(&fd, &Addr::v4(ctx.first_v4()?)).map_err(|refused| refused.within("first"))?;
    sys::connect(&fd, &dissolve())?;
    connect_and_send(ctx, &fd)
}

/// The address that ends a connection: connect(AF_UNSPEC).
pub fn dissolve() -> Addr {
    Addr::v4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)).with_family(libc::AF_UNSPEC)
}

/// No connect at all: the handshake starts inside sendto. Twice, because the first round earns the cookie that lets
/// the second put data into its SYN.
fn fastopen_sendto(ctx: &Ctx, protocol: i32) -> Outcome {
    fastopen_round(ctx, &stream(ctx, protocol)?, &ctx.addr()?)?;
    fastopen_round(ctx, &stream(ctx, protocol)?, &ctx.addr()?)
}

fn fastopen_mapped(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(libc::AF_INET6, libc::SOCK_STREAM, 0)?;
    fastopen_round(ctx, &fd, &Addr::mapped(ctx.v4()?))
}

fn fastopen_round(ctx: &Ctx, fd: &OwnedFd, to: &Addr) -> Outcome {
    sys::sendto(fd, &ctx.payload(), libc::MSG_FASTOPEN, Some(to))
}

/// The connect call returns at once and the first write sends the SYN (where a cookie is known).
fn fastopen_connect(ctx: &Ctx) -> Outcome {
    let mut sent = Sent { bytes: 0 };
    for _ in 0..2 {
        let fd = stream(ctx, 0)?;
        sys::set_int(&fd, libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, 1)?;
        sent = connect_and_send(ctx, &fd)?;
    }
    Ok(sent)
}

/// A socket under repair is connected without a handshake; out of repair it sends data that nobody asked for.
fn repair(ctx: &Ctx) -> Outcome {
    let fd = stream(ctx, 0)?;
    sys::set_int(&fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, 1)?;
    sys::connect(&fd, &ctx.addr()?)?;
    // struct tcp_repair_window: snd_wl1, snd_wnd, max_window, rcv_wnd, rcv_wup. No peer ever opened one.
    let window: Vec<u8> =
        [0, 65535, 65535, 65535, 0_u32].iter().flat_map(|word| word.to_ne_bytes()).collect();
    sys::setsockopt(&fd, libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &window)?;
    sys::set_int(&fd, libc::IPPROTO_TCP, libc::TCP_REPAIR, REPAIR_OFF_NO_PROBE)?;
    sys::write(&fd, &ctx.payload())
}

/// How long a handshake on this host may take, also in an emulated guest.
pub const PATIENCE_MS: i32 = 3000;
/// Leaves repair without a window probe, whose answer would end the connection before the data.
const REPAIR_OFF_NO_PROBE: i32 = -1;
/// tcpmux, which nothing serves.
const CLOSED_PORT: u16 = 1;
