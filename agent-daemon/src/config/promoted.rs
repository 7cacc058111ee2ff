//! Promotions as they are kept: every version a document of its own, and per role a link to the one that is in force.

use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};

/// Where the links to what is in force lie, `ROLE.yaml` each; read as configuration is.
#[must_use]
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("promoted")
}

/// The versions of a role that are kept, the oldest first.
pub fn versions(state_dir: &Path, role: &str) -> io::Result<Vec<u32>> {
    let entries = match fs::read_dir(kept(state_dir, role)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut all = Vec::new();
    for entry in entries {
        all.extend(number(&entry?.path()));
    }
    all.sort_unstable();
    Ok(all)
}

/// The version of a role that is in force.
pub fn in_force(state_dir: &Path, role: &str) -> io::Result<Option<u32>> {
    match fs::read_link(link(state_dir, role)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(target) => Ok(number(&target)),
    }
}

/// The document of a version.
pub fn read(state_dir: &Path, role: &str, version: u32) -> io::Result<String> {
    fs::read_to_string(file(state_dir, role, version))
}

/// Keeps a document as the next version; which one it is. Nothing is in force by it.
pub fn add(state_dir: &Path, role: &str, text: &str) -> io::Result<u32> {
    let versions = versions(state_dir, role)?;
    let version = versions.last().map_or(1, |last| last + 1);
    directories(&kept(state_dir, role))?;
    let path = file(state_dir, role, version);
    let new = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, &path)?;
    let current = in_force(state_dir, role)?;
    for old in versions.iter().rev().skip(VERSIONS_KEPT - 1).filter(|old| Some(**old) != current) {
        let _ = fs::remove_file(self::file(state_dir, role, *old));
    }
    Ok(version)
}

/// Takes back a version that was added last.
pub fn remove(state_dir: &Path, role: &str, version: u32) -> io::Result<()> {
    fs::remove_file(file(state_dir, role, version))
}

/// Has the link lead to a version, or to none. A process that is killed leaves either the old one or the new one.
pub fn point(state_dir: &Path, role: &str, version: Option<u32>) -> io::Result<()> {
    let link = link(state_dir, role);
    directories(&directory(state_dir))?;
    match version {
        None => match fs::remove_file(&link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            done => done?,
        },
        Some(version) => {
            // Hidden, so that it is not read as configuration.
            let new = link.with_file_name(format!(".{role}.new"));
            let _ = fs::remove_file(&new);
            symlink(format!("../{PROMOTIONS}/{role}/{version}.yaml"), &new)?;
            fs::rename(&new, &link)?;
        }
    }
    fs::File::open(directory(state_dir))?.sync_all()
}

fn directories(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn link(state_dir: &Path, role: &str) -> PathBuf {
    directory(state_dir).join(format!("{role}.yaml"))
}

fn kept(state_dir: &Path, role: &str) -> PathBuf {
    state_dir.join(PROMOTIONS).join(role)
}

fn file(state_dir: &Path, role: &str, version: u32) -> PathBuf {
    kept(state_dir, role).join(format!("{version}.yaml"))
}

fn number(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_suffix(".yaml")?.parse().ok()
}

const PROMOTIONS: &str = "promotions";
/// Of a role; the oldest go, but never the one that is in force.
pub const VERSIONS_KEPT: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_count_on_and_one_is_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        assert_eq!((versions(state, "r").unwrap(), in_force(state, "r").unwrap()), (vec![], None));
        assert_eq!(add(state, "r", "one").unwrap(), 1);
        assert_eq!(in_force(state, "r").unwrap(), None, "adding puts nothing in force");
        point(state, "r", Some(1)).unwrap();
        assert_eq!(add(state, "r", "two").unwrap(), 2);
        point(state, "r", Some(2)).unwrap();
        assert_eq!(in_force(state, "r").unwrap(), Some(2));
        assert_eq!(fs::read_to_string(directory(state).join("r.yaml")).unwrap(), "two");
        point(state, "r", None).unwrap();
        point(state, "r", None).unwrap();
        assert_eq!((in_force(state, "r").unwrap(), versions(state, "r").unwrap()), (None, vec![1, 2]));
        assert_eq!(read(state, "r", 1).unwrap(), "one");
    }

    #[test]
    fn the_oldest_go_and_the_one_in_force_stays() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path();
        add(state, "r", "first").unwrap();
        point(state, "r", Some(1)).unwrap();
        for _ in 0..VERSIONS_KEPT + 5 {
            add(state, "r", "more").unwrap();
        }
        let kept = versions(state, "r").unwrap();
        assert_eq!(kept.first(), Some(&1));
        assert_eq!(kept.len(), VERSIONS_KEPT + 1);
        assert_eq!(kept.last(), Some(&(VERSIONS_KEPT as u32 + 6)));
    }
}
