//! The ring buffer's reader: records in their order, where the kernel wrote them. What was read is given back when it
//! has been recorded, and not before: what a daemon that is killed had read is read again by the next one.

use std::{
    num::NonZeroUsize,
    os::fd::{AsFd as _, OwnedFd},
    ptr::NonNull,
    sync::atomic::{AtomicU32, AtomicU64, Ordering, fence},
};

use anyhow::{Context as _, Result, bail};
use aya::maps::Map;
use nix::{
    sys::mman::{MapFlags, ProtFlags, mmap, munmap},
    unistd::{SysconfVar, sysconf},
};
use tokio::{io::unix::AsyncFd, task::yield_now};

/// What the kernel programs submitted and nobody has recorded. What finds it full is counted as lost in the kernel.
pub struct Ring {
    pages: Pages,
    /// Where the next record begins that was not handed over; what lies before it is given back by `release`.
    next: u64,
    waiting: Option<AsyncFd<OwnedFd>>,
    descriptor: OwnedFd,
    /// The id of its map: no other of this boot has it.
    id: u64,
    /// Nothing was left at the last look. The kernel tells of a record only when all before it were given back.
    emptied: bool,
}

impl Ring {
    /// A ring that is read to its end and not waited for.
    pub(super) fn open(map: Map) -> Result<Self> {
        let Map::RingBuf(data) = map else { bail!("the map of events is not a ring buffer") };
        let info = data.info().context("look at the ring buffer")?;
        let (bytes, id) = (info.max_entries(), u64::from(info.id()));
        let descriptor = data.fd().as_fd().try_clone_to_owned().context("copy a descriptor")?;
        let pages = Pages::map(&descriptor, bytes as usize)?;
        let next = pages.consumed().load(Ordering::Acquire);
        Ok(Self { pages, next, waiting: None, descriptor, id, emptied: false })
    }

    /// A ring that can be waited for; call within the runtime.
    pub(super) fn follow(map: Map) -> Result<Self> {
        let mut ring = Self::open(map)?;
        let descriptor = ring.descriptor.try_clone().context("copy a descriptor")?;
        // SAFETY: the descriptor is owned, and closed when the registration is dropped.
        let waiting = unsafe { AsyncFd::register(descriptor) };
        ring.waiting =
            Some(waiting.map_err(|error| error.into_parts().1).context("wait for the ring buffer")?);
        Ok(ring)
    }

    /// Waits until there may be records.
    ///
    /// # Errors
    /// When waiting has become impossible.
    pub async fn ready(&self) -> Result<()> {
        match &self.waiting {
            // Cleared before the look that follows: what comes during it is told again.
            Some(waiting) if self.emptied => {
                waiting.readable().await.context("wait for the ring buffer")?.clear_ready();
            }
            _ => yield_now().await,
        }
        Ok(())
    }

    /// Hands over at most `max` records, each with the position behind it, or 0 where nothing is followed, until one is
    /// answered with false; how many it was.
    pub fn take(&mut self, max: usize, mut each: impl FnMut(&[u8], u64) -> bool) -> usize {
        let mut taken = 0;
        let mut more = true;
        while more && taken < max {
            let Some(head) = self.pages.head(self.next) else { break };
            let bytes = (head & !DISCARDED) as usize;
            let end = self.next + (bytes as u64 + HEAD_BYTES).next_multiple_of(8);
            if head & DISCARDED == 0 {
                // A position in another's ring buffer says nothing to who comes after us.
                more =
                    each(self.pages.record(self.next, bytes), if self.waiting.is_some() { end } else { 0 });
                taken += 1;
            }
            self.next = end;
        }
        taken
    }

    /// The id of its map.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where the next record begins.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Passes over what a daemon before this one has recorded; a position that was given back long ago changes nothing.
    pub fn skip_to(&mut self, position: u64) {
        self.next = self.next.max(position.min(self.pages.produced().load(Ordering::Acquire)));
        self.release();
    }

    /// Gives back the room of all that was handed over.
    pub fn release(&mut self) {
        self.pages.consumed().store(self.next, Ordering::Release);
        // The kernel tells of a record if it sees this position as the record's own; if it looked before, we see the
        // record: one of the two.
        fence(Ordering::SeqCst);
        self.emptied = self.pages.head(self.next).is_none();
    }
}

/// The map as the kernel shows it (kernel/bpf/ringbuf.c): a page with the consumer's position, which we write; one with
/// the producer's; and the data, twice in a row, so that no record is ever in two pieces.
struct Pages {
    consumer: NonNull<u8>,
    producer: NonNull<u8>,
    page: usize,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value; nothing in it is bound to a thread.
unsafe impl Send for Pages {}
// SAFETY: shared references only read, by atomic loads.
unsafe impl Sync for Pages {}

impl Pages {
    fn map(ring: &OwnedFd, bytes: usize) -> Result<Self> {
        if !bytes.is_power_of_two() {
            bail!("a ring buffer of {bytes} bytes");
        }
        let page =
            sysconf(SysconfVar::PAGE_SIZE).ok().flatten().context("ask for the size of a page")? as usize;
        let of = |length: usize, access, at: usize| {
            let length = NonZeroUsize::new(length).context("nothing to map")?;
            // SAFETY: a new mapping at an address of the kernel's choice.
            unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, ring, at as i64) }
                .context("map the ring buffer")
        };
        let consumer = of(page, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, 0)?.cast();
        let producer = of(page + 2 * bytes, ProtFlags::PROT_READ, page)?.cast();
        Ok(Self { consumer, producer, page, bytes })
    }

    fn consumed(&self) -> &AtomicU64 {
        // SAFETY: the mapping's first word, aligned to a page, which the kernel reads and we alone write.
        unsafe { self.consumer.cast().as_ref() }
    }

    fn produced(&self) -> &AtomicU64 {
        // SAFETY: as above; the kernel writes it.
        unsafe { self.producer.cast().as_ref() }
    }

    /// The head of the record at a position; `None` where there is none yet, or one that is being written.
    fn head(&self, at: u64) -> Option<u32> {
        if at >= self.produced().load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: inside the data; heads are aligned to 8.
        let head: &AtomicU32 = unsafe { self.data(at).cast().as_ref() };
        let head = head.load(Ordering::Acquire);
        // No record is longer than the buffer; one that seems so is none, and nothing is read through it.
        let bytes = (head & !(BUSY | DISCARDED)) as usize;
        (head & BUSY == 0 && bytes <= self.bytes).then_some(head)
    }

    fn record(&self, at: u64, bytes: usize) -> &[u8] {
        // SAFETY: behind the head, and inside the data for being in it twice and no longer than the buffer (`head`); the kernel leaves a record alone between
        // its being committed and the consumer's having passed it.
        unsafe { std::slice::from_raw_parts(self.data(at).add(HEAD_BYTES as usize).as_ptr(), bytes) }
    }

    fn data(&self, at: u64) -> NonNull<u8> {
        // SAFETY: inside the mapping, which has the data behind its first page.
        unsafe { self.producer.add(self.page + (at as usize & (self.bytes - 1))) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: both mapped by `map`, and nobody has a reference into them any more.
        unsafe {
            let _ = munmap(self.consumer.cast(), self.page);
            let _ = munmap(self.producer.cast(), self.page + 2 * self.bytes);
        }
    }
}

/// `BPF_RINGBUF_HDR_SZ`, `BPF_RINGBUF_BUSY_BIT` and `BPF_RINGBUF_DISCARD_BIT` (linux/bpf.h).
const HEAD_BYTES: u64 = 8;
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
