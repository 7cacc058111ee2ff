//! Host names as the kernel side knows them: patterns of rules, questions under way, addresses known by a name.

use bytemuck::{Pod, Zeroable};

use crate::limits::{GROUPS_PER_ADDRESS, HOST_NAME_BYTES, PATTERNS_PER_NAME};

/// The key of `NAME_IDS`: a name that rules have, whole, NUL behind it. `*.example.com` stands for what lies below.
/// Compared whole by the kernel: a hash in its place would be an invitation to find another name with the same.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct NameKey {
    pub text: [u8; HOST_NAME_BYTES],
}
const _: () = assert!(size_of::<NameKey>() == 256);

/// The key of `NAME_RULES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct NameRuleKey {
    /// What `NAME_IDS` says of the pattern.
    pub pattern: u64,
    pub policy: u32,
    /// Port in host order; 0 for every port.
    pub port: u16,
    /// IPPROTO_*; [`ASKING`] for the question itself, whose port is 0.
    pub protocol: u8,
    pub _pad: u8,
}
const _: () = assert!(size_of::<NameRuleKey>() == 16);

/// [`NameRuleKey::protocol`] of what becomes of asking for the name.
pub const ASKING: u8 = 0;

/// The key of `ADDRESSES` and of `RESOLVERS`: an address as one network namespace reaches it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct AddressKey {
    /// The namespace's cookie, which no other one ever has; [`EVERYWHERE`].
    pub netns: u64,
    /// IPv6, or IPv4 as v4-mapped.
    pub address: [u8; 16],
}
const _: () = assert!(size_of::<AddressKey>() == 24);

/// [`AddressKey::netns`] of resolvers that the settings name: no namespace has this cookie.
pub const EVERYWHERE: u64 = 0;

/// The patterns that one name met, the most specific first. Names that met the same share a group: to a verdict they
/// are the same.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Group {
    /// Ids of patterns; 0 behind the last.
    pub patterns: [u64; PATTERNS_PER_NAME],
    /// CLOCK_BOOTTIME; 0 for a group that was never used, [`CLAIMED`] while one is being written.
    pub expires_ns: u64,
    /// When an answer first said so; [`FOR_GOOD`] where the host's own file does.
    pub since_ns: u64,
}
const _: () = assert!(size_of::<Group>() == 64);

/// [`Group::expires_ns`] while somebody writes it: neither in force nor free.
pub const CLAIMED: u64 = u64::MAX;

/// [`Group::since_ns`] of what `/etc/hosts` says, which counts until it says otherwise.
pub const FOR_GOOD: u64 = 0;

impl Group {
    /// Whether it counts at that time.
    #[must_use]
    #[inline(always)]
    pub const fn in_force(expires_ns: u64, now_ns: u64) -> bool {
        expires_ns > now_ns && expires_ns != CLAIMED
    }
}

/// What is known of an address: the value of `ADDRESSES`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Known {
    pub groups: [Group; GROUPS_PER_ADDRESS],
    /// Who said so last, and of which name: for telling, never for a verdict.
    pub resolver: [u8; 16],
    pub name: [u8; HOST_NAME_BYTES],
}
const _: () = assert!(size_of::<Known>() == 784);

/// The key of `QUESTIONS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct QuestionKey {
    pub netns: u64,
    pub local: [u8; 16],
    pub resolver: [u8; 16],
    /// The message's id.
    pub id: u16,
    /// The asker's port.
    pub port: u16,
    /// IPPROTO_UDP or IPPROTO_TCP.
    pub protocol: u32,
}
const _: () = assert!(size_of::<QuestionKey>() == 48);

/// A question that an answer may come to: the value of `QUESTIONS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Question {
    pub name: [u8; HOST_NAME_BYTES],
    /// CLOCK_BOOTTIME.
    pub asked_ns: u64,
    /// The type asked for.
    pub kind: u32,
    /// The device that it left by, by which its answer comes.
    pub device: u32,
}
const _: () = assert!(size_of::<Question>() == 272);
