//! SCTP and DCCP: associations by connect, by the first message, by option, and to several addresses at once.

use std::{
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
};

use crate::act::{
    ctx::{Ctx, Dest},
    sys::{self, Addr, Message, Outcome, Refused, Sent, cmsg},
    ways::{
        Family::{Inet, Inet6},
        Seen, Way, way,
    },
};

pub const WAYS: &[Way] = &[
    way("sctp4", Inet, Dest::V4, connect).module("sctp"),
    way("sctp6", Inet6, Dest::V6, connect).module("sctp"),
    way("sctp4-sendto", Inet, Dest::V4, sendto).module("sctp"),
    way("sctp6-sendto", Inet6, Dest::V6, sendto).module("sctp"),
    way("sctp4-stream-sendmsg", Inet, Dest::V4, stream_sendmsg).module("sctp"),
    way("sctp4-connectx", Inet, Dest::V4, |ctx| connectx(ctx, SCTP_SOCKOPT_CONNECTX)).module("sctp"),
    way("sctp4-connectx-old", Inet, Dest::V4, |ctx| connectx(ctx, SCTP_SOCKOPT_CONNECTX_OLD)).module("sctp"),
    way("sctp4-connectx-get", Inet, Dest::V4, connectx_get).module("sctp"),
    way("sctp4-connectx-several", Inet, Dest::V4, connectx_several).module("sctp").seen(Seen::Packet),
    way("sctp4-sendmsg-address", Inet, Dest::V4, sendmsg_address).module("sctp").seen(Seen::Packet),
    way("sctp4-udp-encap", Inet, Dest::V4, encapsulated)
        .module("sctp")
        .kernel(5, 11)
        .setting("net.sctp.udp_port")
        .seen(Seen::Packet),
    way("dccp4", Inet, Dest::V4, dccp).module("dccp_ipv4"),
    way("dccp6", Inet6, Dest::V6, dccp).module("dccp_ipv6"),
];

fn sctp(ctx: &Ctx, kind: i32) -> Result<OwnedFd, Refused> {
    let family = if ctx.inet()?.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let fd = sys::socket(family, kind, libc::IPPROTO_SCTP)?;
    // A peer that is not there is given up after two tries: struct sctp_initmsg: streams out and in, attempts, timeout.
    let limits: Vec<u8> = [1_u16, 1, 2, 500].iter().flat_map(|word| word.to_ne_bytes()).collect();
    sys::setsockopt(&fd, libc::IPPROTO_SCTP, SCTP_INITMSG, &limits)?;
    Ok(fd)
}

fn connect(ctx: &Ctx) -> Outcome {
    let fd = sctp(ctx, libc::SOCK_STREAM)?;
    sys::connect(&fd, &ctx.addr()?)?;
    sys::write(&fd, &ctx.payload())
}

/// One-to-many: the first message makes the association.
fn sendto(ctx: &Ctx) -> Outcome {
    let fd = sctp(ctx, libc::SOCK_SEQPACKET)?;
    let sent = sys::sendto(&fd, &ctx.payload(), 0, Some(&ctx.addr()?))?;
    linger(&fd);
    Ok(sent)
}

/// One-to-one without connect: here too the first message makes the association.
fn stream_sendmsg(ctx: &Ctx) -> Outcome {
    let fd = sctp(ctx, libc::SOCK_STREAM)?;
    let sent = Message { to: Some(&ctx.addr()?), bytes: &ctx.payload(), ..Message::default() }.send(&fd)?;
    linger(&fd);
    Ok(sent)
}

/// Gives the handshake on this host its time: closing would take the queued message along.
fn linger(fd: &OwnedFd) {
    drop(sys::wait_for(fd, libc::POLLIN, HANDSHAKE_MS));
}

fn connectx(ctx: &Ctx, option: i32) -> Outcome {
    let fd = sctp(ctx, libc::SOCK_STREAM)?;
    sys::setsockopt(&fd, libc::IPPROTO_SCTP, option, ctx.addr()?.bytes())?;
    sys::write(&fd, &ctx.payload())
}

/// The same asked for by getsockopt.
fn connectx_get(ctx: &Ctx) -> Outcome {
    let fd = sctp(ctx, libc::SOCK_STREAM)?;
    let to = ctx.addr()?;
    // struct sctp_getaddrs_old: association, bytes of addresses, the addresses.
    let mut request = [u64::from(to.length()) << 32, to.ptr().addr() as u64];
    let mut len: libc::socklen_t = 16;
    let at = request.as_mut_ptr().cast();
    // SAFETY: the structure and the addresses it points to outlive the call.
    let got = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_SCTP, SCTP_SOCKOPT_CONNECTX3, at, &raw mut len)
    };
    sys::call("getsockopt", got)?;
    sys::write(&fd, &ctx.payload())
}

/// One peer said to have two addresses: the association is asked of the first, and the second is probed by the kernel.
fn connectx_several(ctx: &Ctx) -> Outcome {
    let fd = sctp(ctx, libc::SOCK_SEQPACKET)?;
    let both = [primary(ctx)?.bytes(), ctx.addr()?.bytes()].concat();
    sys::setsockopt(&fd, libc::IPPROTO_SCTP, SCTP_SOCKOPT_CONNECTX, &both)?;
    linger(&fd);
    Ok(Sent { bytes: 0 })
}

/// The peer's first address. It must differ from the second, so without --first it is a neighbour of it.
fn primary(ctx: &Ctx) -> Result<Addr, Refused> {
    let (mut first, to) = (ctx.first_v4()?, ctx.v4()?);
    if first == to {
        let [a, b, c, d] = to.ip().octets();
        first.set_ip(Ipv4Addr::new(a, b, c, d ^ 8));
    }
    Ok(Addr::v4(first))
}

/// The message names the first destination; a control message adds the second.
fn sendmsg_address(ctx: &Ctx) -> Outcome {
    let fd = sctp(ctx, libc::SOCK_SEQPACKET)?;
    let control = cmsg(libc::IPPROTO_SCTP, SCTP_DSTADDRV4, &ctx.v4()?.ip().octets());
    let named = primary(ctx)?;
    let sent = Message { to: Some(&named), bytes: &ctx.payload(), control: &control, flags: 0 }.send(&fd)?;
    linger(&fd);
    Ok(sent)
}

/// SCTP inside UDP: what leaves is a datagram to a port that a setsockopt chose.
fn encapsulated(ctx: &Ctx) -> Outcome {
    let fd = sctp(ctx, libc::SOCK_STREAM | libc::SOCK_NONBLOCK)?;
    let port = ctx.inet()?.port().to_be_bytes();
    // struct sctp_udpencaps: association, an address of 128 bytes at 8, the port; empty means for all.
    let option = [&[0; 8][..], &[0; 128], &port, &[0; 6]].concat();
    sys::setsockopt(&fd, libc::IPPROTO_SCTP, SCTP_REMOTE_UDP_ENCAPS_PORT, &option)?;
    match sys::connect(&fd, &ctx.addr()?) {
        Err(refused) if refused.errno != libc::EINPROGRESS => return Err(refused),
        _ => linger(&fd),
    }
    Ok(Sent { bytes: 0 })
}

fn dccp(ctx: &Ctx) -> Outcome {
    let family = if ctx.inet()?.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let fd = sys::socket(family, SOCK_DCCP, IPPROTO_DCCP)?;
    sys::setsockopt(&fd, SOL_DCCP, DCCP_SOCKOPT_SERVICE, &DCCP_SERVICE.to_be_bytes())?;
    sys::connect(&fd, &ctx.addr()?)?;
    sys::write(&fd, &ctx.payload())
}

const HANDSHAKE_MS: i32 = 300;
const SCTP_INITMSG: i32 = 2;
const SCTP_REMOTE_UDP_ENCAPS_PORT: i32 = 36;
const SCTP_SOCKOPT_CONNECTX_OLD: i32 = 107;
const SCTP_SOCKOPT_CONNECTX: i32 = 110;
const SCTP_SOCKOPT_CONNECTX3: i32 = 111;
const SCTP_DSTADDRV4: i32 = 7;
pub const SOCK_DCCP: i32 = 6;
pub const IPPROTO_DCCP: i32 = 33;
pub const SOL_DCCP: i32 = 269;
pub const DCCP_SOCKOPT_SERVICE: i32 = 2;
pub const DCCP_SERVICE: u32 = 0x4348_4150;
