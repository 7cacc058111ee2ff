//! One operation many times, measured by who performs it: where the clock ticks once per instruction, in instructions.

use std::{
    ffi::{CStr, CString},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
    process::ExitCode,
    ptr, thread,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::act::{
    storm,
    sys::{self, Addr, Refused},
};

/// Performs an operation many times and prints what each took.
#[derive(Debug, Args)]
pub struct Cost {
    op: Op,
    /// How often, for one measurement
    #[arg(long, default_value_t = 1000)]
    times: u64,
    /// How many measurements
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// A process (the daemon) whose processor time until it is idle again is measured too
    #[arg(long)]
    beside: Option<u32>,
}

/// What is performed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// fork, exec of a dynamic program, exit, wait
    Exec,
    /// socket, connect, accept and close of both ends, TCP on loopback
    Connect,
    /// the same, with a ClientHello of 517 bytes sent and read between
    Hello,
    /// 32 KiB over a TCP connection on loopback that stands
    Bulk,
    /// 1 MiB over such a connection, in writes of 128 KiB and as fast as the window lets them go
    Stream,
    /// open, read, close of a small file
    Open,
    /// the cheapest system call
    Getpid,
}

/// One measurement.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Round {
    pub times: u64,
    /// From the first operation to the end of the last, with all that ran meanwhile.
    pub ns: u64,
    /// Processor time of the process beside: until then, and after that until it was idle.
    pub beside_ns: u64,
    pub deferred_ns: u64,
}

impl Cost {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let act = self.op.prepare()?;
        many(self.times / 8 + 1, &act)?;
        let mut rounds = Vec::new();
        for _ in 0..self.rounds {
            let before = self.settled();
            let start = sys::now_ns();
            many(self.times, &act)?;
            let (ns, then) = (sys::now_ns() - start, self.beside());
            let after = self.settled();
            let (beside_ns, deferred_ns) = (then.saturating_sub(before), after.saturating_sub(then));
            rounds.push(Round { times: self.times, ns, beside_ns, deferred_ns });
        }
        println!("{}", serde_json::to_string(&rounds)?);
        Ok(ExitCode::SUCCESS)
    }

    /// Processor time of the process beside, once it does not grow any more.
    fn settled(&self) -> u64 {
        if self.beside.is_none() {
            return 0;
        }
        let mut before = u64::MAX;
        for _ in 0..SETTLE_ROUNDS_MAX {
            let now = self.beside();
            if before.abs_diff(now) < IDLE_NS {
                return now;
            }
            before = now;
            thread::sleep(SETTLE);
        }
        before
    }

    fn beside(&self) -> u64 {
        self.beside.map_or(0, processor_ns)
    }
}

/// Processor time of all threads of a process, to the nanosecond.
#[must_use]
pub fn processor_ns(pid: u32) -> u64 {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return 0 };
    let of = |thread: PathBuf| -> Option<u64> {
        std::fs::read_to_string(thread.join("schedstat")).ok()?.split(' ').next()?.parse().ok()
    };
    threads.flatten().filter_map(|thread| of(thread.path())).sum()
}

fn many(times: u64, act: &dyn Fn() -> Result<(), Refused>) -> anyhow::Result<()> {
    for _ in 0..times {
        act().map_err(|refused| anyhow::anyhow!("{refused}"))?;
    }
    Ok(())
}

type Act = Box<dyn Fn() -> Result<(), Refused>>;

impl Op {
    fn prepare(self) -> anyhow::Result<Act> {
        Ok(match self {
            Self::Exec => {
                let exe = CString::new(DYNAMIC)?;
                Box::new(move || storm::fork(&exe))
            }
            Self::Connect | Self::Hello => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
                // Inherited by what is accepted, which then leaves nothing in TIME_WAIT that later ones have to pass.
                let linger = [1_i32.to_ne_bytes(), 0_i32.to_ne_bytes()].concat();
                sys::setsockopt(&listener, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
                    .map_err(|refused| anyhow::anyhow!("{refused}"))?;
                let to = listener.local_addr()?;
                let words = if self == Self::Hello { hello() } else { Vec::new() };
                Box::new(move || connect(&listener, to, &words))
            }
            Self::Bulk | Self::Stream => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen")?;
                let ours = TcpStream::connect(listener.local_addr()?).context("connect")?;
                let (theirs, _) = listener.accept().context("accept")?;
                let (ours, theirs) = (OwnedFd::from(ours), OwnedFd::from(theirs));
                if self == Self::Bulk {
                    let bytes = vec![b'x'; BULK_BYTES];
                    Box::new(move || pass(&ours, &theirs, &bytes))
                } else {
                    for end in [&ours, &theirs] {
                        nix::fcntl::fcntl(end, nix::fcntl::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))?;
                    }
                    let bytes = vec![b'x'; WRITE_BYTES];
                    Box::new(move || stream(&ours, &theirs, &bytes))
                }
            }
            Self::Open => {
                std::fs::write("/tmp/chaperone-cost", [b'x'; 64]).context("write the small file")?;
                Box::new(|| open(c"/tmp/chaperone-cost"))
            }
            Self::Getpid => Box::new(getpid),
        })
    }
}

/// One that names a host which the benchmark's role may know, and is padded to the length that browsers' have.
fn hello() -> Vec<u8> {
    let name = b"n0.r0.scale.test";
    let bytes = |number: usize| (number as u16).to_be_bytes();
    let named = [&bytes(name.len() + 3)[..], &[0], &bytes(name.len()), name].concat();
    let head = [&[3, 3][..], &[7; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    let padding = HELLO_BYTES - 9 - head.len() - 2 - 4 - named.len() - 4;
    let padded = vec![0; padding];
    let extensions = [&[0, 0][..], &bytes(named.len()), &named, &[0, 21], &bytes(padding), &padded].concat();
    let body = [&head[..], &bytes(extensions.len()), &extensions].concat();
    [&[0x16, 3, 1][..], &bytes(body.len() + 4), &[1, 0], &bytes(body.len()), &body].concat()
}

/// All bytes from one end to the other.
fn pass(ours: &OwnedFd, theirs: &OwnedFd, bytes: &[u8]) -> Result<(), Refused> {
    sys::write(ours, bytes)?;
    let (mut buffer, mut left) = ([0; BULK_BYTES], bytes.len());
    while left > 0 {
        left -= sys::read(theirs, &mut buffer)?;
    }
    Ok(())
}

/// So many bytes that what begins a connection does not count: written while there is room, read while there are any.
fn stream(ours: &OwnedFd, theirs: &OwnedFd, bytes: &[u8]) -> Result<(), Refused> {
    let soon = |done: Result<usize, Refused>| match done {
        Err(refused) if refused.errno == libc::EAGAIN => Ok(0),
        done => done,
    };
    let (mut buffer, mut written, mut read) = (vec![0; WRITE_BYTES], 0, 0);
    while read < STREAM_BYTES {
        let next = bytes.len().min(STREAM_BYTES - written);
        if next > 0 {
            written += soon(sys::write(ours, &bytes[..next]).map(|sent| sent.bytes))?;
        }
        read += soon(sys::read(theirs, &mut buffer))?;
    }
    Ok(())
}

fn connect(listener: &TcpListener, to: SocketAddr, words: &[u8]) -> Result<(), Refused> {
    let ours = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0)?;
    sys::connect(&ours, &Addr::inet(to))?;
    // SAFETY: nobody asks for the address.
    let theirs: OwnedFd =
        sys::own("accept", unsafe { libc::accept(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut()) })?;
    if !words.is_empty() {
        pass(&ours, &theirs, words)?;
    }
    drop(theirs);
    drop(ours);
    Ok(())
}

fn open(path: &CStr) -> Result<(), Refused> {
    let file = sys::open(path, libc::O_RDONLY)?;
    sys::read(&file, &mut [0; 64]).map(drop)
}

fn getpid() -> Result<(), Refused> {
    // SAFETY: takes nothing.
    sys::call("getpid", unsafe { libc::syscall(libc::SYS_getpid) }).map(drop)
}

const HELLO_BYTES: usize = 517;
/// One segment, and less than the window.
const BULK_BYTES: usize = 32 << 10;
const STREAM_BYTES: usize = 1 << 20;
/// As the usual programs that measure throughput have it.
const WRITE_BYTES: usize = 128 << 10;
/// Small, and with a loader and a library to map.
const DYNAMIC: &str = "/bin/true";
const SETTLE: Duration = Duration::from_millis(60);
const SETTLE_ROUNDS_MAX: u32 = 200;
/// Less than this within [`SETTLE`] is its clock, not work that was put off.
const IDLE_NS: u64 = 2_000;
