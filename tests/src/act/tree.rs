//! Random process trees whose every node writes down what it is, for a checker to compare.
//!
//! The truth is carried down by the nodes themselves and never asked of the kernel: a node's root is what its parent
//! told it, and changes only where a node executes a program that was given with `--root`.

use std::{
    ffi::CString,
    fs::OpenOptions,
    io::Write,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    process::ExitCode,
    ptr, thread,
    time::Duration,
};

use anyhow::{Context, bail};
use clap::Args;

use crate::act::sys::{self, Refused};

/// Grows random fork/exec/exit/reparent/setsid trees.
#[derive(Debug, Args)]
pub struct Tree {
    #[arg(long)]
    seed: u64,
    /// Processes in all
    #[arg(long)]
    nodes: u64,
    /// Processes in a tree, on average
    #[arg(long, default_value_t = 20)]
    mean: u64,
    /// Trees that grow at the same time
    #[arg(long, default_value_t = 4)]
    parallel: u64,
    /// One node of so many executes a new image
    #[arg(long, default_value_t = 10)]
    exec_every: u64,
    /// Append one JSON line for each node
    #[arg(long)]
    log: PathBuf,
    /// What the nodes below no --root write as their root
    #[arg(long, default_value = "outside")]
    label: String,
    /// LABEL=PATH: a copy of this program; trees, and now and then a tree within a tree, begin by executing it. Each
    /// such beginning is a root of its own, LABEL#NUMBER
    #[arg(long, value_parser = parse_root)]
    root: Vec<Root>,
}

/// What an executed node is told.
#[derive(Debug, Args)]
pub struct Node {
    #[arg(long)]
    log: RawFd,
    #[arg(long)]
    seed: u64,
    #[arg(long)]
    budget: u64,
    #[arg(long)]
    exec_every: u64,
    #[arg(long)]
    label: String,
    #[arg(long)]
    tree: u64,
    #[arg(long)]
    plain: PathBuf,
    #[arg(long, value_parser = parse_root)]
    root: Vec<Root>,
}

#[derive(Debug, Clone)]
struct Root {
    label: String,
    path: PathBuf,
}

fn parse_root(text: &str) -> Result<Root, String> {
    let (label, path) = text.split_once('=').ok_or("expected LABEL=PATH")?;
    Ok(Root { label: label.to_owned(), path: path.into() })
}

impl Tree {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if self.nodes == 0 || self.mean == 0 {
            bail!("--nodes and --mean begin at 1");
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log).context("open the log")?;
        // SAFETY: no pointers are passed. The copy is without CLOEXEC: executed nodes write to it too.
        let log = sys::own("dup", unsafe { libc::dup(log.as_raw_fd()) })
            .map_err(|refused| anyhow::anyhow!("{refused}"))?;
        let plain = std::env::current_exe().context("find this program")?;
        let start = sys::now_ns();
        let (mut random, mut left, mut trees) = (Random(self.seed), self.nodes, 0);
        while left > 0 {
            let (end, held) = sys::pipe().map_err(|refused| anyhow::anyhow!("{refused}"))?;
            // SAFETY: F_SETFD takes an int. Executed nodes hold it too.
            unsafe { libc::fcntl(held.as_raw_fd(), libc::F_SETFD, 0) };
            for _ in 0..self.parallel.max(1) {
                let budget = (1 + random.below(self.mean * 2 - 1)).min(left);
                if budget == 0 {
                    break;
                }
                left -= budget;
                trees += 1;
                let node = Node {
                    log: log.as_raw_fd(),
                    seed: random.next(),
                    budget,
                    exec_every: self.exec_every.max(1),
                    label: self.label.clone(),
                    tree: trees,
                    plain: plain.clone(),
                    root: self.root.clone(),
                };
                node.bear(&mut random, true);
            }
            drop(held);
            // Zero bytes: the last node of these trees, wherever it hangs, is gone.
            drop(sys::read(&end, &mut [0]));
            wait_all();
        }
        let ns = sys::now_ns() - start;
        println!(
            "{}",
            serde_json::json!({ "seed": self.seed, "nodes": self.nodes, "trees": trees, "ns": ns })
        );
        Ok(ExitCode::SUCCESS)
    }
}

impl Node {
    /// The start of an executed node.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        self.live("exec");
    }

    /// Makes this node as a child of the calling process.
    fn bear(self, random: &mut Random, first: bool) {
        let (how, flags) = match random.below(20) {
            0 => ("clone-parent", sys::CLONE_PARENT),
            1 => ("thread", 0),
            // Cheap, and half of all nodes have no children.
            2..15 if self.budget == 1 && !first => {
                if let Err(refused) = sys::vfork(|| self.live("vfork")) {
                    self.complain(&refused);
                }
                return;
            }
            _ => ("fork", 0),
        };
        let make = move || match sys::clone3(flags, None) {
            Ok(0) => {
                self.begin(how, first);
            }
            Ok(_) => {}
            Err(refused) => self.complain(&refused),
        };
        if how == "thread" {
            // The kernel sees a thread as the parent; the process is the same.
            thread::scope(|scope| drop(scope.spawn(make).join()));
        } else {
            make();
        }
    }

    /// In the new process: becomes another program, or lives on as it is.
    fn begin(mut self, how: &str, first: bool) -> ! {
        let mut random = Random(self.seed);
        // One tree in so many stays outside of all roots; inside of trees a new root is rare.
        let choices =
            if first { self.root.len() as u64 + 1 } else { ROOT_WITHIN_EVERY * self.root.len() as u64 };
        let chosen =
            usize::try_from(random.below(choices)).ok().and_then(|index| self.root.get(index).cloned());
        if let Some(Root { label, path }) = chosen {
            self.label = format!("{label}#{}-{:08x}", self.tree, self.seed >> 32);
            self.execute(&path);
        }
        if random.below(self.exec_every) == 0 {
            let path = self.plain.clone();
            self.execute(&path);
        }
        self.live(how)
    }

    fn execute(&self, path: &Path) -> ! {
        let text = |number: u64| number.to_string();
        let mut words = vec!["chaperone-tests".to_owned(), "act".to_owned(), "node".to_owned()];
        let told = [
            ("--log", self.log.to_string()),
            ("--seed", text(self.seed)),
            ("--budget", text(self.budget)),
            ("--exec-every", text(self.exec_every)),
            ("--label", self.label.clone()),
            ("--tree", text(self.tree)),
            ("--plain", self.plain.to_string_lossy().into_owned()),
        ];
        let roots =
            self.root.iter().map(|root| ("--root", format!("{}={}", root.label, root.path.display())));
        words.extend(told.into_iter().chain(roots).flat_map(|(name, value)| [name.to_owned(), value]));
        let words: Vec<_> = words.into_iter().filter_map(|word| CString::new(word).ok()).collect();
        let words: Vec<_> = words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect();
        let path = CString::new(path.as_os_str().as_bytes()).unwrap_or_default();
        // SAFETY: the path and both lists are null-terminated.
        unsafe { libc::execve(path.as_ptr(), words.as_ptr(), [ptr::null()].as_ptr()) };
        self.complain(&Refused::last("execve"));
        end()
    }

    /// Writes down what this process is, has its children, and ends before or after them.
    fn live(&self, how: &str) -> ! {
        let mut random = Random(self.seed ^ LIFE);
        self.write_down(how);
        match random.below(20) {
            // SAFETY: no pointers are passed.
            0 | 1 => drop(unsafe { libc::setsid() }),
            // SAFETY: the name is a C string.
            2 => drop(unsafe { libc::prctl(libc::PR_SET_NAME, c"bash".as_ptr(), 0, 0, 0) }),
            3 => thread::sleep(Duration::from_millis(random.below(4))),
            _ => {}
        }
        let mut left = self.budget - 1;
        while left > 0 {
            let budget = 1 + random.below(left);
            left -= budget;
            let child = Self {
                seed: random.next(),
                budget,
                label: self.label.clone(),
                plain: self.plain.clone(),
                root: self.root.clone(),
                ..*self
            };
            child.bear(&mut random, false);
        }
        if random.below(3) != 0 {
            wait_all();
        }
        end()
    }

    fn write_down(&self, how: &str) {
        let (pid, parent) = (std::process::id(), std::os::unix::process::parent_id());
        let alive = sys::boot_ns();
        let Self { label, tree, .. } = self;
        self.append(&format!(
            "{{\"pid\":{pid},\"alive\":{alive},\"root\":\"{label}\",\"tree\":{tree},\"how\":\"{how}\",\"ppid\":{parent}}}\n"
        ));
    }

    fn complain(&self, refused: &Refused) {
        self.append(&format!(
            "{{\"failed\":\"{refused}\",\"lost\":{},\"tree\":{}}}\n",
            self.budget, self.tree
        ));
    }

    /// One write each to a file opened for appending: lines of different processes do not mix.
    fn append(&self, line: &str) {
        // SAFETY: the descriptor was inherited for this, and is never closed by us.
        let log = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(self.log) });
        drop(sys::write(&*log, line.as_bytes()));
    }
}

fn end() -> ! {
    drop(std::io::stdout().flush());
    // SAFETY: ends this process alone, without its parent's exit work.
    unsafe { libc::_exit(0) }
}

fn wait_all() {
    // SAFETY: a null status is allowed.
    while unsafe { libc::waitpid(-1, ptr::null_mut(), libc::__WALL) } > 0 {}
}

/// splitmix64: the same trees from the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }
}

const ROOT_WITHIN_EVERY: u64 = 40;
/// Keeps a node's later choices apart from those of its birth.
const LIFE: u64 = 0x6c69_6665;

#[cfg(test)]
mod tests {
    use super::*;
    #[test]
    fn same_seed_same_numbers() {
        let (mut one, mut two) = (Random(7), Random(7));
        assert!((0..100).all(|_| one.next() == two.next()));
        assert!((0..100).all(|_| one.below(3) < 3));
    }
}
