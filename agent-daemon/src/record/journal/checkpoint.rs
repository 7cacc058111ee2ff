//! Checkpoints: the text that is signed, and the head, which is the newest one that is surely on the disk. It lies beside
//! the event file, for whoever verifies, and beside the key, where nobody but root can put an older one in its place.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
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
        serde_json::from_slice(&fs::read(path(events_file)).ok()?).ok()
    }

    /// The newest that this key has signed for the journal, of the one beside the event file and the one beside the key.
    #[must_use]
    pub fn newest(events_file: &Path, key_dir: &Path, key: &PublicKey, journal: &str) -> Option<Self> {
        let kept = fs::read(kept(key_dir)).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
        // That of an event file elsewhere says nothing of this one.
        let kept = kept.filter(|kept| kept.events_file == events_file).map(|kept| kept.head);
        let heads = [Self::read(events_file), kept].into_iter().flatten();
        heads
            .filter(|head| &*head.checkpoint.journal == journal && head.is_signed_by(key))
            .max_by_key(|head| head.checkpoint.seq)
    }

    /// Puts it in the places of the one before: after a power cut there is one or the other.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, events_file: &Path, key_dir: &Path) -> io::Result<()> {
        replace(&path(events_file), self)?;
        replace(&kept(key_dir), &Kept { events_file: events_file.to_owned(), head: self.clone() })
    }
}

/// A head with the event file that it is of.
#[derive(Serialize, Deserialize)]
struct Kept {
    events_file: PathBuf,
    #[serde(flatten)]
    head: Head,
}

fn replace(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let mut made = path.as_os_str().to_owned();
    made.push(".new");
    let mut file = File::create(&made)?;
    file.write_all(&serde_json::to_vec(content).map_err(io::Error::other)?)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&made, path)
}

fn kept(key_dir: &Path) -> PathBuf {
    key_dir.join("head")
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
