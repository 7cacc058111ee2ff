//! The guest's first root: busybox, the modules that reach the disks, and the programs that run the script.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::setup::image::Image;
use crate::setup::kernels::Kernel;

const INIT: &str = include_str!("../../guest/initramfs.sh");
/// Laid into the image at every boot, so a change to them needs no new image.
const PROGRAMS: [(&str, &str); 4] = [
    ("init", include_str!("../../guest/init.sh")),
    ("run", include_str!("../../guest/run.sh")),
    ("guest-script.service", include_str!("../../guest/guest-script.service")),
    ("guest.target", include_str!("../../guest/guest.target")),
];

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CHARACTER_DEVICE: u32 = 0o020_600;

/// Writes it uncompressed: an emulated processor unpacks slowly.
pub fn write(kernel: &Kernel, image: &Image, to: &Path) -> Result<()> {
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "guest", "modules", "proc", "root"] {
        archive.add(directory, DIRECTORY, &[], (0, 0));
    }
    archive.add("dev/console", CHARACTER_DEVICE, &[], (5, 1));
    archive.add("init", PROGRAM, INIT.as_bytes(), (0, 0));
    let busybox = fs::read(&image.busybox).with_context(|| format!("read {}", image.busybox.display()))?;
    archive.add("bin/busybox", PROGRAM, &busybox, (0, 0));
    for module in &kernel.boot_modules {
        let name = module.file_name().context("a module has a name")?.to_string_lossy();
        let bytes = fs::read(module).with_context(|| format!("read {}", module.display()))?;
        archive.add(&format!("modules/{name}"), PROGRAM, &bytes, (0, 0));
    }
    for (name, text) in PROGRAMS {
        archive.add(&format!("guest/{name}"), PROGRAM, text.as_bytes(), (0, 0));
    }
    fs::write(to, archive.finish()).with_context(|| format!("write {}", to.display()))
}

/// A cpio archive of the "newc" kind, the one that Linux reads.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    inode: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, data: &[u8], device: (u32, u32)) {
        self.inode += 1;
        let length = data.len() as u32;
        let fields =
            [self.inode, mode, 0, 0, 1, 0, length, 0, 0, device.0, device.1, name.len() as u32 + 1, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, &[], (0, 0));
        self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
