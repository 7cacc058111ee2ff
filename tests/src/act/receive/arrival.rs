//! Taking in what came, with the sender's address in words.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{OwnedFd, RawFd},
};

use crate::act::sys;

pub(super) fn accept(fd: RawFd) -> Option<(OwnedFd, Option<String>)> {
    let mut from = [0_u8; 128];
    let mut len: libc::socklen_t = 128;
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: `from` has the room that `len` tells.
    let got = unsafe { libc::accept4(fd, from.as_mut_ptr().cast(), &raw mut len, flags) };
    let connection = sys::own("accept", got).ok()?;
    Some((connection, peer(&from, len)))
}

pub(super) fn receive(fd: RawFd) -> Option<(Vec<u8>, Option<String>)> {
    let mut buffer = vec![0; 65536];
    let mut from = [0_u8; 128];
    let mut len: libc::socklen_t = 128;
    let (at, size, name) = (buffer.as_mut_ptr().cast(), buffer.len(), from.as_mut_ptr().cast());
    // SAFETY: both buffers have the room that their lengths tell.
    let got = unsafe { libc::recvfrom(fd, at, size, libc::MSG_DONTWAIT, name, &raw mut len) };
    buffer.truncate(usize::try_from(got).ok()?);
    Some((buffer, peer(&from, len)))
}

/// The sender's address in words, where it has one.
fn peer(from: &[u8; 128], len: libc::socklen_t) -> Option<String> {
    let family = i32::from(u16::from_ne_bytes([from[0], from[1]]));
    let port = u16::from_be_bytes([from[2], from[3]]);
    let word = |at: usize| u32::from_ne_bytes([from[at], from[at + 1], from[at + 2], from[at + 3]]);
    match family {
        libc::AF_INET => Some(
            SocketAddr::new(Ipv4Addr::from(<[u8; 4]>::try_from(&from[4..8]).ok()?).into(), port).to_string(),
        ),
        libc::AF_INET6 => Some(
            SocketAddr::new(Ipv6Addr::from(<[u8; 16]>::try_from(&from[8..24]).ok()?).into(), port)
                .to_string(),
        ),
        libc::AF_VSOCK => Some(format!("vsock:{}:{}", word(8), word(4))),
        libc::AF_NETLINK => Some(format!("netlink:{}", word(4))),
        _ if len <= 2 => None,
        _ => Some(format!("family-{family}")),
    }
}
