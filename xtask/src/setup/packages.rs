//! Brings Debian packages, where this is a Debian and we may.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cache::files_below;
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

pub const PYTHON: &str = "/usr/bin/python3";

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

/// Downloads a package into a directory without installing it; apt checks it against the archive's signature.
pub fn download(package: &str, into: &Path) -> Result<()> {
    let download = || run(Command::new("apt-get").args(["download", package]).current_dir(into));
    match download() {
        Err(_) if nix::unistd::geteuid().is_root() && !lists_are_fresh() => {
            update().and_then(|()| download())
        }
        done => done.context("is this a Debian 12, or newer, with its security archive enabled?"),
    }
}

/// Downloads a package and unpacks it below a directory as below `/`: nothing is installed, and no service starts.
pub fn unpack(package: &str, into: &Path) -> Result<()> {
    let downloads = tempfile::tempdir().context("make a directory for the download")?;
    download(package, downloads.path())?;
    let archive = files_below(downloads.path())?.pop().context("nothing was downloaded")?;
    run(Command::new("dpkg").arg("-x").args([archive.as_path(), into]))
}

/// A virtual environment, for its pip; gone when dropped.
pub fn venv() -> Result<tempfile::TempDir> {
    let venv = tempfile::tempdir().context("make a directory for pip")?;
    let make = || run(Command::new(PYTHON).args(["-m", "venv"]).arg(venv.path()));
    if make().is_err() {
        require(&[PYTHON_VENV])?;
        make()?;
    }
    Ok(venv)
}

/// Its `pip install` of what a list names and checks by hash, and of nothing else.
pub fn pip_install(venv: &Path) -> Command {
    let mut pip = Command::new(venv.join("bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--no-compile",
    ]);
    pip.args(["--no-deps", "--require-hashes", "--only-binary=:all:"]);
    pip
}

/// Whether apt's lists were fetched within the last day.
fn lists_are_fresh() -> bool {
    let age = fs::metadata("/var/lib/apt/lists")
        .and_then(|lists| lists.modified())
        .map(|at| at.elapsed().unwrap_or_default());
    age.is_ok_and(|age| age.as_secs() < 86_400)
}
