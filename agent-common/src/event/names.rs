//! The names family: what agents ask resolvers for, and what they are answered.

use bytemuck::{Pod, Zeroable};

use super::{Header, net::Judgement};
use crate::{
    dns::Answer,
    limits::{DNS_ANSWERS_MAX, HOST_NAME_BYTES},
};

/// Bits of [`Dns::flags`].
pub mod flags {
    /// The network namespace is configured for this resolver.
    pub const CONFIGURED: u8 = 1 << 0;
    /// The message could not be read: there is no name and no type.
    pub const UNREADABLE: u8 = 1 << 1;
    /// The server has cut the answer.
    pub const CUT: u8 = 1 << 2;
    /// There are more addresses than are told.
    pub const MORE: u8 = 1 << 3;
}

/// A question of an agent, or an answer to one: the socket is known for its.
///
/// Of `answers` as many are handed over as are used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Dns {
    pub header: Header,
    /// What became of the question; all zero in an answer.
    pub judgement: Judgement,
    /// The server: IPv6, or IPv4 as v4-mapped.
    pub resolver: [u8; 16],
    /// Socket cookie, 0 when it has none yet.
    pub socket: u64,
    /// The record type that is asked for.
    pub kind: u16,
    /// The message's id.
    pub id: u16,
    /// IPPROTO_UDP or IPPROTO_TCP.
    pub protocol: u8,
    /// Bits of [`flags`].
    pub flags: u8,
    /// Of an answer: the server's response code (RFC 1035, 4.1.1).
    pub code: u8,
    /// Addresses in use.
    pub answers_used: u8,
    /// Lower case, without a dot at its end, NUL behind it.
    pub name: [u8; HOST_NAME_BYTES],
    pub answers: [Answer; DNS_ANSWERS_MAX],
}
const _: () = assert!(size_of::<Dns>() == DNS_HEAD_BYTES + DNS_ANSWERS_MAX * size_of::<Answer>());

/// Bytes of a [`Dns`] before its answers.
pub const DNS_HEAD_BYTES: usize = 96 + 16 + 16 + 8 + 8 + HOST_NAME_BYTES;
