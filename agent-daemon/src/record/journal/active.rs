//! The segment that is written to: it holds a batch whole, or nothing of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
    time::{Duration, SystemTime},
};

use nix::libc;

/// How much of the file that is written to is whole batches: what lies behind may be taken back, and is not to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Device and inode; of no file at all where nothing is written yet.
    pub inode: (u64, u64),
    pub bytes: u64,
}

#[derive(Debug)]
pub struct Active {
    pub file: File,
    pub extent: Extent,
    /// Its first record.
    pub first: u64,
    begun: SystemTime,
    /// Half a batch may lie behind its extent: it could not be cut off.
    cut: bool,
}

impl Active {
    /// Opens it, or makes an empty one.
    ///
    /// # Errors
    /// When that cannot be.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Arguments and addresses of everybody are in it: for root alone, unless an operator says otherwise.
        let mut options = OpenOptions::new();
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let options = options.create(true).read(true).append(true).mode(MODE).custom_flags(flags);
        let file = options.open(path)?;
        let meta = file.metadata()?;
        if !meta.is_file() {
            // One that somebody has put there would block whoever writes to it.
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        let begun = meta.created().unwrap_or_else(|_| SystemTime::now());
        let extent = Extent { inode: (meta.dev(), meta.ino()), bytes: meta.len() };
        Ok(Self { file, extent, first: 0, begun, cut: false })
    }

    /// Whether it is large or old enough to be closed.
    pub fn is_over(&self, bytes_max: u64) -> bool {
        let bytes = self.extent.bytes;
        let old = || self.begun.elapsed().is_ok_and(|age| age > AGE_MAX);
        bytes > 0 && (bytes_max > 0 && bytes >= bytes_max || old())
    }

    /// Whether this is still its name; it is, where that cannot be found out.
    pub fn is_at(&self, path: &Path) -> bool {
        match fs::symlink_metadata(path) {
            Ok(meta) => (meta.dev(), meta.ino()) == self.extent.inode,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Cuts off what a failed write has left, where that could not be at once.
    ///
    /// # Errors
    /// When it cannot be now either: nothing may be appended then.
    pub fn make_whole(&mut self) -> io::Result<()> {
        if self.cut {
            self.file.set_len(self.extent.bytes)?;
            self.cut = false;
        }
        Ok(())
    }

    /// Appends a batch.
    ///
    /// # Errors
    /// When it could not be written whole; it is as it was before.
    pub fn append(&mut self, batch: &[u8]) -> io::Result<()> {
        match self.file.write_all(batch) {
            Ok(()) => {
                self.extent.bytes += batch.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Half a batch must not leave half a line for the next one to be appended to.
                self.cut = self.file.set_len(self.extent.bytes).is_err();
                Err(error)
            }
        }
    }
}

/// Of the event file, and of what is set aside of it.
pub const MODE: u32 = 0o640;
const AGE_MAX: Duration = Duration::from_secs(86_400);
