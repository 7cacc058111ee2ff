//! The compiled policy of all roles: what lies in the kernel's maps, and what people call it.

use std::collections::BTreeMap;

use agent_common::{
    limits::UNIX_PATH_BYTES,
    name::{NameKey, NameRuleKey},
    rule::{ExactKey, Policy, PrefixKey, Rule, SocketKey, UNIX_NAME_BYTES, UnixKey, absent},
};

use crate::{
    config::{problem::Place, reaction::Reactions},
    event::Name,
};

/// The content of the policy maps, each field its map, and the names of what is in it.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Role id → what is in force for it.
    pub roles: BTreeMap<u32, Policy>,
    pub exact: BTreeMap<ExactKey, Rule>,
    /// By prefix length, the 64 bits before the address included.
    pub prefixes: BTreeMap<(u32, PrefixKey), Rule>,
    /// By prefix length, the 32 bits of the policy id included; an exact name has the length of the whole key.
    pub unix: BTreeMap<(u32, UnixKey), Rule>,
    pub sockets: BTreeMap<SocketKey, Rule>,
    /// Host names and wildcards of all roles → the number that `by_name` knows them by.
    pub hosts: BTreeMap<NameKey, u64>,
    pub by_name: BTreeMap<NameRuleKey, Rule>,
    pub names: Names,
}

/// What people call the numbers of a table.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Role id → role.
    pub roles: BTreeMap<u32, String>,
    /// Policy id → role id. A policy belongs to one role only.
    pub policies: BTreeMap<u32, u32>,
    /// (Policy id, [`Rule::index`]) → the rule as it was written.
    pub rules: BTreeMap<(u32, u16), RuleText>,
    /// Roles that go by their baseline → the file of what was promoted; none where nothing was.
    pub by_baseline: BTreeMap<String, Option<Name>>,
    /// Role id → what is done about findings.
    pub reactions: BTreeMap<u32, Reactions>,
}

impl Names {
    /// The version of the promotion that is in force of each role that goes by its baseline; 0 for none, or one that
    /// has no number.
    pub fn promoted(&self) -> impl Iterator<Item = (&str, u32)> {
        self.by_baseline.iter().map(|(role, file)| {
            let number =
                file.as_ref().and_then(|file| file.rsplit('/').next()?.strip_suffix(".yaml")?.parse().ok());
            (role.as_str(), number.unwrap_or(0))
        })
    }
}

/// A rule as it was written.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RuleText {
    /// One line: `10.20.0.0/16:5432 tcp allow`.
    pub text: Name,
    #[serde(flatten)]
    pub place: Place,
    /// It names a host.
    #[serde(skip)]
    pub by_name: bool,
    /// It was promoted from a baseline.
    #[serde(skip)]
    pub promoted: bool,
}

impl RuleText {
    /// A rule of people's own that names no host.
    #[must_use]
    pub fn new(text: impl Into<Name>, place: &Place) -> Self {
        Self { text: text.into(), place: place.clone(), by_name: false, promoted: false }
    }
}

impl Table {
    /// The rule that a decision under a policy names.
    #[must_use]
    pub fn rule(&self, policy: u32, index: u16) -> Option<&RuleText> {
        self.names.rules.get(&(policy, index))
    }

    /// The same without its names, which take more room than all the rest.
    #[must_use]
    pub fn numbers(&self) -> Self {
        Self {
            roles: self.roles.clone(),
            exact: self.exact.clone(),
            prefixes: self.prefixes.clone(),
            unix: self.unix.clone(),
            sockets: self.sockets.clone(),
            hosts: self.hosts.clone(),
            by_name: self.by_name.clone(),
            names: Names::default(),
        }
    }

    /// Whether a role says anything of names, so that questions and answers have to be read.
    #[must_use]
    pub fn reads_names(&self) -> bool {
        self.roles.values().any(|policy| policy.absent & absent::ASKING == 0)
    }

    /// What wants them read, for people: the first rule that names a host, or a role that says which may be asked for.
    #[must_use]
    pub fn names_wanted_by(&self) -> String {
        let named = self.by_name.iter().filter_map(|(key, rule)| self.rule(key.policy, rule.index));
        if let Some(rule) = named.min_by_key(|rule| &rule.place) {
            return format!("{}: the rule `{}` names a host", rule.place, rule.text);
        }
        let asking = self.roles.iter().find(|(_, policy)| policy.absent & absent::ASKING == 0);
        let role = asking.and_then(|(role, _)| self.names.roles.get(role));
        format!("the role `{}` says which names may be asked for", role.map_or("", String::as_str))
    }

    /// What must be written and removed to get from `old` to this table.
    ///
    /// Writing `add` (its rules before its roles) and then removing `remove` never leaves a role between two
    /// policies: a changed role has a new policy id, under which all its rules lie before the role points to it.
    #[must_use]
    pub fn diff(&self, old: &Self) -> Diff {
        Diff {
            add: Self {
                roles: added(&self.roles, &old.roles),
                exact: added(&self.exact, &old.exact),
                prefixes: added(&self.prefixes, &old.prefixes),
                unix: added(&self.unix, &old.unix),
                sockets: added(&self.sockets, &old.sockets),
                hosts: added(&self.hosts, &old.hosts),
                by_name: added(&self.by_name, &old.by_name),
                names: Names::default(),
            },
            remove: Keys {
                roles: gone(&self.roles, &old.roles),
                exact: gone(&self.exact, &old.exact),
                prefixes: gone(&self.prefixes, &old.prefixes),
                unix: gone(&self.unix, &old.unix),
                sockets: gone(&self.sockets, &old.sockets),
                hosts: gone(&self.hosts, &old.hosts),
                by_name: gone(&self.by_name, &old.by_name),
            },
        }
    }
}

impl Table {
    /// A role whose policy has the id of another content that `old` holds: written beside it, the two would be mixed.
    #[must_use]
    pub fn collides(&self, old: &Self) -> Option<&str> {
        let Diff { add, remove } = self.diff(old);
        // Under an id that both have, the same content is no difference; so any difference is another content.
        let ids = add.roles.values().map(|policy| policy.id);
        let ids = ids.chain(add.exact.keys().chain(&remove.exact).map(|key| key.policy));
        let ids = ids.chain(add.sockets.keys().chain(&remove.sockets).map(|key| key.policy));
        let ids = ids.chain(add.by_name.keys().chain(&remove.by_name).map(|key| key.policy));
        let ids = ids.chain(add.prefixes.keys().chain(&remove.prefixes).map(|(_, key)| key.policy));
        let mut ids = ids.chain(add.unix.keys().chain(&remove.unix).map(|(_, key)| key.policy));
        let id =
            ids.find(|id| old.names.policies.contains_key(id) && self.names.policies.contains_key(id))?;
        let role = self.names.policies.get(&id)?;
        self.names.roles.get(role).map(String::as_str)
    }
}

/// The difference of two tables.
#[derive(Clone, Debug, Default)]
pub struct Diff {
    /// Entries that are new or have another value; without names.
    pub add: Table,
    /// Keys that are no longer there.
    pub remove: Keys,
}

impl Diff {
    /// Whether the tables are the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Table { roles, exact, prefixes, unix, sockets, hosts, by_name, names: _ } = &self.add;
        let nothing_to_add = roles.is_empty()
            && exact.is_empty()
            && prefixes.is_empty()
            && unix.is_empty()
            && sockets.is_empty()
            && hosts.is_empty()
            && by_name.is_empty();
        nothing_to_add && self.remove == Keys::default()
    }
}

/// Keys of a table's maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    pub roles: Vec<u32>,
    pub exact: Vec<ExactKey>,
    pub prefixes: Vec<(u32, PrefixKey)>,
    pub unix: Vec<(u32, UnixKey)>,
    pub sockets: Vec<SocketKey>,
    pub hosts: Vec<NameKey>,
    pub by_name: Vec<NameRuleKey>,
}

/// A unix socket's name as a key has it, padded with NUL.
#[must_use]
pub fn unix_bytes(name: &[u8]) -> [u8; UNIX_NAME_BYTES] {
    let mut bytes = [0; UNIX_NAME_BYTES];
    let kept = name.len().min(UNIX_NAME_BYTES);
    bytes[..kept].copy_from_slice(&name[..kept]);
    bytes
}

/// The key bytes of one very name: its length is the last byte, since an abstract name may end in NULs of its own.
#[must_use]
pub fn unix_exact(name: &[u8]) -> [u8; UNIX_NAME_BYTES] {
    let mut bytes = unix_bytes(name);
    bytes[UNIX_NAME_BYTES - 1] = name.len().min(UNIX_PATH_BYTES) as u8;
    bytes
}

fn added<K: Ord + Copy, V: PartialEq + Copy>(new: &BTreeMap<K, V>, old: &BTreeMap<K, V>) -> BTreeMap<K, V> {
    new.iter().filter(|(key, value)| old.get(key) != Some(value)).map(|(key, value)| (*key, *value)).collect()
}

fn gone<K: Ord + Copy, V>(new: &BTreeMap<K, V>, old: &BTreeMap<K, V>) -> Vec<K> {
    old.keys().filter(|key| !new.contains_key(key)).copied().collect()
}

/// Bits of a [`UnixKey`] before the name.
pub const UNIX_KEY_HEAD_BITS: u32 = 32;
