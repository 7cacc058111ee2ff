//! The same act many times: connects that are refused, forks that exec.

use std::{
    collections::BTreeMap,
    ffi::CString,
    net::SocketAddr,
    num::NonZero,
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    process::ExitCode,
    ptr,
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use clap::Args;
use serde::Serialize;

use crate::act::{
    passed::reap,
    sys::{self, Addr, Refused, errno_name},
};

/// Does the same thing many times and prints how it went.
#[derive(Debug, Args)]
pub struct Storm {
    /// TCP connects, one after the other
    #[arg(long, requires = "to")]
    connects: Option<u64>,
    /// UDP datagrams from one unconnected socket
    #[arg(long, requires = "to")]
    sends: Option<u64>,
    #[arg(long)]
    to: Option<SocketAddr>,
    /// fork + exec + wait, one after the other
    #[arg(long)]
    forks: Option<u64>,
    /// Threads that wait, all ended at once with the process
    #[arg(long)]
    threads: Option<u32>,
    /// Pause after each act
    #[arg(long, default_value_t = 0)]
    pause_ms: u64,
    /// So many acts a second, and no more
    #[arg(long)]
    per_second: Option<NonZero<u32>>,
    /// What --forks executes
    #[arg(long, default_value = "/bin/true")]
    exe: PathBuf,
}

#[derive(Serialize)]
struct Told<'a> {
    storm: &'a str,
    asked: u64,
    passed: u64,
    errnos: BTreeMap<String, u64>,
    ns: u64,
}

impl Storm {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(threads) = self.threads {
            return end_with(threads);
        }
        let pause = Duration::from_millis(self.pause_ms);
        let pace = Pace { pause, each: self.per_second.map(|rate| Duration::from_secs(1) / rate.get()) };
        let tell = |storm, count, act: &dyn Fn() -> Result<(), Refused>| tell(storm, count, pace, act);
        match (self.connects, self.sends, self.forks, self.to) {
            (Some(count), None, None, Some(to)) => tell("connects", count, &|| connect(to)),
            (None, Some(count), None, Some(to)) => {
                let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
                let socket = sys::socket(family, libc::SOCK_DGRAM, 0)
                    .map_err(|refused| anyhow::anyhow!("{refused}"))?;
                let to = Addr::inet(to);
                tell("sends", count, &|| sys::sendto(&socket, b"storm\n", 0, Some(&to)).map(drop))
            }
            (None, None, Some(count), _) => {
                let exe = CString::new(self.exe.as_os_str().as_bytes()).context("--exe")?;
                tell("forks", count, &|| fork(&exe))
            }
            _ => bail!("say one of --connects N --to ADDR, --sends N --to ADDR, --forks N, --threads N"),
        }
    }
}

/// Ends the process while all its threads wait, so that they end side by side.
fn end_with(threads: u32) -> anyhow::Result<ExitCode> {
    let ready = Arc::new(Barrier::new(threads as usize + 1));
    for _ in 0..threads {
        let ready = ready.clone();
        thread::Builder::new().spawn(move || {
            ready.wait();
            loop {
                thread::park();
            }
        })?;
    }
    ready.wait();
    Ok(ExitCode::SUCCESS)
}

/// How fast.
#[derive(Clone, Copy)]
struct Pace {
    pause: Duration,
    each: Option<Duration>,
}

impl Pace {
    fn wait(self, begun: Instant, at: u64) {
        if !self.pause.is_zero() {
            thread::sleep(self.pause);
        }
        if let Some(each) = self.each {
            // A little ahead is let be: a sleep takes longer than it was asked to.
            let ahead = (each * (at + 1) as u32).saturating_sub(begun.elapsed());
            if ahead > AHEAD {
                thread::sleep(ahead);
            }
        }
    }
}

const AHEAD: Duration = Duration::from_millis(4);

fn tell(
    storm: &str,
    asked: u64,
    pace: Pace,
    act: &dyn Fn() -> Result<(), Refused>,
) -> anyhow::Result<ExitCode> {
    let start = sys::now_ns();
    let mut told = Told { storm, asked, passed: 0, errnos: BTreeMap::new(), ns: 0 };
    let begun = Instant::now();
    for at in 0..asked {
        match act() {
            Ok(()) => told.passed += 1,
            Err(refused) => *told.errnos.entry(errno_name(refused.errno)).or_default() += 1,
        }
        pace.wait(begun, at);
    }
    told.ns = sys::now_ns() - start;
    println!("{}", serde_json::to_string(&told)?);
    Ok(ExitCode::SUCCESS)
}

fn connect(to: SocketAddr) -> Result<(), Refused> {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    sys::connect(&sys::socket(family, libc::SOCK_STREAM, 0)?, &Addr::inet(to))
}

pub(super) fn fork(exe: &CString) -> Result<(), Refused> {
    let args = [exe.as_ptr(), ptr::null()];
    // SAFETY: the actor runs one thread here, so the child is a whole copy.
    let child = sys::call("fork", unsafe { libc::fork() })?;
    if child == 0 {
        // SAFETY: the path and the list are null-terminated; the environment is empty.
        unsafe { libc::execve(exe.as_ptr(), args.as_ptr(), [ptr::null()].as_ptr()) };
        // SAFETY: ends the child without running the parent's exit work a second time.
        unsafe { libc::_exit(127) };
    }
    reap(child);
    Ok(())
}
