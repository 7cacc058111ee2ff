//! What `--file` names: a journal by its event file or directory, or one segment by itself.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    event::word::Time,
    record::journal::segment::{self, Part},
};

/// The event file: what was named, or the one in the directory that was.
pub(super) fn event_file(path: &Path) -> Result<PathBuf> {
    if path.is_dir() { in_directory(path) } else { Ok(path.to_owned()) }
}

/// What is to be read, the oldest first: an event file with the segments that were closed before it, in which there can be
/// events since a time; a compressed segment, or a pipe, alone.
pub(super) fn parts(path: &Path, since: Option<Time>) -> Result<Vec<Part>> {
    let is_pipe = fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir());
    if is_pipe || path.extension().is_some_and(|ending| ending == "gz") {
        return Ok(vec![Part::of(path.to_owned())]);
    }
    Ok(segment::since(&event_file(path)?, since))
}

/// The one event file in a directory: that with a head or closed segments beside it, or the only one.
fn in_directory(directory: &Path) -> Result<PathBuf> {
    let read = || fs::read_dir(directory).with_context(|| format!("read {}", directory.display()));
    let name = directory.join("events.ndjson");
    if name.exists() || name.with_extension("ndjson.head").exists() {
        return Ok(name);
    }
    let heads: Vec<PathBuf> = read()?
        .flatten()
        .filter_map(|entry| Some(directory.join(entry.file_name().to_str()?.strip_suffix(".head")?)))
        .collect();
    match heads.as_slice() {
        [one] => Ok(one.clone()),
        // Segments alone, as somebody may have copied them.
        [] if read()?.flatten().any(|entry| entry.file_name().to_string_lossy().starts_with("events-")) => {
            Ok(name)
        }
        [] => bail!("there is no journal in {} (give the event file itself)", directory.display()),
        _ => bail!(
            "there are {} journals in {} (give the event file of one)",
            heads.len(),
            directory.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_directory_the_journal_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert!(in_directory(dir.path()).unwrap_err().to_string().contains("no journal"));
        fs::write(dir.path().join("other.log.head"), "").unwrap();
        assert_eq!(in_directory(dir.path()).unwrap(), dir.path().join("other.log"));
        fs::write(dir.path().join("events.ndjson"), "").unwrap();
        assert_eq!(in_directory(dir.path()).unwrap(), dir.path().join("events.ndjson"));
    }

    #[test]
    fn segments_are_read_with_the_event_file_and_a_compressed_one_alone() {
        let dir = tempfile::tempdir().unwrap();
        let active = dir.path().join("events.ndjson");
        let closed = segment::closed_path(&active, 1);
        fs::write(&active, "").unwrap();
        fs::write(&closed, "").unwrap();
        let of = |path: &Path| -> Vec<PathBuf> {
            parts(path, None).unwrap().into_iter().map(|part| part.path).collect()
        };
        assert_eq!(of(&active), [closed.clone(), active.clone()]);
        assert_eq!(of(dir.path()), of(&active));
        assert_eq!(of(&closed), std::slice::from_ref(&closed));
        let gz = dir.path().join("events-00000000000000000001.ndjson.gz");
        assert_eq!(of(&gz), std::slice::from_ref(&gz));
    }
}
