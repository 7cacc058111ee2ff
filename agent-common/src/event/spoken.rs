//! What a connection that a rule allows by name said first, where that is not simply a name which the role allows.

use bytemuck::{Pod, Zeroable};

use super::{
    Header, Subject,
    net::{Judgement, Target},
};
use crate::{limits::HOST_NAME_BYTES, spoken::Reader};

vocabulary! {
    /// What was found.
    pub enum Finding {
        /// A name that no rule of the role allows on this port.
        Mismatch = 1 => "mismatch",
        /// No name where one belongs.
        Unnamed = 2 => "unnamed",
        /// What servers read in more than one way, or a name that does not come early enough.
        Unreadable = 3 => "unreadable",
        /// The ClientHello carries an encrypted one, whose name nobody on the way can read.
        Ech = 4 => "ech",
        /// Neither TLS nor HTTP.
        Other = 5 => "other",
    }
}

/// What was spoken. The subject is who connected.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Spoken {
    pub header: Header,
    pub target: Target,
    pub judgement: Judgement,
    /// The socket's cookie.
    pub socket: u64,
    /// Where it comes from, as in `target`.
    pub source: [u8; 16],
    /// [`Finding`], raw.
    pub finding: u8,
    /// [`crate::spoken::Protocol`], raw; 0 where it never came out.
    pub protocol: u8,
    /// Not 0 where the ClientHello carries an encrypted one.
    pub ech: u8,
    /// Bytes of the name.
    pub name_bytes: u8,
    /// In host order.
    pub source_port: u16,
    pub _pad: u16,
    /// The name, NUL padded.
    pub name: [u8; HOST_NAME_BYTES],
}
const _: () = assert!(size_of::<Spoken>() == 96 + 32 + 16 + 32 + 256);

/// A connection whose first words are awaited: the value of `SPOKEN`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Conversation {
    /// Who connected.
    pub subject: Subject,
    /// The port that was allowed, in host order.
    pub port: u32,
    /// [`phase`].
    pub phase: u32,
    /// Sequence number of the first byte.
    pub first: u32,
    pub reader: Reader,
}
const _: () = assert!(size_of::<Conversation>() == 80 + 12 + size_of::<Reader>());

/// Phases of a [`Conversation`].
pub mod phase {
    /// No SYN has been seen.
    pub const BEGINS: u32 = 0;
    pub const READING: u32 = 1;
    /// Nothing more is looked at.
    pub const PASSES: u32 = 2;
    /// Nothing more passes.
    pub const REFUSED: u32 = 3;
}
