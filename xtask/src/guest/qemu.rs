//! The machine below a guest: QEMU, its devices, its kernel console.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context as _, Result};

use super::accel::Accel;
use super::listen::STREAMS;
use super::{Failed, Guest};
use crate::setup::image::Image;
use crate::setup::kernels::Kernel;
use crate::step;

/// A running machine; dropping it ends it.
pub struct Machine {
    child: Child,
    console: PathBuf,
    complaints: PathBuf,
}

pub fn start(
    guest: &Guest,
    kernel: &Kernel,
    image: &Image,
    agents: Option<&Path>,
    accel: Accel,
    place: &Path,
) -> Result<Machine> {
    let console = place.join("console");
    let mut qemu = base(accel, guest.icount, guest.one_thread, guest.smp, guest.memory_mb);
    qemu.arg("-kernel").arg(&kernel.vmlinuz).arg("-initrd").arg(place.join("initramfs"));
    let lsm = if guest.lsm { "capability,landlock,lockdown,bpf" } else { "capability,landlock,lockdown" };
    qemu.args(["-append", &format!("console=ttyS0 quiet panic=-1 mitigations=off lsm={lsm}")]);
    qemu.arg("-serial").arg(format!("file:{}", console.display()));
    if guest.shell {
        qemu.args(["-chardev", "stdio,id=terminal,signal=off", "-serial", "chardev:terminal"]);
    }
    disk(&mut qemu, &image.root, "snapshot=on,cache=unsafe");
    disk(&mut qemu, &kernel.modules, "readonly=on");
    disk(&mut qemu, &place.join("input"), "readonly=on");
    if !guest.fetch.is_empty() {
        disk(&mut qemu, &place.join("output"), "cache=unsafe");
    }
    if let Some(agents) = agents {
        disk(&mut qemu, agents, "readonly=on");
    }
    if let Some(lasting) = &guest.disk {
        disk(&mut qemu, lasting, "cache=writeback");
    }
    qemu.args(["-device", "virtio-serial-pci"]);
    for (index, stream) in STREAMS.into_iter().enumerate() {
        let name = stream.socket();
        qemu.arg("-chardev").arg(format!("socket,id={name},path={}", place.join(name).display()));
        qemu.arg("-device").arg(format!("virtserialport,chardev={name},nr={}", index + 1));
    }
    let complaints = place.join("qemu");
    let stdin = if guest.shell { Stdio::inherit() } else { Stdio::null() };
    let stdout = if guest.shell { Stdio::inherit() } else { Stdio::null() };
    qemu.stdin(stdin).stdout(stdout).stderr(File::create(&complaints)?);
    let child = qemu.spawn().context("cannot start qemu-system-x86_64: run `cargo xtask setup`")?;
    Ok(Machine { child, console, complaints })
}

/// The parts of the command line that no guest varies. setpriv ends the machine with us, however we end.
pub fn base(accel: Accel, icount: bool, one_thread: bool, smp: u32, memory_mb: u32) -> Command {
    let mut qemu = Command::new("setpriv");
    qemu.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
    qemu.args([
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-machine",
        "q35",
        "-cpu",
        "max",
    ]);
    match accel {
        _ if icount => qemu.args(["-accel", "tcg", "-icount", "shift=0,sleep=off"]),
        Accel::Kvm => qemu.args(["-accel", "kvm"]),
        Accel::Tcg if one_thread => qemu.args(["-accel", "tcg,thread=single"]),
        Accel::Tcg => qemu.args(["-accel", "tcg,thread=multi"]),
    };
    // Instruction counts add up on one processor only.
    let smp = if icount { 1 } else { smp };
    qemu.args(["-smp", &smp.to_string(), "-m", &memory_mb.to_string()]);
    qemu
}

fn disk(qemu: &mut Command, file: &Path, options: &str) {
    qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,{options}", file.display()));
}

impl Machine {
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("look after qemu")
    }

    /// An error with the last words of the guest's kernel and of qemu.
    pub fn failed(&mut self, timed_out: bool, begun: bool, what: &str) -> Failed {
        let last = |path: &Path| {
            let bytes = fs::read(path).unwrap_or_default();
            step::tail(String::from_utf8_lossy(&bytes).replace('\r', "").trim())
        };
        let (console, complaints) = (last(&self.console), last(&self.complaints));
        let message = if console.is_empty() && complaints.is_empty() {
            format!("{what}; its kernel said nothing")
        } else {
            format!("{what}; the last of its console:\n{console}{complaints}")
        };
        Failed { timed_out, begun, message }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Nothing in a guest outlives its run; both fail only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
