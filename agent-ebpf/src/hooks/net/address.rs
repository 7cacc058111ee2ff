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
    pub fn target(self, class: Class) -> To {
        To { socket: self, class, address: [0; 2], port: 0, cid: 0, cookie: 0 }
    }
}

/// The bytes of an internet address as they lie in memory, an IPv4 address as v4-mapped. As words, since bytes have no
/// alignment and are copied one by one.
pub type Words = [u64; 2];

/// What is to be reached, until it is told.
#[derive(Clone, Copy)]
pub struct To {
    socket: Socket,
    class: Class,
    pub address: Words,
    pub port: u32,
    pub cid: u32,
    pub cookie: u64,
}

impl To {
    #[inline(always)]
    pub fn told(&self) -> Target {
        Target {
            address: bytemuck::cast(self.address),
            port: self.port,
            cid: self.cid,
            family: self.socket.family,
            protocol: self.socket.protocol,
            kind: self.socket.kind,
            class: self.class as u8,
            _pad: 0,
        }
    }
}

/// What a socket address says to an internet socket.
pub enum Meaning {
    /// A target: address and port in host order.
    To(Words, u16),
    /// No target of its own: a disconnect, or a send on the connected address.
    None,
    /// Too short, or of a family that this socket does not take.
    Unreadable,
}

/// The first eight bytes of a kernel copy of a socket address, in which family, port and IPv4 address lie; a disconnect
/// may be shorter.
#[inline(always)]
pub fn head(address: Ptr, bytes: u32) -> Option<u64> {
    match bytes {
        ..2 => None,
        2..8 => kernel::read::<u16>(address, 0).map(u64::from),
        _ => kernel::read::<u64>(address, 0),
    }
}

/// As [`head`], where the verifier knows the address for a `struct sockaddr`: a helper's call less.
#[inline(always)]
pub fn typed_head(address: Ptr, bytes: u32) -> Option<u64> {
    let family = kernel::load::<u16>(address, 0);
    if bytes < 8 || family == family::UNSPEC {
        // Zero is also what a pointer reads as that cannot be read.
        return head(address, bytes);
    }
    let (port, v4) = (kernel::load::<u16>(address, 2), kernel::load::<u32>(address, 4));
    Some(u64::from(family) | u64::from(port) << 16 | u64::from(v4) << 32)
}

/// What a kernel copy of a socket address, which begins with `head`, says to an internet socket. `send` tells a send
/// from a connect: to the former AF_UNSPEC means an IPv4 address on an IPv4 socket (udp_sendmsg), to the latter a
/// disconnect.
#[inline(always)]
pub fn inet(socket: Socket, head: Option<u64>, address: Ptr, bytes: u32, send: bool) -> Meaning {
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
        return Meaning::To(settle(mapped((head >> 32) as u32)), port);
    }
    if bytes < 24 {
        return Meaning::Unreadable;
    }
    match kernel::read::<Words>(address, 8) {
        Some(v6) => Meaning::To(settle(v6), port),
        None => Meaning::Unreadable,
    }
}

/// `v4` as it lies in memory.
#[inline(always)]
pub fn mapped(v4: u32) -> Words {
    [0, MAPPED | u64::from(v4) << 32]
}

/// The unspecified address reaches this host itself (ip_route_output_key, ip6_datagram_connect): it is judged as
/// the loopback address that it stands for.
#[inline(always)]
pub fn settle(address: Words) -> Words {
    match address {
        [0, 0] => [0, LOOPBACK],
        [0, MAPPED] => [0, LOOPBACK_V4],
        _ => address,
    }
}

/// The second words of ::ffff:0:0, ::1 and ::ffff:127.0.0.1.
const MAPPED: u64 = u64::from_le_bytes([0, 0, 0xff, 0xff, 0, 0, 0, 0]);
const LOOPBACK: u64 = u64::from_le_bytes([0, 0, 0, 0, 0, 0, 0, 1]);
const LOOPBACK_V4: u64 = u64::from_le_bytes([0, 0, 0xff, 0xff, 127, 0, 0, 1]);
const _: () = assert!(cfg!(target_endian = "little"), "words are put together as they lie in memory");
