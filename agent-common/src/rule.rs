//! Rule keys and values: how a role's rules lie in the policy maps.
//!
//! All keys start with the policy id, which is a hash of the role's compiled rules: a changed role gets a new id,
//! its rules are written beside the old ones, and one write to `ROLES` puts them in force.

use bytemuck::{Pod, Zeroable};

use crate::limits::UNIX_PATH_BYTES;

vocabulary! {
    /// What a role's mode makes of a verdict.
    pub enum Mode {
        /// Events only.
        Observe = 1 => "observe",
        /// A refusal becomes an alert.
        Alert = 2 => "alert",
        /// As the rules say.
        Enforce = 3 => "enforce",
    }
}

vocabulary! {
    /// What kind of thing a process sends through; each kind has its own rules and default.
    pub enum Class {
        /// An internet endpoint: address, port, protocol.
        Endpoint = 1 => "endpoint",
        /// SOCK_RAW on AF_INET or AF_INET6: the process writes its own headers.
        Raw = 2 => "raw",
        /// AF_PACKET and AF_XDP: frames.
        Packet = 3 => "packet",
        /// AF_VSOCK: the hypervisor and sibling machines.
        Vsock = 4 => "vsock",
        /// AF_UNIX.
        Unix = 5 => "unix",
        /// AF_NETLINK.
        Netlink = 6 => "netlink",
        /// An internet protocol other than TCP, UDP, UDP-Lite, ICMP echo and MPTCP (SCTP, DCCP, …).
        Protocol = 7 => "protocol",
        /// Any other address family.
        Family = 8 => "family",
        /// Source routing (IP_OPTIONS, IPV6_RTHDR): a first hop of the process's choosing.
        Routing = 9 => "routing",
        /// A host name that a resolver is asked for.
        Name = 10 => "name",
    }
}

/// How many classes there are.
pub const CLASSES: usize = Class::ALL.len();

/// The key of `EXACT_RULES`: one address, one port, one protocol.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct ExactKey {
    pub policy: u32,
    /// Port in host order.
    pub port: u16,
    /// IPPROTO_TCP, IPPROTO_UDP or IPPROTO_ICMP (which stands for ICMPv6 too).
    pub protocol: u8,
    pub _pad: u8,
    /// IPv6, or IPv4 as v4-mapped, so that both spellings meet the same rule.
    pub address: [u8; 16],
}
const _: () = assert!(size_of::<ExactKey>() == 24);

/// The data of a `PREFIX_RULES` key (the trie's `prefix_len` counts all of it: 64 bits and then the address).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct PrefixKey {
    pub policy: u32,
    /// Port in host order; 0 for every port.
    pub port: u16,
    pub protocol: u8,
    pub _pad: u8,
    pub address: [u8; 16],
}
const _: () = assert!(size_of::<PrefixKey>() == 24);

/// Bits of a [`PrefixKey`] before the address.
pub const PREFIX_KEY_HEAD_BITS: u32 = 64;

/// The data of a `UNIX_RULES` key: policy and name. An exact name is the whole key, its length the last byte; a prefix
/// is shorter. An abstract name starts with NUL as in the kernel, and may end in NULs too.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct UnixKey {
    pub policy: u32,
    pub name: [u8; UNIX_NAME_BYTES],
}
/// Bytes of a unix socket's name in a key: `sun_path`, and the length in the last byte.
pub const UNIX_NAME_BYTES: usize = UNIX_PATH_BYTES + 4;
const _: () = assert!(size_of::<UnixKey>() == 116);

/// The key of `SOCKET_RULES`: what is not an internet endpoint and has no name.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct SocketKey {
    pub policy: u32,
    /// [`Class`], raw.
    pub class: u8,
    pub _pad: [u8; 3],
    /// Vsock: CID. Family: address family. Protocol, raw: IP protocol. Otherwise 0. [`ANY`] for every.
    pub a: u32,
    /// Vsock: port. Otherwise 0. [`ANY`] for every.
    pub b: u32,
}
const _: () = assert!(size_of::<SocketKey>() == 16);

/// Stands for "every" in a [`SocketKey`].
pub const ANY: u32 = u32::MAX;

/// What a rule says, as a map value. All zero is "no rule": look-ups answer with a value and not with an `Option`,
/// whose empty half the compiler may leave uninitialised, which the verifier refuses.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Rule {
    /// [`crate::verdict::Verdict`], raw; 0 for no rule.
    pub verdict: u8,
    /// Bits of the address prefix (0 to 128): the longer one wins. By name: [`WHOLE_NAME`], or a wildcard's length.
    pub prefix_len: u8,
    /// The rule's place in the role's list, from 0.
    pub index: u16,
}
const _: () = assert!(size_of::<Rule>() == 4);

/// [`Rule::prefix_len`] of a rule that names one host, and not all below it.
pub const WHOLE_NAME: u8 = 255;

impl Rule {
    pub const NONE: Self = Self { verdict: 0, prefix_len: 0, index: 0 };

    #[must_use]
    #[inline(always)]
    pub const fn is_none(self) -> bool {
        self.verdict == 0
    }
}

/// What is in force for a role: the value of `ROLES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Policy {
    /// The id that this role's rules carry in their keys.
    pub id: u32,
    /// [`Mode`], raw.
    pub mode: u8,
    /// The default of each [`Class`], as raw verdicts: `defaults[class - 1]`.
    pub defaults: [u8; CLASSES],
    /// Bits of [`absent`]: which look-ups cannot find anything.
    pub absent: u8,
    /// What becomes of connections by what they say first; see [`spoken`].
    pub spoken: u8,
    pub _pad: [u8; 3],
}
const _: () = assert!(size_of::<Policy>() == 20);

/// Rules on internet endpoints that a policy has none of, so that an act need not look for them. A policy that says
/// nothing of this is looked through.
pub mod absent {
    /// Rules in `EXACT_RULES`.
    pub const EXACT: u8 = 1 << 0;
    /// Rules in `PREFIX_RULES` for one port.
    pub const PORTS: u8 = 1 << 1;
    /// Rules in `PREFIX_RULES` for every port.
    pub const EVERY_PORT: u8 = 1 << 2;
    /// Rules in `NAME_RULES` for endpoints.
    pub const NAMES: u8 = 1 << 3;
    /// Anything said of names at all: nobody need read questions and answers for it.
    pub const ASKING: u8 = 1 << 4;
}

/// [`Policy::spoken`]: two bits for each kind of finding, 0 for deny, so that a policy that says nothing is strict.
pub mod spoken {
    use crate::{event::spoken::Finding, verdict::Verdict};

    const ALERT: u8 = 1;
    const ALLOW: u8 = 2;

    /// How far the bits of a finding stand to the left. What is no name that the role allows is one kind.
    #[inline(always)]
    const fn shift(finding: Finding) -> u8 {
        match finding {
            Finding::Mismatch | Finding::Unnamed | Finding::Unreadable => 0,
            Finding::Ech => 2,
            Finding::Other => 4,
        }
    }

    /// The bits that say `verdict` of `finding`.
    #[must_use]
    pub const fn bits(finding: Finding, verdict: Verdict) -> u8 {
        let bits = match verdict {
            Verdict::Allow => ALLOW,
            Verdict::Alert => ALERT,
            _ => 0,
        };
        bits << shift(finding)
    }

    /// What they say.
    #[must_use]
    #[inline(always)]
    pub const fn verdict(spoken: u8, finding: Finding) -> Verdict {
        match spoken >> shift(finding) & 3 {
            ALLOW => Verdict::Allow,
            ALERT => Verdict::Alert,
            _ => Verdict::Deny,
        }
    }
}
