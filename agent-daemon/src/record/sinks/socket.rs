//! A TCP connection that notices a dead other end, and says how much of what was written the other end's kernel has.

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use nix::{
    libc::{TIOCOUTQ, c_int},
    sys::socket::{setsockopt, sockopt},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A connection whose written bytes are counted.
pub struct Socket {
    stream: TcpStream,
    written: Arc<AtomicU64>,
}

/// How far a [`Socket`]'s bytes have come, also where TLS has taken it in.
pub struct Progress {
    socket: OwnedFd,
    written: Arc<AtomicU64>,
}

impl Socket {
    pub fn new(stream: TcpStream) -> io::Result<(Self, Progress)> {
        stream.set_nodelay(true)?;
        // Where packets are dropped without a word, the kernel would try for a quarter of an hour.
        setsockopt(&stream, sockopt::TcpUserTimeout, &DEAD_MS)?;
        setsockopt(&stream, sockopt::KeepAlive, &true)?;
        setsockopt(&stream, sockopt::TcpKeepIdle, &KEEP_IDLE_S)?;
        setsockopt(&stream, sockopt::TcpKeepInterval, &KEEP_INTERVAL_S)?;
        let written = Arc::new(AtomicU64::new(0));
        let progress = Progress { socket: stream.as_fd().try_clone_to_owned()?, written: written.clone() };
        Ok((Self { stream, written }, progress))
    }

    fn count(&self, wrote: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = wrote {
            self.written.fetch_add(*bytes as u64, Ordering::Relaxed);
        }
    }
}

impl Progress {
    /// Bytes that were written, as they go over the network.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// How many of them the other end's kernel has acknowledged.
    pub fn arrived(&self) -> io::Result<u64> {
        let mut queued: c_int = 0;
        // SAFETY: the socket is open, and the kernel writes one int.
        unsafe { outq(self.socket.as_raw_fd(), &raw mut queued) }?;
        Ok(self.written().saturating_sub(queued.unsigned_abs().into()))
    }
}

nix::ioctl_read_bad!(
    /// SIOCOUTQ: bytes in the send queue that are not acknowledged.
    outq,
    TIOCOUTQ,
    c_int
);

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(&wrote);
        wrote
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.count(&wrote);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Unacknowledged for so long, a connection is broken.
const DEAD_MS: u32 = 20_000;
const KEEP_IDLE_S: u32 = 10;
const KEEP_INTERVAL_S: u32 = 5;
