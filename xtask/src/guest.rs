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
use crate::setup::kernels::{self, Kernel, NEWEST};
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
    /// A disk that outlives the guest, as the last one. What the guest has written to it stays; what its page cache holds
    /// goes with the machine.
    pub disk: Option<PathBuf>,
    /// When the machine loses its power; else the script comes to its end.
    pub cut: Option<Cut>,
}

/// A power cut: so long after the script wrote a line that begins with a word, or after the machine was started.
#[derive(Clone, Copy, Debug)]
pub struct Cut {
    pub word: Option<&'static str>,
    pub after: Duration,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            kernel: NEWEST.into(),
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
            disk: None,
            cut: None,
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
    /// The power was cut before the script's end: there is no status.
    pub cut: bool,
}

/// A guest that never came to the script's end.
#[derive(Debug)]
pub struct Failed {
    pub timed_out: bool,
    /// Whether the script had begun: if not, nothing that it tests has failed.
    pub begun: bool,
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
    accel: accel::Accel,
}

impl Host {
    pub fn ready() -> Result<Self> {
        let cache = Cache::open()?;
        packages::require(&[packages::QEMU])?;
        let image = image::ensure(&cache)?;
        // Tried here, before guests boot side by side.
        let accel = accel::choose(&cache, &kernels::ensure(&cache, NEWEST)?, &image)?;
        Ok(Self { cache, image, accel })
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
        match self.boot(host, product, script, sink) {
            // An emulated kernel now and then dies while it patches itself (`Oops: int3`): nothing of ours had run.
            Err(error)
                if error
                    .downcast_ref::<Failed>()
                    .is_some_and(|failed| !failed.begun && !failed.timed_out) =>
            {
                let first = format!("{error:#}");
                let what = first.lines().take(2).collect::<Vec<_>>().join(" ");
                note(&format!("{}: booting it again: {what}", self.title()));
                self.boot(host, product, script, sink)
            }
            output => output,
        }
    }

    fn boot(
        &self,
        host: &Host,
        product: Option<&Product>,
        script: &Script,
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<Output> {
        let start = Instant::now();
        let kernel = host.kernel(&self.kernel)?;
        let agents = self.agents.then(|| agents::ensure(&host.cache)).transpose()?;
        let place = place::make()?;
        let word = format!("{:x}-{}", std::process::id(), start_nanos());

        initramfs::write(&kernel, &host.image, &place.path().join("initramfs"))?;
        disks::write_input(self, product, script, &word, &place.path().join("input"))?;
        disks::make_output(self, &place.path().join("output"))?;
        let listener = listen::Listener::bind(place.path())?;
        let _terminal = terminal::Saved::of(self.shell);
        let mut machine =
            qemu::start(self, &kernel, &host.image, agents.as_deref(), host.accel, place.path())?;
        let heard =
            listener.listen(&mut machine, &word, (!self.shell).then_some(self.timeout), self.cut, sink)?;
        // Killed: to the guest a power cut, if it was not at its end.
        drop(machine);
        if heard.cut {
            return Ok(Output { status: 0, boot: heard.boot, total: start.elapsed(), cut: true });
        }
        let fetched = disks::unpack_output(self, &place.path().join("output"));
        match fetched {
            // A script that failed has said why; what it did not leave behind is no news.
            Err(error) if heard.status != 0 => note(&format!("{error:#}")),
            fetched => fetched?,
        }
        Ok(Output { status: heard.status, boot: heard.boot, total: start.elapsed(), cut: false })
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
