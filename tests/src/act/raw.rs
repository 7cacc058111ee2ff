//! Raw IP and ping sockets: the process writes the header, and may write another destination into it.

use std::{
    net::{IpAddr, SocketAddrV4, SocketAddrV6},
    os::fd::OwnedFd,
};

use crate::act::{
    ctx::{Ctx, Dest},
    frame,
    sys::{self, Addr, Outcome},
    ways::{
        Family::{Inet, Inet6, Raw},
        Way, way,
    },
};

pub const WAYS: &[Way] = &[
    way("raw4-icmp", Raw, Dest::V4, |ctx| icmp4(ctx, false)).root(),
    way("raw4-icmp-connected", Raw, Dest::V4, |ctx| icmp4(ctx, true)).root(),
    way("raw4-udp", Raw, Dest::V4, |ctx| udp_on(ctx, &raw4(libc::IPPROTO_UDP)?)).root(),
    way("raw4-unspec", Raw, Dest::V4, unspec).root(),
    way("raw4-other-protocol", Raw, Dest::V4, other_protocol).root(),
    way("raw4-header", Raw, Dest::V4, |ctx| header4(ctx, ctx.v4()?, ctx.v4()?)).root(),
    way("raw4-header-hidden", Raw, Dest::V4, |ctx| header4(ctx, ctx.first_v4()?, ctx.v4()?)).root(),
    way("raw4-header-decoy", Raw, Dest::V4, |ctx| header4(ctx, ctx.v4()?, ctx.first_v4()?)).root(),
    way("raw4-header-option", Raw, Dest::V4, header_option).root(),
    way("raw6-icmp", Raw, Dest::V6, icmp6).root(),
    way("raw6-udp", Raw, Dest::V6, udp6).root(),
    way("raw6-header", Raw, Dest::V6, |ctx| header6(ctx, ctx.v6()?, ctx.v6()?)).root(),
    way("raw6-header-hidden", Raw, Dest::V6, |ctx| header6(ctx, ctx.first_v6()?, ctx.v6()?)).root(),
    way("raw6-header-decoy", Raw, Dest::V6, |ctx| header6(ctx, ctx.v6()?, ctx.first_v6()?)).root(),
    way("l2tp-ip4", Raw, Dest::V4, |ctx| l2tp_ip(ctx, How::Named)).module("l2tp_ip"),
    way("l2tp-ip4-unspec", Raw, Dest::V4, |ctx| l2tp_ip(ctx, How::Unspecified)).module("l2tp_ip"),
    way("l2tp-ip4-connected", Raw, Dest::V4, |ctx| l2tp_ip(ctx, How::Connected)).module("l2tp_ip"),
    way("l2tp-ip6", Raw, Dest::V6, |ctx| l2tp_ip(ctx, How::Named)).module("l2tp_ip6"),
    way("ping4", Inet, Dest::V4, |ctx| ping(ctx, false)).setting("net.ipv4.ping_group_range"),
    way("ping4-connected", Inet, Dest::V4, |ctx| ping(ctx, true)).setting("net.ipv4.ping_group_range"),
    way("ping6", Inet6, Dest::V6, |ctx| ping(ctx, false)).setting("net.ipv4.ping_group_range"),
];

fn raw4(protocol: i32) -> Result<OwnedFd, sys::Refused> {
    sys::socket(libc::AF_INET, libc::SOCK_RAW, protocol)
}

fn raw6(protocol: i32) -> Result<OwnedFd, sys::Refused> {
    sys::socket(libc::AF_INET6, libc::SOCK_RAW, protocol)
}

fn icmp4(ctx: &Ctx, connected: bool) -> Outcome {
    let fd = raw4(libc::IPPROTO_ICMP)?;
    echo_on(ctx, &fd, 4, connected)
}

fn icmp6(ctx: &Ctx) -> Outcome {
    echo_on(ctx, &raw6(libc::IPPROTO_ICMPV6)?, 6, false)
}

/// Unprivileged echo requests: the kernel writes the header and fills the id.
fn ping(ctx: &Ctx, connected: bool) -> Outcome {
    let (family, protocol, version) = if ctx.inet()?.is_ipv4() {
        (libc::AF_INET, libc::IPPROTO_ICMP, 4)
    } else {
        (libc::AF_INET6, libc::IPPROTO_ICMPV6, 6)
    };
    let fd = sys::socket(family, libc::SOCK_DGRAM, protocol)?;
    echo_on(ctx, &fd, version, connected)
}

fn echo_on(ctx: &Ctx, fd: &OwnedFd, version: u8, connected: bool) -> Outcome {
    let request = frame::echo(version, &ctx.payload());
    if connected {
        sys::connect(fd, &ctx.addr()?)?;
        return sys::sendto(fd, &request, 0, None);
    }
    sys::sendto(fd, &request, 0, Some(&portless(ctx)?))
}

/// Raw sockets take no port (IPv6 refuses one that is not the protocol).
fn portless(ctx: &Ctx) -> Result<Addr, sys::Refused> {
    let mut to = ctx.inet()?;
    to.set_port(0);
    Ok(Addr::inet(to))
}

/// A UDP datagram over a raw socket, which may be a lent one.
pub fn udp_on(ctx: &Ctx, fd: &OwnedFd) -> Outcome {
    let datagram = frame::udp(SOURCE_PORT, ctx.inet()?.port(), &ctx.payload());
    sys::sendto(fd, &datagram, 0, Some(&portless(ctx)?))
}

/// Raw IPv4 reads AF_UNSPEC as AF_INET.
fn unspec(ctx: &Ctx) -> Outcome {
    let datagram = frame::udp(SOURCE_PORT, ctx.inet()?.port(), &ctx.payload());
    sys::sendto(&raw4(libc::IPPROTO_UDP)?, &datagram, 0, Some(&portless(ctx)?.with_family(libc::AF_UNSPEC)))
}

/// A protocol that has no ports (253: for experiments).
fn other_protocol(ctx: &Ctx) -> Outcome {
    sys::sendto(&raw4(EXPERIMENTAL)?, &ctx.payload(), 0, Some(&portless(ctx)?))
}

/// The call names one destination and the header another.
fn header4(ctx: &Ctx, named: SocketAddrV4, written: SocketAddrV4) -> Outcome {
    let packet = frame::udp4(SocketAddrV4::new(*named.ip(), SOURCE_PORT), written, &ctx.payload());
    sys::sendto(&raw4(libc::IPPROTO_RAW)?, &packet, 0, Some(&Addr::v4(named)))
}

/// A UDP raw socket that turns to headers of its own by setsockopt.
fn header_option(ctx: &Ctx) -> Outcome {
    let fd = raw4(libc::IPPROTO_UDP)?;
    sys::set_int(&fd, libc::IPPROTO_IP, libc::IP_HDRINCL, 1)?;
    let named = ctx.first_v4()?;
    let packet = frame::udp4(SocketAddrV4::new(*named.ip(), SOURCE_PORT), ctx.v4()?, &ctx.payload());
    sys::sendto(&fd, &packet, 0, Some(&Addr::v4(named)))
}

fn udp6(ctx: &Ctx) -> Outcome {
    let fd = raw6(libc::IPPROTO_UDP)?;
    // The kernel fills the checksum, at offset 6 of the UDP header.
    sys::set_int(&fd, libc::IPPROTO_IPV6, libc::IPV6_CHECKSUM, 6)?;
    udp_on(ctx, &fd)
}

fn header6(ctx: &Ctx, named: SocketAddrV6, written: SocketAddrV6) -> Outcome {
    let from = SocketAddrV6::new(*named.ip(), SOURCE_PORT, 0, 0);
    let packet = frame::udp6(from, written, &ctx.payload());
    let to = SocketAddrV6::new(*named.ip(), 0, 0, 0);
    sys::sendto(&raw6(libc::IPPROTO_RAW)?, &packet, 0, Some(&Addr::v6(to)))
}

#[derive(Debug, Clone, Copy)]
enum How {
    Named,
    /// AF_UNSPEC in the address, read as the socket's own family.
    Unspecified,
    Connected,
}

/// L2TP straight over IP: a datagram socket of a protocol that has no ports, and needs no privilege.
fn l2tp_ip(ctx: &Ctx, how: How) -> Outcome {
    let (family, peer) = match ctx.inet()?.ip() {
        // struct sockaddr_l2tpip: 2 bytes of nothing, address, connection.
        IpAddr::V4(ip) => (libc::AF_INET, [&[0, 0][..], &ip.octets(), &PEER_CONNECTION, &[0; 4]].concat()),
        // struct sockaddr_l2tpip6: 2 bytes of nothing, flow, address, scope, connection.
        IpAddr::V6(ip) => (libc::AF_INET6, [&[0; 6][..], &ip.octets(), &[0; 4], &PEER_CONNECTION].concat()),
    };
    let fd = sys::socket(family, libc::SOCK_DGRAM, IPPROTO_L2TP)?;
    let to = Addr::raw(family, &peer);
    match how {
        How::Named => sys::sendto(&fd, &ctx.payload(), 0, Some(&to)),
        How::Unspecified => sys::sendto(&fd, &ctx.payload(), 0, Some(&to.with_family(libc::AF_UNSPEC))),
        How::Connected => {
            // Only a bound socket may connect.
            sys::bind(&fd, &to)?;
            sys::connect(&fd, &to)?;
            sys::sendto(&fd, &ctx.payload(), 0, None)
        }
    }
}

const IPPROTO_L2TP: i32 = 115;
const PEER_CONNECTION: [u8; 4] = [7, 0, 0, 0];
const EXPERIMENTAL: i32 = 253;
pub const SOURCE_PORT: u16 = 40_404;
