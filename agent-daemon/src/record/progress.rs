//! How far the record has come, in memory that outlives the daemon where the kernel side does: a few words written, and
//! no system call.

use std::{io, num::NonZeroUsize, os::fd::OwnedFd, ptr::NonNull};

use agent_common::progress::{Account, Batch, Progress as Shared};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

/// The mapped note. The recorder alone writes it, and the next daemon's reads it.
#[derive(Debug)]
pub struct Progress {
    at: NonNull<Shared>,
}

// SAFETY: the mapping belongs to this value; nothing in it is bound to a thread.
unsafe impl Send for Progress {}

impl Progress {
    /// The note in a map of the kernel side's, whose values are of its size.
    ///
    /// # Errors
    /// When it cannot be mapped.
    pub fn mapped(map: &OwnedFd) -> io::Result<Self> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let at = unsafe { mmap(None, BYTES, access, MapFlags::MAP_SHARED, map, 0) }?;
        Ok(Self { at: at.cast() })
    }

    /// A note that nobody reads after us.
    ///
    /// # Errors
    /// When there is no memory.
    pub fn of_our_own() -> io::Result<Self> {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: as above. New memory is zero, which is a value of these plain numbers.
        let at = unsafe { mmap_anonymous(None, BYTES, access, MapFlags::MAP_PRIVATE) }?;
        Ok(Self { at: at.cast() })
    }

    /// The lines that were written last, or were to be.
    #[must_use]
    pub fn batch(&self) -> Batch {
        // SAFETY: inside the mapping, aligned as the struct is; any numbers are a value.
        unsafe { (&raw const (*self.at.as_ptr()).batch).read_volatile() }
    }

    /// Notes what is to be written next; volatile, for who is killed must have done it before the write.
    pub fn note(&mut self, batch: Batch) {
        let to = self.at.as_ptr();
        // SAFETY: as above, and nobody else writes it. `until` comes last, see there.
        unsafe {
            (&raw mut (*to).batch.device).write_volatile(batch.device);
            (&raw mut (*to).batch.inode).write_volatile(batch.inode);
            (&raw mut (*to).batch.from).write_volatile(batch.from);
            (&raw mut (*to).batch.to).write_volatile(batch.to);
            (&raw mut (*to).batch.ring).write_volatile(batch.ring);
            (&raw mut (*to).batch.maker).write_volatile(batch.maker);
            (&raw mut (*to).batch.until).write_volatile(batch.until);
        }
    }

    /// What was lost, and told.
    #[must_use]
    pub fn account(&self) -> Account {
        // SAFETY: as in `batch`.
        unsafe { (&raw const (*self.at.as_ptr()).account).read_volatile() }
    }

    /// Changes a part of it.
    pub fn change(&mut self, change: impl FnOnce(&mut Account)) {
        let mut account = self.account();
        change(&mut account);
        self.settle(account);
    }

    pub fn settle(&mut self, account: Account) {
        // SAFETY: as in `note`.
        unsafe { (&raw mut (*self.at.as_ptr()).account).write_volatile(account) }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // SAFETY: mapped above, and nobody has a reference into it.
        let _ = unsafe { munmap(self.at.cast(), BYTES.get()) };
    }
}

const BYTES: NonZeroUsize = NonZeroUsize::new(size_of::<Shared>()).expect("it has a size");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_noted_is_read_again_and_begins_with_nothing() {
        let mut progress = Progress::of_our_own().unwrap();
        assert_eq!((progress.batch(), progress.account().unwritten), (Batch::default(), 0));
        let batch = Batch { device: 1, inode: 2, from: 3, to: 4, ring: 5, maker: 6, until: 7 };
        progress.note(batch);
        progress.settle(Account { unwritten: 8, ..progress.account() });
        assert_eq!((progress.batch(), progress.account().unwritten), (batch, 8));
    }
}
