//! The contract: what the kernel programs and the daemon say to each other.
//!
//! Everything here is `no_std`, fixed-width and `#[repr(C)]`, with sizes asserted beside each struct. Both sides
//! compile the same file, so a field cannot mean two things. A value this build does not know stays a value
//! (`from_raw` answers `None`), never a transmute.
#![no_std]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

/// Defines a `u8`-backed vocabulary: the enum, its raw numbers, and its name in configuration and events.
///
/// Wire structs carry the raw `u8`; `from_raw` is the only way back, so an unknown number is seen, not trusted.
#[macro_export]
macro_rules! vocabulary {
    ($(#[$doc:meta])* pub enum $name:ident { $($(#[$vdoc:meta])* $variant:ident = $raw:literal => $text:literal,)* }) => {
        $(#[$doc])*
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant = $raw,)* }

        impl $name {
            /// Every value, in the order of the raw numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The value with this raw number, or `None` for one this build does not know.
            #[must_use]
            #[inline(always)]
            pub const fn from_raw(raw: u8) -> Option<Self> {
                match raw { $($raw => Some(Self::$variant),)* _ => None }
            }

            /// The word used for it in configuration, events and metrics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

pub mod bytes;
pub mod contract;
pub mod dns;
pub mod event;
pub mod identity;
pub mod limits;
pub mod name;
pub mod offsets;
pub mod progress;
#[cfg(test)]
mod random;
pub mod rule;
pub mod spoken;
pub mod verdict;
