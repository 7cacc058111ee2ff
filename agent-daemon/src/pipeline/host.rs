//! Plain facts of the host: its names, clocks, addresses, cgroups and running programs, from /proc and /sys.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use nix::time::{ClockId, clock_gettime};

use super::Host;
use crate::event::Name;

/// Name and boot of this host.
#[must_use]
pub fn identify() -> Host {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Host { name: Name::from(name.unwrap_or_default()), boot_id: Name::from(boot_id.trim()) }
}

/// What has to be added to CLOCK_BOOTTIME to get the time of day; read anew so that a set clock is followed.
#[must_use]
pub fn boot_offset_ns() -> u64 {
    let now = |clock| {
        let time = clock_gettime(clock).map(|t| (t.tv_sec(), t.tv_nsec())).unwrap_or_default();
        u64::try_from(time.0).unwrap_or_default() * 1_000_000_000 + u64::try_from(time.1).unwrap_or_default()
    };
    let mut best = (u64::MAX, 0);
    for _ in 0..CLOCK_READS_MAX {
        let before = now(ClockId::CLOCK_BOOTTIME);
        let wall = now(ClockId::CLOCK_REALTIME);
        let took = now(ClockId::CLOCK_BOOTTIME).saturating_sub(before);
        best = best.min((took, wall.saturating_sub(before + took / 2)));
        if took < UNDISTURBED_NS {
            break;
        }
    }
    best.1
}

/// Between two looks at the clocks this daemon may have to wait for a processor; then it looks again.
const UNDISTURBED_NS: u64 = 100_000;
const CLOCK_READS_MAX: u32 = 5;

/// The running kernel's release.
#[must_use]
pub fn kernel_release() -> String {
    fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Addresses of this host's interfaces.
#[must_use]
pub fn addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .take(ADDRESSES_MAX)
        .collect()
}

/// Where the unified cgroup hierarchy is mounted.
#[must_use]
pub fn cgroup_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// Tells id (the directory's inode number) and path of every cgroup.
pub fn walk_cgroups(tell: &mut dyn FnMut(u64, &str)) {
    let Some(root) = cgroup_root() else { return };
    if let Ok(meta) = fs::metadata(&root) {
        tell(meta.ino(), "/");
    }
    walk(&root, "", tell);
}

fn walk(dir: &Path, below: &str, tell: &mut dyn FnMut(u64, &str)) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir())) {
        let name = entry.file_name();
        let path = format!("{below}/{}", name.to_string_lossy());
        if let Ok(meta) = entry.metadata() {
            tell(meta.ino(), &path);
        }
        // The hierarchy is at most as deep as the kernel allows (cgroup.max.depth); paths bound the recursion.
        if path.len() < PATH_BYTES_MAX {
            walk(&entry.path(), &path, tell);
        }
    }
}

/// Process ids of everything that runs.
#[must_use]
pub fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The executable of a running process.
#[must_use]
pub fn exe(pid: u32) -> Option<String> {
    fs::read_link(format!("/proc/{pid}/exe")).ok().map(|path| path.to_string_lossy().into_owned())
}

/// The real user of a running process.
#[must_use]
pub fn uid(pid: u32) -> Option<u32> {
    fs::metadata(format!("/proc/{pid}")).ok().map(|meta| meta.uid())
}

/// Resident memory of this process.
#[must_use]
pub fn resident_bytes() -> u64 {
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let pages: Option<u64> = pages.and_then(|text| text.split(' ').nth(1)?.parse().ok());
    pages.unwrap_or_default() * 4096
}

/// Gives the system back what the allocator keeps: a configuration takes ten times its room while it is read.
pub fn give_back_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes a number, and moves nothing that is in use.
    unsafe {
        nix::libc::malloc_trim(0)
    };
}

const ADDRESSES_MAX: usize = 4096;
const PATH_BYTES_MAX: usize = 4096;
