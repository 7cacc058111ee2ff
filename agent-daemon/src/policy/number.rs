//! Names of internet protocols and address families, and what has rules of another kind.

use crate::config::problem::{Fault, nearest, quoted};

/// The number of an internet protocol, by name or number.
pub fn protocol(text: &str) -> Result<u32, Fault> {
    number(text, "an internet protocol", PROTOCOLS, PROTOCOL_MAX)
}

/// The number of an address family, by name or number; one with rules of its own is an error that names them.
pub fn family(text: &str) -> Result<u32, Fault> {
    let number = number(text, "an address family", FAMILIES, FAMILY_MAX)?;
    match RULED_OTHERWISE.iter().find(|(family, _)| *family == number) {
        None => Ok(number),
        Some((_, remedy)) => Err(Fault::new(format!("family:{text} has rules of its own"), *remedy)),
    }
}

/// The name of an internet protocol, or its number.
#[must_use]
pub fn protocol_name(number: u32) -> String {
    name(number, PROTOCOLS)
}

/// The name of an address family, or its number.
#[must_use]
pub fn family_name(number: u32) -> String {
    name(number, FAMILIES)
}

fn number(text: &str, what: &str, names: &[(&str, u32)], max: u32) -> Result<u32, Fault> {
    if let Some((_, number)) = names.iter().find(|(name, _)| *name == text) {
        return Ok(*number);
    }
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return match text.parse() {
            Ok(number) if number <= max => Ok(number),
            _ => Err(Fault::new(
                format!("{} is not the number of {what}", quoted(text)),
                format!("0 to {max}"),
            )),
        };
    }
    let fault = format!("{} is not the name of {what}", quoted(text));
    let near = nearest(text, names.iter().map(|(name, _)| *name));
    Err(Fault::new(fault, format!("{near}; or its number")))
}

fn name(number: u32, names: &[(&str, u32)]) -> String {
    let known = names.iter().find(|(_, known)| *known == number);
    known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_string())
}

/// /etc/protocols' names of what Linux has a socket for, and MPTCP. 8 bits on the wire, MPTCP needs more.
const PROTOCOLS: &[(&str, u32)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipip", 4),
    ("tcp", 6),
    ("egp", 8),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("icmpv6", 58),
    ("ospf", 89),
    ("pim", 103),
    ("comp", 108),
    ("l2tp", 115),
    ("sctp", 132),
    ("udplite", 136),
    ("mpls", 137),
    ("raw", 255),
    ("smc", 256),
    ("mptcp", 262),
];
const PROTOCOL_MAX: u32 = 262;

/// AF_* of include/linux/socket.h, without those that are never created by a process.
const FAMILIES: &[(&str, u32)] = &[
    ("unspec", 0),
    ("unix", 1),
    ("inet", 2),
    ("ax25", 3),
    ("ipx", 4),
    ("appletalk", 5),
    ("netrom", 6),
    ("x25", 9),
    ("inet6", 10),
    ("rose", 11),
    ("key", 15),
    ("netlink", 16),
    ("packet", 17),
    ("rds", 21),
    ("pppox", 24),
    ("llc", 26),
    ("ib", 27),
    ("mpls", 28),
    ("can", 29),
    ("tipc", 30),
    ("bluetooth", 31),
    ("iucv", 32),
    ("rxrpc", 33),
    ("isdn", 34),
    ("phonet", 35),
    ("ieee802154", 36),
    ("caif", 37),
    ("alg", 38),
    ("nfc", 39),
    ("vsock", 40),
    ("kcm", 41),
    ("qipcrtr", 42),
    ("smc", 43),
    ("xdp", 44),
    ("mctp", 45),
];
const FAMILY_MAX: u32 = 255;

const RULED_OTHERWISE: &[(u32, &str)] = &[
    (1, "write unix:/path or unix:@name"),
    (2, "write an address"),
    (10, "write an address"),
    (17, "write packet"),
    (40, "write vsock:CID:PORT"),
    (44, "write packet, which covers AF_XDP"),
];

/// Protocols that are ruled by address; they cannot be the subject of a `protocol:` rule.
pub const BY_ADDRESS: &[u32] = &[1, 6, 17, 58, 136, 262];
