//! The other call numbers of an x86-64 kernel: i386 through `int 0x80`, and x32.

use crate::act::{
    ctx::{Ctx, Dest},
    sys::Outcome,
    ways::{
        Family::{Inet, Inet6, Unix},
        Way, way,
    },
};

#[cfg(target_arch = "x86_64")]
pub const WAYS: &[Way] = &[
    way("ia32-connect", Inet, Dest::V4, |ctx| x86::connect(ctx, x86::Entry::Direct)),
    way("ia32-connect6", Inet6, Dest::V6, |ctx| x86::connect(ctx, x86::Entry::Direct)),
    way("ia32-connect-unix", Unix, Dest::UnixPath("stream"), |ctx| x86::connect(ctx, x86::Entry::Direct)),
    way("ia32-socketcall-connect", Inet, Dest::V4, |ctx| x86::connect(ctx, x86::Entry::Socketcall)),
    way("ia32-sendto", Inet, Dest::V4, |ctx| x86::sendto(ctx, x86::Entry::Direct)),
    way("ia32-sendto6", Inet6, Dest::V6, |ctx| x86::sendto(ctx, x86::Entry::Direct)),
    way("ia32-socketcall-sendto", Inet, Dest::V4, |ctx| x86::sendto(ctx, x86::Entry::Socketcall)),
    way("ia32-sendmsg", Inet, Dest::V4, x86::sendmsg),
    way("ia32-sendmmsg", Inet, Dest::V4, x86::sendmmsg),
    way("x32-connect", Inet, Dest::V4, |ctx| x86::connect(ctx, x86::Entry::X32)),
    way("x32-sendto", Inet, Dest::V4, |ctx| x86::sendto(ctx, x86::Entry::X32)),
];

#[cfg(not(target_arch = "x86_64"))]
pub const WAYS: &[Way] = &[];

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::{
        arch::asm,
        os::fd::{AsRawFd, OwnedFd},
    };

    use super::{Ctx, Outcome};
    use crate::act::{
        ctx::Target,
        passed,
        sys::{self, Refused},
    };

    #[derive(Debug, Clone, Copy)]
    pub enum Entry {
        /// The i386 number of the call itself.
        Direct,
        /// i386 socketcall(2): one number for all, the arguments in memory.
        Socketcall,
        /// The 64-bit number with the x32 bit.
        X32,
    }

    pub fn connect(ctx: &Ctx, entry: Entry) -> Outcome {
        passed::in_child(|| {
            let fd = socket(ctx, libc::SOCK_STREAM)?;
            let mut low = Low::new()?;
            let to = ctx.addr()?;
            let (at, len) = (low.put(to.bytes()), to.length());
            let result = match entry {
                Entry::Direct => int80(CONNECT, [number(&fd), at, len, 0, 0, 0]),
                Entry::Socketcall => {
                    let args = low.put_words(&[number(&fd), at, len]);
                    int80(SOCKETCALL, [SOCKETCALL_CONNECT, args, 0, 0, 0, 0])
                }
                Entry::X32 => x32(libc::SYS_connect, [number(&fd), at, len, 0, 0, 0]),
            };
            sys::result_of("connect", result)?;
            sys::write(&fd, &ctx.payload())
        })
    }

    pub fn sendto(ctx: &Ctx, entry: Entry) -> Outcome {
        passed::in_child(|| {
            let fd = socket(ctx, libc::SOCK_DGRAM)?;
            let mut low = Low::new()?;
            let (to, payload) = (ctx.addr()?, ctx.payload());
            let args =
                [number(&fd), low.put(&payload), length(&payload), 0, low.put(to.bytes()), to.length()];
            let result = match entry {
                Entry::Direct => int80(SENDTO, args),
                Entry::Socketcall => {
                    let args = low.put_words(&args);
                    int80(SOCKETCALL, [SOCKETCALL_SENDTO, args, 0, 0, 0, 0])
                }
                Entry::X32 => x32(libc::SYS_sendto, args),
            };
            sys::result_of("sendto", result)
        })
    }

    pub fn sendmsg(ctx: &Ctx) -> Outcome {
        passed::in_child(|| {
            let fd = socket(ctx, libc::SOCK_DGRAM)?;
            let mut low = Low::new()?;
            let header = low.message(ctx)?;
            let at = low.put_words(&header);
            sys::result_of("sendmsg", int80(SENDMSG, [number(&fd), at, 0, 0, 0, 0]))
        })
    }

    pub fn sendmmsg(ctx: &Ctx) -> Outcome {
        passed::in_child(|| {
            let fd = socket(ctx, libc::SOCK_DGRAM)?;
            let mut low = Low::new()?;
            let header = low.message(ctx)?;
            // struct compat_mmsghdr: the header and the length that the kernel fills in.
            let at = low.put_words(&[&header[..], &[0]].concat());
            sys::result_of("sendmmsg", int80(SENDMMSG, [number(&fd), at, 1, 0, 0, 0]))?;
            Ok(sys::Sent { bytes: ctx.payload().len() })
        })
    }

    fn socket(ctx: &Ctx, kind: i32) -> Result<OwnedFd, Refused> {
        let family = match &ctx.to {
            Target::Inet(to) if to.is_ipv4() => libc::AF_INET,
            Target::Inet(_) => libc::AF_INET6,
            _ => libc::AF_UNIX,
        };
        sys::socket(family, kind, 0)
    }

    /// A page below 4 GiB, where 32-bit pointers reach, filled from its start.
    struct Low {
        at: *mut u8,
        used: usize,
    }

    impl Low {
        fn new() -> Result<Self, Refused> {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
            Ok(Self { at: sys::map(PAGE_BYTES, flags, -1, 0)?, used: 0 })
        }

        fn put(&mut self, bytes: &[u8]) -> u32 {
            assert!(self.used + bytes.len() <= PAGE_BYTES, "an act's arguments fit a page");
            // SAFETY: the page is ours and has room, as just checked.
            let to = unsafe { self.at.add(self.used) };
            // SAFETY: as above; the source is no part of the page.
            unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
            self.used = (self.used + bytes.len()).next_multiple_of(8);
            u32::try_from(to.addr()).unwrap_or(0)
        }

        fn put_words(&mut self, words: &[u32]) -> u32 {
            self.put(&words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>())
        }

        /// struct compat_msghdr for the act's payload and destination.
        fn message(&mut self, ctx: &Ctx) -> Result<[u32; 7], Refused> {
            let (to, payload) = (ctx.addr()?, ctx.payload());
            let part = [self.put(&payload), length(&payload)];
            Ok([self.put(to.bytes()), to.length(), self.put_words(&part), 1, 0, 0, 0])
        }
    }

    fn number(fd: &OwnedFd) -> u32 {
        fd.as_raw_fd().cast_unsigned()
    }

    fn length(bytes: &[u8]) -> u32 {
        u32::try_from(bytes.len()).unwrap_or(0)
    }

    fn int80(call: u32, args: [u32; 6]) -> i64 {
        let mut result = call;
        // SAFETY: arguments point into a `Low` page or are numbers. rbx and rbp, which the compiler keeps for itself,
        // are restored; r8 to r11 may be zeroed by older kernels. Where the kernel has no i386 entry this ends in a
        // signal, and the caller is a child made for it.
        unsafe {
            asm!(
                "push rbx",
                "push rbp",
                "mov ebx, [rdi]",
                "mov ecx, [rdi + 4]",
                "mov edx, [rdi + 8]",
                "mov esi, [rdi + 12]",
                "mov ebp, [rdi + 20]",
                "mov edi, [rdi + 16]",
                "int 0x80",
                "pop rbp",
                "pop rbx",
                inout("eax") result,
                inout("rdi") args.as_ptr() => _,
                out("ecx") _,
                out("edx") _,
                out("esi") _,
                out("r8") _,
                out("r9") _,
                out("r10") _,
                out("r11") _,
            );
        }
        result.cast_signed().into()
    }

    fn x32(call: libc::c_long, args: [u32; 6]) -> i64 {
        let args = args.map(|arg| usize::try_from(arg).unwrap_or(0));
        // SAFETY: arguments point into a `Low` page or are numbers.
        match unsafe { sys::raw("x32", call | X32_BIT, args) } {
            Ok(result) => i64::try_from(result).unwrap_or(0),
            Err(refused) => -i64::from(refused.errno),
        }
    }

    const PAGE_BYTES: usize = 4096;
    const X32_BIT: libc::c_long = 0x4000_0000;
    const SOCKETCALL: u32 = 102;
    const SOCKETCALL_CONNECT: u32 = 3;
    const SOCKETCALL_SENDTO: u32 = 11;
    const SENDMMSG: u32 = 345;
    const CONNECT: u32 = 362;
    const SENDTO: u32 = 369;
    const SENDMSG: u32 = 370;
}
