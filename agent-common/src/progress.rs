//! What a daemon notes for the next one, in memory that both map: how far the record of events has come, and what of
//! the lost has been told. Neither costs a system call, and neither goes with a daemon that is killed.

use crate::event::KINDS;

/// The value of the map `PROGRESS`. Kernel programs have no business with it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Progress {
    pub batch: Batch,
    pub account: Account,
}

/// The lines that are being written to the event file, or were last.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The file.
    pub device: u64,
    pub inode: u64,
    /// Its length before and after.
    pub from: u64,
    pub to: u64,
    /// The ring buffer that the records come from, by the id of its map; 0 for none.
    pub ring: u64,
    /// What makes lines of records (the program, and what its settings have recorded), as a hash: another daemon may make
    /// other lines.
    pub maker: u64,
    /// The ring buffer's position behind the last record that the lines tell. Noted last: where it is old, so is all
    /// that hangs on it.
    pub until: u64,
}

/// What was lost beside what the kernel programs count, and how much of each has been told; totals since the maps were
/// made.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Account {
    /// Of each kind, what builds with another contract had lost and not told.
    pub inherited: [u64; KINDS as usize],
    pub undecodable: [u64; REASONS],
    pub unwritten: u64,
    /// Of each kind, what has been told of what the kernel programs lost.
    pub told: [u64; KINDS as usize],
    pub undecodable_told: [u64; REASONS],
    pub unwritten_told: u64,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            inherited: [0; KINDS as usize],
            undecodable: [0; REASONS],
            unwritten: 0,
            told: [0; KINDS as usize],
            undecodable_told: [0; REASONS],
            unwritten_told: 0,
        }
    }
}

/// Room for the reasons why a record can be undecodable.
pub const REASONS: usize = 8;

const _: () = assert!(size_of::<Batch>() == 56);
const _: () = assert!(size_of::<Account>() == 8 * (2 * KINDS as usize + 2 * REASONS + 2));
const _: () = assert!(size_of::<Progress>() == size_of::<Batch>() + size_of::<Account>());
