//! The net family as events show it: endpoint, unix socket, decision.

use std::net::IpAddr;

use agent_common::{
    event::{
        net::{Op, Place},
        spoken::Finding,
    },
    identity::Origin,
    rule::{Class, Mode},
    spoken::Protocol,
    verdict::{Source, Verdict},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Name,
    word::{ExecId, InstanceId, Word},
};

/// What was to be reached, for every class but unix sockets.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Network {
    /// The call.
    pub op: Word<Op>,
    /// The kind of rule that decides it.
    pub class: Word<Class>,
    /// Address family of the socket: `inet`, `inet6`, `packet`, `vsock`, `netlink`, … or its number.
    pub family: Box<str>,
    /// IP protocol of the socket: `tcp`, `udp`, `icmp`, … or its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Box<str>>,
    /// Type of the socket: `stream`, `dgram`, `raw`, … or its number.
    #[serde(rename = "type")]
    pub kind: Box<str>,
    /// Destination; of `net_listen` the address that is offered. IPv4 also where it was written v4-mapped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Its port; 0 in `net_listen` where the kernel chooses one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
    /// The name that the instance was last answered this address for (`dns_answer`); other names may have it too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// Vsock context id or netlink port id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<u32>,
    /// The kernel's cookie of the socket, hexadecimal: the same in other events of this socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<Box<str>>,
    /// The rule names a host, and nobody compares what is said to it: UDP is not read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unread: bool,
}

/// What a connection said first, where that is not simply a name which its role allows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spoken {
    /// What was found.
    pub finding: Word<Finding>,
    /// What it speaks; absent where that did not come out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Word<Protocol>>,
    /// Where the connection comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_address: Option<IpAddr>,
    /// Its port there.
    pub source_port: u16,
}

/// A TLS ClientHello.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Tls {
    /// The server name (SNI), lower case; of what cannot be read, as much as was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<Box<str>>,
    /// It carries an encrypted ClientHello, or what looks like one (GREASE).
    pub ech: bool,
}

/// An HTTP request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Http {
    /// The host that it is for: of its target, or its `Host` field, without a port, lower case; of what cannot be read, as
    /// much as was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<Box<str>>,
}

/// An act on a unix socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Unix {
    pub op: Word<Op>,
    /// The name the other end is bound to: a path, or `@` and an abstract name; empty when it has none, or it could not
    /// be read (`unreadable`); the first 108 bytes of a longer path (`truncated`).
    pub path: Box<str>,
    /// Who holds the other end, where the kernel knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Peer>,
}

/// Who holds the other end of a unix socket.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Peer {
    pub origin: Word<Origin>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<InstanceId>,
    /// The agent of the peer's instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Name>,
    /// The process that bound or listened, in the initial pid namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec_id: Option<ExecId>,
    /// Its executable, where the daemon has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exe: Option<Name>,
}

/// Why the verdict is what it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// What the rule or default says; differs from `verdict` outside enforce mode.
    pub wanted: Word<Verdict>,
    /// What gave it.
    pub source: Word<Source>,
    /// The rule, where `source` is `rule` or `baseline`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// The role's mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Word<Mode>>,
    /// Where the verdict was given: in the call itself (`lsm`) or at the cgroup.
    pub place: Word<Place>,
    /// The error the caller got, such as `EPERM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<Box<str>>,
    /// The kernel's numbers behind the names.
    #[serde(skip)]
    pub ids: RuleIds,
}

/// Numbers that are turned into the rule's text by the attribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleIds {
    pub policy: u32,
    pub rule: u16,
}

/// The rule that gave a verdict, as its author wrote it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rule {
    /// Its place in the role's list, from 0.
    pub index: u16,
    /// What it says; `unknown` when the policy it came from is not in force any more.
    pub text: Name,
    /// `FILE:LINE` where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Name>,
}

/// A number's usual name, or the number.
fn named(table: &[(u16, &str)], number: u16) -> Box<str> {
    table
        .iter()
        .find(|(n, _)| *n == number)
        .map_or_else(|| number.to_string().into(), |(_, name)| (*name).into())
}

/// The name of an address family.
#[must_use]
pub fn family_name(family: u16) -> Box<str> {
    named(FAMILIES, family)
}

/// The name of an IP protocol.
#[must_use]
pub fn protocol_name(protocol: u16) -> Box<str> {
    named(PROTOCOLS, protocol)
}

/// The IP protocol of a name that [`protocol_name`] gives.
#[must_use]
pub fn protocol_number(name: &str) -> Option<u16> {
    PROTOCOLS.iter().find(|(_, n)| *n == name).map(|(number, _)| *number).or_else(|| name.parse().ok())
}

/// The name of a socket type.
#[must_use]
pub fn type_name(kind: u16) -> Box<str> {
    named(TYPES, kind)
}

/// The name of an errno.
#[must_use]
pub fn errno_name(errno: u16) -> Box<str> {
    format!("{:?}", nix::errno::Errno::from_raw(i32::from(errno))).into()
}

/// AF_INET and AF_INET6.
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;

/// Address families of socket(2).
const FAMILIES: &[(u16, &str)] = &[
    (1, "unix"),
    (AF_INET, "inet"),
    (3, "ax25"),
    (4, "ipx"),
    (5, "appletalk"),
    (9, "x25"),
    (AF_INET6, "inet6"),
    (15, "key"),
    (16, "netlink"),
    (17, "packet"),
    (21, "rds"),
    (23, "irda"),
    (26, "llc"),
    (27, "ib"),
    (28, "mpls"),
    (29, "can"),
    (30, "tipc"),
    (31, "bluetooth"),
    (33, "rxrpc"),
    (36, "ieee802154"),
    (37, "caif"),
    (38, "alg"),
    (39, "nfc"),
    (40, "vsock"),
    (41, "kcm"),
    (42, "qipcrtr"),
    (43, "smc"),
    (44, "xdp"),
    (45, "mctp"),
];

/// IP protocols that programs send.
const PROTOCOLS: &[(u16, &str)] = &[
    (1, "icmp"),
    (2, "igmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (41, "ipv6"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "icmpv6"),
    (132, "sctp"),
    (136, "udplite"),
    (255, "raw"),
    (262, "mptcp"),
];

/// Socket types of socket(2).
const TYPES: &[(u16, &str)] =
    &[(1, "stream"), (2, "dgram"), (3, "raw"), (4, "rdm"), (5, "seqpacket"), (6, "dccp"), (10, "packet")];
