//! Brings what compiles and links the kernel programs: nightly Rust and bpf-linker.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::{self, Cache};
use crate::setup::packages::{LLVM, POLLY, require};
use crate::step::{output, run, step};

/// Linked against LLVM 22, the one in the nightly compiler: an older LLVM cannot read its bitcode.
const LINKER: &str = "bpf-linker-0.13.0";
const LINKER_VERSION: &str = "0.13.0";
pub const MUSL: &str = "x86_64-unknown-linux-musl";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

pub fn ensure(cache: &Cache) -> Result<()> {
    nightly()?;
    linker(cache)
}

/// PATH with the cached linker's directory in front of it, for whatever builds the kernel programs.
pub fn path(cache: &Cache) -> Result<OsString> {
    in_front(&cache.path(LINKER).join("bin"))
}

/// PATH with a directory in front of it.
pub fn in_front(directory: &Path) -> Result<OsString> {
    let inherited = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(directory.to_owned()).chain(std::env::split_paths(&inherited));
    std::env::join_paths(all).with_context(|| format!("put {} on PATH", directory.display()))
}

/// Nightly Rust with what the kernel programs need of it: `core` is built from source, and checked by clippy.
fn nightly() -> Result<()> {
    let Ok(sysroot) = output(Command::new("rustc").args(["+nightly", "--print", "sysroot"])) else {
        return step("installing Rust nightly with rust-src and clippy", || {
            let components = ["--profile", "minimal", "--component", "rust-src,clippy"];
            run(Command::new("rustup").args(["toolchain", "install", "nightly"]).args(components))
        });
    };
    let sysroot = Path::new(sysroot.trim());
    for (component, proof) in
        [("rust-src", "lib/rustlib/src/rust/library/core"), ("clippy", "bin/cargo-clippy")]
    {
        if !sysroot.join(proof).exists() {
            step(&format!("adding {component} to Rust nightly"), || {
                run(Command::new("rustup").args(["component", "add", component, "--toolchain", "nightly"]))
            })?;
        }
    }
    Ok(())
}

/// Whether there is a Rust for musl, of the toolchain that builds the product: it serves one client of the tests, which
/// are done without it where it cannot be had.
pub fn musl() -> bool {
    let found = || {
        let directory = output(Command::new("rustc").args(["--print", "target-libdir", "--target", MUSL]));
        directory.is_ok_and(|directory| Path::new(directory.trim()).exists())
    };
    let add = || step("adding musl to Rust", || run(Command::new("rustup").args(["target", "add", MUSL])));
    found() || add().is_ok()
}

fn linker(cache: &Cache) -> Result<()> {
    if cache.find(LINKER).is_some() || on_path() {
        return Ok(());
    }
    let built = cache.path(LINKER);
    if answers(&built.join("bin/bpf-linker")) {
        return cache::seal(&built);
    }
    require(&[LLVM, POLLY])?;
    step("building bpf-linker (about a minute, once)", || {
        cache.ensure(LINKER, |root| {
            let mut cargo = Command::new("cargo");
            cargo.args([
                "install",
                "bpf-linker",
                "--version",
                LINKER_VERSION,
                "--locked",
                "--no-default-features",
                "--features",
                "llvm-22",
            ]);
            cargo
                .arg("--root")
                .arg(root)
                .env("LLVM_PREFIX", LLVM_PREFIX)
                .env("CARGO_TARGET_DIR", root.join("target"));
            run(&mut cargo)?;
            std::fs::remove_dir_all(root.join("target")).context("remove bpf-linker's build directory")
        })
    })
    .map(drop)
}

/// Whether the user has a bpf-linker of their own that is new enough.
fn on_path() -> bool {
    let Some(path) = std::env::var_os("PATH") else { return false };
    std::env::split_paths(&path)
        .map(|directory: PathBuf| directory.join("bpf-linker"))
        .any(|linker| answers(&linker))
}

fn answers(linker: &Path) -> bool {
    linker.is_file()
        && output(Command::new(linker).arg("--version"))
            .is_ok_and(|text| text.split_whitespace().last().is_some_and(new_enough))
}

fn new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (0, 13)
}
