//! Makes the guest's root image: one Debian, booted small or with systemd.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cache::{self, Cache};
use crate::setup::packages::{E2FSPROGS, MMDEBSTRAP, require};
use crate::step::{run, step};

const SUITE: &str = "bookworm";
const PACKAGES: &str = include_str!("../../guest/packages.txt");
const CUSTOMIZE: &str = include_str!("../../guest/customize.sh");
/// Size of the file system; the file is sparse, about 300 MB are in use.
const SIZE: &str = "1400M";
/// What no guest reads.
const LEAVE_OUT: [&str; 4] =
    ["/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*"];

pub struct Image {
    pub root: PathBuf,
    pub busybox: PathBuf,
}

pub fn ensure(cache: &Cache) -> Result<Image> {
    let name = format!("guest-{SUITE}-{}", recipe()?);
    let entry = match cache.find(&name) {
        Some(entry) => entry,
        None => {
            require(&[MMDEBSTRAP, E2FSPROGS])?;
            step("making the guest's image (about a minute, once)", || cache.ensure(&name, make))?
        }
    };
    Ok(Image { root: entry.join("root.img"), busybox: entry.join("busybox") })
}

/// What the image is made from, as a short hash: a changed recipe is another image.
fn recipe() -> Result<String> {
    let mut recipe = tempfile::NamedTempFile::new().context("make a temporary file")?;
    let text = format!("{SUITE} {SIZE} {LEAVE_OUT:?}\n{PACKAGES}{CUSTOMIZE}");
    std::io::Write::write_all(&mut recipe, text.as_bytes()).context("write the recipe")?;
    let sum = cache::sha256(recipe.path())?;
    Ok(sum.chars().take(12).collect())
}

fn make(directory: &Path) -> Result<()> {
    let tree = directory.join("tree");
    let archive = directory.join("root.tar");
    let customize = directory.join("customize.sh");
    fs::write(&customize, CUSTOMIZE)?;
    fs::set_permissions(&customize, fs::Permissions::from_mode(0o755))?;
    let include = PACKAGES.lines().collect::<Vec<_>>().join(",");
    let mut debootstrap = Command::new("mmdebstrap");
    debootstrap.args(["--quiet", "--variant=minbase"]).arg(format!("--include={include}"));
    debootstrap.args(LEAVE_OUT.map(|path| format!("--dpkgopt=path-exclude={path}")));
    debootstrap.arg(format!("--customize-hook={}", customize.display())).arg(SUITE).arg(&archive);
    run(&mut debootstrap).context("make a Debian root")?;

    // Unpacking and packing in two steps: mke2fs reads a directory whose owners are right only for root, or in the
    // user namespace that mmdebstrap itself used.
    run(as_root("mkdir").arg(&tree))?;
    run(as_root("tar")
        .arg("-C")
        .arg(&tree)
        .args(["--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf"])
        .arg(&archive))?;
    fs::copy(tree.join("bin/busybox"), directory.join("busybox")).context("take busybox out of the root")?;
    let image = directory.join("root.img");
    run(as_root("/sbin/mke2fs")
        .args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d"])
        .arg(&tree)
        .arg(&image)
        .arg(SIZE))?;
    run(as_root("rm").arg("-rf").arg(&tree))?;
    fs::remove_file(archive)?;
    fs::remove_file(customize)?;
    Ok(())
}

fn as_root(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("mmdebstrap");
    command.args(["--unshare-helper", program]);
    command
}
