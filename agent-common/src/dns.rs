//! DNS messages: who was asked for, and which addresses an answer gives that name; in steps, as the kernel side runs it.
//!
//! Nothing is followed that the verifier could not bound: one step looks at a few bytes, all that changes lies in the
//! [`Message`], and who runs it stops after [`STEPS_MAX`] steps. A message that is odd in any way gives no address.

use bytemuck::{Pod, Zeroable};

use crate::bytes::{lower, opaque};
use crate::limits::{
    DNS_ANSWERS_MAX, DNS_JUMPS_MAX, DNS_MESSAGE_BYTES, DNS_STEPS_MAX, HOST_NAME_BYTES, NAME_SUFFIXES_MAX,
};

/// Steps after which a message counts as malformed.
pub const STEPS_MAX: u32 = DNS_STEPS_MAX;

/// Record types that carry addresses, and the one that leads to another name.
pub const A: u32 = 1;
pub const AAAA: u32 = 28;
/// Service bindings, whose hints are addresses of the name (RFC 9460).
pub const SVCB: u32 = 64;
pub const HTTPS: u32 = 65;
const CNAME: u32 = 5;
const IN: u32 = 1;
/// Keys of a service binding's parameters.
const IPV4_HINT: u32 = 4;
const IPV6_HINT: u32 = 6;

/// What a message is read as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    Question,
    Answer,
}

/// What became of reading one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All that was to be read was read.
    Read,
    /// An answer without addresses: the server says that there are none, or that it failed.
    Failed,
    /// Cut by the server: the rest comes another way.
    Truncated,
    /// Not what was expected, or not a DNS message at all.
    Malformed,
}

/// An address of the name that was asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Answer {
    /// IPv6, or IPv4 as v4-mapped.
    pub address: [u8; 16],
    /// The least of the records that led here, in seconds.
    pub ttl_s: u32,
    pub _pad: u32,
}
const _: () = assert!(size_of::<Answer>() == 24);

/// A message under work, with what was found in it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Message {
    pub bytes: [u8; DNS_MESSAGE_BYTES],
    /// The name that is asked for: lower case, dots, no dot at its end, NUL behind it to the end.
    pub name: [u8; HOST_NAME_BYTES],
    /// NUL for good: a suffix of the name is copied with what stands behind it.
    behind: [u8; HOST_NAME_BYTES],
    pub answers: [Answer; DNS_ANSWERS_MAX],
    /// Where the name's dots stand, from its beginning.
    pub dots: [u16; NAME_SUFFIXES_MAX],
    /// Bytes of the message.
    pub used: u32,
    pub name_bytes: u32,
    pub dots_used: u32,
    pub answers_used: u32,
    /// Addresses for which there was no room.
    pub answers_cut: u32,
    /// The type that is asked for.
    pub kind: u32,
    /// The id, as it stands in the message.
    pub id: u32,
    /// An answer's response code: 0 for none but good ones.
    pub code: u32,
    answer: u32,
    phase: u32,
    at: u32,
    /// Where an owner's name, and the name that it is compared with, are being read.
    owner: u32,
    wanted: u32,
    /// One behind the owner's name; 0 while that is not known.
    after: u32,
    /// Where the name stands that the chain has led to.
    current: u32,
    left: u32,
    jumps: u32,
    equal: u32,
    records: u32,
    ttl_s: u32,
    /// Of a service binding: where its data ends, how long its hints may be kept, bytes of one hint.
    end: u32,
    hint_ttl_s: u32,
    hint_bytes: u32,
}

/// Phases of reading: all that is not one of them has ended.
mod phase {
    pub const READ: u32 = 0;
    pub const MALFORMED: u32 = 1;
    pub const LABEL: u32 = 2;
    pub const BYTE: u32 = 3;
    pub const RECORD: u32 = 4;
    pub const COMPARE: u32 = 5;
    pub const COMPARE_BYTE: u32 = 6;
    pub const SKIP: u32 = 7;
    pub const BODY: u32 = 8;
    pub const TARGET: u32 = 9;
    pub const PARAMETER: u32 = 10;
    pub const HINT: u32 = 11;
}

const HEADER_BYTES: u32 = 12;
/// A pointer to an earlier name, instead of a label's length.
const POINTER: u32 = 0xc0;
const LABEL_BYTES_MAX: u32 = 63;
/// A name is at most 255 bytes on the wire: 253 as text.
const TEXT_BYTES_MAX: u32 = 253;

impl Message {
    /// Begins with the first `used` bytes; what can be said already ends it.
    #[inline(always)]
    pub fn begin(&mut self, used: u32, expect: Expect) -> Result<(), Outcome> {
        self.used = used;
        self.phase = phase::MALFORMED;
        (self.name_bytes, self.dots_used, self.answers_used, self.answers_cut) = (0, 0, 0, 0);
        self.code = 0;
        self.clear_name();
        if used < HEADER_BYTES || used as usize >= DNS_MESSAGE_BYTES {
            return Err(Outcome::Malformed);
        }
        self.id = self.word(0);
        let flags = self.word(2);
        let answer = flags >> 15;
        let is_answer = matches!(expect, Expect::Answer);
        // An ordinary query, one question.
        if (answer == 1) != is_answer || flags >> 11 & 0xf != 0 || self.word(4) != 1 {
            return Err(Outcome::Malformed);
        }
        if is_answer && flags & 0x0200 != 0 {
            return Err(Outcome::Truncated);
        }
        self.code = if is_answer { flags & 0xf } else { 0 };
        self.answer = answer;
        // One that failed says what it failed at, and no more.
        self.records = if self.code == 0 { self.word(6) } else { 0 };
        self.at = HEADER_BYTES;
        self.current = HEADER_BYTES;
        self.ttl_s = u32::MAX;
        self.phase = phase::LABEL;
        Ok(())
    }

    /// One step; false when it was the last.
    #[inline(always)]
    pub fn step(&mut self) -> bool {
        match self.phase {
            phase::LABEL => self.label(),
            phase::BYTE => self.label_byte(),
            phase::RECORD => self.record(),
            phase::COMPARE => self.compare(),
            phase::COMPARE_BYTE => self.compare_byte(),
            phase::SKIP => self.skip(),
            phase::BODY => self.body(),
            phase::TARGET => self.target(),
            phase::PARAMETER => self.parameter(),
            phase::HINT => self.hint(),
            _ => return false,
        }
        self.phase > phase::MALFORMED
    }

    /// What came of it.
    #[must_use]
    #[inline(always)]
    pub fn outcome(&self) -> Outcome {
        match self.phase {
            phase::READ if self.code == 0 => Outcome::Read,
            phase::READ => Outcome::Failed,
            _ => Outcome::Malformed,
        }
    }

    #[inline(always)]
    fn clear_name(&mut self) {
        let words: *mut u64 = (&raw mut self.name).cast();
        for word in 0..HOST_NAME_BYTES / 8 {
            // SAFETY: inside `name`, which lies behind a multiple of 8 bytes in a struct that is aligned to 4 at least;
            // unaligned words are written as such. Volatile, or it becomes a call that writes byte after byte.
            unsafe { core::ptr::write_volatile(words.add(word).cast::<[u32; 2]>(), [0; 2]) };
        }
    }

    /// The question's name, label by label. Pointers have no place in it: nothing stands before it.
    #[inline(always)]
    fn label(&mut self) {
        let length = self.byte(self.at);
        if self.at >= self.used || length > LABEL_BYTES_MAX {
            self.phase = phase::MALFORMED;
            return;
        }
        self.at += 1;
        if length == 0 {
            self.question();
            return;
        }
        if self.name_bytes != 0 {
            let (dots, at) = (self.dots_used, self.name_bytes);
            if (dots as usize) < NAME_SUFFIXES_MAX {
                self.dots[opaque(dots as usize) & (NAME_SUFFIXES_MAX - 1)] = at as u16;
                self.dots_used = dots + 1;
            }
            self.push(b'.');
        }
        if self.name_bytes + length > TEXT_BYTES_MAX {
            self.phase = phase::MALFORMED;
            return;
        }
        self.left = length;
        self.phase = phase::BYTE;
    }

    #[inline(always)]
    fn label_byte(&mut self) {
        let byte = lower(self.byte(self.at));
        // A dot inside a label would read as the border of two.
        if self.at >= self.used || byte == u32::from(b'.') || byte <= 0x20 || byte > 0x7e {
            self.phase = phase::MALFORMED;
            return;
        }
        self.push(byte as u8);
        self.at += 1;
        self.left -= 1;
        if self.left == 0 {
            self.phase = phase::LABEL;
        }
    }

    #[inline(always)]
    fn push(&mut self, byte: u8) {
        self.name[opaque(self.name_bytes as usize) & (HOST_NAME_BYTES - 1)] = byte;
        self.name_bytes += 1;
    }

    /// Type and class of the question.
    #[inline(always)]
    fn question(&mut self) {
        let at = self.at;
        self.phase = phase::MALFORMED;
        if at + 4 > self.used || self.word(at + 2) != IN || self.name_bytes == 0 {
            return;
        }
        self.kind = self.word(at);
        self.at = at + 4;
        let more = self.answer != 0 && gives_addresses(self.kind);
        self.phase = if more { phase::RECORD } else { phase::READ };
    }

    #[inline(always)]
    fn record(&mut self) {
        if self.records == 0 {
            self.phase = phase::READ;
            return;
        }
        self.records -= 1;
        (self.owner, self.wanted, self.after, self.jumps, self.equal) = (self.at, self.current, 0, 0, 0);
        self.phase = phase::COMPARE;
    }

    /// The owner's name beside the one that the chain has led to, both at the beginning of a label. Where both have
    /// come to the same place the rest is the same.
    #[inline(always)]
    fn compare(&mut self) {
        let (owner, wanted) = (self.owner, self.wanted);
        if owner == wanted {
            self.equal = 1;
            self.phase = if self.after == 0 { phase::SKIP } else { phase::BODY };
            return;
        }
        let (of_owner, of_wanted) = (self.byte(owner), self.byte(wanted));
        if owner >= self.used || wanted >= self.used {
            self.phase = phase::MALFORMED;
        } else if of_owner >= POINTER {
            if self.after == 0 {
                self.after = owner + 2;
            }
            self.owner = self.jump(owner, of_owner);
        } else if of_wanted >= POINTER {
            self.wanted = self.jump(wanted, of_wanted);
        } else if of_owner > LABEL_BYTES_MAX || of_wanted > LABEL_BYTES_MAX {
            self.phase = phase::MALFORMED;
        } else if of_owner != of_wanted {
            self.phase = if self.after == 0 { phase::SKIP } else { phase::BODY };
        } else if of_owner == 0 {
            self.equal = 1;
            if self.after == 0 {
                self.after = owner + 1;
            }
            self.phase = phase::BODY;
        } else {
            (self.owner, self.wanted, self.left) = (owner + 1, wanted + 1, of_owner);
            self.phase = phase::COMPARE_BYTE;
        }
    }

    /// Where the pointer at `at` leads: backwards alone, and not too often.
    #[inline(always)]
    fn jump(&mut self, at: u32, head: u32) -> u32 {
        let to = (head & 0x3f) << 8 | self.byte(at + 1);
        self.jumps += 1;
        if at + 1 >= self.used || to >= at || to < HEADER_BYTES || self.jumps > DNS_JUMPS_MAX {
            self.phase = phase::MALFORMED;
        }
        to
    }

    #[inline(always)]
    fn compare_byte(&mut self) {
        if self.owner >= self.used || self.wanted >= self.used {
            self.phase = phase::MALFORMED;
        } else if lower(self.byte(self.owner)) == lower(self.byte(self.wanted)) {
            (self.owner, self.wanted, self.left) = (self.owner + 1, self.wanted + 1, self.left - 1);
            if self.left == 0 {
                self.phase = phase::COMPARE;
            }
        } else if self.after == 0 {
            // On to the next label, for the end of the name.
            self.owner += self.left;
            self.phase = phase::SKIP;
        } else {
            self.phase = phase::BODY;
        }
    }

    #[inline(always)]
    fn skip(&mut self) {
        let length = self.byte(self.owner);
        if self.owner >= self.used {
            self.phase = phase::MALFORMED;
        } else if length == 0 || length >= POINTER {
            self.after = self.owner + if length == 0 { 1 } else { 2 };
            self.phase = phase::BODY;
        } else if length > LABEL_BYTES_MAX {
            self.phase = phase::MALFORMED;
        } else {
            self.owner += 1 + length;
        }
    }

    /// Type, class, time to live, length, and what follows.
    #[inline(always)]
    fn body(&mut self) {
        let at = self.after;
        self.phase = phase::MALFORMED;
        if at + 10 > self.used {
            return;
        }
        let (kind, class, ttl_s, bytes) = (
            self.word(at),
            self.word(at + 2),
            self.word(at + 4) << 16 | self.word(at + 6),
            self.word(at + 8),
        );
        let data = at + 10;
        if data + bytes > self.used {
            return;
        }
        self.at = data + bytes;
        self.phase = phase::RECORD;
        if self.equal == 0 || class != IN {
            return;
        }
        // The sign bit is an error that counts as 0 (RFC 2181).
        let ttl_s = if ttl_s >> 31 == 0 { ttl_s } else { 0 };
        let ttl_s = if ttl_s < self.ttl_s { ttl_s } else { self.ttl_s };
        if kind == CNAME {
            self.ttl_s = ttl_s;
            self.current = data;
        } else if kind == self.kind {
            if kind == SVCB || kind == HTTPS {
                self.binding(data, ttl_s);
            } else if bytes == if kind == A { 4 } else { 16 } {
                self.give(data, ttl_s, kind == A);
            } else {
                self.phase = phase::MALFORMED;
            }
        }
    }

    /// Priority, target and parameters. An alias (priority 0) has none that count.
    #[inline(always)]
    fn binding(&mut self, data: u32, ttl_s: u32) {
        if data + 3 > self.at {
            self.phase = phase::MALFORMED;
            return;
        }
        if self.word(data) != 0 {
            (self.owner, self.end, self.hint_ttl_s) = (data + 2, self.at, ttl_s);
            self.phase = phase::TARGET;
        }
    }

    /// One label of the target, which is written out.
    #[inline(always)]
    fn target(&mut self) {
        let length = self.byte(self.owner);
        if self.owner >= self.end || length > LABEL_BYTES_MAX {
            self.phase = phase::MALFORMED;
            return;
        }
        self.owner += 1 + length;
        if length == 0 {
            self.phase = phase::PARAMETER;
        }
    }

    #[inline(always)]
    fn parameter(&mut self) {
        let at = self.owner;
        if at >= self.end {
            self.phase = if at == self.end { phase::RECORD } else { phase::MALFORMED };
            return;
        }
        let (key, bytes) = (self.word(at), self.word(at + 2));
        self.phase = phase::MALFORMED;
        if at + 4 + bytes > self.end {
            return;
        }
        self.owner = at + 4;
        if key != IPV4_HINT && key != IPV6_HINT {
            self.owner = at + 4 + bytes;
            self.phase = phase::PARAMETER;
            return;
        }
        self.hint_bytes = if key == IPV4_HINT { 4 } else { 16 };
        if bytes & (self.hint_bytes - 1) == 0 {
            self.left = bytes;
            self.phase = phase::HINT;
        }
    }

    #[inline(always)]
    fn hint(&mut self) {
        if self.left == 0 {
            self.phase = phase::PARAMETER;
            return;
        }
        self.give(self.owner, self.hint_ttl_s, self.hint_bytes == 4);
        self.owner += self.hint_bytes;
        self.left -= self.hint_bytes;
    }

    #[inline(always)]
    fn give(&mut self, data: u32, ttl_s: u32, v4: bool) {
        let slot = self.answers_used;
        if slot as usize >= DNS_ANSWERS_MAX {
            self.answers_cut += 1;
            return;
        }
        let mut address = [0u8; 16];
        if v4 {
            (address[10], address[11]) = (0xff, 0xff);
            for (at, byte) in address[12..].iter_mut().enumerate() {
                *byte = self.byte(data + at as u32) as u8;
            }
        } else {
            for (at, byte) in address.iter_mut().enumerate() {
                *byte = self.byte(data + at as u32) as u8;
            }
        }
        self.answers[opaque(slot as usize) & (DNS_ANSWERS_MAX - 1)] = Answer { address, ttl_s, _pad: 0 };
        self.answers_used = slot + 1;
    }

    #[inline(always)]
    fn byte(&self, at: u32) -> u32 {
        u32::from(self.bytes[opaque(at as usize) & (DNS_MESSAGE_BYTES - 1)])
    }

    #[inline(always)]
    fn word(&self, at: u32) -> u32 {
        self.byte(at) << 8 | self.byte(at + 1)
    }
}

/// Whether answers of this type give the name that was asked for addresses.
#[must_use]
#[inline(always)]
pub const fn gives_addresses(kind: u32) -> bool {
    kind == A || kind == AAAA || kind == SVCB || kind == HTTPS
}

#[cfg(test)]
mod tests;
