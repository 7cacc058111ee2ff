//! The only reads through kernel pointers.
//!
//! Field offsets are frozen `.rodata`, filled from the running kernel's BTF before loading. The verifier sees them as
//! constants, so a pointer that came with a BTF type keeps it along [`load`].

use core::mem::MaybeUninit;

use agent_common::{identity::FileKey, offsets::Offsets};
use aya_ebpf::helpers::generated::{
    bpf_get_current_ancestor_cgroup_id, bpf_loop, bpf_probe_read_kernel, bpf_probe_read_kernel_str,
};
use bytemuck::Pod;

/// Filled by the daemon before loading.
#[unsafe(no_mangle)]
pub static OFFSETS: Offsets = Offsets::ZERO;

/// Values of the running kernel and of this load, filled by the daemon.
#[unsafe(no_mangle)]
static CGROUP_MODE: u32 = 0;
/// Inode number of the mount namespace in which paths identify agents: the host's.
#[unsafe(no_mangle)]
static HOST_MNT_NS: u32 = 0;
/// Bytes of `struct upid`.
#[unsafe(no_mangle)]
static UPID_BYTES: u32 = 0;

/// Level (depth) and id of the one cgroup whose processes are looked at; level 0 for the whole host.
#[unsafe(no_mangle)]
static SCOPE_LEVEL: u32 = 0;
#[unsafe(no_mangle)]
static SCOPE_ID: u32 = 0;

/// An untyped kernel pointer.
pub type Ptr = *const u8;

/// The offset of one field, as a constant the verifier knows.
macro_rules! offset {
    ($field:ident) => {
        $crate::kernel::frozen(&raw const $crate::kernel::OFFSETS.$field)
    };
}
pub(crate) use offset;

/// Reads a frozen global without letting the compiler fold its initial value in.
#[inline(always)]
pub fn frozen(field: *const u32) -> usize {
    // SAFETY: `field` points into a static of this object; volatile because the loader writes it before the start.
    unsafe { core::ptr::read_volatile(field) as usize }
}

/// Whether cgroup hooks do the refusing, so that agents' tasks are kept in `TASKS` too.
#[inline(always)]
pub fn cgroup_mode() -> bool {
    frozen(&raw const CGROUP_MODE) != 0
}

/// Whether one cgroup alone is looked at.
#[inline(always)]
pub fn scoped() -> bool {
    frozen(&raw const SCOPE_LEVEL) != 0
}

/// Whether the current task is to be looked at at all.
#[inline(always)]
pub fn in_scope() -> bool {
    let level = frozen(&raw const SCOPE_LEVEL);
    // SAFETY: takes a number.
    level == 0
        || unsafe { bpf_get_current_ancestor_cgroup_id(level as i32) } == frozen(&raw const SCOPE_ID) as u64
}

#[inline(always)]
pub fn host_mnt_ns() -> u32 {
    frozen(&raw const HOST_MNT_NS) as u32
}

#[inline(always)]
pub fn upid_bytes() -> usize {
    frozen(&raw const UPID_BYTES)
}

/// Loads a field through a pointer that the verifier knows by its BTF type (a hook's argument, the current task, or
/// what `load` gave from one). A bad pointer reads as zero.
#[inline(always)]
pub fn load<T: Copy>(base: Ptr, offset: usize) -> T {
    // SAFETY: the verifier accepts this only for pointers with a BTF type and offsets inside it.
    unsafe { core::ptr::read_volatile(base.add(offset).cast::<T>()) }
}

/// The address of an embedded struct.
#[inline(always)]
pub fn field(base: Ptr, offset: usize) -> Ptr {
    base.wrapping_add(offset)
}

/// Reads a field through any kernel address; `None` when it faults.
#[inline(always)]
pub fn read<T: Copy + Default>(base: Ptr, offset: usize) -> Option<T> {
    let mut value = T::default();
    // SAFETY: `value` is valid for writes of its size; the helper checks the source.
    let status = unsafe {
        bpf_probe_read_kernel(
            (&raw mut value).cast(),
            size_of::<T>() as u32,
            base.wrapping_add(offset).cast(),
        )
    };
    (status == 0).then_some(value)
}

/// Reads a field through any kernel address, zero when it faults: the helper sees to that. Without a branch, each of
/// which the verifier would follow both ways, and everything behind it twice.
#[inline(always)]
pub fn peek<T: Pod>(base: Ptr, offset: usize) -> T {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: `value` is valid for writes of its size, and the helper writes all of it, zeros when it cannot read.
    unsafe {
        bpf_probe_read_kernel(
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            base.wrapping_add(offset).cast(),
        );
        value.assume_init()
    }
}

/// The pointer in a field, to be followed further; null when it faults. Without a type: for each pointer that is loaded
/// through a typed one the verifier (6.12) searches all types of the kernel by name, several times, five million
/// instructions. So [`load`] is for what a helper takes by its type alone, and for numbers.
#[inline(always)]
pub fn follow(base: Ptr, offset: usize) -> Ptr {
    peek::<usize>(base, offset) as Ptr
}

/// Reads a kernel pointer; `None` when it faults or is null.
#[inline(always)]
pub fn read_ptr(base: Ptr, offset: usize) -> Option<Ptr> {
    match peek::<usize>(base, offset) {
        0 => None,
        address => Some(address as Ptr),
    }
}

/// Reads a NUL-terminated kernel string into `to`; its length without the NUL, 0 when it faults.
#[inline(always)]
pub fn read_str(to: *mut u8, bytes: u32, from: Ptr) -> usize {
    // SAFETY: callers pass a buffer of `bytes` bytes; the verifier checks it against the map value or the stack.
    let read = unsafe { bpf_probe_read_kernel_str(to.cast(), bytes, from.cast()) };
    if read > 0 { read as usize - 1 } else { 0 }
}

/// Runs `step` on `context` until it answers 1, at most `times` times.
#[inline(always)]
pub fn repeat<C>(times: u32, step: extern "C" fn(u64, *mut C) -> u64, context: &mut C) {
    // SAFETY: `step` has the shape that the helper asks for, and `context` outlives the call.
    unsafe {
        bpf_loop(times, (step as *const ()).cast_mut().cast(), (&raw mut *context).cast(), 0);
    }
}

/// The identity of an open file.
#[inline(always)]
pub fn file_key(file: Ptr) -> FileKey {
    let inode = follow(file, offset!(file_inode));
    FileKey {
        ino: peek(inode, offset!(inode_ino)),
        dev: peek(follow(inode, offset!(inode_sb)), offset!(sb_dev)),
        generation: peek(inode, offset!(inode_generation)),
    }
}

/// Whether an open file has no name any more.
#[inline(always)]
pub fn is_nameless(file: Ptr) -> bool {
    peek::<u32>(follow(file, offset!(file_inode)), offset!(inode_nlink)) == 0
}

/// The inode number of a namespace reached through `task->nsproxy`, 0 for none.
#[inline(always)]
pub fn namespace(nsproxy: Ptr, pointer: usize, inum: usize) -> u32 {
    peek(follow(nsproxy, pointer), inum)
}

/// The cookie of the network namespace of a `struct sock`, 0 when it faults.
#[inline(always)]
pub fn netns_of(sk: Ptr) -> u64 {
    peek(follow(sk, offset!(sock_net)), offset!(net_cookie))
}

/// Copies kernel memory, such as a part of one map value to another; whether it could.
///
/// # Safety
/// `to` is valid for writes of `bytes` bytes.
#[inline(always)]
pub unsafe fn copy(to: *mut u8, bytes: usize, from: Ptr) -> bool {
    // SAFETY: the caller's; the helper checks the source.
    unsafe { bpf_probe_read_kernel(to.cast(), bytes as u32, from.cast()) == 0 }
}
