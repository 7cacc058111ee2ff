//! The ring buffer's reader: records in their order, where the kernel wrote them.

use anyhow::{Context as _, Result};
use aya::maps::{MapData, RingBuf};
use tokio::{io::unix::AsyncFd, task::yield_now};

/// What the kernel programs submitted and nobody has read. What finds it full is counted as lost in the kernel.
pub struct Ring {
    ring: AsyncFd<RingBuf<MapData>>,
    /// Nothing was left at the last look. The kernel tells of a record only when all before it were read.
    emptied: bool,
}

impl Ring {
    pub(super) fn new(ring: RingBuf<MapData>) -> Result<Self> {
        // SAFETY: the descriptor is the map's, which `ring` owns and closes by its drop alone.
        let registered = unsafe { AsyncFd::register(ring) };
        let ring = registered.map_err(|error| error.into_parts().1).context("wait for the ring buffer")?;
        Ok(Self { ring, emptied: false })
    }

    /// Waits until there may be records.
    ///
    /// # Errors
    /// When waiting has become impossible.
    pub async fn ready(&self) -> Result<()> {
        if self.emptied {
            // Cleared before the look that follows: what comes during it is told again.
            self.ring.readable().await.context("wait for the ring buffer")?.clear_ready();
        } else {
            yield_now().await;
        }
        Ok(())
    }

    /// Hands over at most `max` records; how many it was.
    pub fn take(&mut self, max: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut taken = 0;
        self.emptied = false;
        while taken < max {
            let Some(record) = self.ring.get_mut().next() else {
                self.emptied = true;
                break;
            };
            each(&record);
            taken += 1;
        }
        taken
    }
}
