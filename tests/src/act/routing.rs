//! Source routing: the call names one address, the packet goes to another first.
//!
//! `first` is what connect or sendto names; `to` is the hop that the option or header puts in front of it, and the
//! packet's real destination on the wire.

use std::os::fd::OwnedFd;

use crate::act::{
    ctx::{Ctx, Dest},
    raw::SOURCE_PORT,
    sys::{self, Addr, Message, Outcome, Refused, Sent, cmsg},
    ways::{
        Family::{Inet, Inet6, Raw},
        Seen, Way, way,
    },
};

pub const WAYS: &[Way] = &[
    way("tcp4-lsrr", Inet, Dest::V4, |ctx| tcp4(ctx, LSRR)).root().seen(Seen::Packet),
    way("tcp4-ssrr", Inet, Dest::V4, |ctx| tcp4(ctx, SSRR)).root().seen(Seen::Packet),
    way("udp4-lsrr", Inet, Dest::V4, |ctx| udp4(ctx, false)).root(),
    way("udp4-lsrr-connected", Inet, Dest::V4, |ctx| udp4(ctx, true)).root(),
    way("udp4-lsrr-cmsg", Inet, Dest::V4, cmsg4).root(),
    way("raw4-lsrr", Raw, Dest::V4, raw4).root(),
    way("tcp6-rthdr2", Inet6, Dest::V6, |ctx| tcp6(ctx, Rthdr::Type2)).seen(Seen::Packet),
    way("tcp6-srh", Inet6, Dest::V6, |ctx| tcp6(ctx, Rthdr::Segments)).seen(Seen::Packet),
    way("udp6-rthdr2", Inet6, Dest::V6, |ctx| udp6(ctx, Rthdr::Type2)),
    way("udp6-srh", Inet6, Dest::V6, |ctx| udp6(ctx, Rthdr::Segments)),
    way("udp6-rthdr2-cmsg", Inet6, Dest::V6, |ctx| cmsg6(ctx, Rthdr::Type2)),
    way("udp6-srh-cmsg", Inet6, Dest::V6, |ctx| cmsg6(ctx, Rthdr::Segments)),
];

/// An IPv4 source route with one hop.
fn route4(ctx: &Ctx, kind: u8) -> Result<Vec<u8>, Refused> {
    Ok([&[kind, 7, 4][..], &ctx.v4()?.ip().octets(), &[0]].concat())
}

#[derive(Debug, Clone, Copy)]
enum Rthdr {
    Type2,
    /// SRH, type 4, with the hop as the segment in front.
    Segments,
}

fn route6(ctx: &Ctx, kind: Rthdr) -> Result<Vec<u8>, Refused> {
    let hop = ctx.v6()?.ip().octets();
    Ok(match kind {
        Rthdr::Type2 => [&[0, 2, 2, 1, 0, 0, 0, 0][..], &hop].concat(),
        // Next header, length, type, segments left, last entry, flags, tag; the kernel writes the first segment.
        Rthdr::Segments => [&[0, 4, 4, 1, 1, 0, 0, 0][..], &[0; 16], &hop].concat(),
    })
}

fn tcp4(ctx: &Ctx, kind: u8) -> Outcome {
    let fd = sys::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0)?;
    sys::setsockopt(&fd, libc::IPPROTO_IP, libc::IP_OPTIONS, &route4(ctx, kind)?)?;
    begin(&fd, &Addr::v4(ctx.first_v4()?))
}

fn tcp6(ctx: &Ctx, kind: Rthdr) -> Outcome {
    let fd = sys::socket(libc::AF_INET6, libc::SOCK_STREAM | libc::SOCK_NONBLOCK, 0)?;
    routed(&fd, &route6(ctx, kind)?)?;
    begin(&fd, &Addr::v6(ctx.first_v6()?))
}

fn routed(fd: &OwnedFd, header: &[u8]) -> Result<(), Refused> {
    sys::setsockopt(fd, libc::IPPROTO_IPV6, libc::IPV6_RTHDR, header).map_err(known)
}

/// EINVAL is how a kernel says that it does not know this type of header.
fn known(refused: Refused) -> Refused {
    if refused.errno == libc::EINVAL { Refused::new(ROUTING_HEADER, libc::EINVAL) } else { refused }
}

/// The SYN is out when connect says EINPROGRESS. Hosts drop what is source-routed, so no answer is waited for.
fn begin(fd: &OwnedFd, to: &Addr) -> Outcome {
    match sys::connect(fd, to) {
        Err(refused) if refused.errno != libc::EINPROGRESS => Err(refused),
        _ => Ok(Sent { bytes: 0 }),
    }
}

fn udp4(ctx: &Ctx, connected: bool) -> Outcome {
    let fd = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let named = Addr::v4(ctx.first_v4()?);
    if connected {
        // The option comes after the connect, so the connect saw an ordinary socket.
        sys::connect(&fd, &named).map_err(|refused| refused.within("first"))?;
    }
    sys::setsockopt(&fd, libc::IPPROTO_IP, libc::IP_OPTIONS, &route4(ctx, LSRR)?)?;
    sys::sendto(&fd, &ctx.payload(), 0, Some(&named).filter(|_| !connected))
}

/// The route rides on the one message.
fn cmsg4(ctx: &Ctx) -> Outcome {
    let control = cmsg(libc::IPPROTO_IP, libc::IP_RETOPTS, &route4(ctx, LSRR)?);
    let named = Addr::v4(ctx.first_v4()?);
    Message { to: Some(&named), bytes: &ctx.payload(), control: &control, flags: 0 }.send(&sys::socket(
        libc::AF_INET,
        libc::SOCK_DGRAM,
        0,
    )?)
}

fn raw4(ctx: &Ctx) -> Outcome {
    let fd = sys::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_UDP)?;
    sys::setsockopt(&fd, libc::IPPROTO_IP, libc::IP_OPTIONS, &route4(ctx, LSRR)?)?;
    let named = ctx.first_v4()?;
    let datagram = crate::act::frame::udp(SOURCE_PORT, named.port(), &ctx.payload());
    sys::sendto(&fd, &datagram, 0, Some(&Addr::v4(named)))
}

fn udp6(ctx: &Ctx, kind: Rthdr) -> Outcome {
    let fd = sys::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
    routed(&fd, &route6(ctx, kind)?)?;
    sys::sendto(&fd, &ctx.payload(), 0, Some(&Addr::v6(ctx.first_v6()?)))
}

fn cmsg6(ctx: &Ctx, kind: Rthdr) -> Outcome {
    let control = cmsg(libc::IPPROTO_IPV6, libc::IPV6_RTHDR, &route6(ctx, kind)?);
    let named = Addr::v6(ctx.first_v6()?);
    let fd = sys::socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
    Message { to: Some(&named), bytes: &ctx.payload(), control: &control, flags: 0 }.send(&fd).map_err(known)
}

/// The step at which EINVAL means "no such header here".
pub const ROUTING_HEADER: &str = "routing header";
const LSRR: u8 = 0x83;
const SSRR: u8 = 0x89;
