//! The ring buffer: the only writer, and the only place where an event can be lost, which it counts.

use core::mem::MaybeUninit;

use agent_common::{
    event::{Counter, Header, Kind, VERSION, net::Unix, process::Exec},
    limits,
    rule::UnixKey,
};
use aya_ebpf::{
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_ringbuf_output},
    maps::lpm_trie::Key,
};
use bytemuck::Pod;

use crate::{
    maps::{COUNTERS, EVENTS, INSTANCES, LOST, RECORD, SCRATCH, SUBMITTED},
    path::Path,
};

/// Bytes of text that an event can carry.
const TEXT_BYTES: usize = 3 * limits::PATH_BYTES_KEPT + limits::ARGV_BYTES_KEPT;
/// Texts start below this; the room behind is so that the verifier sees every copy of bounded length inside.
pub const TEXT_START_MAX: usize = 4096;
const _: () = assert!(TEXT_BYTES < TEXT_START_MAX);
/// Room for texts.
pub const TEXT_BUFFER: usize = TEXT_START_MAX + 2048;

/// Room for one event under construction: the stack is 512 bytes.
#[repr(C)]
pub struct Scratch {
    /// Not 0 while a program works in it.
    busy: u64,
    pub exec: Exec,
    /// Texts follow the event they belong to without a gap.
    pub text: [u8; TEXT_BUFFER],
    pub unix: Unix,
    pub key: Key<UnixKey>,
    pub path: Path,
}

impl Scratch {
    /// Room for an event that is shorter than `exec`, with its end at `text`.
    #[inline(always)]
    pub fn before_text<T>(&mut self) -> &mut T {
        const { assert!(size_of::<T>() <= size_of::<Exec>() && align_of::<T>() <= 8) };
        let exec: *mut u8 = (&raw mut self.exec).cast();
        // SAFETY: inside `exec`, which is plain old data as events are, and aligned to 8 since both sizes are.
        unsafe { &mut *exec.add(size_of::<Exec>() - size_of::<T>()).cast::<T>() }
    }
}

/// Scratches per CPU: on a preemptible kernel an LSM program can be preempted by another task's.
pub const SCRATCHES: u32 = 4;

/// A scratch of this CPU that nobody works in; give it back with [`release`].
#[inline(always)]
pub fn acquire() -> Option<&'static mut Scratch> {
    for slot in 0..SCRATCHES {
        if let Some(scratch) = SCRATCH.get_ptr_mut(slot) {
            // SAFETY: `busy` is a word of a map value; who reads 0 owns the slot until `release`.
            if unsafe { atomic_add(&raw mut (*scratch).busy, 1) } == 0 {
                // SAFETY: as above.
                return Some(unsafe { &mut *scratch });
            }
            // SAFETY: takes back the increment above.
            unsafe { atomic_add(&raw mut (*scratch).busy, -1) };
        }
    }
    None
}

#[inline(always)]
pub fn release(scratch: &mut Scratch) {
    // SAFETY: a word of a map value that `acquire` raised.
    unsafe { atomic_add(&raw mut scratch.busy, -1) };
}

/// Whether events of this kind (a bit of `event::record`) are recorded for an origin.
#[inline(always)]
pub fn recorded(origin: u8, what: u32) -> bool {
    RECORD.get(u32::from(origin) & 3).is_some_and(|bits| bits & what != 0)
}

/// Room on the stack, zeroed by words. What the compiler makes of `Default` is a call that writes byte after byte: 560
/// instructions for a connect.
#[inline(always)]
pub fn zeroed<T: Pod>(room: &mut MaybeUninit<T>) -> &mut T {
    const { assert!(size_of::<T>() % 8 == 0 && align_of::<T>() == 8) };
    let words: *mut u64 = room.as_mut_ptr().cast();
    for word in 0..size_of::<T>() / 8 {
        // SAFETY: inside `room`, and aligned as asserted; volatile, so that it is not made into that call again.
        unsafe { core::ptr::write_volatile(words.add(word), 0) };
    }
    // SAFETY: every byte is written, and zero is a value of all plain old data.
    unsafe { room.assume_init_mut() }
}

/// Fills the head. The subject is the caller's to fill.
#[inline(always)]
pub fn head(header: &mut Header, kind: Kind, bytes: usize) {
    header.kind = kind as u8;
    header.version = VERSION;
    header._pad = 0;
    header.bytes = bytes as u32;
    // SAFETY: takes nothing, returns a number.
    header.time_ns = unsafe { bpf_ktime_get_boot_ns() };
}

/// Hands an event of `bytes` bytes at `event` to the ring buffer, or counts it as lost.
#[inline(always)]
pub fn submit(event: *const u8, bytes: usize, kind: Kind, instance: u64) {
    // SAFETY: the verifier checks that `bytes` bytes at `event` are readable.
    let status = unsafe {
        bpf_ringbuf_output((&raw const EVENTS).cast_mut().cast(), event.cast_mut().cast(), bytes as u64, 0)
    };
    if status == 0 {
        add(SUBMITTED.get_ptr_mut(kind as u32));
    } else {
        lose(kind, instance);
    }
}

/// Counts an event that could not be told.
#[inline(always)]
pub fn lose(kind: Kind, instance: u64) {
    add(LOST.get_ptr_mut(kind as u32));
    if let Some(entry) = INSTANCES.get_ptr_mut(&instance) {
        // SAFETY: the entry outlives the program run; only a counter is touched, atomically.
        unsafe { atomic_add(&raw mut (*entry).lost, 1) };
    }
}

/// Hands over an event of fixed size that stands on the stack.
#[inline(always)]
pub fn submit_fixed<T>(event: &T, kind: Kind, instance: u64) {
    submit((&raw const *event).cast(), size_of::<T>(), kind, instance);
}

#[inline(always)]
pub fn count(counter: Counter) {
    add(COUNTERS.get_ptr_mut(counter as u32));
}

#[inline(always)]
fn add(slot: Option<*mut u64>) {
    if let Some(slot) = slot {
        // SAFETY: a map value. Atomic, since on a preemptible kernel another task's program may run in between.
        unsafe { atomic_add(slot, 1) };
    }
}

/// Adds to a shared counter and gives what it was before.
///
/// # Safety
/// `value` points into a map value.
#[inline(always)]
pub unsafe fn atomic_add(value: *mut u64, by: i64) -> u64 {
    let mut before = by;
    // Written out, because core leaves fetch_add out on this target; the kernel has had it since 5.12.
    // SAFETY: the caller's; map values are aligned to 8.
    unsafe {
        core::arch::asm!(
            "{value} = atomic_fetch_add((u64 *)({at} + 0), {value})",
            value = inout(reg) before,
            at = in(reg) value,
            options(nostack),
        );
    }
    before as u64
}
