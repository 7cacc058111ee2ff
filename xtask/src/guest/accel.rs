//! Chooses how guests run: KVM where a kernel really boots under it, else emulation.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{initramfs, qemu};
use crate::cache::Cache;
use crate::setup::image::Image;
use crate::setup::kernels::Kernel;
use crate::step;

/// A guest under a KVM that works has spoken long before.
const SILENCE_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    Kvm,
    Tcg,
}

/// What works on this machine, tried once and remembered.
pub fn choose(cache: &Cache, kernel: &Kernel, image: &Image) -> Result<Accel> {
    if fs::OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() {
        return Ok(Accel::Tcg);
    }
    let machine = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let remembered = cache.path(&format!("accel-{}", machine.trim()));
    match fs::read_to_string(&remembered).as_deref() {
        Ok("kvm") => return Ok(Accel::Kvm),
        Ok("tcg") => return Ok(Accel::Tcg),
        _ => {}
    }
    let (accel, name) = if boots(kernel, image)? { (Accel::Kvm, "kvm") } else { (Accel::Tcg, "tcg") };
    step::note(&format!(
        "tried whether guests run under KVM here: {}",
        if accel == Accel::Kvm { "yes" } else { "no, emulating" }
    ));
    fs::write(&remembered, name).with_context(|| format!("write {}", remembered.display()))?;
    Ok(accel)
}

/// Whether the kernel gets as far as its first program.
fn boots(kernel: &Kernel, image: &Image) -> Result<bool> {
    let place = tempfile::tempdir().context("make a directory for the trial")?;
    let initramfs = place.path().join("initramfs");
    initramfs::write(kernel, image, &initramfs)?;
    let mut machine = qemu::base(Accel::Kvm, false, false, 1, 512);
    machine.arg("-kernel").arg(&kernel.vmlinuz).arg("-initrd").arg(&initramfs);
    machine.args(["-append", "console=ttyS0 quiet panic=-1 guest.probe", "-serial", "stdio"]);
    machine.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = machine.spawn().context("cannot start qemu-system-x86_64: run `cargo xtask setup`")?;
    let console = child.stdout.take().context("qemu's console is piped")?;
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let spoke =
            BufReader::new(console).lines().map_while(Result::ok).any(|line| line.contains("guest: here"));
        // Nobody listens any more if it took too long.
        let _ = sender.send(spoke);
    });
    let spoke = receiver.recv_timeout(SILENCE_MAX).unwrap_or(false);
    let _ = child.kill();
    let _ = child.wait();
    Ok(spoke)
}
