//! The ring buffer's reader: a thread that hands raw records to the pipeline in order.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use aya::maps::{MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;

/// Records that wait between the reader and the pipeline. When they are this many the reader waits, and what the ring
/// buffer then has no room for is counted as lost in the kernel.
pub const WAITING_MAX: usize = 4096;

/// Starts reading.
pub fn read(mut ring: RingBuf<MapData>) -> Result<mpsc::Receiver<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    std::thread::Builder::new()
        .name("ring".to_string())
        .spawn(move || {
            loop {
                while let Some(record) = ring.next() {
                    if sender.blocking_send(record.to_vec()).is_err() {
                        return;
                    }
                }
                if sender.is_closed() {
                    return;
                }
                // SAFETY: the ring buffer's descriptor stays open as long as `ring`.
                let fd = unsafe { BorrowedFd::borrow_raw(ring.as_raw_fd()) };
                // A timeout, so that a closed receiver is noticed on a quiet host too.
                let _ = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], PollTimeout::from(1000u16));
            }
        })
        .context("start the ring buffer's reader")?;
    Ok(receiver)
}
