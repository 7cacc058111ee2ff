//! Packets by hand: the bytes of IP, UDP and ICMP, written and read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};

/// A whole IPv4 packet that carries one UDP datagram (without UDP checksum, which IPv4 permits).
pub fn udp4(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let datagram = udp(from.port(), to.port(), payload);
    let length = u16::try_from(20 + datagram.len()).unwrap_or(0);
    let mut header = [0_u8; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&length.to_be_bytes());
    header[8] = 64;
    header[9] = UDP;
    header[12..16].copy_from_slice(&from.ip().octets());
    header[16..20].copy_from_slice(&to.ip().octets());
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header[..], &datagram].concat()
}

/// A whole IPv6 packet that carries one UDP datagram.
pub fn udp6(from: SocketAddrV6, to: SocketAddrV6, payload: &[u8]) -> Vec<u8> {
    let mut datagram = udp(from.port(), to.port(), payload);
    let length = u16::try_from(datagram.len()).unwrap_or(0);
    let pseudo =
        [&from.ip().octets()[..], &to.ip().octets(), &[0, 0], &length.to_be_bytes(), &[0, 0, 0, UDP]]
            .concat();
    let sum = checksum(&[&pseudo, &datagram]);
    datagram[6..8].copy_from_slice(&sum.to_be_bytes());
    let header =
        [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[UDP, 64], &from.ip().octets(), &to.ip().octets()]
            .concat();
    [header, datagram].concat()
}

/// A UDP header without checksum, then the payload.
pub fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap_or(0);
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

/// An ICMP echo request. ICMPv6's checksum is the kernel's to fill.
pub fn echo(version: u8, payload: &[u8]) -> Vec<u8> {
    let kind = if version == 4 { ECHO_REQUEST_V4 } else { ECHO_REQUEST_V6 };
    let mut bytes = [&[kind, 0, 0, 0, 0x43, 0x48, 0, 1][..], payload].concat();
    if version == 4 {
        let sum = checksum(&[&bytes]);
        bytes[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    bytes
}

/// An Ethernet header between two addresses of zeroes, as the loopback device has them.
pub fn ethernet(protocol: u16, packet: &[u8]) -> Vec<u8> {
    [&[0; 12][..], &protocol.to_be_bytes(), packet].concat()
}

/// The internet checksum over parts that each have an even length, but for the last.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 =
        words.map(|word| u32::from(word[0]) << 8 | u32::from(word.get(1).copied().unwrap_or(0))).sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    let folded = (folded >> 16) + (folded & 0xffff);
    !u16::try_from(folded).unwrap_or(0)
}

/// What the capture needs to know of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub from: IpAddr,
    pub to: IpAddr,
    pub protocol: u8,
    pub from_port: Option<u16>,
    pub to_port: Option<u16>,
    /// TCP flags or ICMP type, by protocol.
    pub detail: Option<u8>,
}

impl Header {
    /// Reads an IP packet; None for what is no IP or too short to tell.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            _ => None,
        }
    }

    fn parse_v4(packet: &[u8]) -> Option<Self> {
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
        let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1fff;
        let body = packet.get(usize::from(packet[0] & 15) * 4..).filter(|_| fragment == 0);
        Some(Self::with_body(address(12)?.into(), address(16)?.into(), *packet.get(9)?, body))
    }

    fn parse_v6(packet: &[u8]) -> Option<Self> {
        let address = |at: usize| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
        let (from, to) = (address(8)?.into(), address(24)?.into());
        let (mut next, mut at) = (packet[6], 40);
        // Hop-by-hop, routing and destination options stand between the header and what it carries.
        while matches!(next, 0 | 43 | 60) {
            let Some([following, length]) = packet.get(at..at + 2) else { break };
            (next, at) = (*following, at + 8 + usize::from(*length) * 8);
        }
        Some(Self::with_body(from, to, next, packet.get(at..)))
    }

    fn with_body(from: IpAddr, to: IpAddr, protocol: u8, body: Option<&[u8]>) -> Self {
        let has_ports = matches!(protocol, TCP | UDP | DCCP | SCTP | UDPLITE);
        let port = |at| {
            Some(u16::from_be_bytes(<[u8; 2]>::try_from(body.filter(|_| has_ports)?.get(at..at + 2)?).ok()?))
        };
        let detail = match protocol {
            TCP => body.and_then(|body| body.get(13)),
            ICMP | ICMPV6 => body.and_then(|body| body.first()),
            _ => None,
        };
        Self { from, to, protocol, from_port: port(0), to_port: port(2), detail: detail.copied() }
    }

    /// An answer that a kernel gives of its own: ICMP errors, echo replies, neighbour discovery.
    pub fn is_answer(&self) -> bool {
        match (self.protocol, self.detail) {
            (ICMP, Some(kind)) => matches!(kind, 0 | 3 | 11 | 12),
            (ICMPV6, Some(kind)) => matches!(kind, 1..=4 | 129 | 133..=137 | 143),
            _ => false,
        }
    }

    pub fn protocol_name(&self) -> String {
        match self.protocol {
            ICMP => "icmp".to_owned(),
            TCP => "tcp".to_owned(),
            UDP => "udp".to_owned(),
            DCCP => "dccp".to_owned(),
            ICMPV6 => "icmp6".to_owned(),
            SCTP => "sctp".to_owned(),
            UDPLITE => "udplite".to_owned(),
            other => format!("ip-{other}"),
        }
    }
}

pub const ETHERTYPE_IPV4: u16 = 0x0800;
const ECHO_REQUEST_V4: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let (from, to) = ("127.0.0.1:9".parse().unwrap(), "10.1.2.3:47474".parse().unwrap());
        let header = Header::parse(&udp4(from, to, b"x")).unwrap();
        assert_eq!(
            (header.to, header.to_port, header.from_port),
            (IpAddr::from(*to.ip()), Some(47474), Some(9))
        );
        let (from, to) = ("[::1]:9".parse().unwrap(), "[fd00::5]:7".parse().unwrap());
        let header = Header::parse(&udp6(from, to, b"x")).unwrap();
        assert_eq!((header.to, header.to_port, header.protocol), (IpAddr::from(*to.ip()), Some(7), UDP));
    }

    #[test]
    fn routing_header_does_not_hide_the_ports() {
        let (from, to) = ("[::1]:9".parse().unwrap(), "[::1]:7".parse().unwrap());
        let plain = udp6(from, to, b"x");
        let mut routed = plain[..40].to_vec();
        routed[6] = 43;
        routed.extend([UDP, 2]);
        routed.extend([0; 22]);
        routed.extend(&plain[40..]);
        assert_eq!(Header::parse(&routed).unwrap().to_port, Some(7));
    }

    #[test]
    fn a_cut_packet_is_no_panic() {
        let whole = udp6("[::1]:9".parse().unwrap(), "[::1]:7".parse().unwrap(), b"x");
        for length in 0..whole.len() {
            Header::parse(&whole[..length]);
        }
    }

    #[test]
    fn checksum_of_a_packet_with_its_checksum_is_zero() {
        let packet = udp4("1.2.3.4:5".parse().unwrap(), "6.7.8.9:10".parse().unwrap(), b"abc");
        assert_eq!(checksum(&[&packet[..20]]), 0);
    }
}
