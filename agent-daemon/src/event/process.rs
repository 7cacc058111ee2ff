//! The process family as events show it: exec, exit, fork.

use agent_common::identity::Recognised;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Name,
    finding::Reference,
    word::{InstanceId, Word},
};

/// A new program image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Exec {
    /// Parent's process id at this time (may be init after re-parenting: lineage is `instance`).
    pub ppid: u32,
    /// Arguments, bounded; values that look like secrets read `***`.
    pub argv: Vec<Box<str>>,
    /// How many arguments were masked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub argv_masked: u32,
    /// Working directory.
    pub cwd: Box<str>,
    /// How the program was recognised: an instance of an agent began with this exec.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recognised: Option<Word<Recognised>>,
    /// Which entry of the agent's `match` list recognised it, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_entry: Option<u16>,
    /// The instance that started this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_instance: Option<InstanceId>,
    pub gid: u32,
    /// Effective user id, where it differs from `uid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub euid: Option<u32>,
    /// Effective group id, where it differs from `gid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egid: Option<u32>,
    /// Audit session id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<u32>,
    /// Controlling terminal, such as `pts/3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tty: Option<Box<str>>,
    /// The executed file as the kernel names it.
    pub file: File,
    /// Inode numbers of the namespaces it is in.
    pub namespaces: Namespaces,
    /// The file has no name any more or never had (memfd, unlinked).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub nameless: bool,
    /// The effective ids differ from the real ones because of a set-id file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub setid: bool,
}

/// What a program's file holds that an agent has executed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Program {
    /// As the exec named it.
    pub path: Name,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: Name,
    /// The package that it belongs to, where dpkg or rpm of this host knows one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<Name>,
    /// The package's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Name>,
    /// Of the file.
    pub bytes: u64,
    /// The exec.
    pub of: Reference,
}

/// A file by device and inode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct File {
    /// Device: major << 20 | minor.
    pub dev: u32,
    pub inode: u64,
    /// Guards against a reused inode number; absent where the file system keeps none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub generation: u32,
}

/// Namespaces by inode number (`/proc/PID/ns/*`); absent where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Namespaces {
    #[serde(skip_serializing_if = "is_zero")]
    pub mnt: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub pid: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub net: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub user: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub uts: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub ipc: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub cgroup: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub time: u32,
}

/// The end of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Exit {
    /// Exit code; absent when a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<u8>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<u8>,
    /// No task of the instance is left.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub instance_ended: bool,
}

impl Exit {
    /// From a wait status: exit code << 8 | core flag | signal.
    #[must_use]
    pub fn from_status(status: u32, instance_ended: bool) -> Self {
        let [low, code, ..] = status.to_le_bytes();
        let signal = low & 0x7f;
        Self { code: (signal == 0).then_some(code), signal: (signal != 0).then_some(signal), instance_ended }
    }
}

/// The birth of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fork {
    pub child_pid: u32,
    /// CLONE_* flags.
    pub clone_flags: u64,
}

/// A cgroup that was created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NewCgroup {
    pub id: u64,
    /// Path below the root of the hierarchy.
    pub path: Box<str>,
}

/// The name of a controlling terminal, from the kernel's dev_t (major << 20 | minor).
#[must_use]
pub fn tty_name(dev: u32) -> Option<Box<str>> {
    let (major, minor) = (dev >> 20, dev & 0xf_ffff);
    Some(
        match (major, minor) {
            (0, 0) => return None,
            (136..=143, _) => format!("pts/{}", (major - 136) * 0x10_0000 + minor),
            (4, 0..=63) => format!("tty{minor}"),
            (4, _) => format!("ttyS{}", minor - 64),
            (5, 1) => "console".to_owned(),
            (229, _) => format!("hvc{minor}"),
            _ => format!("{major}:{minor}"),
        }
        .into(),
    )
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_a_code_or_a_signal() {
        assert_eq!(
            Exit::from_status(3 << 8, false),
            Exit { code: Some(3), signal: None, instance_ended: false }
        );
        assert_eq!(
            Exit::from_status(0x80 | 11, true),
            Exit { code: None, signal: Some(11), instance_ended: true }
        );
    }

    #[test]
    fn terminals_have_their_usual_names() {
        for (dev, name) in
            [(136 << 20 | 3, "pts/3"), (4 << 20 | 1, "tty1"), (4 << 20 | 64, "ttyS0"), (9 << 20, "9:0")]
        {
            assert_eq!(tty_name(dev).as_deref(), Some(name));
        }
        assert_eq!(tty_name(0), None);
    }
}
