//! Brings Debian packages, where this is a Debian and we may.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::step::{note, run, step};

/// A package, known to be there by one of its files.
pub struct Package {
    name: &'static str,
    proof: &'static str,
}

pub const QEMU: Package = Package { name: "qemu-system-x86", proof: "/usr/bin/qemu-system-x86_64" };
pub const MMDEBSTRAP: Package = Package { name: "mmdebstrap", proof: "/usr/bin/mmdebstrap" };
/// Lets somebody who is not root make files that belong to others, within a user namespace.
pub const UIDMAP: Package = Package { name: "uidmap", proof: "/usr/bin/newuidmap" };
pub const E2FSPROGS: Package = Package { name: "e2fsprogs", proof: "/sbin/mke2fs" };
pub const KMOD: Package = Package { name: "kmod", proof: "/sbin/depmod" };
pub const XZ: Package = Package { name: "xz-utils", proof: "/usr/bin/xz" };
pub const NPM: Package = Package { name: "npm", proof: "/usr/bin/npm" };
/// Known by dpkg's own list: its files lie where the version of Python says.
pub const PYTHON_VENV: Package =
    Package { name: "python3-venv", proof: "/var/lib/dpkg/info/python3-venv.list" };
pub const LLVM: Package = Package { name: "llvm-22-dev", proof: "/usr/lib/llvm-22/include/llvm-c/Core.h" };
pub const POLLY: Package = Package { name: "libpolly-22-dev", proof: "/usr/lib/llvm-22/lib/libPolly.a" };

/// Installs those of the packages that are missing, or says how to.
pub fn require(packages: &[Package]) -> Result<()> {
    let missing: Vec<&str> = packages
        .iter()
        .filter(|package| !Path::new(package.proof).exists())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("missing: what Debian calls {names}; install it with this system's package manager");
    }
    if !nix::unistd::geteuid().is_root() {
        bail!("missing: {names}; run `sudo apt-get install -y --no-install-recommends {names}`");
    }
    step(&format!("installing {names}"), || {
        let install = || {
            let mut apt = Command::new("apt-get");
            apt.args(["install", "-y", "--no-install-recommends"])
                .args(&missing)
                .env("DEBIAN_FRONTEND", "noninteractive");
            run(&mut apt)
        };
        // The lists of a fresh machine may be old or absent; ask for new ones only then.
        install().or_else(|_| update().and_then(|()| install()))
    })
}

/// Fetches the package lists anew.
pub fn update() -> Result<()> {
    note("fetching the package lists");
    run(Command::new("apt-get").arg("update"))
}
