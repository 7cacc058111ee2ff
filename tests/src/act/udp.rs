//! UDP and UDP-Lite: connected, unconnected, corked, and every call that can carry the datagram.

use std::os::fd::{AsRawFd, OwnedFd};

use crate::act::{
    ctx::{Ctx, Dest},
    inet::dissolve,
    sys::{self, Addr, Message, Outcome, Refused, Sent, cmsg},
    ways::{
        Family::{Inet, Inet6},
        Way, way,
    },
};

pub const WAYS: &[Way] = &[
    way("udp4-send", Inet, Dest::V4, |ctx| connected(ctx, |fd, bytes| sys::sendto(fd, bytes, 0, None))),
    way("udp6-send", Inet6, Dest::V6, |ctx| connected(ctx, |fd, bytes| sys::sendto(fd, bytes, 0, None))),
    way("udp4-write", Inet, Dest::V4, |ctx| connected(ctx, sys::write)),
    way("udp4-writev", Inet, Dest::V4, |ctx| connected(ctx, writev)),
    way("udp4-sendfile", Inet, Dest::V4, |ctx| connected(ctx, sendfile)),
    way("udp4-splice", Inet, Dest::V4, |ctx| connected(ctx, splice)),
    way("udp4-aio", Inet, Dest::V4, |ctx| connected(ctx, aio)),
    way("udp4-any", Inet, Dest::Any4, sendto),
    way("udp4-sendto", Inet, Dest::V4, sendto),
    way("udp6-sendto", Inet6, Dest::V6, sendto),
    way("udp4-sendmsg", Inet, Dest::V4, sendmsg),
    way("udp6-sendmsg", Inet6, Dest::V6, sendmsg),
    way("udp4-sendmmsg", Inet, Dest::V4, sendmmsg),
    way("udp4-zerocopy", Inet, Dest::V4, zerocopy),
    way("udp4-segment", Inet, Dest::V4, segment),
    way("udp4-unspec", Inet, Dest::V4, unspec),
    way("udp6-unspec-connected", Inet6, Dest::V6, unspec6_connected),
    way("udp6-inet-addr", Inet6, Dest::V4, |ctx| sendto_on_v6(ctx, &Addr::v4(ctx.v4()?))),
    way("udp6-mapped", Inet6, Dest::V4, |ctx| sendto_on_v6(ctx, &Addr::mapped(ctx.v4()?))),
    way("udp6-mapped-connected", Inet6, Dest::V4, mapped_connected),
    way("udp4-connect-twice", Inet, Dest::V4, |ctx| connect_twice(ctx, false)),
    way("udp4-reconnect", Inet, Dest::V4, |ctx| connect_twice(ctx, true)),
    way("udp4-connected-sendto", Inet, Dest::V4, connected_sendto),
    way("udp4-cork", Inet, Dest::V4, cork),
    way("udp4-more-other", Inet, Dest::V4, more_then_other),
    way("udp4-more-connect", Inet, Dest::V4, more_then_connect),
    way("udp4-multicast", Inet, Dest::Multicast4, multicast4),
    way("udp6-multicast", Inet6, Dest::Multicast6, multicast6).setting("a route to ff12::/16"),
    way("udp4-broadcast", Inet, Dest::Broadcast4, broadcast),
    way("udplite4-sendto", Inet, Dest::V4, udplite),
    way("udplite6-sendto", Inet6, Dest::V6, udplite),
    way("udp4-pktinfo", Inet, Dest::V4, pktinfo4),
    way("udp6-pktinfo", Inet6, Dest::V6, pktinfo6),
];

fn dgram(family: i32) -> Result<OwnedFd, Refused> {
    sys::socket(family, libc::SOCK_DGRAM, 0)
}

fn dgram_for(ctx: &Ctx) -> Result<OwnedFd, Refused> {
    dgram(if ctx.inet()?.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 })
}

fn connected(ctx: &Ctx, send: impl Fn(&OwnedFd, &[u8]) -> Outcome) -> Outcome {
    let fd = dgram_for(ctx)?;
    sys::connect(&fd, &ctx.addr()?)?;
    send(&fd, &ctx.payload())
}

fn writev(fd: &OwnedFd, bytes: &[u8]) -> Outcome {
    let (head, tail) = bytes.split_at(bytes.len() / 2);
    let parts = [head, tail]
        .map(|part| libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() });
    // SAFETY: two parts that point into `bytes`.
    let sent = unsafe { libc::writev(fd.as_raw_fd(), parts.as_ptr(), 2) };
    sys::call("writev", sent as i64).map(|bytes| Sent { bytes })
}

fn sendfile(fd: &OwnedFd, bytes: &[u8]) -> Outcome {
    // SAFETY: the name is a C string.
    let file = sys::own("memfd_create", unsafe { libc::memfd_create(c"act".as_ptr(), libc::MFD_CLOEXEC) })?;
    sys::write(&file, bytes)?;
    let mut offset = 0;
    // SAFETY: `offset` is a valid off_t to read and update.
    let sent = unsafe { libc::sendfile(fd.as_raw_fd(), file.as_raw_fd(), &raw mut offset, bytes.len()) };
    sys::call("sendfile", sent as i64).map(|bytes| Sent { bytes })
}

fn splice(fd: &OwnedFd, bytes: &[u8]) -> Outcome {
    let (read, write) = sys::pipe()?;
    sys::write(&write, bytes)?;
    let none = std::ptr::null_mut();
    // SAFETY: null offsets, as pipes and sockets want them.
    let sent = unsafe { libc::splice(read.as_raw_fd(), none, fd.as_raw_fd(), none, bytes.len(), 0) };
    sys::call("splice", sent as i64).map(|bytes| Sent { bytes })
}

/// The older asynchronous interface: io_submit writes to the socket.
fn aio(fd: &OwnedFd, bytes: &[u8]) -> Outcome {
    let mut context: u64 = 0;
    // SAFETY: io_setup writes the context's id to `context`.
    unsafe { sys::raw("io_setup", libc::SYS_io_setup, [1, (&raw mut context).addr(), 0, 0, 0, 0]) }?;
    let mut request = [0_u64; 8];
    // struct iocb: opcode IOCB_CMD_PWRITE (1) in the low half of the third word, the descriptor in the high half.
    request[2] = 1 | (u64::try_from(fd.as_raw_fd()).unwrap_or(0) << 32);
    request[3] = bytes.as_ptr().addr() as u64;
    request[4] = bytes.len() as u64;
    let list = [request.as_ptr()];
    let context = usize::try_from(context).unwrap_or(0);
    // SAFETY: one request, which outlives the wait below.
    unsafe { sys::raw("io_submit", libc::SYS_io_submit, [context, 1, list.as_ptr().addr(), 0, 0, 0]) }?;
    let mut event = [0_u64; 4];
    // SAFETY: room for one event.
    unsafe {
        sys::raw("io_getevents", libc::SYS_io_getevents, [context, 1, 1, event.as_mut_ptr().addr(), 0, 0])
    }?;
    sys::result_of("io_submit", event[2].cast_signed())
}

fn sendto(ctx: &Ctx) -> Outcome {
    sys::sendto(&dgram_for(ctx)?, &ctx.payload(), 0, Some(&ctx.addr()?))
}

fn sendmsg(ctx: &Ctx) -> Outcome {
    Message { to: Some(&ctx.addr()?), bytes: &ctx.payload(), ..Message::default() }.send(&dgram_for(ctx)?)
}

/// Several destinations in one call: the first, the second, the first again.
fn sendmmsg(ctx: &Ctx) -> Outcome {
    let fd = dgram(libc::AF_INET)?;
    let payload = ctx.payload();
    let (first, to) = (Addr::v4(ctx.first_v4()?), Addr::v4(ctx.v4()?));
    let message = |to| Message { to: Some(to), bytes: &payload, ..Message::default() };
    let (one, two, three) = (message(&first), message(&to), message(&first));
    let sent = one.with(|one| {
        two.with(|two| {
            three.with(|three| {
                let mut list = [*one, *two, *three].map(|msg_hdr| libc::mmsghdr { msg_hdr, msg_len: 0 });
                // SAFETY: three messages whose parts live until the closures return.
                unsafe { libc::sendmmsg(fd.as_raw_fd(), list.as_mut_ptr(), 3, 0) }
            })
        })
    });
    match sys::call("sendmmsg", sent)? {
        3 => Ok(Sent { bytes: payload.len() * 3 }),
        // The kernel tells how many went out and keeps the reason to itself.
        sent => Err(Refused { step: format!("sendmmsg[{sent}]"), errno: 0, sent }),
    }
}

fn zerocopy(ctx: &Ctx) -> Outcome {
    let fd = dgram_for(ctx)?;
    sys::set_int(&fd, libc::SOL_SOCKET, libc::SO_ZEROCOPY, 1)?;
    sys::sendto(&fd, &ctx.payload(), libc::MSG_ZEROCOPY, Some(&ctx.addr()?))
}

/// One call, two datagrams, split by the kernel.
fn segment(ctx: &Ctx) -> Outcome {
    let payload = ctx.payload();
    let size = u16::try_from(payload.len()).unwrap_or(0);
    let control = cmsg(libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
    let twice = payload.repeat(2);
    Message { to: Some(&ctx.addr()?), bytes: &twice, control: &control, flags: 0 }.send(&dgram_for(ctx)?)
}

/// AF_UNSPEC in the address: IPv4 UDP reads it as AF_INET.
fn unspec(ctx: &Ctx) -> Outcome {
    sys::sendto(&dgram_for(ctx)?, &ctx.payload(), 0, Some(&ctx.addr()?.with_family(libc::AF_UNSPEC)))
}

/// IPv6 UDP takes AF_UNSPEC for "where I am connected to", whatever the rest of the address says.
fn unspec6_connected(ctx: &Ctx) -> Outcome {
    let fd = dgram_for(ctx)?;
    sys::connect(&fd, &ctx.addr()?)?;
    sys::sendto(&fd, &ctx.payload(), 0, Some(&dissolve()))
}

fn sendto_on_v6(ctx: &Ctx, to: &Addr) -> Outcome {
    sys::sendto(&dgram(libc::AF_INET6)?, &ctx.payload(), 0, Some(to))
}

fn mapped_connected(ctx: &Ctx) -> Outcome {
    let fd = dgram(libc::AF_INET6)?;
    sys::connect(&fd, &Addr::mapped(ctx.v4()?))?;
    sys::write(&fd, &ctx.payload())
}

fn connect_twice(ctx: &Ctx, dissolved: bool) -> Outcome {
    let fd = dgram(libc::AF_INET)?;
    sys::connect(&fd, &Addr::v4(ctx.first_v4()?)).map_err(|refused| refused.within("first"))?;
    if dissolved {
        sys::connect(&fd, &dissolve())?;
    }
    sys::connect(&fd, &ctx.addr()?)?;
    sys::write(&fd, &ctx.payload())
}

/// Connected to the first, but the call names the second.
fn connected_sendto(ctx: &Ctx) -> Outcome {
    let fd = dgram(libc::AF_INET)?;
    sys::connect(&fd, &Addr::v4(ctx.first_v4()?)).map_err(|refused| refused.within("first"))?;
    sys::sendto(&fd, &ctx.payload(), 0, Some(&ctx.addr()?))
}

/// The bytes wait in the socket; the packet leaves when the cork is drawn, which is a setsockopt.
fn cork(ctx: &Ctx) -> Outcome {
    let fd = dgram_for(ctx)?;
    sys::set_int(&fd, libc::SOL_UDP, libc::UDP_CORK, 1)?;
    let sent = sys::sendto(&fd, &ctx.payload(), 0, Some(&ctx.addr()?))?;
    sys::set_int(&fd, libc::SOL_UDP, libc::UDP_CORK, 0)?;
    Ok(sent)
}

/// MSG_MORE to the first, then the rest to the second: the kernel sends the whole to the first.
fn more_then_other(ctx: &Ctx) -> Outcome {
    let fd = dgram(libc::AF_INET)?;
    let payload = ctx.payload();
    let (head, tail) = payload.split_at(4);
    sys::sendto(&fd, head, libc::MSG_MORE, Some(&Addr::v4(ctx.first_v4()?)))
        .map_err(|refused| refused.within("first"))?;
    sys::sendto(&fd, tail, 0, Some(&ctx.addr()?))
}

/// Begun while connected to the first, ended when connected to the second.
fn more_then_connect(ctx: &Ctx) -> Outcome {
    let fd = dgram(libc::AF_INET)?;
    let payload = ctx.payload();
    let (head, tail) = payload.split_at(4);
    sys::connect(&fd, &Addr::v4(ctx.first_v4()?)).map_err(|refused| refused.within("first"))?;
    sys::sendto(&fd, head, libc::MSG_MORE, None).map_err(|refused| refused.within("first"))?;
    sys::connect(&fd, &ctx.addr()?)?;
    sys::sendto(&fd, tail, 0, None)
}

fn multicast4(ctx: &Ctx) -> Outcome {
    let fd = dgram(libc::AF_INET)?;
    let index = sys::ifindex(&ctx.site.iface)?;
    // struct ip_mreqn: group, own address, interface.
    let choice = [&[0; 8][..], &index.to_ne_bytes()].concat();
    sys::setsockopt(&fd, libc::IPPROTO_IP, libc::IP_MULTICAST_IF, &choice)?;
    sys::sendto(&fd, &ctx.payload(), 0, Some(&ctx.addr()?))
}

fn multicast6(ctx: &Ctx) -> Outcome {
    let fd = dgram(libc::AF_INET6)?;
    let index = sys::ifindex(&ctx.site.iface)?;
    sys::setsockopt(&fd, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF, &index.to_ne_bytes())?;
    sys::sendto(&fd, &ctx.payload(), 0, Some(&ctx.addr()?))
}

fn broadcast(ctx: &Ctx) -> Outcome {
    let fd = dgram(libc::AF_INET)?;
    sys::set_int(&fd, libc::SOL_SOCKET, libc::SO_BROADCAST, 1)?;
    sys::sendto(&fd, &ctx.payload(), 0, Some(&ctx.addr()?))
}

fn udplite(ctx: &Ctx) -> Outcome {
    let family = if ctx.inet()?.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let fd = sys::socket(family, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE)?;
    sys::sendto(&fd, &ctx.payload(), 0, Some(&ctx.addr()?))
}

/// The control message chooses another source (127.0.0.9); the destination stays what the call names.
fn pktinfo4(ctx: &Ctx) -> Outcome {
    let info = [&[0; 4][..], &[127, 0, 0, 9], &[0; 4]].concat();
    let control = cmsg(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
    Message { to: Some(&ctx.addr()?), bytes: &ctx.payload(), control: &control, flags: 0 }
        .send(&dgram(libc::AF_INET)?)
}

fn pktinfo6(ctx: &Ctx) -> Outcome {
    let index = sys::ifindex(&ctx.site.iface)?;
    let info = [&ctx.first_v6()?.ip().octets()[..], &index.to_ne_bytes()].concat();
    let control = cmsg(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
    Message { to: Some(&ctx.addr()?), bytes: &ctx.payload(), control: &control, flags: 0 }
        .send(&dgram(libc::AF_INET6)?)
}
