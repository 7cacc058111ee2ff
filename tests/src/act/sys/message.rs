//! Messages for sendmsg and their control data.

use std::{ffi::c_int, os::fd::AsRawFd};

use super::{Addr, Outcome, Sent, call};

/// One message for sendmsg, with the control data already laid out by [`cmsg`].
#[derive(Default)]
pub struct Message<'a> {
    pub to: Option<&'a Addr>,
    pub bytes: &'a [u8],
    pub control: &'a [u8],
    pub flags: c_int,
}

impl Message<'_> {
    /// Calls `with` with the kernel's view of this message, which points into it.
    pub fn with<T>(&self, with: impl FnOnce(&mut libc::msghdr) -> T) -> T {
        let mut part =
            libc::iovec { iov_base: self.bytes.as_ptr().cast_mut().cast(), iov_len: self.bytes.len() };
        // SAFETY: all zeroes is a valid msghdr: null pointers with zero lengths.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        if let Some(to) = self.to {
            header.msg_name = to.ptr().cast_mut().cast();
            header.msg_namelen = to.length();
        }
        if !self.control.is_empty() {
            header.msg_control = self.control.as_ptr().cast_mut().cast();
            header.msg_controllen = self.control.len() as _;
        }
        with(&mut header)
    }

    pub fn send(&self, fd: &impl AsRawFd) -> Outcome {
        // SAFETY: the header points into this message, which outlives the call.
        let sent = self.with(|header| unsafe { libc::sendmsg(fd.as_raw_fd(), header, self.flags) });
        call("sendmsg", sent as i64).map(|bytes| Sent { bytes })
    }
}

/// One control message, padded so that another may follow.
pub fn cmsg(level: c_int, kind: c_int, data: &[u8]) -> Vec<u8> {
    let len = CMSG_HEADER_BYTES + data.len();
    let mut bytes = Vec::with_capacity(len + 8);
    bytes.extend_from_slice(&len.to_ne_bytes());
    bytes.extend_from_slice(&level.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(data);
    bytes.resize(len.next_multiple_of(8), 0);
    bytes
}

const CMSG_HEADER_BYTES: usize = 16;
