//! The journal's own records: where a segment begins, what is signed, and what was removed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::word::Time;

/// The journal as it is opened: the first record of every segment, and one at each start of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Opened {
    /// The journal's id, made with its key: 32 hexadecimal digits.
    pub journal: Box<str>,
    /// The public key that its checkpoints are checked with: the first 16 hexadecimal digits of its SHA-256.
    pub key: Box<str>,
    /// The segment's number, from 1.
    pub segment: u64,
    /// The last record before this one; absent in the first segment of all, and after one that does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Place>,
    /// When that record happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_record: Option<Time>,
    /// Bytes at the end of the file that were no whole records (a crash, a power cut): set aside.
    #[serde(default, skip_serializing_if = "super::local::is_zero")]
    pub torn_bytes: u64,
    /// Records that were on the disk once and are not there any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<Range>,
    /// The segment before does not hold from this record on: this one continues from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken_at: Option<u64>,
    /// A file of another kind lay where the journal is written: it was set aside under this name.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub set_aside: Box<str>,
}

/// A record of the journal, with all that lies before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Place {
    pub seq: u64,
    pub hash: Box<str>,
}

/// Records from one number to another, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Range {
    pub from: u64,
    pub to: u64,
}

/// A signature on everything up to the record before this one. Signed is the text `chaperone-journal-v1`, journal, seq,
/// hash and the event's `time`, each with a line's end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checkpoint {
    pub journal: Box<str>,
    pub seq: u64,
    pub hash: Box<str>,
    pub key: Box<str>,
    /// Ed25519, base64.
    pub signature: Box<str>,
}

/// Segments that are about to be removed: the oldest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Removed {
    /// Their first and last record.
    pub from: u64,
    pub to: u64,
    /// The last record's hash.
    pub last_hash: Box<str>,
    /// When the record behind them happened: all of theirs is older.
    pub until: Time,
    pub segments: u64,
    /// `age`: older than `journal.keep_days`; `space`: the journal would be larger than `journal.bytes_max`.
    pub why: Box<str>,
    /// Younger than `journal.keep_days_min`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub early: bool,
}
