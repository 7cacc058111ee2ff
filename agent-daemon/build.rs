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
    )?;
    strip()
}

/// Takes the debugger's tables out of the object, four fifths of it: what a refusal by the verifier is told with stands
/// in its BTF.
fn strip() -> anyhow::Result<()> {
    let out = std::env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?;
    let path = std::path::Path::new(&out).join("chaperone-ebpf");
    let bytes = std::fs::read(&path).context("read the kernel object")?;
    if bytes.is_empty() {
        return Ok(());
    }
    let mut elf = object::build::elf::Builder::read(bytes.as_slice()).context("read the kernel object")?;
    for section in &mut elf.sections {
        section.delete = section.name.starts_with(b".debug_") || section.name.starts_with(b".rel.debug_");
    }
    // The compiler has one table for the names of symbols and of sections; the writer wants two.
    let names = elf.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = object::elf::SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = object::build::elf::SectionData::SectionString;
    let mut stripped = Vec::new();
    elf.write(&mut stripped).context("strip the kernel object")?;
    std::fs::write(&path, stripped).context("write the kernel object")
}
