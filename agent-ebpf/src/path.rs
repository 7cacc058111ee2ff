//! Paths: walked from a dentry up to the root of its mount namespace, as d_path does.

use agent_common::{
    event::{Text, text_flags},
    identity::{HASH_START, hash_step},
    limits,
};
use aya_ebpf::helpers::generated::bpf_probe_read_kernel;

use crate::{
    emit::{TEXT_BUFFER, TEXT_START_MAX},
    kernel::{self, Ptr, offset},
};

/// A path is written from the end of PATH_BYTES_MAX towards its beginning; the room behind is for the verifier.
pub const PATH_BUFFER: usize = limits::PATH_BYTES_MAX + 256;
const END: usize = limits::PATH_BYTES_MAX;

/// Where a walked path lies in its buffer.
#[derive(Clone, Copy)]
pub struct Walked {
    /// First byte, at most `PATH_BYTES_MAX`.
    pub start: usize,
    /// `text_flags` so far.
    pub flags: u16,
}

impl Walked {
    #[inline(always)]
    pub fn bytes(&self) -> usize {
        END - (self.start & (END - 1))
    }
}

/// Walks `struct path` at `path` into `buffer`, following mounts up to the namespace's root. Independent of chroot
/// and of the reader's own root: the path is where the file really is in its mount namespace.
#[inline(always)]
pub fn walk(path: Ptr, buffer: &mut [u8; PATH_BUFFER]) -> Walked {
    let mut walked = Walked { start: END - 1, flags: text_flags::TRUNCATED };
    let (Some(mut dentry), Some(vfsmount)) =
        (kernel::read_ptr(path, offset!(path_dentry)), kernel::read_ptr(path, offset!(path_mnt)))
    else {
        walked.flags = text_flags::UNREADABLE;
        return walked;
    };
    let mut mount = vfsmount.wrapping_sub(offset!(mount_mnt));
    let mut position = END;
    for _ in 0..limits::PATH_DEPTH_MAX {
        let parent = kernel::read_ptr(dentry, offset!(dentry_parent)).unwrap_or(core::ptr::null());
        let root = kernel::read_ptr(field_mnt(mount), offset!(vfsmount_root)).unwrap_or(core::ptr::null());
        if dentry == root || dentry == parent {
            let above = kernel::read_ptr(mount, offset!(mount_parent)).unwrap_or(core::ptr::null());
            if above.is_null() || above == mount {
                walked.flags = 0;
                break;
            }
            dentry = kernel::read_ptr(mount, offset!(mount_mountpoint)).unwrap_or(core::ptr::null());
            mount = above;
            continue;
        }
        let bytes = opaque(kernel::read_u32(dentry, offset!(dentry_len)) as usize) & 0xff;
        let Some(name) = kernel::read_ptr(dentry, offset!(dentry_name)) else {
            walked.flags = text_flags::UNREADABLE;
            break;
        };
        if position < bytes + 1 {
            break;
        }
        position -= bytes;
        let at = opaque(position) & (END - 1);
        // SAFETY: `at` < END and `bytes` <= 255 stay inside the buffer.
        let status =
            unsafe { bpf_probe_read_kernel(buffer.as_mut_ptr().add(at).cast(), bytes as u32, name.cast()) };
        if status != 0 {
            walked.flags = text_flags::UNREADABLE;
            break;
        }
        position -= 1;
        // SAFETY: masked to the buffer.
        unsafe { *buffer.as_mut_ptr().add(opaque(position) & (END - 1)) = b'/' };
        dentry = parent;
    }
    if position >= END {
        // The root itself.
        position = END - 1;
        buffer[END - 1] = b'/';
    }
    walked.start = position;
    walked
}

#[inline(always)]
fn field_mnt(mount: Ptr) -> Ptr {
    kernel::field(mount, offset!(mount_mnt))
}

/// FNV-1a over a walked path.
#[inline(always)]
pub fn hash(buffer: &[u8; PATH_BUFFER], walked: &Walked) -> u64 {
    let mut hash = HASH_START;
    let mut at = walked.start;
    for _ in 0..limits::PATH_BYTES_MAX {
        if at >= END {
            break;
        }
        // SAFETY: masked to the buffer.
        hash = hash_step(hash, unsafe { *buffer.as_ptr().add(opaque(at) & (END - 1)) });
        at += 1;
    }
    hash
}

/// FNV-1a over the first `bytes` bytes of a buffer.
#[inline(always)]
pub fn hash_prefix(buffer: &[u8; PATH_BUFFER], bytes: usize) -> u64 {
    let mut hash = HASH_START;
    for at in 0..limits::PATH_BYTES_MAX {
        if at >= bytes {
            break;
        }
        // SAFETY: masked to the buffer.
        hash = hash_step(hash, unsafe { *buffer.as_ptr().add(opaque(at) & (END - 1)) });
    }
    hash
}

/// Copies what is kept of a walked path to `text` at `at` and describes it. A long path keeps its end.
#[inline(always)]
pub fn append(
    text: &mut [u8; TEXT_BUFFER],
    at: usize,
    buffer: &[u8; PATH_BUFFER],
    walked: &Walked,
) -> (Text, usize) {
    let whole = walked.bytes();
    let mut kept = whole;
    let mut flags = walked.flags;
    if kept > limits::PATH_BYTES_KEPT {
        kept = limits::PATH_BYTES_KEPT;
        flags |= text_flags::TRUNCATED | text_flags::TAIL;
    }
    let (hash, flags) = if flags & text_flags::TRUNCATED != 0 {
        (hash(buffer, walked), flags)
    } else {
        (0, flags | text_flags::UNHASHED)
    };
    copy(text, at, buffer.as_ptr().wrapping_add((END - kept) & (END - 1)), kept, whole, hash, flags)
}

/// Copies `kept` bytes from kernel memory to `text` at `at` and describes them.
#[inline(always)]
pub fn copy(
    text: &mut [u8; TEXT_BUFFER],
    at: usize,
    from: Ptr,
    kept: usize,
    whole: usize,
    hash: u64,
    flags: u16,
) -> (Text, usize) {
    let mut described = Text { hash, full_bytes: whole as u32, kept_bytes: 0, flags };
    let kept = opaque(kept) & 0x7ff;
    // SAFETY: at most TEXT_START_MAX - 1 + 2047 bytes in, which is inside the buffer.
    let status = unsafe {
        bpf_probe_read_kernel(
            text.as_mut_ptr().add(opaque(at) & (TEXT_START_MAX - 1)).cast(),
            kept as u32,
            from.cast(),
        )
    };
    if status == 0 {
        described.kept_bytes = kept as u16;
        (described, at + kept)
    } else {
        described.flags |= text_flags::UNREADABLE;
        (described, at)
    }
}

/// Hides a value's range from the compiler, so that a mask which only the verifier needs is not optimised away.
#[inline(always)]
pub fn opaque(value: usize) -> usize {
    let mut value = value;
    // SAFETY: no instruction; only ends what the compiler knows of `value`.
    unsafe { core::arch::asm!("/* {0} */", inout(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}
