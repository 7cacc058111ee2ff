//! What a connection says first: the server name of a TLS ClientHello, or the host of an HTTP/1 request; byte by byte, as
//! the kernel side reads it from the segments that leave.
//!
//! All that changes lies in the [`Reader`], so that it goes on where the segment before it ended. What servers read in
//! more than one way is not read at all: it ends as [`Outcome::Unreadable`].

use bytemuck::{Pod, Zeroable};

use crate::bytes::{lower, opaque};
use crate::limits::{HOST_NAME_BYTES, NAME_SUFFIXES_MAX, SPOKEN_BYTES_MAX};

vocabulary! {
    /// What a connection turned out to speak.
    pub enum Protocol {
        /// TLS.
        Tls = 1 => "tls",
        /// HTTP/1, or HTTP/2 without TLS, whose host cannot be read.
        Http = 2 => "http",
        /// Neither.
        Other = 3 => "other",
    }
}

/// Where reading stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// More bytes are needed.
    Reading,
    /// Read to the end; `name_bytes` is 0 where no name was said.
    Read,
    /// Not what it began as, or said in a way that servers differ about.
    Unreadable,
}

/// What has been read so far.
#[repr(C)]
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
pub struct Reader {
    /// The name: lower case, no dot at its end, NUL behind it to the end.
    pub name: [u8; HOST_NAME_BYTES],
    /// Where the name's dots stand, from its beginning.
    pub dots: [u16; NAME_SUFFIXES_MAX],
    pub dots_used: u32,
    pub name_bytes: u32,
    /// [`Protocol`], raw; 0 while it is not known.
    pub protocol: u32,
    /// Not 0 where the ClientHello carries an encrypted one.
    pub ech: u32,
    /// Bytes read.
    pub read: u32,
    phase: u32,
    /// Of the TLS record's head: the number under way, and bytes until it ends.
    head: u32,
    head_left: u32,
    /// Bytes of the record that are still to come.
    record: u32,
    /// As above, of the element of the ClientHello that is read; of HTTP, how much of a word has been met.
    number: u32,
    left: u32,
    /// Bytes of the ClientHello that are still to come, and of the extension.
    hello: u32,
    extension: u32,
    /// Phase of the ClientHello, which goes on in the next record.
    within: u32,
    /// Not 0 when a name was given; how much of it a second one has met.
    named: u32,
    met: u32,
    /// The byte before.
    before: u32,
}
const _: () = assert!(size_of::<Reader>() == 256 + 32 + 17 * 4);

/// Phases: those of HTTP's header fields stand last.
mod phase {
    pub const FIRST: u32 = 0;
    pub const READ: u32 = 1;
    pub const UNREADABLE: u32 = 2;
    pub const RECORD: u32 = 3;
    pub const HELLO: u32 = 4;
    /// SSL 2's way of a ClientHello, which names nobody.
    pub const OLD: u32 = 5;
    pub const METHOD: u32 = 6;
    pub const TARGET: u32 = 7;
    /// A scheme, or a host as CONNECT has it.
    pub const SCHEME: u32 = 8;
    /// Behind the colon of either.
    pub const COLON: u32 = 9;
    pub const SLASH: u32 = 10;
    pub const AUTHORITY: u32 = 11;
    pub const PORT: u32 = 12;
    pub const PATH: u32 = 13;
    pub const VERSION: u32 = 14;
    pub const LINE: u32 = 15;
    pub const FIELD: u32 = 16;
    pub const VALUE: u32 = 17;
    pub const HOST: u32 = 18;
    pub const HOST_NAME: u32 = 19;
    pub const HOST_PORT: u32 = 20;
    pub const HOST_END: u32 = 21;
}

/// Phases of a ClientHello.
mod hello {
    pub const HEAD: u32 = 0;
    pub const RANDOM: u32 = 1;
    pub const SESSION_BYTES: u32 = 2;
    pub const SESSION: u32 = 3;
    pub const CIPHERS_BYTES: u32 = 4;
    pub const CIPHERS: u32 = 5;
    pub const COMPRESSIONS_BYTES: u32 = 6;
    pub const COMPRESSIONS: u32 = 7;
    pub const EXTENSIONS_BYTES: u32 = 8;
    pub const EXTENSION: u32 = 9;
    pub const SKIP: u32 = 10;
    pub const NAMES_BYTES: u32 = 11;
    pub const NAME_HEAD: u32 = 12;
    pub const NAME: u32 = 13;
}

const HANDSHAKE: u32 = 0x16;
const SERVER_NAME: u32 = 0;
const ECH: u32 = 0xfe0d;
const CR: u32 = 0x0d;
const LF: u32 = 0x0a;
const RECORD_BYTES_MAX: u32 = 16_384;
const NAME_BYTES_MAX: u32 = 253;
const METHOD_BYTES_MAX: u32 = 24;
const SCHEME_BYTES_MAX: u32 = 8;

impl Reader {
    /// Begins anew.
    #[inline(always)]
    pub fn begin(&mut self) {
        let words: *mut u32 = (&raw mut *self).cast();
        for word in 0..size_of::<Self>() / 4 {
            // SAFETY: inside `self`, which is aligned to 4. Volatile, or it becomes a call that writes byte after byte.
            unsafe { core::ptr::write_volatile(words.add(word), 0) };
        }
    }

    /// What came of it so far.
    #[must_use]
    #[inline(always)]
    pub fn outcome(&self) -> Outcome {
        match self.phase {
            phase::READ => Outcome::Read,
            phase::UNREADABLE => Outcome::Unreadable,
            _ if self.read < SPOKEN_BYTES_MAX => Outcome::Reading,
            // Many fields behind the host are not waited for.
            phase::LINE.. if self.named != 0 => Outcome::Read,
            _ => Outcome::Unreadable,
        }
    }

    /// One byte; false when it was the last that is needed.
    #[inline(always)]
    pub fn byte(&mut self, byte: u8) -> bool {
        let byte = u32::from(byte);
        self.read += 1;
        match self.phase {
            phase::FIRST => self.first(byte),
            phase::RECORD => self.record(byte),
            phase::HELLO => self.hello(byte),
            phase::OLD => self.old(byte),
            phase::METHOD..=phase::VERSION => self.request(byte),
            phase::LINE.. => self.fields(byte),
            _ => return false,
        }
        self.before = byte;
        self.phase != phase::READ && self.phase != phase::UNREADABLE && self.read < SPOKEN_BYTES_MAX
    }

    #[inline(always)]
    fn other(&mut self) {
        self.protocol = Protocol::Other as u32;
        self.phase = phase::READ;
    }

    #[inline(always)]
    fn refuse(&mut self) {
        self.phase = phase::UNREADABLE;
    }

    #[inline(always)]
    fn first(&mut self, byte: u32) {
        if self.read == 1 && matches!(byte, 0x14..=0x18) {
            (self.head, self.head_left, self.phase) = (byte, 4, phase::RECORD);
            self.left = 4;
        } else if self.read == 1 && byte >= 0x80 {
            self.phase = phase::OLD;
        } else if is_token(byte) {
            (self.left, self.phase) = (1, phase::METHOD);
        } else if byte != CR && byte != LF {
            // Servers pass over empty lines before a request.
            self.other();
        }
    }

    /// `8x xx 01 03`: a ClientHello as SSL 2 had it, which some servers take.
    #[inline(always)]
    fn old(&mut self, byte: u32) {
        self.left += 1;
        if (self.left == 2 && byte != 1) || (self.left == 3 && byte != 3) {
            self.other();
        } else if self.left == 3 {
            self.protocol = Protocol::Tls as u32;
            self.phase = phase::READ;
        }
    }

    /// Type, version and length of a record.
    #[inline(always)]
    fn record(&mut self, byte: u32) {
        self.head = (self.head << 8 | byte) & 0xff_ffff;
        self.head_left -= 1;
        if self.head_left == 3 {
            let (kind, version) = (self.head >> 8, byte);
            if version != 3 && self.protocol == 0 {
                self.other();
                return;
            }
            self.protocol = Protocol::Tls as u32;
            // What stands before or between is somebody's trick.
            if version != 3 || kind != HANDSHAKE {
                self.refuse();
            }
        } else if self.head_left == 0 {
            self.record = self.head & 0xffff;
            self.phase = phase::HELLO;
            if self.record == 0 || self.record > RECORD_BYTES_MAX {
                self.refuse();
            }
        }
    }

    /// One byte of the ClientHello, and what ends with it.
    #[inline(always)]
    fn hello(&mut self, byte: u32) {
        self.record -= 1;
        self.left -= 1;
        self.number = self.number << 8 | byte;
        if self.within == hello::NAME && !self.push(byte) {
            self.refuse();
            return;
        }
        if self.within != hello::HEAD {
            self.hello -= 1;
        }
        if self.left == 0 && !self.next() {
            self.refuse();
            return;
        }
        if self.hello == 0 && self.within != hello::HEAD {
            // Between two extensions, or where they might begin.
            let whole = (self.within == hello::EXTENSION && self.left == 4)
                || (self.within == hello::EXTENSIONS_BYTES && self.left == 2);
            self.phase = if whole { phase::READ } else { phase::UNREADABLE };
        } else if self.record == 0 {
            (self.head, self.head_left, self.phase) = (0, 5, phase::RECORD);
        }
    }

    /// What follows an element of the ClientHello; false where it cannot be so.
    #[inline(always)]
    fn next(&mut self) -> bool {
        let (byte, word) = (self.number & 0xff, self.number & 0xffff);
        let (within, left) = match self.within {
            hello::HEAD => {
                self.hello = self.number & 0xff_ffff;
                if self.number >> 24 != 1 || self.hello < 34 {
                    return false;
                }
                (hello::RANDOM, 34)
            }
            hello::RANDOM => (hello::SESSION_BYTES, 1),
            hello::SESSION_BYTES if byte != 0 => (hello::SESSION, byte),
            hello::SESSION_BYTES | hello::SESSION => (hello::CIPHERS_BYTES, 2),
            hello::CIPHERS_BYTES => (hello::CIPHERS, word),
            hello::CIPHERS => (hello::COMPRESSIONS_BYTES, 1),
            hello::COMPRESSIONS_BYTES => (hello::COMPRESSIONS, byte),
            hello::COMPRESSIONS => (hello::EXTENSIONS_BYTES, 2),
            hello::EXTENSIONS_BYTES if word == self.hello => (hello::EXTENSION, 4),
            hello::EXTENSIONS_BYTES => return false,
            hello::EXTENSION => {
                let kind = self.number >> 16;
                self.extension = word;
                if kind == ECH {
                    self.ech = 1;
                }
                if kind == SERVER_NAME {
                    if self.named != 0 || word < 5 {
                        return false;
                    }
                    (hello::NAMES_BYTES, 2)
                } else if word == 0 {
                    (hello::EXTENSION, 4)
                } else {
                    (hello::SKIP, word)
                }
            }
            hello::NAMES_BYTES if word == self.extension - 2 => (hello::NAME_HEAD, 3),
            hello::NAME_HEAD if self.number >> 16 & 0xff == 0 && word == self.extension - 5 => {
                (hello::NAME, word)
            }
            hello::NAME => {
                self.finish_name();
                (hello::EXTENSION, 4)
            }
            hello::SKIP => (hello::EXTENSION, 4),
            _ => return false,
        };
        (self.within, self.left) = (within, left);
        left != 0
    }

    /// One byte of the request line.
    #[inline(always)]
    fn request(&mut self, byte: u32) {
        let space = byte == u32::from(b' ');
        match self.phase {
            phase::METHOD if space => self.phase = phase::TARGET,
            phase::METHOD if is_token(byte) && self.left < METHOD_BYTES_MAX => self.left += 1,
            phase::METHOD => self.other(),
            phase::TARGET if space => {}
            phase::TARGET if byte == u32::from(b'/') || byte == u32::from(b'*') => self.path(),
            phase::TARGET | phase::SCHEME if is_host(byte) => {
                self.phase = phase::SCHEME;
                if !self.push(byte) {
                    self.other();
                }
            }
            phase::SCHEME if byte == u32::from(b':') => self.phase = phase::COLON,
            phase::COLON if byte == u32::from(b'/') => self.phase = phase::SLASH,
            phase::COLON if is_digit(byte) => self.phase = phase::PORT,
            phase::SLASH if byte == u32::from(b'/') && self.name_bytes <= SCHEME_BYTES_MAX => {
                for at in 0..SCHEME_BYTES_MAX as usize {
                    self.name[at] = 0;
                }
                (self.name_bytes, self.dots_used, self.phase) = (0, 0, phase::AUTHORITY);
            }
            phase::AUTHORITY if is_host(byte) => {
                if !self.push(byte) {
                    self.not_http();
                }
            }
            phase::AUTHORITY if self.name_bytes == 0 => self.not_http(),
            phase::AUTHORITY if byte == u32::from(b':') => self.phase = phase::PORT,
            phase::PORT if is_digit(byte) => {}
            phase::AUTHORITY | phase::PORT if byte == u32::from(b'/') || byte == u32::from(b'?') => {
                self.path()
            }
            phase::SCHEME | phase::AUTHORITY | phase::PORT | phase::PATH if space => {
                (self.left, self.phase) = (0, phase::VERSION);
            }
            phase::PATH if byte != CR && byte != LF => {}
            phase::VERSION => self.version(byte),
            // A path alone, which is how the very first HTTP had it.
            _ => self.not_http(),
        }
    }

    /// `HTTP/`
    #[inline(always)]
    fn version(&mut self, byte: u32) {
        let wanted = match self.left {
            0 => b'H',
            1 | 2 => b'T',
            3 => b'P',
            _ => b'/',
        };
        self.left += 1;
        if byte != u32::from(wanted) {
            self.not_http();
        } else if self.left == 5 {
            self.protocol = Protocol::Http as u32;
            if self.name_bytes != 0 {
                self.finish_name();
            }
            self.phase = phase::LINE;
        }
    }

    #[inline(always)]
    fn path(&mut self) {
        (self.number, self.phase) = (1, phase::PATH);
    }

    /// A line that is no request: something else, but where its target is a path.
    #[inline(always)]
    fn not_http(&mut self) {
        if self.number == 0 && self.phase != phase::AUTHORITY {
            self.other();
        } else {
            self.protocol = Protocol::Http as u32;
            self.refuse();
        }
    }

    /// One byte behind the request line.
    #[inline(always)]
    fn fields(&mut self, byte: u32) {
        let blank = byte == u32::from(b' ') || byte == u32::from(b'\t');
        if self.before == CR && byte != LF {
            self.refuse();
            return;
        }
        match self.phase {
            phase::FIELD => self.field(byte, blank),
            phase::HOST if blank => {}
            phase::HOST | phase::HOST_NAME if is_host(byte) => {
                self.phase = phase::HOST_NAME;
                self.host(byte);
            }
            phase::HOST_NAME | phase::HOST_PORT
                if byte == CR || byte == LF || blank || byte == u32::from(b':') =>
            {
                self.host_ends(byte);
            }
            phase::HOST_PORT if is_digit(byte) => {}
            phase::HOST_END if blank || byte == CR || byte == LF => self.line_ends(byte),
            phase::LINE | phase::VALUE => self.line_ends(byte),
            _ => self.refuse(),
        }
    }

    #[inline(always)]
    fn line_ends(&mut self, byte: u32) {
        if byte == LF {
            (self.left, self.phase) = (0, phase::FIELD);
        }
    }

    /// One byte of a field's name, or of the empty line that ends them all.
    #[inline(always)]
    fn field(&mut self, byte: u32, blank: bool) {
        let wanted = match self.left {
            0 => b'h',
            1 => b'o',
            2 => b's',
            3 => b't',
            _ => 0,
        };
        if byte == LF {
            // A line without a colon says nothing.
            let empty = self.left == 0;
            (self.left, self.phase) = (0, if empty { phase::READ } else { phase::FIELD });
        } else if byte == CR {
        } else if blank && (self.left == 0 || self.left == 4) {
            // A line that goes on, and a blank before the colon: servers differ.
            self.refuse();
        } else if byte == u32::from(b':') {
            self.phase = if self.left == 4 { phase::HOST } else { phase::VALUE };
            self.met = 0;
        } else {
            self.left = if lower(byte) == u32::from(wanted) { self.left + 1 } else { NO_HOST };
        }
    }

    /// One byte of the host: the only one, or the same as the one before.
    #[inline(always)]
    fn host(&mut self, byte: u32) {
        if self.named == 0 {
            if !self.push(byte) {
                self.refuse();
            }
            return;
        }
        let same = self.name[opaque(self.met as usize) & (HOST_NAME_BYTES - 1)];
        self.met += 1;
        if u32::from(same) != lower(byte) || self.met > self.name_bytes {
            self.refuse();
        }
    }

    #[inline(always)]
    fn host_ends(&mut self, byte: u32) {
        if self.phase == phase::HOST_NAME {
            if self.named == 0 {
                self.finish_name();
            } else if self.met != self.name_bytes {
                self.refuse();
                return;
            }
        } else if byte == u32::from(b':') {
            self.refuse();
            return;
        }
        self.phase = if byte == u32::from(b':') { phase::HOST_PORT } else { phase::HOST_END };
        self.line_ends(byte);
    }

    /// Takes a byte of the name; false for one that none has.
    #[inline(always)]
    fn push(&mut self, byte: u32) -> bool {
        let at = self.name_bytes;
        if !is_host(byte) || at >= NAME_BYTES_MAX {
            return false;
        }
        if byte == u32::from(b'.') {
            if at == 0 || self.before == u32::from(b'.') {
                return false;
            }
            let dots = self.dots_used;
            if (dots as usize) < NAME_SUFFIXES_MAX {
                self.dots[opaque(dots as usize) & (NAME_SUFFIXES_MAX - 1)] = at as u16;
                self.dots_used = dots + 1;
            }
        }
        self.name[opaque(at as usize) & (HOST_NAME_BYTES - 1)] = lower(byte) as u8;
        self.name_bytes = at + 1;
        true
    }

    /// Ends the name, which is the same with a dot at its end.
    #[inline(always)]
    fn finish_name(&mut self) {
        self.named = 1;
        let last = self.name_bytes.wrapping_sub(1);
        let slot = opaque(last as usize) & (HOST_NAME_BYTES - 1);
        if self.name[slot] == b'.' {
            self.name[slot] = 0;
            self.name_bytes = last;
            let dots = self.dots_used.wrapping_sub(1);
            if u32::from(self.dots[opaque(dots as usize) & (NAME_SUFFIXES_MAX - 1)]) == last {
                self.dots_used = dots;
            }
        }
    }
}

/// Of a field's name: not the host's.
const NO_HOST: u32 = 5;

#[inline(always)]
fn is_digit(byte: u32) -> bool {
    matches!(byte, 0x30..=0x39)
}

#[inline(always)]
fn is_letter(byte: u32) -> bool {
    matches!(byte | 0x20, 0x61..=0x7a)
}

/// What names of hosts are made of.
#[inline(always)]
fn is_host(byte: u32) -> bool {
    is_digit(byte) || is_letter(byte) || byte == 0x2d || byte == 0x2e || byte == 0x5f
}

/// What methods are made of (RFC 9110, `token`).
#[inline(always)]
fn is_token(byte: u32) -> bool {
    is_digit(byte)
        || is_letter(byte)
        || matches!(byte, 0x21 | 0x23..=0x27 | 0x2a | 0x2b | 0x2d | 0x2e | 0x5e..=0x60 | 0x7c | 0x7e)
}

#[cfg(test)]
mod tests;
