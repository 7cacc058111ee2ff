//! Owns the cache directory: what is downloaded or built once per machine, shared by clones, checked by checksum.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::step;

/// Checksums and sizes of an entry's files; written last, so an entry that has it is whole.
const SUMS: &str = "SHA256SUMS";

pub struct Cache {
    root: PathBuf,
}

impl Cache {
    pub fn open() -> Result<Self> {
        let base = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
            Some(path) => PathBuf::from(path),
            None => std::env::home_dir()
                .context("neither XDG_CACHE_HOME nor HOME is set: set one")?
                .join(".cache"),
        };
        let root = base.join("chaperone");
        fs::create_dir_all(&root).with_context(|| format!("cannot make the cache {}", root.display()))?;
        Ok(Self { root })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The entry if it is there and whole: every file with the size that was recorded.
    pub fn find(&self, name: &str) -> Option<PathBuf> {
        let entry = self.path(name);
        let sums = fs::read_to_string(entry.join(SUMS)).ok()?;
        let whole = sums
            .lines()
            .filter_map(parse_sum)
            .all(|(_, bytes, file)| fs::metadata(entry.join(file)).is_ok_and(|found| found.len() == bytes));
        whole.then_some(entry)
    }

    /// Names of whole entries that begin and end like this, sorted.
    pub fn list(&self, prefix: &str, suffix: &str) -> Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).with_context(|| format!("read {}", self.root.display()))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) && name.ends_with(suffix) && self.find(&name).is_some() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Gives the entry, made by `make` in a directory that takes its place only when it is complete.
    pub fn ensure(&self, name: &str, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        if let Some(entry) = self.find(name) {
            return Ok(entry);
        }
        let _lock = self.lock(name)?;
        if let Some(entry) = self.find(name) {
            return Ok(entry);
        }
        let prefix = format!(".building-{name}-");
        self.sweep(&prefix);
        let building = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(&self.root)
            .with_context(|| format!("make a directory in {}", self.root.display()))?;
        make(building.path())?;
        seal(building.path())?;
        let entry = self.path(name);
        if entry.exists() {
            fs::remove_dir_all(&entry).with_context(|| format!("remove the broken {}", entry.display()))?;
        }
        fs::rename(building.keep(), &entry)
            .with_context(|| format!("put {} in its place", entry.display()))?;
        Ok(entry)
    }

    /// Reads every file of every entry again and compares checksums.
    pub fn verify(&self) -> Result<()> {
        for name in self.list("", "")? {
            let entry = self.path(&name);
            for line in fs::read_to_string(entry.join(SUMS))?.lines() {
                let Some((sum, _, file)) = parse_sum(line) else { continue };
                let path = entry.join(file);
                if sha256(&path)? != sum {
                    bail!(
                        "{} is damaged: remove {} and run `cargo xtask setup`",
                        path.display(),
                        entry.display()
                    );
                }
            }
            step::note(&format!("{name}: checksums hold"));
        }
        Ok(())
    }

    /// Removes what a run that was killed left half made; only with the entry's lock held. Best effort.
    fn sweep(&self, prefix: &str) {
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Keeps other clones from making the same entry; released when dropped.
    fn lock(&self, name: &str) -> Result<File> {
        let path = self.path(&format!(".lock-{name}"));
        let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
        if file.try_lock().is_err() {
            step::note(&format!("another run is making {name}: waiting for it"));
            file.lock().with_context(|| format!("lock {}", path.display()))?;
        }
        Ok(file)
    }
}

/// The checksum of a file, by coreutils: an unoptimised build of our own would take half a minute for an image.
pub fn sha256(path: &Path) -> Result<String> {
    let line = step::output(Command::new("sha256sum").arg("--binary").arg(path))?;
    line.split_whitespace()
        .next()
        .map(str::to_owned)
        .with_context(|| format!("sha256sum said nothing of {}", path.display()))
}

/// Records the files that an entry holds.
pub fn seal(entry: &Path) -> Result<()> {
    let mut sums = String::new();
    for file in files_below(entry)? {
        let name = file.strip_prefix(entry).context("an entry's file lies below it")?;
        let bytes = fs::metadata(&file)?.len();
        sums += &format!("{} {bytes} {}\n", sha256(&file)?, name.display());
    }
    fs::write(entry.join(SUMS), sums).with_context(|| format!("write {SUMS} in {}", entry.display()))
}

/// Every plain file below a directory.
pub fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("read {}", directory.display()))? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => pending.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

fn parse_sum(line: &str) -> Option<(&str, u64, &str)> {
    let (sum, rest) = line.split_once(' ')?;
    let (bytes, file) = rest.split_once(' ')?;
    Some((sum, bytes.parse().ok()?, file))
}
