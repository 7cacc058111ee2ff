//! How large events are: on the ring buffer, and as lines of the event file.

use std::{collections::BTreeMap, fs, os::fd::AsRawFd as _, ptr};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::machine::Machine;
use crate::act::{cost::Op, sys};

/// Bytes of an operation's events, by operation.
#[derive(Default)]
pub struct Sizes {
    by_op: BTreeMap<String, Value>,
}

/// Where ring buffer and file stood.
pub struct Marks {
    ring: u64,
    lines: usize,
    file: u64,
}

impl Sizes {
    pub fn before(&self, machine: &mut Machine) -> Result<Marks> {
        machine.settle();
        let daemon = machine.daemon()?;
        daemon.read()?;
        let file = fs::metadata(daemon.directory.join("events.ndjson"))?.len();
        Ok(Marks { ring: produced(daemon.pid())?, lines: daemon.seen.len(), file })
    }

    /// Notes what came since.
    pub fn after(&mut self, machine: &mut Machine, op: Op, before: Marks) -> Result<()> {
        let after = self.before(machine)?;
        let lines = (after.lines - before.lines) as u64;
        if lines > LINES_MIN {
            let name = serde_json::to_value(op)?.as_str().unwrap_or_default().to_owned();
            let of = json!({
                "ring": (after.ring - before.ring) / lines,
                "json": (after.file - before.file) / lines,
            });
            self.by_op.insert(name, of);
        }
        Ok(())
    }

    pub fn json(self) -> Value {
        json!(self.by_op)
    }
}

/// Bytes that were ever handed to a process's ring buffer.
fn produced(pid: u32) -> Result<u64> {
    let ring = fs::read_dir(format!("/proc/{pid}/fdinfo"))?
        .flatten()
        .find(|entry| {
            fs::read_to_string(entry.path())
                .is_ok_and(|text| text.lines().any(|line| line.split_whitespace().eq(["map_type:", RINGBUF])))
        })
        .context("the daemon holds no ring buffer")?;
    let number: i32 = ring.file_name().to_string_lossy().parse()?;
    let refused = |refused| anyhow::anyhow!("{refused}");
    // SAFETY: takes numbers.
    let process =
        sys::own("pidfd_open", unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) }).map_err(refused)?;
    // SAFETY: takes numbers.
    let copy = sys::own("pidfd_getfd", unsafe {
        libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), number, 0)
    })
    .map_err(refused)?;
    // SAFETY: one page to read, which nothing else has; the producer's position is on the second one.
    let page = unsafe {
        libc::mmap(ptr::null_mut(), PAGE, libc::PROT_READ, libc::MAP_SHARED, copy.as_raw_fd(), PAGE as i64)
    };
    ensure!(page != libc::MAP_FAILED, "the ring buffer cannot be looked at");
    // SAFETY: mapped above and aligned to a page; the kernel changes it while it is read.
    let position = unsafe { ptr::read_volatile(page.cast::<u64>()) };
    // SAFETY: mapped above, and nothing points into it any more.
    unsafe { libc::munmap(page, PAGE) };
    Ok(position)
}

/// BPF_MAP_TYPE_RINGBUF.
const RINGBUF: &str = "27";
const PAGE: usize = 4096;
/// Fewer lines than this are what the actor's own start told.
const LINES_MIN: u64 = 100;
