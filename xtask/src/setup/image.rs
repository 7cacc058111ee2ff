//! Makes the guest's root image: one Debian, booted small or with systemd.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::unistd::geteuid;

use crate::cache::{self, Cache};
use crate::setup::packages::{E2FSPROGS, MMDEBSTRAP, UIDMAP, require};
use crate::step::{run, step};

const SUITE: &str = "bookworm";
const PACKAGES: &str = include_str!("../../guest/packages.txt");
const CUSTOMIZE: &str = include_str!("../../guest/customize.sh");
/// Size of the file system; the file is sparse, about 280 MB are in use.
const SIZE: &str = "3G";
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
            if !geteuid().is_root() {
                require(&[UIDMAP])?;
            }
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

    let tree = directory.join("tree");
    let packed = pack(&archive, &tree, directory);
    run(as_root("rm").arg("-rf").arg(&tree))?;
    packed?;
    fs::remove_file(archive)?;
    fs::remove_file(customize)?;
    Ok(())
}

/// Makes the file system from Debian's root, by way of a tree: mke2fs reads nothing else. The tree's owners are right
/// only for root, or in a user namespace where they are ours.
fn pack(archive: &Path, tree: &Path, directory: &Path) -> Result<()> {
    run(as_root("mkdir").arg(tree))?;
    // the guest's kernel makes its own device files
    let mut tar = as_root("tar");
    tar.arg("-C").arg(tree).args(["--exclude=./dev/*", "--numeric-owner", "--xattrs", "--xattrs-include=*"]);
    run(tar.arg("-xpf").arg(archive))?;
    fs::copy(tree.join("bin/busybox"), directory.join("busybox")).context("take busybox out of the root")?;
    let mut mke2fs = as_root("/sbin/mke2fs");
    mke2fs.args(["-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d"]).arg(tree);
    run(mke2fs.arg(directory.join("root.img")).arg(SIZE))
}

/// Runs it as root, or in a user namespace where we are.
pub fn as_root(program: &str) -> Command {
    if geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("unshare");
    command.args(["--map-root-user", "--map-auto", program]);
    command
}
