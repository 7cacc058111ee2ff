//! Checkpoints: the text that is signed, and the head, which is the newest one that is surely on the disk. It lies beside
//! the event file, for whoever verifies, and beside the key, where nobody but root can put an older one in its place.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    anew::anew,
    chain::{Hash, Link},
    key::{Key, PublicKey},
};
use crate::event::{journal::Checkpoint, word::Time};

/// A checkpoint with its time, as `<events_file>.head` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub time: Time,
    #[serde(flatten)]
    pub checkpoint: Checkpoint,
}

impl Head {
    /// Signs everything up to a record.
    #[must_use]
    pub fn sign(key: &Key, link: Link, time: Time) -> Self {
        let hash = link.hash.to_string();
        let signature = key.sign(&text(&key.journal, link.seq, &hash, time));
        let (journal, key) = (key.journal.as_str().into(), key.id.as_str().into());
        let checkpoint =
            Checkpoint { journal, seq: link.seq, hash: hash.into(), key, signature: signature.into() };
        Self { time, checkpoint }
    }

    /// Whether this key has signed it.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let Checkpoint { journal, seq, hash, signature, .. } = &self.checkpoint;
        key.has_signed(&text(journal, *seq, hash, self.time), signature)
    }

    /// The record that it signs, with all before.
    #[must_use]
    pub fn link(&self) -> Option<Link> {
        let hash = Hash::from_digits(self.checkpoint.hash.as_bytes())?;
        Some(Link { seq: self.checkpoint.seq, hash })
    }

    /// The head beside an event file; `None` where there is none that can be read.
    #[must_use]
    pub fn read(events_file: &Path) -> Option<Self> {
        serde_json::from_slice(&content(&path(events_file))?).ok()
    }

    /// What this key has signed for the journal: the heads beside the event file and beside the key, the newest first.
    #[must_use]
    pub fn known(events_file: &Path, key_dir: &Path, key: &PublicKey, journal: &str) -> Vec<Link> {
        let kept = content(&kept(key_dir, events_file)).and_then(|text| serde_json::from_slice(&text).ok());
        let heads = [Self::read(events_file), kept].into_iter().flatten();
        let signed = heads.filter(|head| &*head.checkpoint.journal == journal && head.is_signed_by(key));
        let mut links: Vec<Link> = signed.filter_map(|head| head.link()).collect();
        links.sort_by_key(|link| std::cmp::Reverse(link.seq));
        links
    }

    /// Puts it in the places of the one before: after a power cut there is one or the other.
    ///
    /// # Errors
    /// When it cannot be written to one of them; it is to the other then, if that can be.
    pub fn write(&self, events_file: &Path, key_dir: &Path) -> io::Result<()> {
        // First where nobody else can stand in the way.
        let kept = self.replace(&kept(key_dir, events_file));
        self.replace(&path(events_file)).and(kept)
    }

    fn replace(&self, path: &Path) -> io::Result<()> {
        let mut made = path.as_os_str().to_owned();
        made.push(".new");
        let mut file = anew(made.as_ref(), 0o666)?;
        file.write_all(&serde_json::to_vec(self).map_err(io::Error::other)?)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&made, path)
    }
}

/// Of a regular file: whoever may write the directory must not be able to hold anybody up.
fn content(path: &Path) -> Option<Vec<u8>> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    let mut text = Vec::new();
    let is_file = file.metadata().ok()?.is_file();
    (is_file && file.take(HEAD_BYTES_MAX).read_to_end(&mut text).is_ok()).then_some(text)
}

/// Where it lies beside the key: one for each event file that there has been.
#[must_use]
pub fn kept(key_dir: &Path, events_file: &Path) -> PathBuf {
    let of = Sha256::digest(events_file.as_os_str().as_encoded_bytes());
    let of: String = of[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    key_dir.join(format!("head-{of}"))
}

/// Where a journal's head lies.
#[must_use]
pub fn path(events_file: &Path) -> PathBuf {
    let mut name = events_file.as_os_str().to_owned();
    name.push(".head");
    name.into()
}

/// What is signed.
fn text(journal: &str, seq: u64, hash: &str, time: Time) -> String {
    format!("chaperone-journal-v1\n{journal}\n{seq}\n{hash}\n{time}\n")
}

const HEAD_BYTES_MAX: u64 = 64 << 10;
