//! The documents people write: agents and roles, as they stand in the files.

use std::{collections::BTreeMap, path::PathBuf};

use agent_common::vocabulary;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{problem::Place, reaction::Reactions};

/// An agent: a registered software actor and how it is recognised.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentDocument {
    #[serde(rename = "apiVersion")]
    pub api_version: ApiVersion,
    pub kind: AgentKind,
    pub metadata: Metadata,
    pub spec: AgentSpec,
}

/// A role: what agents of one kind may do.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleDocument {
    #[serde(rename = "apiVersion")]
    pub api_version: ApiVersion,
    pub kind: RoleKind,
    pub metadata: Metadata,
    pub spec: RoleSpec,
}

/// What was promoted of a role's baseline: it is allowed where the role's default is `baseline` and its own rules do not
/// say otherwise. `chaperone baseline promote --apply` writes it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromotionDocument {
    #[serde(rename = "apiVersion")]
    pub api_version: ApiVersion,
    pub kind: PromotionKind,
    /// The name is the role's.
    pub metadata: Metadata,
    pub spec: PromotionSpec,
}

/// What is allowed.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PromotionSpec {
    /// Endpoints and unix sockets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleSpec>,
    /// Names that may be asked for, where `names.default` of the role is `baseline`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<NameRule>,
}

/// What the document is called.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// Lower-case letters, digits, `-` and `.`, at most 63, a letter or digit first and last. Unique per kind.
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$"))]
    pub name: Spanned<String>,
    /// Free words for people and dashboards; at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// Who the agent is.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Who answers for it: a mail address, a team.
    pub owner: String,
    /// Quoted, so that YAML does not take it for a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The name of its role; without one it has the built-in role `unregistered`, which only observes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Spanned<String>>,
    /// How it is recognised; any one entry is enough. `chaperone run --agent NAME` works without any.
    #[serde(default, rename = "match", skip_serializing_if = "Vec::is_empty")]
    pub matches: Vec<Spanned<MatchSpec>>,
}

/// One way to recognise an agent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum MatchSpec {
    /// An executable or a `#!` script: absolute path.
    Exe(PathBuf),
    /// A systemd unit: `NAME.service` or `NAME.scope`.
    Unit(String),
    /// A cgroup: absolute path below the hierarchy, without `/sys/fs/cgroup`.
    Cgroup(PathBuf),
    /// A container: its id, or at least its first 12 digits (hexadecimal, lower case).
    Container(String),
}

/// What agents of the role may do.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoleSpec {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub mode: Mode,
    pub network: Network,
    /// What becomes of asking for names; without it every name may be asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Names>,
    /// What is done about acts that are not usual for the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Reactions>,
}

impl RoleSpec {
    /// Whether what is promoted of its baseline counts for it.
    #[must_use]
    pub fn goes_by_baseline(&self) -> bool {
        let names = self.names.as_ref().is_some_and(|names| names.default == Rest::Baseline);
        self.network.default == Rest::Baseline || names
    }
}

vocabulary! {
    /// What becomes of a verdict.
    #[derive(Serialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum Mode {
        /// Nothing is refused and nothing alerts; events carry what the rules would have said.
        Observe = 1 => "observe",
        /// A refusal becomes an alert.
        Alert = 2 => "alert",
        /// The rules are in force.
        Enforce = 3 => "enforce",
    }
}

vocabulary! {
    /// What a rule or a default says.
    #[derive(Serialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum Answer {
        Allow = 1 => "allow",
        /// Allowed, and told as an alert.
        Alert = 2 => "alert",
        Deny = 4 => "deny",
    }
}

vocabulary! {
    /// What becomes of what no rule names.
    #[derive(Serialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum Rest {
        Allow = 1 => "allow",
        /// Allowed, and told as an alert.
        Alert = 2 => "alert",
        Deny = 4 => "deny",
        /// What was promoted of the role's baseline is allowed, the rest refused.
        Baseline = 16 => "baseline",
    }
}

impl Rest {
    /// What becomes of what nothing names, promoted or not.
    #[must_use]
    pub fn answer(self) -> Answer {
        match self {
            Self::Allow => Answer::Allow,
            Self::Alert => Answer::Alert,
            Self::Deny | Self::Baseline => Answer::Deny,
        }
    }
}

vocabulary! {
    /// The protocol of an internet endpoint; the number is the one in the kernel's keys.
    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum Protocol {
        /// ICMP echo sockets (ping) of IPv4 and IPv6; they have no port.
        Icmp = 1 => "icmp",
        /// TCP, and MPTCP.
        Tcp = 6 => "tcp",
        /// UDP, and UDP-Lite.
        Udp = 17 => "udp",
    }
}

impl Protocol {
    /// What rules call the protocol of a socket, as an event names it: the kernel side's `Socket::rule_protocol`.
    #[must_use]
    pub fn of_socket(word: &str) -> Option<Self> {
        match word {
            "tcp" | "mptcp" => Some(Self::Tcp),
            "udp" | "udplite" => Some(Self::Udp),
            "icmp" | "icmpv6" => Some(Self::Icmp),
            _ => None,
        }
    }
}

/// Where agents of the role may send to.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// What becomes of an act that no rule names.
    pub default: Rest,
    /// The default of single kinds of socket, where it differs.
    #[serde(default, skip_serializing_if = "Defaults::is_empty")]
    pub defaults: Defaults,
    /// What becomes of connections that a rule allows by name, by what they say first.
    #[serde(default, skip_serializing_if = "Spoken::is_empty")]
    pub spoken: Spoken,
    /// The most specific rule decides; the order does not matter.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleSpec>,
    /// What rules name that cannot be read otherwise, so that it is checked all the same.
    #[serde(skip)]
    #[schemars(skip)]
    pub unfinished: Vec<Spanned<String>>,
}

/// Which host names agents of the role may ask resolvers for.
///
/// A name that a rule of `network` allows may be asked for; one that such a rule refuses may not, where it is as specific.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Names {
    /// What becomes of a question for a name that the role does not name, and of what cannot be read as a question.
    pub default: Rest,
    /// Names that may be asked for, or may not, beside those of `network`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<NameRule>,
}

/// One rule on asking.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NameRule {
    /// A host name, or `*.` and a name for all below it.
    pub name: Spanned<String>,
    pub verdict: Answer,
    /// Where the rule stands.
    #[serde(skip)]
    #[schemars(skip)]
    pub place: Option<Place>,
}

/// Defaults of single kinds of socket. Those left out follow `network.default`, but for `netlink` (allow) and
/// `routing` (deny as soon as `network.default` is not allow).
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Unix sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unix: Option<Answer>,
    /// Netlink messages to the kernel; those between processes belong to `family`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netlink: Option<Answer>,
    /// Vsock: the hypervisor and sibling machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vsock: Option<Answer>,
    /// Raw internet sockets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw: Option<Answer>,
    /// Packet sockets: whole frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet: Option<Answer>,
    /// Internet protocols other than TCP, UDP and ICMP echo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Answer>,
    /// Every other address family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Answer>,
    /// Source routing: a first hop of the process's choosing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routing: Option<Answer>,
}

impl Defaults {
    /// Whether none is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { unix, netlink, vsock, raw, packet, protocol, family, routing } = self;
        [unix, netlink, vsock, raw, packet, protocol, family, routing].iter().all(|answer| answer.is_none())
    }
}

/// What becomes of a TCP connection that a rule allows by name, by the server name of its TLS ClientHello or the host of
/// its HTTP request.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spoken {
    /// It says another name than the role allows on that port, none, or one that cannot be read. Deny where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mismatch: Option<Answer>,
    /// Its ClientHello carries an encrypted one, whose name nobody on the way can read. Deny where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ech: Option<Answer>,
    /// It speaks neither TLS nor HTTP. Allow where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub other: Option<Answer>,
}

impl Spoken {
    /// Whether nothing is given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { mismatch, ech, other } = self;
        [mismatch, ech, other].iter().all(|answer| answer.is_none())
    }
}

/// One rule.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// An endpoint: address or prefix with ports, `unix:…`, `vsock:…`, `raw:…`, `packet`, … as docs/POLICY.md has it.
    pub to: Spanned<String>,
    /// Without it TCP and UDP, and ICMP where no port is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Spanned<Protocol>>,
    pub verdict: Answer,
    /// Where the rule stands.
    #[serde(skip)]
    #[schemars(skip)]
    pub place: Option<Place>,
}

vocabulary! {
    /// The form of the document.
    #[derive(Serialize, JsonSchema)]
    pub enum ApiVersion {
        #[serde(rename = "chaperone/v1")]
        V1 = 1 => "chaperone/v1",
    }
}

vocabulary! {
    #[derive(Serialize, JsonSchema)]
    pub enum AgentKind { Agent = 1 => "Agent", }
}

vocabulary! {
    #[derive(Serialize, JsonSchema)]
    pub enum RoleKind { Role = 1 => "Role", }
}

vocabulary! {
    #[derive(Serialize, JsonSchema)]
    pub enum PromotionKind { Promotion = 1 => "Promotion", }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    pub value: T,
    pub place: Place,
}

impl<T: Serialize> Serialize for Spanned<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for Spanned<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> std::borrow::Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}
