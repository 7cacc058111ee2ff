//! Socket addresses, laid out byte by byte.

use std::{
    ffi::c_int,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
};

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
