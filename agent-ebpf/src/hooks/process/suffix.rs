//! Which agent the end of a path stands for: step by step from the file's name towards the root, no further than a
//! pattern reaches.

use agent_common::{
    identity::{Match, SuffixKey},
    limits::{SUFFIX_DEPTH_MAX, SUFFIX_NAME_BYTES},
};

use crate::{
    kernel::{self, Ptr, offset},
    maps::SUFFIXES,
    path::Path,
};

/// Components, and mounts that are crossed between them.
const STEPS_MAX: usize = SUFFIX_DEPTH_MAX + 4;

/// The agent that an open file is by the end of its path, in whatever mount namespace. `found` is written to when
/// there is one.
#[inline(never)]
pub fn of_file(file: Ptr, found: &mut Match) -> bool {
    let path = kernel::field(file, offset!(file_path));
    if !is_worth_a_walk(path) {
        return false;
    }
    let mut walk = Walk::START;
    let mut dentry: usize = kernel::load(path, offset!(path_dentry));
    let vfsmount: usize = kernel::load(path, offset!(path_mnt));
    let mut mount = vfsmount.wrapping_sub(offset!(mount_mnt));
    for _ in 0..STEPS_MAX {
        let root = offset!(mount_mnt) + offset!(vfsmount_root);
        let root = kernel::read::<usize>(mount as Ptr, root).unwrap_or(0);
        let parent = kernel::read::<usize>(dentry as Ptr, offset!(dentry_parent)).unwrap_or(0);
        if dentry == root || dentry == parent {
            let above = kernel::read::<usize>(mount as Ptr, offset!(mount_parent)).unwrap_or(0);
            if above == 0 || above == mount {
                break;
            }
            dentry = kernel::read::<usize>(mount as Ptr, offset!(mount_mountpoint)).unwrap_or(0);
            mount = above;
            continue;
        }
        let name = kernel::read::<usize>(dentry as Ptr, offset!(dentry_name)).unwrap_or(0);
        walk.key.name = [0; SUFFIX_NAME_BYTES];
        if (kernel::read_u32(dentry as Ptr, offset!(dentry_len)) as usize) < SUFFIX_NAME_BYTES {
            kernel::read_str(walk.key.name.as_mut_ptr(), SUFFIX_NAME_BYTES as u32, name as Ptr);
        }
        if !walk.step() {
            break;
        }
        dentry = parent;
    }
    walk.tell(found)
}

/// What every exec pays: whether a pattern ends in the file's name, or in any name below its directory's. Pointers
/// keep their types here, which spares the helper calls of the walk.
#[inline(always)]
fn is_worth_a_walk(path: Ptr) -> bool {
    let dentry: Ptr = kernel::load(path, offset!(path_dentry));
    let mount: Ptr = kernel::load(path, offset!(path_mnt));
    let root: usize = kernel::load(mount, offset!(vfsmount_root));
    let parent: Ptr = kernel::load(dentry, offset!(dentry_parent));
    if dentry as usize == root || parent as usize == root {
        // One of the names is that of the mount's place.
        return true;
    }
    let mut key = SuffixKey { state: 0, name: [0; SUFFIX_NAME_BYTES] };
    read_name(&mut key, dentry);
    // SAFETY: entries of a map stay readable for the program's run.
    if unsafe { SUFFIXES.get(&key) }.is_some() {
        return true;
    }
    key = SuffixKey { state: SuffixKey::AFTER_ANY_NAME, name: [0; SUFFIX_NAME_BYTES] };
    read_name(&mut key, parent);
    // SAFETY: as above.
    unsafe { SUFFIXES.get(&key) }.is_some()
}

/// A name that is cut begins a walk at worst, which looks at its length.
#[inline(always)]
fn read_name(key: &mut SuffixKey, dentry: Ptr) {
    let name: Ptr = kernel::load(dentry, offset!(dentry_name));
    kernel::read_str(key.name.as_mut_ptr(), SUFFIX_NAME_BYTES as u32, name);
}

/// The same of a path as it was given to execve, which lies in the first `bytes` bytes of `path`.
#[inline(always)]
pub fn of_text(path: &mut Path, bytes: usize, found: &mut Match) -> bool {
    let mut walk = Walk::START;
    path.walk_text_from_end(bytes);
    for _ in 0..SUFFIX_DEPTH_MAX {
        walk.key.name = [0; SUFFIX_NAME_BYTES];
        if !path.component(&mut walk.key.name) || !walk.step() {
            break;
        }
    }
    walk.tell(found)
}

struct Walk {
    key: SuffixKey,
    /// Whether this state has a step for every name.
    any: u32,
    found: Match,
}

impl Walk {
    const START: Self = Self {
        key: SuffixKey { state: 0, name: [0; SUFFIX_NAME_BYTES] },
        any: 1,
        found: Match { agent: 0, role: 0, entry: 0, flags: 0, generation: 0 },
    };

    /// Takes the component whose name is in the key; whether a longer end may be known. An empty name is one that is
    /// too long to be a step of its own.
    #[inline(always)]
    fn step(&mut self) -> bool {
        // SAFETY: entries of a map stay readable for the program's run.
        let mut step = unsafe { SUFFIXES.get(&self.key) };
        if step.is_none() && self.any != 0 {
            self.key.name = [0; SUFFIX_NAME_BYTES];
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
