//! Which agent the end of a path stands for: step by step from the file's name towards the root, no further than a
//! pattern reaches.

use core::mem::MaybeUninit;

use agent_common::{
    identity::{Match, SuffixKey},
    limits::{SUFFIX_DEPTH_MAX, SUFFIX_NAME_BYTES},
};

use crate::{
    emit,
    kernel::{self, Ptr, offset},
    maps::SUFFIXES,
    path::Path,
};

/// Components, and mounts that are crossed between them.
const STEPS_MAX: u32 = SUFFIX_DEPTH_MAX as u32 + 4;

/// The agent that an open file is by the end of its path, in whatever mount namespace. `found` is written to when
/// there is one.
#[inline(never)]
pub fn of_file(file: Ptr, found: &mut Match) -> bool {
    let path = kernel::field(file, offset!(file_path));
    if !is_worth_a_walk(path) {
        return false;
    }
    let Some(scratch) = emit::acquire() else { return false };
    let walk = &mut scratch.walk;
    walk.begin();
    walk.dentry = kernel::peek(path, offset!(path_dentry));
    walk.mount = kernel::peek::<usize>(path, offset!(path_mnt)).wrapping_sub(offset!(mount_mnt));
    kernel::repeat(STEPS_MAX, up, &mut (&raw mut *walk));
    let told = walk.tell(found);
    emit::release(scratch);
    told
}

/// One component, or one mount, towards the root. A callback, which the verifier looks at once: a loop it would follow
/// through every combination of its branches.
extern "C" fn up(_step: u64, walk: *mut *mut Walk) -> u64 {
    // SAFETY: `repeat` hands over a pointer to a live walk.
    let walk = unsafe { &mut **walk };
    let (dentry, mount) = (walk.dentry as Ptr, walk.mount as Ptr);
    let root = kernel::peek::<usize>(mount, offset!(mount_mnt) + offset!(vfsmount_root));
    let parent = kernel::peek::<usize>(dentry, offset!(dentry_parent));
    if walk.dentry == root || walk.dentry == parent {
        let above = kernel::peek::<usize>(mount, offset!(mount_parent));
        if above == 0 || above == walk.mount {
            return 1;
        }
        walk.dentry = kernel::peek::<usize>(mount, offset!(mount_mountpoint));
        walk.mount = above;
        return 0;
    }
    let name = kernel::peek::<usize>(dentry, offset!(dentry_name));
    walk.no_name();
    if (kernel::peek::<u32>(dentry, offset!(dentry_len)) as usize) < SUFFIX_NAME_BYTES {
        kernel::read_str(walk.key.name.as_mut_ptr(), SUFFIX_NAME_BYTES as u32, name as Ptr);
    }
    walk.dentry = parent;
    u64::from(!walk.step())
}

/// What every exec pays: whether a pattern ends in the file's name, or in any name below its directory's.
#[inline(always)]
fn is_worth_a_walk(path: Ptr) -> bool {
    let dentry = kernel::follow(path, offset!(path_dentry));
    let mount = kernel::follow(path, offset!(path_mnt));
    let root = kernel::follow(mount, offset!(vfsmount_root));
    let parent = kernel::follow(dentry, offset!(dentry_parent));
    if dentry == root || parent == root {
        // One of the names is that of the mount's place.
        return true;
    }
    begins(0, dentry) || begins(SuffixKey::AFTER_ANY_NAME, parent)
}

/// Whether there is a step of this name from `state` on. A name that is cut begins a walk at worst, which looks at its
/// length.
#[inline(always)]
fn begins(state: u32, dentry: Ptr) -> bool {
    let mut room = MaybeUninit::<SuffixKey>::uninit();
    // SAFETY: the room's own bytes, and a key is aligned to half words.
    let key = unsafe {
        emit::zero::<u32>(room.as_mut_ptr().cast(), size_of::<SuffixKey>());
        room.assume_init_mut()
    };
    key.state = state;
    let name = kernel::follow(dentry, offset!(dentry_name));
    kernel::read_str(key.name.as_mut_ptr(), SUFFIX_NAME_BYTES as u32, name);
    // SAFETY: entries of a map stay readable for the program's run.
    unsafe { SUFFIXES.get(&*key) }.is_some()
}

/// The same of a path as it was given to execve, which lies in the first `bytes` bytes of `path`.
#[inline(always)]
pub fn of_text(walk: &mut Walk, path: &mut Path, bytes: usize, found: &mut Match) -> bool {
    walk.begin();
    path.walk_text_from_end(bytes);
    for _ in 0..SUFFIX_DEPTH_MAX {
        walk.no_name();
        if !path.component(&mut walk.key.name) || !walk.step() {
            break;
        }
    }
    walk.tell(found)
}

/// How far a walk has come. In a scratch, for the reason that `Path` gives.
#[repr(C)]
pub struct Walk {
    /// Where the next step looks: struct dentry and struct mount.
    dentry: usize,
    mount: usize,
    key: SuffixKey,
    /// Whether this state has a step for every name.
    any: u32,
    found: Match,
}

impl Walk {
    #[inline(always)]
    fn begin(&mut self) {
        (self.key.state, self.any, self.found.agent) = (0, 1, 0);
    }

    #[inline(always)]
    fn no_name(&mut self) {
        // SAFETY: the name's own bytes, which follow a number of 32 bits.
        unsafe { emit::zero::<u32>(self.key.name.as_mut_ptr().cast(), SUFFIX_NAME_BYTES) };
    }

    /// Takes the component whose name is in the key; whether a longer end may be known. An empty name is one that is
    /// too long to be a step of its own.
    #[inline(always)]
    fn step(&mut self) -> bool {
        // SAFETY: entries of a map stay readable for the program's run.
        let mut step = unsafe { SUFFIXES.get(&self.key) };
        if step.is_none() && self.any != 0 {
            self.no_name();
            self.key.name[0] = SuffixKey::ANY;
            // SAFETY: as above.
            step = unsafe { SUFFIXES.get(&self.key) };
        }
        let Some(step) = step else { return false };
        if step.found.agent != 0 {
            self.found = step.found;
        }
        self.key.state = step.next;
        self.any = step.any;
        step.next != 0
    }

    #[inline(always)]
    fn tell(&self, found: &mut Match) -> bool {
        if self.found.agent == 0 {
            return false;
        }
        *found = self.found;
        true
    }
}
