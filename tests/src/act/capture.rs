//! The packet capture of the receiver: whatever is on a wire, also a lone SYN or an echo request.

use std::{
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    str::FromStr,
};

use anyhow::Context;

use crate::act::{
    ctx::token_in,
    frame::Header,
    receive::{Line, Log},
    sys::{self, Refused},
};

/// A destination whose packets are logged. Packets that carry a token are logged wherever they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    pub address: Option<IpAddr>,
    pub port: Option<u16>,
}

impl FromStr for Watch {
    type Err = anyhow::Error;

    /// `ADDR`, `ADDR:PORT` or `:PORT`.
    fn from_str(text: &str) -> anyhow::Result<Self> {
        if let Some(port) =
            text.strip_prefix(':').filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
        {
            return Ok(Self { address: None, port: Some(port.parse().context("PORT")?) });
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { address: Some(address.ip()), port: Some(address.port()) });
        }
        let address = text.parse().with_context(|| format!("{text}: expected ADDR, ADDR:PORT or :PORT"))?;
        Ok(Self { address: Some(address), port: None })
    }
}

impl Watch {
    /// A packet without a port (ICMP, a fragment) is matched by its address alone.
    fn sees(self, packet: &Header) -> bool {
        match (self.address, self.port, packet.to_port) {
            (None, Some(port), to) => to == Some(port),
            (Some(address), Some(port), Some(to)) => address == packet.to && port == to,
            (Some(address), _, _) => address == packet.to,
            (None, None, _) => true,
        }
    }
}

pub struct Capture {
    pub socket: OwnedFd,
    watches: Vec<Watch>,
    loopback: u32,
}

impl Capture {
    /// Listens on all interfaces of this network namespace, now and later.
    pub fn open(watches: Vec<Watch>) -> Result<Self, Refused> {
        let every = i32::from(u16::try_from(libc::ETH_P_ALL).unwrap_or(0).to_be());
        let socket = sys::socket(libc::AF_PACKET, libc::SOCK_DGRAM | libc::SOCK_NONBLOCK, every)?;
        drop(sys::set_int(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER_BYTES));
        Ok(Self { socket, watches, loopback: sys::ifindex("lo")? })
    }

    pub fn drain(&self, log: &mut Log) -> anyhow::Result<()> {
        let mut buffer = vec![0; 65536];
        while let Some((bytes, at)) = self.next(&mut buffer) {
            // On loopback each packet passes twice, out and in.
            if at.kind == libc::PACKET_OUTGOING && at.interface == self.loopback {
                continue;
            }
            if let Some(line) = self.describe(&buffer[..bytes], &at) {
                log.write(&line)?;
            }
        }
        match self.lost() {
            0 => Ok(()),
            lost => log.write(&Line { bytes: lost, ..Line::of("packets-lost") }),
        }
    }

    fn next(&self, buffer: &mut [u8]) -> Option<(usize, Place)> {
        let mut from = [0_u8; 20];
        let mut len: libc::socklen_t = 20;
        let (at, size) = (buffer.as_mut_ptr().cast(), buffer.len());
        let name = from.as_mut_ptr().cast();
        // SAFETY: both buffers have the room that their lengths tell.
        let got = unsafe { libc::recvfrom(self.socket.as_raw_fd(), at, size, 0, name, &raw mut len) };
        // struct sockaddr_ll: family, protocol, index, hardware type, packet type.
        let place = Place {
            protocol: u16::from_be_bytes([from[2], from[3]]),
            interface: u32::from_ne_bytes([from[4], from[5], from[6], from[7]]),
            kind: from[10],
        };
        usize::try_from(got).ok().map(|bytes| (bytes, place))
    }

    fn describe(&self, packet: &[u8], at: &Place) -> Option<Line> {
        let token = token_in(packet);
        let line = Line { bytes: packet.len(), interface: Some(at.interface), token, ..Line::of("packet") };
        if at.protocol == ETH_P_CAN {
            return Some(Line { protocol: Some("can".to_owned()), ..line });
        }
        let Some(header) = Header::parse(packet).filter(|_| matches!(at.protocol, ETH_P_IP | ETH_P_IPV6))
        else {
            let protocol = format!("ether-{:04x}", at.protocol);
            return line.token.is_some().then_some(Line { protocol: Some(protocol), ..line });
        };
        if line.token.is_none() && !self.watches.iter().any(|watch| watch.sees(&header)) {
            return None;
        }
        Some(Line {
            from: Some(endpoint(header.from, header.from_port)),
            to: Some(endpoint(header.to, header.to_port)),
            protocol: Some(header.protocol_name()),
            detail: header.detail,
            answer: header.is_answer(),
            ..line
        })
    }

    /// How many packets the kernel dropped since the last question: silence is proof only while this is zero.
    fn lost(&self) -> usize {
        let mut statistics = [0_u32; 2];
        let mut len: libc::socklen_t = 8;
        let (fd, at) = (self.socket.as_raw_fd(), statistics.as_mut_ptr().cast());
        // SAFETY: `statistics` has the room that `len` tells.
        unsafe { libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, at, &raw mut len) };
        usize::try_from(statistics[1]).unwrap_or(usize::MAX)
    }
}

/// Where a packet was seen.
struct Place {
    protocol: u16,
    interface: u32,
    kind: u8,
}

fn endpoint(address: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}

const BUFFER_BYTES: i32 = 16 << 20;
const ETH_P_IP: u16 = 0x0800;
const ETH_P_IPV6: u16 = 0x86dd;
const ETH_P_CAN: u16 = 0x000c;

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(to: &str, port: Option<u16>) -> Header {
        let to = to.parse().unwrap();
        Header { from: to, to, protocol: 17, from_port: None, to_port: port, detail: None }
    }

    #[test]
    fn watch_with_address_and_port_takes_packets_without_port() {
        let watch: Watch = "127.0.0.2:80".parse().unwrap();
        assert!(watch.sees(&packet("127.0.0.2", Some(80))));
        assert!(watch.sees(&packet("127.0.0.2", None)));
        assert!(!watch.sees(&packet("127.0.0.2", Some(81))));
        assert!(!watch.sees(&packet("127.0.0.1", Some(80))));
    }

    #[test]
    fn watch_with_port_takes_every_address() {
        let watch: Watch = ":80".parse().unwrap();
        assert!(watch.sees(&packet("::1", Some(80))));
        assert!(!watch.sees(&packet("::1", None)));
        assert_eq!("::1".parse::<Watch>().unwrap().address, Some("::1".parse().unwrap()));
    }
}
