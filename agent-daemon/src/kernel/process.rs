//! A process by its pidfd, which no later process with the same number is taken for.

use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::{errno::Errno, libc, sys::signal::Signal};

/// A process that was there when it was opened.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl Process {
    /// `None` where there is no process with this number.
    #[must_use]
    pub fn open(pid: u32) -> Option<Self> {
        // SAFETY: takes numbers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        // SAFETY: a descriptor that the kernel has just given to this process.
        (fd >= 0).then(|| Self(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }))
    }

    /// Sends a signal; whether the process was still there. What was read about its number since it was opened was then
    /// of this process.
    ///
    /// # Errors
    /// When it is there and may not be signalled (`EPERM`).
    pub fn signal(&self, signal: Signal) -> Result<bool, Errno> {
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: a descriptor that is open, a number, no siginfo, and no flags.
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, self.0.as_raw_fd(), signal as libc::c_int, none, 0)
        };
        match Errno::result(sent) {
            Ok(_) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
