//! What the kernel side costs and how full it is: memory, entries, the ring buffer's fill, runs and time of each hook.
//!
//! Everything is asked of the kernel when somebody wants to know, over the programs that are attached, whoever attached them.

use std::{
    collections::BTreeSet,
    fs,
    os::fd::{AsFd as _, AsRawFd as _, RawFd},
};

use aya::{
    maps::{MapInfo, MapType},
    programs::loaded_programs,
};
use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

use super::Kernel;

/// The kernel side as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    pub maps: Vec<MapUse>,
    pub hooks: Vec<HookUse>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ring: Option<RingUse>,
    /// Whether the kernel counts runs of programs (`kernel.bpf_stats_enabled`).
    pub runs_are_counted: bool,
}

/// One map.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MapUse {
    pub name: String,
    /// Memory as the kernel states it (`memlock`): what it takes now since 6.4, what it would take full before.
    pub bytes: u64,
    pub entries_max: u64,
    /// Only of maps that kernel programs write: of the others the daemon knows what it wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
}

/// One attached program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookUse {
    pub name: String,
    pub bytes: u64,
    /// Runs and the time they took, while the kernel counts them.
    pub runs: u64,
    pub run_ns: u64,
}

/// The ring buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RingUse {
    /// Written and not yet read.
    pub waiting_bytes: u64,
    pub size_bytes: u64,
}

impl Measured {
    /// Kernel memory of all maps and programs.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.maps.iter().map(|map| map.bytes).chain(self.hooks.iter().map(|hook| hook.bytes)).sum()
    }

    /// How many entries a map has, where they can be counted.
    #[must_use]
    pub fn entries(&self, map: &str) -> Option<u64> {
        self.maps.iter().find(|of| of.name == map)?.entries
    }
}

impl Kernel {
    /// Asks the kernel. A few hundred system calls, and one for each entry of the maps that are counted.
    #[must_use]
    pub fn measure(&self) -> Measured {
        let mut measured = Measured { runs_are_counted: runs_are_counted(), ..Measured::default() };
        let attached = self.programs.ids();
        let mut maps = BTreeSet::new();
        for program in loaded_programs().flatten() {
            let Some(name) = attached.get(&program.id()) else { continue };
            let fd = program.fd().ok();
            let Some(said) = fd.and_then(|fd| Said::of(fd.as_fd().as_raw_fd())) else { continue };
            maps.extend(program.map_ids().ok().flatten().unwrap_or_default());
            measured.hooks.push(HookUse {
                name: (*name).to_owned(),
                bytes: said.number("memlock"),
                runs: said.number("run_cnt"),
                run_ns: said.number("run_time_ns"),
            });
        }
        for info in maps.into_iter().filter_map(|id| MapInfo::from_id(id).ok()) {
            let (Ok(fd), Some(name)) = (info.fd(), info.name_as_str()) else { continue };
            let fd = fd.as_fd().as_raw_fd();
            let Some(said) = Said::of(fd) else { continue };
            let entries_max = info.max_entries().into();
            if info.map_type().is_ok_and(|kind| kind == MapType::RingBuf) {
                measured.ring = ring(fd, entries_max).or(measured.ring);
            }
            let counted = COUNTED.contains(&name) && info.key_size() as usize <= KEY_BYTES_MAX;
            let entries = counted.then(|| count(fd));
            measured.maps.push(MapUse {
                name: name.to_owned(),
                bytes: said.number("memlock"),
                entries_max,
                entries,
            });
        }
        measured.maps.sort_by(|a, b| a.name.cmp(&b.name));
        measured.hooks.sort_by(|a, b| a.name.cmp(&b.name));
        measured
    }
}

/// Whether the kernel counts runs of programs.
#[must_use]
pub fn runs_are_counted() -> bool {
    fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|text| text.trim() == "1")
}

/// What the kernel says of a descriptor: `name:\tvalue` a line.
struct Said(String);

impl Said {
    fn of(fd: RawFd) -> Option<Self> {
        fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok().map(Self)
    }

    fn number(&self, name: &str) -> u64 {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    }
}

/// Entries of a hash map, up to a number at which it is not worth the time.
fn count(fd: RawFd) -> u64 {
    let (mut key, mut next) = ([0_u8; KEY_BYTES_MAX], [0_u8; KEY_BYTES_MAX]);
    for count in 0..COUNTED_MAX {
        // Without a key the kernel gives the first.
        let from = if count == 0 { 0 } else { (&raw const key) as u64 };
        let attributes = NextKey { map: fd, _pad: 0, key: from, next: (&raw mut next) as u64 };
        // SAFETY: both keys are at least as long as the map's, which the caller checks, and outlive the call.
        if !unsafe { bpf(BPF_MAP_GET_NEXT_KEY, &attributes) } {
            return count;
        }
        key = next;
    }
    COUNTED_MAX
}

/// Position of reader and writer stand on two pages before the data.
fn ring(fd: RawFd, size_bytes: u64) -> Option<RingUse> {
    // SAFETY: takes a number.
    let page = usize::try_from(unsafe { nix::libc::sysconf(nix::libc::_SC_PAGESIZE) }).ok()?;
    // SAFETY: a mapping of its own, for reading, where the kernel chooses.
    let at = unsafe {
        nix::libc::mmap(std::ptr::null_mut(), 2 * page, nix::libc::PROT_READ, nix::libc::MAP_SHARED, fd, 0)
    };
    if at == nix::libc::MAP_FAILED {
        return None;
    }
    let position = |offset: usize| {
        // SAFETY: inside the mapping; the kernel changes these words while they are read, one aligned word at a time.
        unsafe { at.byte_add(offset).cast::<u64>().read_volatile() }
    };
    // The reader's first: read the other way round, the reader might seem to be ahead.
    let (read, written) = (position(0), position(page));
    // SAFETY: what was mapped above, used by nobody else.
    unsafe { nix::libc::munmap(at, 2 * page) };
    Some(RingUse { waiting_bytes: written.saturating_sub(read).min(size_bytes), size_bytes })
}

/// `union bpf_attr` for BPF_MAP_GET_NEXT_KEY.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct NextKey {
    map: RawFd,
    _pad: u32,
    key: u64,
    next: u64,
}

/// One command of bpf(2); whether it succeeded.
///
/// # Safety
/// What the attributes point at is as long as the command takes it to be.
unsafe fn bpf<T: Pod>(command: nix::libc::c_long, attributes: &T) -> bool {
    // SAFETY: the attributes have the layout of this command; the rest is the caller's.
    let status =
        unsafe { nix::libc::syscall(nix::libc::SYS_bpf, command, (&raw const *attributes), size_of::<T>()) };
    status == 0
}

const BPF_MAP_GET_NEXT_KEY: nix::libc::c_long = 4;
/// Tables of live things, which kernel programs fill and empty.
const COUNTED: &[&str] =
    &["INSTANCES", "SEEDS", "RUNS", "CGROUPS", "TASKS", "ADDRESSES", "QUESTIONS", "RESOLVERS"];
/// Longer than any of their keys.
const KEY_BYTES_MAX: usize = 48;
/// Some ten milliseconds of counting.
const COUNTED_MAX: u64 = 20_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_a_descriptor_is_read() {
        let said = Said("pos:\t0\nmemlock:\t4096\nmap_id:\t7\nrun_cnt:\t12\nrun_time_ns:\tx\n".to_owned());
        assert_eq!((said.number("memlock"), said.number("run_cnt")), (4096, 12));
        assert_eq!((said.number("run_time_ns"), said.number("nothing")), (0, 0));
    }
}
