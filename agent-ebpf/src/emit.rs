//! The ring buffer: the only writer, and the only place where an event can be lost, which it counts.

use core::{
    ffi::c_void,
    mem::MaybeUninit,
    ptr::{read_volatile, write_volatile},
};

use agent_common::{
    event::{Counter, Header, Kind, Subject, VERSION, net::Unix, process::Exec},
    identity::{Label, PathKey},
    limits,
    rule::UnixKey,
};
use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_CONS_POS, BPF_RB_PROD_POS},
    helpers::generated::{
        bpf_ktime_get_boot_ns, bpf_ringbuf_output, bpf_ringbuf_query, bpf_ringbuf_reserve, bpf_ringbuf_submit,
    },
    maps::lpm_trie::Key,
};
use bytemuck::Pod;

use crate::{
    hooks::process::suffix::Walk,
    maps::{COUNTERS, EVENTS, INSTANCES, LOST, RECORD, SCRATCH, SHARES, SUBMITTED},
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
    pub walk: Walk,
    forgotten: usize,
}

impl Scratch {
    /// The same value, of which the verifier knows nothing any more, as of all that it reads from a map: it does not
    /// follow what comes after once for each value that a way here has led to.
    #[inline(always)]
    pub fn forget(&mut self, value: usize) -> usize {
        // SAFETY: a word of this very struct; volatile, or nothing would be written and read.
        unsafe {
            write_volatile(&raw mut self.forgotten, value);
            read_volatile(&raw const self.forgotten)
        }
    }

    /// Room for a path as a key, zeroed; where texts are put together otherwise.
    #[inline(always)]
    pub fn path_key(&mut self) -> &mut PathKey {
        const { assert!(size_of::<PathKey>() < TEXT_BUFFER) };
        let key: *mut PathKey = self.text.as_mut_ptr().cast();
        // SAFETY: the texts' room is larger than a key and aligned to words, and bytes have no alignment.
        unsafe {
            zero::<u64>(key.cast(), size_of::<PathKey>());
            &mut *key
        }
    }

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
    count_seldom(Counter::WorkAreasBusy);
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

/// Zeroes `bytes` bytes, words of them. What the compiler makes of an array of zeros is a call that writes byte after
/// byte, four instructions for each.
///
/// # Safety
/// They are the caller's to write, whole words and aligned to them.
#[inline(always)]
pub unsafe fn zero<W: Pod>(at: *mut W, bytes: usize) {
    for word in 0..bytes / size_of::<W>() {
        // SAFETY: the caller's; volatile, so that it is not made into that call again.
        unsafe { write_volatile(at.add(word), W::zeroed()) };
    }
}

/// Room on the stack, zeroed by words.
#[inline(always)]
pub fn zeroed<T: Pod>(room: &mut MaybeUninit<T>) -> &mut T {
    const { assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() == 8) };
    // SAFETY: the room's own bytes, aligned as asserted.
    unsafe { zero::<u64>(room.as_mut_ptr().cast(), size_of::<T>()) };
    // SAFETY: every byte is written, and zero is a value of all plain old data.
    unsafe { room.assume_init_mut() }
}

/// The head of an event that is put together as a whole.
#[inline(always)]
pub fn header(kind: Kind, bytes: usize, subject: Subject) -> Header {
    // SAFETY: takes nothing, returns a number.
    let time_ns = unsafe { bpf_ktime_get_boot_ns() };
    Header { kind: kind as u8, version: VERSION, _pad: 0, bytes: bytes as u32, time_ns, subject }
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
pub fn submit(event: *const u8, bytes: usize, kind: Kind, label: &Label) {
    if has_room(label, bytes as u64) {
        // SAFETY: the verifier checks that `bytes` bytes at `event` are readable.
        let status = unsafe { bpf_ringbuf_output(ring(), event.cast_mut().cast(), bytes as u64, 0) };
        if status == 0 {
            add(SUBMITTED.get_ptr_mut(kind as u32));
            return;
        }
    }
    lose(kind, label.instance);
}

/// Room in the ring buffer for an event of fixed size, to be filled and given to [`commit`] in any case; without room the
/// event is counted as lost. What is put together there needs no copy and no place on the stack.
#[inline(always)]
pub fn reserve<T: Pod>(kind: Kind, label: &Label) -> Option<&'static mut MaybeUninit<T>> {
    if has_room(label, size_of::<T>() as u64) {
        // SAFETY: takes a map and numbers.
        let room = unsafe { bpf_ringbuf_reserve(ring(), size_of::<T>() as u64, 0) };
        // SAFETY: null, or that many bytes, aligned to 8, that are ours until `commit`.
        if let Some(room) = unsafe { room.cast::<MaybeUninit<T>>().as_mut() } {
            return Some(room);
        }
    }
    lose(kind, label.instance);
    None
}

/// Hands over what [`reserve`] has given, every byte of it filled.
#[inline(always)]
pub fn commit<T: Pod>(event: &'static mut MaybeUninit<T>, kind: Kind) {
    // SAFETY: what `reserve` gave, which nobody touches any more.
    unsafe { bpf_ringbuf_submit(event.as_mut_ptr().cast(), 0) };
    add(SUBMITTED.get_ptr_mut(kind as u32));
}

/// Whether the label's instance, or its origin outside every instance, may have `bytes` more of the ring buffer.
#[inline(always)]
fn has_room(label: &Label, bytes: u64) -> bool {
    let waiting = query(BPF_RB_AVAIL_DATA);
    if waiting < u64::from(limits::RING_BYTES_UNSHARED) {
        return true;
    }
    let within = within_share(label, bytes, u64::from(limits::RING_BYTES).saturating_sub(waiting));
    if !within {
        count_seldom(Counter::OverShare);
    }
    within
}

#[inline(never)]
fn within_share(label: &Label, bytes: u64, free: u64) -> bool {
    // A tree of instances holds one share, that of its first while that lives.
    let own = INSTANCES.get_ptr_mut(&label.instance);
    // SAFETY: entries of a map stay readable for the program's run.
    let root = own.map_or(0, |own| unsafe { (*own).root });
    let first = if root == label.instance { own } else { INSTANCES.get_ptr_mut(&root) };
    let share = match first {
        // SAFETY: the entry outlives the program run.
        Some(instance) => unsafe { &raw mut (*instance).share },
        None => match SHARES.get_ptr_mut(u32::from(label.origin) & 3) {
            Some(share) => share,
            None => return true,
        },
    };
    // SAFETY: `share` lies in a map value; its words are read one by one and changed atomically.
    unsafe {
        let began = read_volatile(&raw const (*share).began);
        let (read, produced) = (query(BPF_RB_CONS_POS), query(BPF_RB_PROD_POS));
        if read >= began && atomic_replace(&raw mut (*share).began, began, produced) {
            let used = atomic_take(&raw mut (*share).used);
            // All that it handed over then may have been read since.
            let gone = read >= read_volatile(&raw const (*share).last);
            write_volatile(&raw mut (*share).before, if gone { 0 } else { used });
        }
        let held = read_volatile(&raw const (*share).used) + read_volatile(&raw const (*share).before);
        if held + bytes > free {
            return false;
        }
        atomic_add(&raw mut (*share).used, bytes as i64);
        write_volatile(&raw mut (*share).last, produced + bytes);
    }
    true
}

#[inline(always)]
fn query(what: u32) -> u64 {
    // SAFETY: takes a map and a number.
    unsafe { bpf_ringbuf_query(ring(), u64::from(what)) }
}

#[inline(always)]
fn ring() -> *mut c_void {
    (&raw const EVENTS).cast_mut().cast()
}

/// Counts an event that could not be told.
#[inline(always)]
pub fn lose(kind: Kind, instance: u64) {
    lost(kind as u32, instance);
}

/// Seen from outside the object, as [`crate::subject::repair`]: the verifier looks at it once and not on each way to it.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lost(kind: u32, instance: u64) -> u64 {
    add(LOST.get_ptr_mut(kind));
    if let Some(entry) = INSTANCES.get_ptr_mut(&instance) {
        // SAFETY: the entry outlives the program run; only a counter is touched, atomically.
        unsafe { atomic_add(&raw mut (*entry).lost, 1) };
    }
    0
}

/// Hands over an event of fixed size that stands on the stack.
#[inline(always)]
pub fn submit_fixed<T>(event: &T, kind: Kind, label: &Label) {
    submit((&raw const *event).cast(), size_of::<T>(), kind, label);
}

#[inline(always)]
pub fn count(counter: Counter) {
    add(COUNTERS.get_ptr_mut(counter as u32));
}

/// As [`count`], for what hardly happens: by a call, since the kernel moves a whole program for each look-up that it
/// puts in line when it loads one.
#[inline(always)]
pub fn count_seldom(counter: Counter) {
    counted(counter as u32);
}

/// Seen from outside the object, as [`lost`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn counted(counter: u32) -> u64 {
    add(COUNTERS.get_ptr_mut(counter));
    0
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

/// Puts `new` where `old` still stands; whether it did.
///
/// # Safety
/// `value` points into a map value.
#[inline(always)]
pub unsafe fn atomic_replace(value: *mut u64, old: u64, new: u64) -> bool {
    let mut found = old;
    // SAFETY: the caller's; map values are aligned to 8.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({at} + 0, r0, {new})",
            at = in(reg) value,
            new = in(reg) new,
            inout("r0") found,
            options(nostack),
        );
    }
    found == old
}

/// Puts 0 and gives what was there.
///
/// # Safety
/// `value` points into a map value.
#[inline(always)]
unsafe fn atomic_take(value: *mut u64) -> u64 {
    let mut taken = 0u64;
    // SAFETY: the caller's; map values are aligned to 8.
    unsafe {
        core::arch::asm!(
            "{taken} = xchg_64({at} + 0, {taken})",
            taken = inout(reg) taken,
            at = in(reg) value,
            options(nostack),
        );
    }
    taken
}
