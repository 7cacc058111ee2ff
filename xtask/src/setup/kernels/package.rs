//! Turns a kernel package into what a guest boots: the kernel, its first modules, a disk with the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::files_below;
use crate::step::run;

/// What the guest needs before it has a root; each with what it depends on, and some kernels have it built in.
const BOOT_MODULES: [&str; 3] = ["virtio_pci", "virtio_blk", "virtio_console"];
/// Parts of the module tree that a guest may load from later.
const KEPT: [&str; 14] = [
    "arch",
    "crypto",
    "drivers/block",
    "drivers/char",
    "drivers/net/wireguard",
    "drivers/vhost",
    "drivers/virtio",
    "fs/9p",
    "fs/fuse",
    "fs/netfs",
    "fs/overlayfs",
    "fs/squashfs",
    "lib",
    "net",
];
/// Single modules beside them.
const KEPT_MODULES: [&str; 7] = ["dummy", "veth", "tun", "tap", "macvlan", "vxlan", "ifb"];

pub fn unpack(package: &Path, release: &str, entry: &Path) -> Result<()> {
    let tree = tempfile::tempdir_in(entry).context("make a directory to unpack in")?;
    run(Command::new("dpkg").arg("-x").arg(package).arg(tree.path()))?;
    fs::copy(tree.path().join(format!("boot/vmlinuz-{release}")), entry.join("vmlinuz"))
        .context("take the kernel")?;
    let lib = tree.path().join("lib/modules");
    let modules = lib.join(release);
    prune(&modules.join("kernel"))?;
    unpack_modules(&modules)?;
    run(Command::new("/sbin/depmod").arg("-b").arg(tree.path()).arg(release))?;

    let boot = entry.join("boot");
    fs::create_dir(&boot)?;
    for (order, module) in boot_order(&modules)?.iter().enumerate() {
        let name = module_name(module);
        fs::copy(module, boot.join(format!("{order:02}-{name}.ko")))
            .with_context(|| format!("take {}", module.display()))?;
    }
    let mut mke2fs = Command::new("/sbin/mke2fs");
    mke2fs
        .args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d"])
        .arg(&lib)
        .arg(entry.join("modules.img"));
    run(mke2fs.arg(format!("{}K", disk_kib(&modules)?)))
}

/// Removes the modules that no guest has a use for.
fn prune(kernel: &Path) -> Result<()> {
    for file in files_below(kernel)? {
        let below = file.strip_prefix(kernel).context("a module lies below its tree")?;
        let kept = KEPT.iter().any(|part| below.starts_with(part));
        if !kept && !KEPT_MODULES.contains(&module_name(&file).as_str()) {
            fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
        }
    }
    Ok(())
}

/// Takes compression off: not every guest program that loads modules knows it.
fn unpack_modules(modules: &Path) -> Result<()> {
    let mut packed = files_below(modules)?;
    packed.retain(|file| file.extension().is_some_and(|ending| ending == "xz"));
    if packed.is_empty() {
        return Ok(());
    }
    run(Command::new("xz").arg("--decompress").args(&packed))
}

/// The first modules with their dependencies before them, as depmod found them.
fn boot_order(modules: &Path) -> Result<Vec<PathBuf>> {
    let table = fs::read_to_string(modules.join("modules.dep")).context("read what depmod wrote")?;
    let mut order: Vec<PathBuf> = Vec::new();
    for wanted in BOOT_MODULES {
        let needs = table
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(module, _)| module_name(Path::new(module)) == wanted);
        let Some((module, needs)) = needs else { continue };
        // depmod lists what must come first last
        for file in needs.split_whitespace().rev().chain([module]) {
            let file = modules.join(file);
            if !order.contains(&file) {
                order.push(file);
            }
        }
    }
    Ok(order)
}

/// Size of a file system that holds the tree, with some room for its own structures.
fn disk_kib(tree: &Path) -> Result<u64> {
    let mut bytes = 0;
    for file in files_below(tree)? {
        bytes += fs::metadata(&file)?.len().next_multiple_of(4096);
    }
    Ok(bytes / 1024 * 5 / 4 + 4096)
}

fn module_name(file: &Path) -> String {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    name.split('.').next().unwrap_or_default().replace('-', "_")
}
