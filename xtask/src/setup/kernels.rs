//! Brings the kernels that guests boot: Debian's own, signed ones.

mod package;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::cache::{self, Cache};
use crate::setup::packages::{E2FSPROGS, KMOD, XZ, download as download_package, require};
use crate::step::{note, output, step};

/// One supported kernel line, and the build of it that the project is tested with.
struct Line {
    name: &'static str,
    release: &'static str,
    version: &'static str,
    sha256: &'static str,
    /// Names the line's packages when the pinned build is no longer offered.
    pattern: &'static str,
}

const TABLE: [Line; 2] = [
    Line {
        name: "6.1",
        release: "6.1.0-56-cloud-amd64",
        version: "6.1.192-2",
        sha256: "e7d02b943971edcb8790e256c02cfab3bca6c3d37c1bf25392a57c71300615ee",
        pattern: r"^linux-image-6\.1\.0-[0-9]+-cloud-amd64$",
    },
    Line {
        name: "6.12",
        release: "6.12.117+deb12-cloud-amd64",
        version: "6.12.117-1~deb12u1",
        sha256: "5195b288dec79e2981d6b84457f38b7ce7310a2d702930ec7d07209c7f78ce37",
        pattern: r"^linux-image-6\.12\.[0-9]+\+deb1[0-9]-cloud-amd64$",
    },
];

/// Names of the kernel lines, oldest first.
pub const LINES: [&str; TABLE.len()] = [TABLE[0].name, TABLE[1].name];
pub const NEWEST: &str = LINES[LINES.len() - 1];

/// What an entry in the cache holds; another number makes new entries.
const LAYOUT: &str = "2";

/// A kernel ready to boot.
#[derive(Clone)]
pub struct Kernel {
    pub vmlinuz: PathBuf,
    /// File system with the module tree, mounted at /lib/modules.
    pub modules: PathBuf,
    pub boot_modules: Vec<PathBuf>,
}

/// The kernel of this line: the pinned build, else one kept earlier, else the newest that is offered.
pub fn ensure(cache: &Cache, name: &str) -> Result<Kernel> {
    let Some(line) = TABLE.iter().find(|line| line.name == name) else {
        bail!("no kernel {name}: there are {}", LINES.join(" and "));
    };
    if let Some(entry) = cache.find(&entry_name(line.release)) {
        return open(&entry);
    }
    if let Some(kept) = cache.list(&format!("kernel-{name}."), &format!("-{LAYOUT}"))?.pop() {
        return open(&cache.path(&kept));
    }
    require(&[KMOD, XZ, E2FSPROGS])?;
    step(&format!("bringing kernel {name}"), || {
        let downloads = tempfile::tempdir().context("make a directory for the download")?;
        let (release, archive) = download(line, downloads.path())?;
        let entry =
            cache.ensure(&entry_name(&release), |entry| package::unpack(&archive, &release, entry))?;
        open(&entry)
    })
}

fn entry_name(release: &str) -> String {
    format!("kernel-{release}-{LAYOUT}")
}

fn open(entry: &Path) -> Result<Kernel> {
    Ok(Kernel {
        vmlinuz: entry.join("vmlinuz"),
        modules: entry.join("modules.img"),
        boot_modules: cache::files_below(&entry.join("boot"))?,
    })
}

/// Downloads the pinned package and checks it, or the newest one, which apt checks against the archive's signature.
fn download(line: &Line, into: &Path) -> Result<(String, PathBuf)> {
    let pinned = format!("linux-image-{}={}", line.release, line.version);
    if download_package(&pinned, into).is_ok() {
        let package = only_file(into)?;
        let found = cache::sha256(&package)?;
        if found != line.sha256 {
            bail!(
                "{pinned} has checksum {found}, expected {}: it is not the package this project was tested with",
                line.sha256
            );
        }
        return Ok((line.release.to_owned(), package));
    }
    let newest = newest(line)?;
    note(&format!("{pinned} is no longer offered: taking {newest}"));
    download_package(&newest, into)?;
    Ok((newest.trim_start_matches("linux-image-").to_owned(), only_file(into)?))
}

fn newest(line: &Line) -> Result<String> {
    let found = output(Command::new("apt-cache").args(["search", "--names-only", line.pattern]))?;
    let mut names: Vec<&str> = found.lines().filter_map(|found| found.split_whitespace().next()).collect();
    names.sort_by_key(|name| numbers(name));
    match names.last() {
        Some(name) => Ok((*name).to_owned()),
        None => bail!(
            "no package of kernel {} is offered: enable Debian 12's main and security archives, then `apt-get update`",
            line.name
        ),
    }
}

/// A version's numbers, so that 6.12.100 comes after 6.12.99.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|letter: char| !letter.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn only_file(directory: &Path) -> Result<PathBuf> {
    cache::files_below(directory)?
        .pop()
        .with_context(|| format!("nothing was downloaded into {}", directory.display()))
}
