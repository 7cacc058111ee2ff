//! What a socket and a socket address mean: class, protocol, target.

use agent_common::{event::net::Target, rule::Class};

use super::{family, kind, protocol};
use crate::kernel::{self, Ptr, offset};

/// A socket as the hooks know it, read from the kernel's own struct and not from the address the caller gives.
#[derive(Clone, Copy)]
pub struct Socket {
    pub family: u16,
    pub kind: u16,
    pub protocol: u16,
}

impl Socket {
    /// Through typed `struct sock`.
    #[inline(always)]
    pub fn read(sk: Ptr) -> Self {
        Self {
            family: kernel::load::<u16>(sk, offset!(sock_family)),
            kind: kernel::load::<u16>(sk, offset!(sock_type)),
            protocol: kernel::load::<u16>(sk, offset!(sock_protocol)),
        }
    }

    /// Whether it is a TCP or UDP socket, as nearly all are, in fewer steps than its class takes.
    #[inline(always)]
    pub fn is_common(self) -> bool {
        (self.family == family::INET || self.family == family::INET6)
            && (self.kind == kind::STREAM || self.kind == kind::DGRAM)
            && (self.protocol == 0 || self.protocol == protocol::TCP || self.protocol == protocol::UDP)
    }

    /// What kind of thing is sent through it.
    #[inline(always)]
    pub fn class(self) -> Class {
        match self.family {
            family::INET | family::INET6 => match (self.kind, self.protocol) {
                (kind::RAW, _) => Class::Raw,
                (
                    kind::STREAM | kind::DGRAM,
                    0
                    | protocol::TCP
                    | protocol::UDP
                    | protocol::UDPLITE
                    | protocol::MPTCP
                    | protocol::ICMP
                    | protocol::ICMPV6,
                ) => Class::Endpoint,
                _ => Class::Protocol,
            },
            family::UNIX => Class::Unix,
            family::NETLINK => Class::Netlink,
            family::PACKET | family::XDP => Class::Packet,
            family::VSOCK => Class::Vsock,
            _ => Class::Family,
        }
    }

    /// The number that the class's rules are keyed by.
    #[inline(always)]
    pub fn number(self, class: Class) -> u32 {
        match class {
            Class::Raw | Class::Protocol => u32::from(self.protocol),
            Class::Family => u32::from(self.family),
            _ => 0,
        }
    }

    /// The protocol as endpoint rules name it.
    #[inline(always)]
    pub fn rule_protocol(self) -> u8 {
        match self.protocol {
            protocol::TCP | protocol::MPTCP => protocol::TCP as u8,
            protocol::UDP | protocol::UDPLITE => protocol::UDP as u8,
            protocol::ICMP | protocol::ICMPV6 => protocol::ICMP as u8,
            _ if self.kind == kind::STREAM => protocol::TCP as u8,
            _ => protocol::UDP as u8,
        }
    }

    #[inline(always)]
    pub fn target(self, class: Class) -> Target {
        Target {
            family: self.family,
            protocol: self.protocol,
            kind: self.kind,
            class: class as u8,
            ..Default::default()
        }
    }
}

/// What a socket address says to an internet socket.
pub enum Meaning {
    /// A target: address (v4 as v4-mapped) and port in host order.
    To([u8; 16], u16),
    /// No target of its own: a disconnect, or a send on the connected address.
    None,
    /// Too short, or of a family that this socket does not take.
    Unreadable,
}

/// Reads a kernel copy of a socket address given to an internet socket. `send` tells a send from a connect: to the
/// former AF_UNSPEC means an IPv4 address on an IPv4 socket (udp_sendmsg), to the latter a disconnect.
#[inline(always)]
pub fn inet(socket: Socket, address: Ptr, bytes: u32, send: bool) -> Meaning {
    // Family, port and IPv4 address lie in the first eight bytes; a disconnect may be shorter.
    let head = match bytes {
        ..2 => None,
        2..8 => kernel::read::<u16>(address, 0).map(u64::from),
        _ => kernel::read::<u64>(address, 0),
    };
    let Some(head) = head else { return Meaning::Unreadable };
    let v4 = match head as u16 {
        family::INET => true,
        family::INET6 => false,
        family::UNSPEC if !send => return Meaning::None,
        family::UNSPEC if socket.family == family::INET => true,
        family::UNSPEC => return Meaning::None,
        _ => return Meaning::Unreadable,
    };
    let port = u16::from_be((head >> 16) as u16);
    if v4 {
        if bytes < 8 {
            return Meaning::Unreadable;
        }
        return Meaning::To(settle(mapped(((head >> 32) as u32).to_ne_bytes())), port);
    }
    if bytes < 24 {
        return Meaning::Unreadable;
    }
    match kernel::read::<[u8; 16]>(address, 8) {
        Some(v6) => Meaning::To(settle(v6), port),
        None => Meaning::Unreadable,
    }
}

#[inline(always)]
pub fn mapped(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

/// The unspecified address reaches this host itself (ip_route_output_key, ip6_datagram_connect): it is judged as
/// the loopback address that it stands for.
#[inline(always)]
pub fn settle(address: [u8; 16]) -> [u8; 16] {
    let high = u64::from_ne_bytes([
        address[0], address[1], address[2], address[3], address[4], address[5], address[6], address[7],
    ]);
    let low = u64::from_be_bytes([
        address[8],
        address[9],
        address[10],
        address[11],
        address[12],
        address[13],
        address[14],
        address[15],
    ]);
    if high != 0 {
        return address;
    }
    match low {
        0 => [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        0xffff_0000_0000 => mapped([127, 0, 0, 1]),
        _ => address,
    }
}
