//! Builds what is tested and shown: `chaperone` and `chaperone-tests`, static, so that they run in any guest.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::cache::Cache;
use crate::setup::toolchain::{self, in_front};
use crate::step::{note, run, step};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PROGRAMS: [&str; 2] = ["chaperone", "chaperone-tests"];

/// The built programs.
pub struct Product {
    directory: PathBuf,
    stripped: Vec<PathBuf>,
}

impl Product {
    /// Programs without their debugging information, as guests get them.
    pub fn programs(&self) -> impl Iterator<Item = &Path> {
        self.stripped.iter().map(PathBuf::as_path)
    }

    /// A program on this host.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// PATH with the programs in front, so that one finds the other.
    pub fn path(&self) -> Result<OsString> {
        in_front(&self.directory)
    }
}

/// Builds in a target directory of its own: the flags differ from a developer's build, and neither should undo the other.
pub fn build() -> Result<Product> {
    let cache = Cache::open()?;
    toolchain::ensure(&cache)?;
    let target = target_directory()?.join("guest");
    let mut cargo = Command::new("cargo");
    cargo.args([
        "build",
        "--release",
        "--bins",
        "--package",
        "agent-daemon",
        "--package",
        "chaperone-tests",
        "--target",
        TARGET,
    ]);
    cargo.arg("--target-dir").arg(&target).current_dir(root());
    cargo
        .env("PATH", toolchain::path(&cache)?)
        .env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", "-C target-feature=+crt-static");
    step("building the product", || {
        if io::stderr().is_terminal() {
            // cargo shows its own progress
            let status = cargo.stdin(Stdio::null()).status().context("cannot start cargo")?;
            return if status.success() { Ok(()) } else { bail!("cargo build failed ({status})") };
        }
        run(&mut cargo)
    })?;
    let directory = target.join(TARGET).join("release");
    let mut stripped =
        PROGRAMS.into_iter().map(|name| strip(&directory, name)).collect::<Result<Vec<_>>>()?;
    if toolchain::musl() {
        stripped.push(client(&target)?);
    } else {
        note("there is no Rust for musl: names are not tested with a client of musl's");
    }
    Ok(Product { directory, stripped })
}

/// Builds the client whose C library is musl, when its source has changed.
fn client(target: &Path) -> Result<PathBuf> {
    let (source, built) = (root().join("tests/musl/client.rs"), target.join("chaperone-musl"));
    if !newer(&built, &source) {
        let mut rustc = Command::new("rustc");
        rustc.args(["--edition=2024", "-Copt-level=2", "-Cstrip=symbols", "--target", toolchain::MUSL]);
        run(rustc.arg("-o").arg(&built).arg(&source))?;
    }
    Ok(built)
}

/// Whether a file is there and younger than what it is made of.
fn newer(made: &Path, of: &Path) -> bool {
    let modified = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    modified(made).is_some_and(|made| modified(of).is_some_and(|of| made > of))
}

/// The project's top directory: the clone that cargo runs us from, wherever we were compiled.
pub fn root() -> PathBuf {
    let ours = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&ours).parent().map_or_else(PathBuf::new, Path::to_owned)
}

/// Where cargo puts what it builds.
pub fn target_directory() -> Result<PathBuf> {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(directory) => std::path::absolute(directory).context("find CARGO_TARGET_DIR"),
        None => Ok(root().join("target")),
    }
}

fn strip(directory: &Path, name: &str) -> Result<PathBuf> {
    let built = directory.join(name);
    let to = directory.join("stripped");
    fs::create_dir_all(&to).with_context(|| format!("make {}", to.display()))?;
    let stripped = to.join(name);
    if !newer(&stripped, &built) {
        run(Command::new("strip").arg("-o").arg(&stripped).arg(&built))?;
    }
    Ok(stripped)
}
