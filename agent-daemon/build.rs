//! Builds the kernel programs and hands their object to the daemon.

use anyhow::Context as _;
use aya_build::{Package, Toolchain};

fn main() -> anyhow::Result<()> {
    if std::env::var_os("AYA_BUILD_SKIP").is_some() {
        // Checks that do not run the kernel programs need no BPF toolchain.
        let out = std::env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?;
        std::fs::write(std::path::Path::new(&out).join("chaperone-ebpf"), [])?;
    }
    aya_build::build_ebpf(
        [Package {
            name: "agent-ebpf",
            root_dir: concat!(env!("CARGO_MANIFEST_DIR"), "/../agent-ebpf"),
            ..Default::default()
        }],
        Toolchain::default(),
    )
    .context(
        "build the kernel programs: `cargo xtask setup` brings what they need (nightly's rust-src and bpf-linker)",
    )
}
