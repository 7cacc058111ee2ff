//! The agents that try: two that run all the time, and a stream of new ones.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};

use crate::act::hammer::{BATCH, REFUSED, TARGET};

/// What the agents are known by: a copy of this program.
pub const PROGRAM: &str = "/opt/chaperone-gaps";
const RUNNING: usize = 2;

/// Counts so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Attempts {
    pub running: u64,
    pub started: u64,
    pub passed: u64,
}

#[derive(Debug, Default)]
struct Counts {
    running: AtomicU64,
    started: AtomicU64,
    passed: AtomicU64,
    end: AtomicBool,
}

/// Agents at work; dropping it ends them.
pub struct Agents {
    counts: Arc<Counts>,
    children: Vec<Child>,
    threads: Vec<JoinHandle<()>>,
}

impl Agents {
    /// Puts the program in place and something to connect to.
    pub fn set() -> Result<Self> {
        fs::create_dir_all("/opt")?;
        drop(fs::remove_file(PROGRAM));
        fs::copy(std::env::current_exe()?, PROGRAM).context("copy this program")?;
        let listener = TcpListener::bind(TARGET).with_context(|| format!("listen on {TARGET}"))?;
        let counts = Arc::new(Counts::default());
        let seen = Arc::clone(&counts);
        // What arrives counts too: errno is only what the agent was told.
        let accept = thread::spawn(move || {
            for _connection in listener.incoming() {
                if seen.end.load(Relaxed) {
                    return;
                }
                seen.passed.fetch_add(1, Relaxed);
            }
        });
        // The first connect of a boot patches the kernel's code (net_get_random_once), which an emulator with several
        // processors does not bear while others run through it.
        TcpStream::connect(TARGET).context("connect before there are agents")?;
        Ok(Self { counts, children: Vec::new(), threads: vec![accept] })
    }

    /// Lets them begin; call when the daemon enforces.
    pub fn start(&mut self) -> Result<()> {
        for _ in 0..RUNNING {
            let mut child = Command::new(PROGRAM)
                .args(["act", "hammer"])
                .stdout(Stdio::piped())
                .spawn()
                .context("start an agent")?;
            let output = child.stdout.take().context("its output is piped")?;
            self.children.push(child);
            let counts = Arc::clone(&self.counts);
            self.threads.push(thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    counts.running.fetch_add(BATCH, Relaxed);
                    counts.passed.fetch_add(line.trim().parse().unwrap_or(BATCH), Relaxed);
                }
            }));
        }
        let counts = Arc::clone(&self.counts);
        self.threads.push(thread::spawn(move || {
            while !counts.end.load(Relaxed) {
                let passed = connects().unwrap_or(true);
                counts.started.fetch_add(1, Relaxed);
                counts.passed.fetch_add(u64::from(passed), Relaxed);
            }
        }));
        Ok(())
    }

    pub fn attempts(&self) -> Attempts {
        let Counts { running, started, passed, end: _ } = &*self.counts;
        Attempts {
            running: running.load(Relaxed),
            started: started.load(Relaxed),
            passed: passed.load(Relaxed),
        }
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        self.counts.end.store(true, Relaxed);
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
        drop(TcpStream::connect(TARGET));
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
        drop(fs::remove_file(Path::new(PROGRAM)));
    }
}

/// Starts an agent that connects once; whether it was anything but refused.
pub fn connects() -> Result<bool> {
    let status =
        Command::new(PROGRAM).args(["act", "hammer", "--once"]).status().context("start an agent")?;
    Ok(status.code() != Some(i32::from(REFUSED)))
}
