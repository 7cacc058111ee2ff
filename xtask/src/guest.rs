//! A guest: one boot of one kernel, one script in it, what came of it.

pub mod accel;
mod disks;
mod initramfs;
mod listen;
mod marks;
mod place;
mod qemu;
pub mod terminal;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cache::Cache;
use crate::product::Product;
use crate::setup::agents;
use crate::setup::image::{self, Image};
use crate::setup::kernels::{self, Kernel};
use crate::setup::packages;
use crate::step::note;

pub use listen::Stream;

/// Room for two real agents at once and for the pages of their programs.
pub const AGENTS_MEMORY_MB: u32 = 2048;

/// What to boot and what to put beside the script. `..Guest::default()` is a small 6.12 guest with BPF LSM.
#[derive(Clone)]
pub struct Guest {
    /// One of `kernels::LINES`.
    pub kernel: String,
    /// Whether BPF may refuse through the LSM.
    pub lsm: bool,
    /// systemd and everything it starts, rather than our small init.
    pub systemd: bool,
    /// One tick per instruction: slow, but durations become instruction counts.
    pub icount: bool,
    /// One host thread emulates all processors in turn. With one for each, QEMU now and then lets a processor run kernel
    /// code as it was before another has changed it, which attaching and detaching programs does: the guest stands still
    /// or ends with `Oops: int3`.
    pub one_thread: bool,
    pub smp: u32,
    pub memory_mb: u32,
    pub timeout: Duration,
    /// Host paths and where they go in the guest.
    pub files: Vec<(PathBuf, String)>,
    /// Guest paths and where they go on the host, once the script is done.
    pub fetch: Vec<(String, PathBuf)>,
    /// After the script, root's shell on the user's terminal.
    pub shell: bool,
    /// Real agents at /opt/agents.
    pub agents: bool,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            kernel: "6.12".into(),
            lsm: true,
            systemd: false,
            icount: false,
            one_thread: false,
            smp: 2,
            memory_mb: 1024,
            timeout: Duration::from_secs(300),
            files: Vec::new(),
            fetch: Vec::new(),
            shell: false,
            agents: false,
        }
    }
}

/// What runs in the guest, as root, in /root.
#[derive(Clone, Default)]
pub struct Script {
    /// Contents of an executable file; none for a bare shell.
    pub program: Option<Vec<u8>>,
    pub arguments: Vec<String>,
}

impl Script {
    /// A command line for bash.
    pub fn line(line: &str) -> Self {
        Self { program: Some(format!("#!/bin/bash\n{line}\n").into_bytes()), arguments: Vec::new() }
    }
}

/// What came of a run. A guest that did not get to its end is a `Failed` error instead.
pub struct Output {
    /// The script's exit status, 128 and the signal if one ended it.
    pub status: i32,
    /// From start to the script's first instruction.
    pub boot: Duration,
    pub total: Duration,
}

/// A guest that never came to the script's end.
#[derive(Debug)]
pub struct Failed {
    pub timed_out: bool,
    pub message: String,
}

impl std::fmt::Display for Failed {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.message)
    }
}

impl std::error::Error for Failed {}

/// What every guest of this machine boots from; bring it once, boot many.
pub struct Host {
    cache: Cache,
    image: Image,
}

impl Host {
    pub fn ready() -> Result<Self> {
        let cache = Cache::open()?;
        packages::require(&[packages::QEMU])?;
        let image = image::ensure(&cache)?;
        Ok(Self { cache, image })
    }

    pub fn kernel(&self, name: &str) -> Result<Kernel> {
        kernels::ensure(&self.cache, name)
    }
}

impl Guest {
    /// Boots, runs the script and hands over its output as it comes.
    pub fn run(
        &self,
        host: &Host,
        product: Option<&Product>,
        script: &Script,
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Output> {
        let start = Instant::now();
        let kernel = host.kernel(&self.kernel)?;
        let accel = accel::choose(&host.cache, &kernel, &host.image)?;
        let agents = self.agents.then(|| agents::ensure(&host.cache)).transpose()?;
        let place = place::make()?;
        let word = format!("{:x}-{}", std::process::id(), start_nanos());

        initramfs::write(&kernel, &host.image, &place.path().join("initramfs"))?;
        disks::write_input(self, product, script, &word, &place.path().join("input"))?;
        disks::make_output(self, &place.path().join("output"))?;
        let listener = listen::Listener::bind(place.path())?;
        let _terminal = terminal::Saved::of(self.shell);
        let mut machine = qemu::start(self, &kernel, &host.image, agents.as_deref(), accel, place.path())?;
        let heard = listener.listen(&mut machine, &word, (!self.shell).then_some(self.timeout), sink)?;
        drop(machine);
        let fetched = disks::unpack_output(self, &place.path().join("output"));
        match fetched {
            // A script that failed has said why; what it did not leave behind is no news.
            Err(error) if heard.status != 0 => note(&format!("{error:#}")),
            fetched => fetched?,
        }
        Ok(Output { status: heard.status, boot: heard.boot, total: start.elapsed() })
    }

    /// One line that names the guest: kernel and mode.
    pub fn title(&self) -> String {
        let mode = if self.lsm { "lsm" } else { "cgroup" };
        let systemd = if self.systemd { ", systemd" } else { "" };
        format!("{} {mode}{systemd}", self.kernel)
    }
}

/// Tells this run's marks from any other's.
fn start_nanos() -> u32 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos())
}
