//! Ends connections whose first words were refused, so that their programs need not wait until their own time is up: the
//! kernel drops their segments, and tells nobody.
//!
//! Nothing rests on it. It takes a kernel that can (CONFIG_INET_DIAG_DESTROY) and a connection in the daemon's own
//! network namespace; elsewhere the program waits.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd as _,
};

use agent_common::verdict::Verdict;
use anyhow::{Context as _, Result, ensure};
use nix::{
    libc,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
    },
};
use tracing::debug;

use super::Pipeline;
use crate::event::Event;

/// A TCP connection of which nothing leaves any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    from: SocketAddr,
    to: SocketAddr,
    /// Of the socket itself, so that no later one with the same ends is meant.
    cookie: u64,
}

impl Connection {
    /// The one whose first words were refused, if the event is of such.
    #[must_use]
    pub fn refused(event: &Event) -> Option<Self> {
        let said = event.spoken.as_ref()?;
        if event.verdict.and_then(|verdict| verdict.known()) != Some(Verdict::Deny) {
            return None;
        }
        let network = event.network.as_ref()?;
        let port = u16::try_from(network.port?).ok()?;
        let cookie = u64::from_str_radix(network.socket.as_deref()?, 16).ok()?;
        let from = SocketAddr::new(said.source_address?, said.source_port);
        Some(Self { from, to: SocketAddr::new(network.address?, port), cookie })
    }

    /// Has the kernel end it: the program gets ECONNABORTED, the other end a reset.
    fn end(&self) -> Result<()> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag)
            .context("open")?;
        sendto(socket.as_raw_fd(), &self.request(), &NetlinkAddr::new(0, 0), MsgFlags::empty())
            .context("ask")?;
        // The kernel has done it by now, and says how it went: struct nlmsgerr behind the header.
        let mut answer = [0; 128];
        let bytes =
            recv(socket.as_raw_fd(), &mut answer, MsgFlags::MSG_DONTWAIT).context("read the answer")?;
        ensure!(bytes >= 20, "{bytes} bytes of an answer");
        let status = i32::from_ne_bytes([answer[16], answer[17], answer[18], answer[19]]);
        if status == 0 { Ok(()) } else { Err(std::io::Error::from_raw_os_error(-status)).context("end it") }
    }

    /// struct nlmsghdr (linux/netlink.h) and struct inet_diag_req_v2 (linux/inet_diag.h).
    fn request(&self) -> Vec<u8> {
        let v4 = self.to.is_ipv4();
        let family = if v4 { libc::AF_INET } else { libc::AF_INET6 };
        let mut out = Vec::with_capacity(REQUEST_BYTES as usize);
        out.extend(REQUEST_BYTES.to_ne_bytes());
        out.extend(SOCK_DESTROY.to_ne_bytes());
        out.extend(((libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).to_ne_bytes());
        out.extend([0; 8]);
        out.extend([family as u8, libc::IPPROTO_TCP as u8, 0, 0]);
        out.extend(u32::MAX.to_ne_bytes());
        out.extend(self.from.port().to_be_bytes());
        out.extend(self.to.port().to_be_bytes());
        for end in [self.from, self.to] {
            match end.ip() {
                IpAddr::V4(address) => out.extend([&address.octets()[..], &[0; 12]].concat()),
                IpAddr::V6(address) => out.extend(address.octets()),
            }
        }
        // Whatever device.
        out.extend(0_u32.to_ne_bytes());
        out.extend((self.cookie as u32).to_ne_bytes());
        out.extend(((self.cookie >> 32) as u32).to_ne_bytes());
        out
    }
}

impl Pipeline {
    /// Ends those that the batch told of.
    pub(super) fn cut(&mut self) {
        for connection in std::mem::take(&mut self.line.refused) {
            if let Err(error) = connection.end() {
                debug!(
                    ?connection,
                    error = format!("{error:#}"),
                    "a refused connection is left to its own end"
                );
            }
        }
    }
}

/// linux/sock_diag.h
const SOCK_DESTROY: u16 = 21;
const REQUEST_BYTES: u32 = 16 + 56;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_is_as_the_kernel_has_it() {
        let connection = Connection {
            from: "192.0.2.1:1025".parse().unwrap(),
            to: "192.0.2.2:443".parse().unwrap(),
            cookie: 0x0102_0304_0506_0708,
        };
        let request = connection.request();
        assert_eq!(request.len(), 72);
        assert_eq!(request[24..28], [4, 1, 1, 187]);
        assert_eq!(request[28..32], [192, 0, 2, 1]);
        assert_eq!(request[44..48], [192, 0, 2, 2]);
        assert_eq!(request[64..68], 0x0506_0708_u32.to_ne_bytes());
    }
}
