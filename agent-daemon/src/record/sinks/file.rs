//! Another file, for a shipper that reads one form: appended, and opened anew where it was renamed.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    libc::{O_NOCTTY, O_NOFOLLOW, O_NONBLOCK},
    unistd::{AccessFlags, access},
};
use tokio::task::JoinSet;

use super::Record;

pub struct File {
    path: PathBuf,
    /// Not there while it is written to.
    file: Option<fs::File>,
}

impl File {
    pub async fn open(path: &Path) -> Result<Self> {
        let of = path.to_owned();
        let file = Some(aside(move || open(&of)).await?);
        Ok(Self { path: path.to_owned(), file })
    }

    /// What is written is on the disk when this returns; half a batch is cut off again.
    pub async fn send(&mut self, batch: &[Record]) -> Result<()> {
        let mut bytes = Vec::new();
        for record in batch {
            bytes.extend_from_slice(record.text());
            bytes.push(b'\n');
        }
        let file = self.file.take().context("what was written before has not ended")?;
        let path = self.path.clone();
        self.file = Some(aside(move || append(file, &path, &bytes)).await?);
        Ok(())
    }
}

/// Runs what may stand still for as long as the file system does, so that whoever waits for it can give up. A sink has one
/// thread for that: what is given up and has not begun never does, and nothing is written at the same time twice.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let mut running = JoinSet::new();
    running.spawn_blocking(work);
    running.join_next().await.context("nothing runs")?.context("write to a file")?
}

fn append(mut file: fs::File, path: &Path, bytes: &[u8]) -> Result<fs::File> {
    let own = file.metadata()?;
    let there = fs::symlink_metadata(path).map(|m| (m.dev(), m.ino())).ok();
    if there != Some((own.dev(), own.ino())) {
        file = open(path)?;
    }
    let before = file.metadata()?.len();
    file.write_all(bytes).and_then(|()| file.sync_data()).inspect_err(|_| {
        let _ = file.set_len(before);
    })?;
    Ok(file)
}

/// Whether it could be written to; nothing is made.
pub fn check(path: &Path) -> Result<()> {
    let there = match fs::symlink_metadata(path) {
        Ok(metadata) => {
            regular(path, metadata.file_type())?;
            Some(path)
        }
        Err(_) => path.parent(),
    };
    let there = there.with_context(|| format!("{} has no directory", path.display()))?;
    access(there, AccessFlags::W_OK).with_context(|| format!("write to {}", there.display()))
}

fn open(path: &Path) -> Result<fs::File> {
    // Looked at before it is opened, which alone may wait, or have a device do something; and again, since it may change.
    match fs::symlink_metadata(path) {
        Ok(metadata) => regular(path, metadata.file_type())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("look at {}", path.display())),
    }
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .mode(0o640)
        .custom_flags(O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    let metadata = file.metadata()?;
    regular(path, metadata.file_type())?;
    if let Some(last) = metadata.len().checked_sub(1) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, last)?;
        if byte != *b"\n" {
            // A daemon that was killed has left half a line: what comes is sent again whole, in a line of its own.
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
}

/// A link would have the daemon append to whatever somebody else has it lead to.
fn regular(path: &Path, kind: fs::FileType) -> Result<()> {
    let is = match kind {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_dir() => "a directory",
        kind if kind.is_fifo() => "a FIFO",
        kind if kind.is_socket() => "a socket",
        _ => "a device",
    };
    bail!("{} is {is}, and a sink writes to a regular file alone: name another path", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::{fs::symlink, net::UnixListener};

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    #[test]
    fn half_a_line_of_a_killed_daemon_stays_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("copy");
        fs::write(&path, "{\"seq\":1}\n{\"se").unwrap();
        drop(append(open(&path).unwrap(), &path, b"{\"seq\":2}\n").unwrap());
        drop(append(open(&path).unwrap(), &path, b"{\"seq\":3}\n").unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"seq\":1}\n{\"se\n{\"seq\":2}\n{\"seq\":3}\n");
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        mkfifo(&at("fifo"), Mode::S_IRWXU).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        symlink("nowhere", at("link")).unwrap();
        fs::create_dir(at("dir")).unwrap();
        for (path, is) in [
            (at("fifo"), "a FIFO"),
            (at("socket"), "a socket"),
            (at("link"), "a symbolic link"),
            (at("dir"), "a directory"),
            ("/dev/null".into(), "a device"),
        ] {
            for error in [open(&path).unwrap_err(), check(&path).unwrap_err()] {
                let wanted = format!("{} is {is}, and a sink writes", path.display());
                assert!(error.to_string().starts_with(&wanted), "{error:#}");
            }
        }
        assert!(!at("nowhere").exists());
        drop(open(&at("file")).unwrap());
        assert!(check(&at("file")).is_ok() && check(&at("another")).is_ok() && !at("another").exists());
    }
}
