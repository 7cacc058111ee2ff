//! The net family: what a process sends to, with the verdict that was given.

use bytemuck::{Pod, Zeroable};

use super::Header;
use crate::{
    limits::UNIX_PATH_BYTES,
    verdict::{Decision, Source, Verdict},
};

vocabulary! {
    /// The call.
    pub enum Op {
        /// connect(2), and what acts like it.
        Connect = 1 => "connect",
        /// A send with an address of its own: sendto, sendmsg, sendmmsg, fast open.
        Send = 2 => "send",
        /// socket(2).
        Create = 3 => "create",
        /// setsockopt(2).
        Option = 4 => "setsockopt",
        /// listen(2); told and not decided.
        Listen = 5 => "listen",
        /// bind(2) of a datagram socket to a port that the caller chose; told and not decided.
        Bind = 6 => "bind",
    }
}

vocabulary! {
    /// Where the verdict was given.
    pub enum Place {
        /// An LSM hook: in the call itself, nothing passes it.
        Lsm = 1 => "lsm",
        /// A cgroup hook (connect, sendmsg, sock_create).
        Cgroup = 2 => "cgroup",
        /// The packet, on its way out.
        Packet = 3 => "packet",
    }
}

/// A decision as it travels.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Judgement {
    /// Policy that was in force; 0 for none.
    pub policy: u32,
    /// The rule's place in the role's list.
    pub rule: u16,
    /// [`Verdict`], raw: what was done.
    pub verdict: u8,
    /// [`Verdict`], raw: what the rule said.
    pub wanted: u8,
    /// [`Source`], raw.
    pub source: u8,
    /// [`Place`], raw.
    pub place: u8,
    /// The errno the caller got, 0 for none.
    pub errno: u16,
    pub _pad: u32,
}
const _: () = assert!(size_of::<Judgement>() == 16);

impl Judgement {
    #[must_use]
    #[inline(always)]
    pub fn new(decision: Decision, policy: u32, place: Place, errno: u16) -> Self {
        Self {
            policy,
            rule: decision.rule,
            verdict: decision.verdict as u8,
            wanted: decision.wanted as u8,
            source: decision.source as u8,
            place: place as u8,
            errno,
            _pad: 0,
        }
    }

    /// The decision again, or `None` where a number is not one this build knows.
    #[must_use]
    pub fn decision(&self) -> Option<Decision> {
        Some(Decision {
            verdict: Verdict::from_raw(self.verdict)?,
            wanted: Verdict::from_raw(self.wanted)?,
            source: Source::from_raw(self.source)?,
            rule: self.rule,
        })
    }
}

/// What was to be reached, for every class but unix sockets; of [`Op::Listen`] and [`Op::Bind`], what is offered.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Target {
    /// IPv6, or IPv4 as v4-mapped.
    pub address: [u8; 16],
    /// Host order; vsock ports need 32 bits.
    pub port: u32,
    /// Vsock context id, netlink port id; otherwise 0.
    pub cid: u32,
    /// AF_* of the socket (not of the address, which the caller chooses).
    pub family: u16,
    /// IPPROTO_* of the socket.
    pub protocol: u16,
    /// SOCK_*.
    pub kind: u16,
    /// [`crate::rule::Class`], raw.
    pub class: u8,
    pub _pad: u8,
}
const _: () = assert!(size_of::<Target>() == 32);

/// An act on a socket that is not a unix socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Pod, Zeroable)]
pub struct Net {
    pub header: Header,
    pub target: Target,
    pub judgement: Judgement,
    /// Socket cookie (`sock_gen_cookie`), 0 when it has none yet.
    pub socket: u64,
    /// [`Op`], raw.
    pub op: u8,
    pub _pad: [u8; 7],
}
const _: () = assert!(size_of::<Net>() == 160);

/// A connect or a datagram to a unix socket.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Unix {
    pub header: Header,
    pub judgement: Judgement,
    /// Who listens: its instance, 0 for none or unknown.
    pub peer_instance: u64,
    pub peer_exec_id: u64,
    /// Process that bound or listened, in the initial pid namespace; 0 when unknown.
    pub peer_pid: u32,
    /// [`crate::identity::Origin`], raw.
    pub peer_origin: u8,
    /// [`Op`], raw.
    pub op: u8,
    /// Bytes of `name` in use.
    pub name_bytes: u16,
    /// The name the peer is bound to: a path, or with a leading NUL an abstract name.
    pub name: [u8; UNIX_PATH_BYTES],
    pub _pad: u32,
}
const _: () = assert!(size_of::<Unix>() == 96 + 16 + 16 + 8 + 112);
