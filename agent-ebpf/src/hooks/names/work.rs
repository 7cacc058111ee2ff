//! The work areas in which messages of port 53 are read: a message and all that is made of it are too much for a stack.

use agent_common::{
    dns::{Expect, Message, Outcome, STEPS_MAX},
    event::{names::Dns, spoken::Spoken},
    limits::{DNS_MESSAGE_BYTES, PATTERNS_PER_NAME},
    name::{AddressKey, Known, NameKey, Question, QuestionKey},
};
use aya_ebpf::{
    bindings::__sk_buff,
    helpers::generated::{bpf_ktime_get_boot_ns, bpf_skb_load_bytes},
};

use super::packet::{Packet, V4_BYTES};
use crate::{emit, hooks::net::address, kernel, maps::NAME_WORK, path::opaque};

/// Room for one message.
#[repr(C)]
pub struct Work {
    /// Not 0 while a program works in it.
    busy: u64,
    /// The packet's socket, as a number.
    pub socket: u64,
    pub now_ns: u64,
    pub packet: Packet,
    /// Where the next message stands in what is sent; 0 for none.
    pub next: u32,
    /// Messages that were looked at.
    taken: u32,
    _pad: u32,
    pub message: Message,
    /// Both ends, and of an answer the key of its question.
    pub asked: Ends,
    pub question_key: QuestionKey,
    pub question: Question,
    pub key: NameKey,
    /// Patterns that the name meets.
    pub patterns: [u64; PATTERNS_PER_NAME],
    pub patterns_used: u64,
    pub address: AddressKey,
    pub known: Known,
    pub told: Dns,
    pub spoken: Spoken,
}

/// Who sends a packet to whom.
#[repr(C)]
pub struct Ends {
    pub netns: u64,
    pub local: [u8; 16],
    pub resolver: [u8; 16],
}

/// What a packet brought.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    Message,
    /// Nothing at all: a handshake or an acknowledgement.
    Nothing,
    /// What is longer than a message may be, or not one whole.
    Unreadable,
}

/// Messages of one segment that are read; of more than that the last cannot be.
pub const MESSAGES_MAX: u32 = 4;

/// Work areas per CPU: a packet that comes in interrupts one that goes out, and a task may be preempted.
pub const WORKS: u32 = 4;

/// A work area of this CPU that nobody works in; give it back with [`release`].
#[inline(always)]
pub fn acquire() -> Option<&'static mut Work> {
    for slot in 0..WORKS {
        if let Some(work) = NAME_WORK.get_ptr_mut(slot) {
            // SAFETY: `busy` is a word of a map value; who reads 0 owns the slot until `release`.
            if unsafe { emit::atomic_add(&raw mut (*work).busy, 1) } == 0 {
                // SAFETY: as above.
                return Some(unsafe { &mut *work });
            }
            // SAFETY: takes back the increment above.
            unsafe { emit::atomic_add(&raw mut (*work).busy, -1) };
        }
    }
    None
}

#[inline(always)]
pub fn release(work: &mut Work) {
    // SAFETY: a word of a map value that `acquire` raised.
    unsafe { emit::atomic_add(&raw mut work.busy, -1) };
}

impl Work {
    /// Begins with a packet: `asked` has the sender as `local` and the other end as `resolver`.
    #[inline(always)]
    pub fn begin(&mut self, skb: *mut __sk_buff, packet: Packet) -> bool {
        self.packet = packet;
        (self.next, self.taken) = (0, 0);
        // SAFETY: takes nothing, returns a number.
        self.now_ns = unsafe { bpf_ktime_get_boot_ns() };
        let v4 = packet.ip_bytes as usize == V4_BYTES;
        // SAFETY: the context of a cgroup skb hook; two addresses lie behind each other in both headers.
        let status = unsafe {
            if v4 {
                let mut pair = [[0u8; 4]; 2];
                let status = bpf_skb_load_bytes(skb.cast(), 12, (&raw mut pair).cast(), 8);
                self.asked.local = mapped(pair[0]);
                self.asked.resolver = mapped(pair[1]);
                status
            } else {
                let local: *mut u8 = (&raw mut self.asked.local).cast();
                bpf_skb_load_bytes(skb.cast(), 8, local.cast(), 32)
            }
        };
        status == 0
    }

    /// Copies the packet's next message in. Over TCP each has its length before it, and they are read that lie in one
    /// segment whole: the C library asks two questions in one.
    #[inline(always)]
    pub fn load(&mut self, skb: *mut __sk_buff) -> Loaded {
        // SAFETY: the context of a cgroup skb hook.
        let whole = unsafe { (*skb).len };
        let mut head = self.packet.head_bytes + self.next;
        let mut bytes = whole.wrapping_sub(head);
        self.next = 0;
        if self.packet.tcp != 0 {
            if bytes == 0 {
                return Loaded::Nothing;
            }
            let mut length = [0u8; 2];
            // SAFETY: as above; two bytes for two.
            let status = unsafe { bpf_skb_load_bytes(skb.cast(), head, (&raw mut length).cast(), 2) };
            (head, bytes) = (head + 2, bytes.wrapping_sub(2));
            let length = u32::from(u16::from_be_bytes(length));
            self.taken += 1;
            if status != 0 || length > bytes || length < bytes && self.taken >= MESSAGES_MAX {
                return Loaded::Unreadable;
            }
            if length < bytes {
                self.next = head + length - self.packet.head_bytes;
                bytes = length;
            }
        }
        if bytes as usize >= DNS_MESSAGE_BYTES {
            return Loaded::Unreadable;
        }
        let bytes = opaque(bytes as usize) & (DNS_MESSAGE_BYTES - 1);
        // A header at least. The verifier of 6.1 learns from this that it is not nothing, and not from a test for 0.
        if bytes < 12 {
            return Loaded::Unreadable;
        }
        // SAFETY: as above; at most as many bytes as the buffer has.
        let status = unsafe {
            bpf_skb_load_bytes(skb.cast(), head, (&raw mut self.message.bytes).cast(), bytes as u32)
        };
        if status != 0 {
            return Loaded::Unreadable;
        }
        self.message.used = bytes as u32;
        Loaded::Message
    }

    /// Reads the message.
    #[inline(always)]
    pub fn read(&mut self, expect: Expect) -> Outcome {
        if let Err(outcome) = self.message.begin(self.message.used, expect) {
            return outcome;
        }
        repeat(STEPS_MAX, step, self);
        self.message.outcome()
    }
}

/// Runs `step` on `work` until it answers 1, at most `times` times.
#[inline(always)]
pub fn repeat(times: u32, step: extern "C" fn(u64, *mut *mut Work) -> u64, work: &mut Work) {
    let mut work: *mut Work = work;
    kernel::repeat(times, step, &mut work);
}

extern "C" fn step(_step: u64, context: *mut *mut Work) -> u64 {
    // SAFETY: `repeat` hands over a pointer to a live work area.
    let work = unsafe { &mut **context };
    u64::from(!work.message.step())
}

fn mapped(v4: [u8; 4]) -> [u8; 16] {
    bytemuck::cast(address::mapped(u32::from_ne_bytes(v4)))
}
