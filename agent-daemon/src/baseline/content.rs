//! What an executable's bytes are: an upgrade is the same program in another version, not another program.

use serde::{Deserialize, Serialize};

use crate::event::Name;

/// Content identity of an executable, as `program_identified` gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Content {
    /// SHA-256 of the file, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Name>,
    /// The package that the file belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<Name>,
    /// The package's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Name>,
}

impl std::fmt::Display for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.package, &self.version, &self.sha256) {
            (Some(package), Some(version), _) => write!(f, "{package} {version}"),
            (Some(package), None, _) => f.write_str(package),
            (None, Some(version), _) => f.write_str(version),
            (None, None, Some(hash)) => write!(f, "sha256 {}", hash.get(..12).unwrap_or(hash)),
            (None, None, None) => f.write_str("unknown"),
        }
    }
}
