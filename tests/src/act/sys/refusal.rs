//! The kernel's answers: what went out, or at which step and with which errno it said no.

use std::{
    fmt, io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

use serde::{Deserialize, Serialize};

/// What left the process when a way succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    pub bytes: usize,
}

/// The kernel's no: the step of the way that failed, and with which errno. `errno` 0 means that the call reported
/// less done than asked, without saying why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    pub step: String,
    pub errno: i32,
    /// Bytes or messages that went out before the refusal.
    pub sent: usize,
}

pub type Outcome = Result<Sent, Refused>;

impl Refused {
    pub fn new(step: impl Into<String>, errno: i32) -> Self {
        Self { step: step.into(), errno, sent: 0 }
    }

    pub fn last(step: impl Into<String>) -> Self {
        Self::new(step, io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }

    pub fn io(step: impl Into<String>, error: &io::Error) -> Self {
        Self::new(step, error.raw_os_error().unwrap_or(libc::EIO))
    }

    /// The same refusal, told as part of a longer step.
    pub fn within(mut self, what: &str) -> Self {
        self.step = format!("{what} {}", self.step);
        self
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, errno_name(self.errno))
    }
}

/// Turns a system call's return value into a count or a refusal.
pub fn call(step: &str, returned: impl Into<i64>) -> Result<usize, Refused> {
    let returned = returned.into();
    usize::try_from(returned).map_err(|_| Refused::last(step))
}

/// Takes ownership of a descriptor that a system call returned.
pub fn own(step: &str, returned: impl Into<i64>) -> Result<OwnedFd, Refused> {
    let fd = call(step, returned)?;
    let fd = RawFd::try_from(fd).map_err(|_| Refused::new(step, libc::EBADF))?;
    // SAFETY: the kernel just returned this descriptor to us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads a result that carries its errno negated, as rings and compat calls do.
pub fn result_of(step: &str, result: i64) -> Outcome {
    match usize::try_from(result) {
        Ok(bytes) => Ok(Sent { bytes }),
        Err(_) => Err(Refused::new(step, i32::try_from(-result).unwrap_or(libc::EIO))),
    }
}

pub fn errno_name(errno: i32) -> String {
    match ERRNO_NAMES.iter().find(|(number, _)| *number == errno) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("E{errno}"),
    }
}

const ERRNO_NAMES: &[(i32, &str)] = &[
    (libc::EPERM, "EPERM"),
    (libc::ENOENT, "ENOENT"),
    (libc::EINTR, "EINTR"),
    (libc::EIO, "EIO"),
    (libc::ENXIO, "ENXIO"),
    (libc::EBADF, "EBADF"),
    (libc::ECHILD, "ECHILD"),
    (libc::EAGAIN, "EAGAIN"),
    (libc::ENOMEM, "ENOMEM"),
    (libc::EACCES, "EACCES"),
    (libc::EFAULT, "EFAULT"),
    (libc::EBUSY, "EBUSY"),
    (libc::EEXIST, "EEXIST"),
    (libc::ENODEV, "ENODEV"),
    (libc::ENOTDIR, "ENOTDIR"),
    (libc::EINVAL, "EINVAL"),
    (libc::EMFILE, "EMFILE"),
    (libc::ENOTTY, "ENOTTY"),
    (libc::EROFS, "EROFS"),
    (libc::EPIPE, "EPIPE"),
    (libc::ENOSYS, "ENOSYS"),
    (libc::EPROTO, "EPROTO"),
    (libc::EBADMSG, "EBADMSG"),
    (libc::ENOTSOCK, "ENOTSOCK"),
    (libc::EDESTADDRREQ, "EDESTADDRREQ"),
    (libc::EMSGSIZE, "EMSGSIZE"),
    (libc::EPROTOTYPE, "EPROTOTYPE"),
    (libc::ENOPROTOOPT, "ENOPROTOOPT"),
    (libc::EPROTONOSUPPORT, "EPROTONOSUPPORT"),
    (libc::ESOCKTNOSUPPORT, "ESOCKTNOSUPPORT"),
    (libc::EOPNOTSUPP, "EOPNOTSUPP"),
    (libc::EPFNOSUPPORT, "EPFNOSUPPORT"),
    (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
    (libc::EADDRINUSE, "EADDRINUSE"),
    (libc::EADDRNOTAVAIL, "EADDRNOTAVAIL"),
    (libc::ENETDOWN, "ENETDOWN"),
    (libc::ENETUNREACH, "ENETUNREACH"),
    (libc::ECONNABORTED, "ECONNABORTED"),
    (libc::ECONNRESET, "ECONNRESET"),
    (libc::ENOBUFS, "ENOBUFS"),
    (libc::EISCONN, "EISCONN"),
    (libc::ENOTCONN, "ENOTCONN"),
    (libc::ETIMEDOUT, "ETIMEDOUT"),
    (libc::ECONNREFUSED, "ECONNREFUSED"),
    (libc::EHOSTUNREACH, "EHOSTUNREACH"),
    (libc::EALREADY, "EALREADY"),
    (libc::EINPROGRESS, "EINPROGRESS"),
    (libc::ECANCELED, "ECANCELED"),
    (libc::ENOKEY, "ENOKEY"),
    (libc::EKEYREJECTED, "EKEYREJECTED"),
];
