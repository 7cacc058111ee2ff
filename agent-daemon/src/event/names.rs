//! The names family as events show it: questions to resolvers, and answers.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Name;

/// A question to a resolver, or an answer to one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dns {
    /// The name that is asked for, lower case, without a dot at its end; empty where the message could not be read
    /// (`unreadable`), or was cut by the server.
    pub name: Name,
    /// The record type that is asked for: `A`, `AAAA`, `TXT`, …, or `TYPE` and its number.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<Box<str>>,
    /// The message's id: the same in question and answer.
    pub id: u16,
    /// The server that is asked, or that answers; absent where the packet's headers could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolver: Option<IpAddr>,
    /// Whether the host is configured for this resolver, so that its answers give addresses their names. In questions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configured: Option<bool>,
    /// `udp` or `tcp`.
    pub protocol: Box<str>,
    /// The kernel's cookie of the socket, hexadecimal: the same in other events of this socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<Box<str>>,
    /// What the server says: `NOERROR`, `NXDOMAIN`, …, or `RCODE` and its number. In answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<Box<str>>,
    /// The addresses that the answer gives the name, at the end of its chain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<DnsAnswer>,
}

/// An address of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct DnsAnswer {
    pub address: IpAddr,
    /// How long it may be kept: the least of the records that lead to it, in seconds.
    pub ttl_s: u32,
}

/// What an instance has asked for below one domain, where that is more than names are for: figures of at most ten
/// minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Channel {
    /// The domain that somebody has registered, by the Public Suffix List.
    pub domain: Name,
    /// Since the first of the questions.
    pub seconds: u64,
    pub questions: u64,
    /// Different names among them.
    pub names: u64,
    /// Bytes of those names before the domain: what they can carry.
    pub bytes: u64,
    /// Bytes of the longest of them before the domain.
    pub longest: u64,
    /// Questions of a type whose answer carries whatever one likes: TXT, NULL, CNAME, MX, SRV, NAPTR, ANY.
    pub free_form: u64,
}

/// The name of a record type (IANA, DNS parameters; RFC 3597 for the others).
#[must_use]
pub fn type_name(kind: u16) -> Box<str> {
    TYPES
        .iter()
        .find(|(n, _)| *n == kind)
        .map_or_else(|| format!("TYPE{kind}").into(), |(_, name)| (*name).into())
}

/// The name of a response code.
#[must_use]
pub fn code_name(code: u8) -> Box<str> {
    CODES.get(usize::from(code)).map_or_else(|| format!("RCODE{code}").into(), |name| (*name).into())
}

const TYPES: &[(u16, &str)] = &[
    (1, "A"),
    (2, "NS"),
    (5, "CNAME"),
    (6, "SOA"),
    (10, "NULL"),
    (12, "PTR"),
    (15, "MX"),
    (16, "TXT"),
    (28, "AAAA"),
    (33, "SRV"),
    (35, "NAPTR"),
    (39, "DNAME"),
    (43, "DS"),
    (48, "DNSKEY"),
    (52, "TLSA"),
    (64, "SVCB"),
    (65, "HTTPS"),
    (252, "AXFR"),
    (255, "ANY"),
    (257, "CAA"),
];

const CODES: &[&str] = &["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
