//! All processes as /proc shows them, secrets masked; the labels come from the kernel side.

use std::{fs, os::unix::fs::MetadataExt};

use crate::{control::api::ProcessView, event::mask::Masks};

/// Every process that lives, by process id. One that ends meanwhile is left out.
pub(super) fn all(masks: &Masks) -> Vec<ProcessView> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut all: Vec<ProcessView> = pids.filter_map(|pid| process(pid, masks)).collect();
    all.sort_by_key(|process| process.pid);
    all
}

fn process(pid: u32, masks: &Masks) -> Option<ProcessView> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let (comm, ppid, flags) = parse_stat(&String::from_utf8_lossy(&stat))?;
    let uid = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let cmdline = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let cut = cmdline.len() > ARGV_BYTES_MAX;
    let kept = cmdline.get(..ARGV_BYTES_MAX).unwrap_or(&cmdline);
    let kept = kept.strip_suffix(&[0]).unwrap_or(kept);
    let mut argv: Vec<Box<str>> = Vec::new();
    if !kept.is_empty() {
        argv.extend(kept.split(|b| *b == 0).map(|arg| String::from_utf8_lossy(arg).into()));
        masks.mask(&mut argv, cut);
    }
    Some(ProcessView { pid, ppid, uid, comm, argv, kernel_thread: flags & PF_KTHREAD != 0, label: None })
}

/// Name, parent and flags. The name may itself hold parentheses and spaces: the last one closes it.
fn parse_stat(stat: &str) -> Option<(String, u32, u32)> {
    let (head, rest) = stat.rsplit_once(") ")?;
    let (_, comm) = head.split_once(" (")?;
    let mut fields = rest.split(' ');
    let ppid = fields.nth(1)?.parse().ok()?;
    let flags = fields.nth(4)?.parse().ok()?;
    Some((comm.to_owned(), ppid, flags))
}

/// `task_struct.flags` of kernel threads.
const PF_KTHREAD: u32 = 0x0020_0000;
/// Of each command line.
const ARGV_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_what_delimits_it() {
        let stat = "7 (a) (b) S 3 7 7 0 -1 4194560 1 2";
        assert_eq!(parse_stat(stat), Some(("a) (b".to_owned(), 3, 4_194_560)));
        assert_eq!(parse_stat("7"), None);
        let own = all(&Masks::default());
        let own = own.iter().find(|p| p.pid == std::process::id()).unwrap();
        assert!(!own.kernel_thread && !own.argv.is_empty());
    }
}
