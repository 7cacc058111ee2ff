//! Paths: walked from a dentry up to the root of its mount namespace, as d_path does.

pub use agent_common::bytes::opaque;
use agent_common::{
    event::{Text, text_flags},
    identity::{HASH_START, hash_step},
    limits,
};
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_user};

use crate::{
    emit::{TEXT_BUFFER, TEXT_START_MAX},
    kernel::{self, Ptr, offset},
};

/// A path is written from the end of PATH_BYTES_MAX towards its beginning; the room behind is for the verifier.
const PATH_BUFFER: usize = limits::PATH_BYTES_MAX + 256;
const END: usize = limits::PATH_BYTES_MAX;

/// A path, or another long string, under work. All that changes from step to step lies in here and not on the
/// stack: what the verifier reads from a map is unknown to it each time, so it need not follow every step.
#[repr(C)]
pub struct Path {
    pub bytes: [u8; PATH_BUFFER],
    /// Where the next step looks: struct dentry and struct mount.
    dentry: usize,
    mount: usize,
    /// First byte of what was walked.
    pub start: usize,
    /// One behind the last byte to hash, the next one, and the hash so far.
    end: usize,
    at: usize,
    hash: u64,
    /// What is left of user memory to hash.
    from: u64,
    left: u64,
    /// `text_flags`.
    pub flags: u16,
    _pad: [u16; 3],
}

impl Path {
    /// Bytes that were walked.
    #[inline(always)]
    pub fn walked(&self) -> usize {
        END - (self.start & (END - 1))
    }

    /// Walks the `struct path` at `path`, following mounts up to the namespace's root. Independent of chroot and of
    /// the reader's own root: the path is where the file really is in its mount namespace.
    #[inline(always)]
    pub fn walk(&mut self, path: Ptr) {
        let dentry = kernel::peek::<usize>(path, offset!(path_dentry));
        let vfsmount = kernel::peek::<usize>(path, offset!(path_mnt));
        self.start = END;
        if dentry == 0 || vfsmount == 0 {
            self.start = END - 1;
            self.flags = text_flags::UNREADABLE;
            return;
        }
        self.dentry = dentry;
        self.mount = vfsmount.wrapping_sub(offset!(mount_mnt));
        self.flags = text_flags::TRUNCATED;
        repeat(limits::PATH_DEPTH_MAX, step_up, self);
        if self.start >= END {
            // The root itself.
            self.start = END - 1;
            self.bytes[END - 1] = b'/';
        }
    }

    /// FNV-1a over what was walked.
    #[inline(always)]
    pub fn hash_walked(&mut self) -> u64 {
        self.at = self.start;
        self.end = END;
        self.hash_range()
    }

    /// FNV-1a over the first `bytes` bytes.
    #[inline(always)]
    pub fn hash_prefix(&mut self, bytes: usize) -> u64 {
        self.at = 0;
        self.end = bytes;
        self.hash_range()
    }

    /// Begins to take the first `bytes` bytes apart.
    #[inline(always)]
    pub fn walk_text_from_end(&mut self, bytes: usize) {
        self.at = bytes;
    }

    /// The component before the last one that was taken: its name to `to`, which stays empty when it has no room for
    /// it. False when there is none left.
    #[inline(always)]
    pub fn component(&mut self, to: &mut [u8; limits::SUFFIX_NAME_BYTES]) -> bool {
        if self.at == 0 {
            return false;
        }
        self.end = self.at;
        repeat(limits::NAME_BYTES_MAX as u32 + 1, step_back, self);
        let (start, end) = (self.at, self.end);
        // Over the slash before it.
        self.at = if start == 0 { 0 } else { start - 1 };
        let bytes = end.wrapping_sub(start);
        if bytes == 0 || bytes >= limits::SUFFIX_NAME_BYTES {
            return true;
        }
        let bytes = opaque(bytes) & (limits::SUFFIX_NAME_BYTES - 1);
        // SAFETY: masked to the buffer on one side, to the array on the other.
        unsafe {
            let from = self.bytes.as_ptr().add(opaque(start) & (END - 1));
            bpf_probe_read_kernel(to.as_mut_ptr().cast(), bytes as u32, from.cast()) == 0
        }
    }

    #[inline(always)]
    fn hash_range(&mut self) -> u64 {
        self.hash = HASH_START;
        repeat(limits::PATH_BYTES_MAX as u32, step_hash, self);
        self.hash
    }

    /// FNV-1a over a range of the current task's memory; `flags` is not 0 when not all of it could be read.
    #[inline(always)]
    pub fn hash_user(&mut self, from: u64, bytes: u64) -> u64 {
        self.hash = HASH_START;
        self.from = from;
        self.left = bytes;
        self.flags = text_flags::UNREADABLE;
        repeat((bytes / END as u64) as u32 + 1, step_user, self);
        self.hash
    }

    /// What was walked, for copying.
    #[inline(always)]
    pub fn walked_ptr(&self) -> Ptr {
        // SAFETY: masked to the buffer.
        unsafe { self.bytes.as_ptr().add(opaque(self.start) & (END - 1)) }
    }
}

/// Runs `step` on `path` until it answers 1, at most `times` times.
#[inline(always)]
fn repeat(times: u32, step: extern "C" fn(u64, *mut *mut Path) -> u64, path: &mut Path) {
    kernel::repeat(times, step, &mut (&raw mut *path));
}

/// One component, or one mount, towards the root.
extern "C" fn step_up(_step: u64, context: *mut *mut Path) -> u64 {
    // SAFETY: `repeat` hands over a pointer to a live path.
    let path = unsafe { &mut **context };
    let dentry = path.dentry as Ptr;
    let mount = path.mount as Ptr;
    let parent = kernel::peek::<usize>(dentry, offset!(dentry_parent));
    let root = kernel::peek::<usize>(mount, offset!(mount_mnt) + offset!(vfsmount_root));
    if path.dentry == root || path.dentry == parent {
        let above = kernel::peek::<usize>(mount, offset!(mount_parent));
        if above == 0 || above == path.mount {
            path.flags = 0;
            return 1;
        }
        path.dentry = kernel::peek::<usize>(mount, offset!(mount_mountpoint));
        path.mount = above;
        return 0;
    }
    let bytes = opaque(kernel::peek::<u32>(dentry, offset!(dentry_len)) as usize) & 0xff;
    let name = kernel::peek::<usize>(dentry, offset!(dentry_name));
    if path.start < bytes + 1 {
        return 1;
    }
    let start = path.start - bytes - 1;
    // SAFETY: `start` is masked to the buffer, which has room for 256 bytes more.
    let status = unsafe {
        let to = path.bytes.as_mut_ptr().add(opaque(start) & (END - 1));
        *to = b'/';
        bpf_probe_read_kernel(to.add(1).cast(), bytes as u32, name as *const _)
    };
    if status != 0 {
        path.flags = text_flags::UNREADABLE;
        return 1;
    }
    path.start = start;
    path.dentry = parent;
    0
}

/// One byte into the hash.
extern "C" fn step_hash(_step: u64, context: *mut *mut Path) -> u64 {
    // SAFETY: `repeat` hands over a pointer to a live path.
    let path = unsafe { &mut **context };
    if path.at >= path.end {
        return 1;
    }
    // SAFETY: masked to the buffer.
    let byte = unsafe { *path.bytes.as_ptr().add(opaque(path.at) & (END - 1)) };
    path.hash = hash_step(path.hash, byte);
    path.at += 1;
    0
}

/// One byte towards the slash before a component.
extern "C" fn step_back(_step: u64, context: *mut *mut Path) -> u64 {
    // SAFETY: `repeat` hands over a pointer to a live path.
    let path = unsafe { &mut **context };
    if path.at == 0 {
        return 1;
    }
    // SAFETY: masked to the buffer.
    let byte = unsafe { *path.bytes.as_ptr().add(opaque(path.at - 1) & (END - 1)) };
    if byte == b'/' {
        return 1;
    }
    path.at -= 1;
    0
}

/// Copies what is kept of a walked path to `text` at `at` and describes it. A long path keeps its end.
#[inline(always)]
pub fn append(text: &mut [u8; TEXT_BUFFER], at: usize, path: &mut Path) -> (Text, usize) {
    let whole = path.walked();
    let mut kept = whole;
    let mut flags = path.flags;
    if kept > limits::PATH_BYTES_KEPT {
        kept = limits::PATH_BYTES_KEPT;
        flags |= text_flags::TRUNCATED | text_flags::TAIL;
    }
    let mut hash = 0;
    if flags & text_flags::TRUNCATED != 0 {
        hash = path.hash_walked();
    } else {
        flags |= text_flags::UNHASHED;
    }
    // SAFETY: masked to the buffer.
    let from = unsafe { path.bytes.as_ptr().add(opaque(END - kept) & (END - 1)) };
    copy(text, at, from, kept, whole, hash, flags)
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

/// One buffer of user memory into the hash.
extern "C" fn step_user(_step: u64, context: *mut *mut Path) -> u64 {
    // SAFETY: `repeat` hands over a pointer to a live path.
    let path = unsafe { &mut **context };
    let bytes = if path.left > END as u64 { END } else { path.left as usize };
    let bytes = opaque(bytes) & (2 * END - 1);
    let bytes = if bytes > END { END } else { bytes };
    // SAFETY: at most END bytes into the buffer.
    let status =
        unsafe { bpf_probe_read_user(path.bytes.as_mut_ptr().cast(), bytes as u32, path.from as *const _) };
    if status != 0 {
        return 1;
    }
    path.at = 0;
    path.end = bytes;
    repeat(END as u32, step_hash, path);
    path.from += bytes as u64;
    path.left -= bytes as u64;
    if path.left == 0 {
        path.flags = 0;
        return 1;
    }
    0
}
