//! What differs from what is usual for a role, what was done about it, and changes of what counts as usual.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Name, word::Time};

/// Acts of one cause that differ from what is usual for the role. The subject is who did it this time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// What differs: `new_endpoint`, `new_program`, …
    pub what: Name,
    /// `info`, `low`, `medium`, `high`, `critical`, by the table of severities.
    pub severity: Name,
    /// The behaviour that is not usual, as `chaperone baseline show` writes it.
    pub behaviour: Name,
    /// The figures behind it, in words.
    pub how_unusual: Name,
    /// How the nearest usual behaviour is near: `same_domain`, `seen_before`, …
    pub nearness: Name,
    /// The nearest usual behaviour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nearest: Option<Name>,
    pub seen: Seen,
    /// The act was refused.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refused: bool,
    /// ATT&CK technique, where it is certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub technique: Option<Name>,
    /// OWASP Top 10 for Agentic Applications, where it is certain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owasp: Option<Name>,
    /// Acts of this cause so far: told at the first, the second, the fourth and so on.
    pub count: u64,
    /// Different instances among them; at least so many at 64.
    pub instances: usize,
    pub first: Time,
    pub last: Time,
    /// The event of the act.
    pub of: Reference,
}

/// How often it was seen before the first act of this cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seen {
    /// Acts of this role.
    pub by_role: u64,
    /// Instances of this role.
    pub by_role_instances: usize,
    /// Roles, this one included.
    pub by_roles: usize,
    /// Whether an agent of any role has shown it on this host.
    pub on_host: bool,
}

/// Another event of the same boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reference {
    pub time: Time,
    pub seq: u64,
}

/// What was done to an instance because of a finding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reaction {
    /// `stop` or `kill`.
    pub effect: Name,
    /// Severity of the finding.
    pub severity: Name,
    /// The event of the act that was found.
    pub of: Reference,
    /// From the act to the last process of the instance that was reached.
    pub after_ns: u64,
    /// Processes of the instance that were reached.
    pub processes: usize,
    /// Why not all of it is stopped or ended; absent where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<Name>,
}

/// A change of baselines, or of what of them is in force, that is not learning.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BaselineChange {
    /// `promoted`, `rolled_back`, `forgotten`, `imported`; `off` where nothing can be learned or compared any more, and
    /// `on` where it can be again.
    pub action: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Name>,
    /// The promotion that is in force from now on; absent where none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// The promotion before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_before: Option<u32>,
    /// What it holds, how much was forgotten, or why.
    pub what: Name,
    /// Who asked, as the kernel vouches for it; absent where it came by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
}

/// A caller of the control socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct By {
    pub uid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The audit login uid: who logged in before becoming `uid`; absent when none is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loginuid: Option<u32>,
}
