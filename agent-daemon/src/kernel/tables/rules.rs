//! What is allowed: the maps of roles and rules.

use std::collections::{BTreeMap, BTreeSet};

use agent_common::{
    name::{AddressKey, NameKey, NameRuleKey},
    rule::{ExactKey, Policy, PrefixKey, Rule, SocketKey, UnixKey},
};
use anyhow::Result;

use crate::{
    kernel::raw::{Hash, Maps, Trie},
    policy::table::{Diff, Names, Table},
};

/// The maps that say what is allowed.
pub struct Rules {
    roles: Hash<u32, Policy>,
    exact: Hash<ExactKey, Rule>,
    prefixes: Trie<PrefixKey, Rule>,
    unix: Trie<UnixKey, Rule>,
    sockets: Hash<SocketKey, Rule>,
    hosts: Hash<NameKey, u64>,
    by_name: Hash<NameRuleKey, Rule>,
    resolvers: Hash<AddressKey, u32>,
    /// Without names.
    in_force: Table,
}

impl Rules {
    /// Opens the maps. What is in them, after a daemon before this one, counts as in force.
    pub fn take(maps: &mut Maps<'_>) -> Result<Self> {
        let mut rules = Self {
            roles: Hash::take(maps, "ROLES")?,
            exact: Hash::take(maps, "EXACT_RULES")?,
            prefixes: Trie::take(maps, "PREFIX_RULES")?,
            unix: Trie::take(maps, "UNIX_RULES")?,
            sockets: Hash::take(maps, "SOCKET_RULES")?,
            hosts: Hash::take(maps, "NAME_IDS")?,
            by_name: Hash::take(maps, "NAME_RULES")?,
            resolvers: Hash::take(maps, "RESOLVERS")?,
            in_force: Table::default(),
        };
        rules.in_force = rules.lies_there();
        Ok(rules)
    }

    /// The policy as the maps have it.
    fn lies_there(&self) -> Table {
        Table {
            roles: self.roles.entries().into_iter().collect(),
            exact: self.exact.entries().into_iter().collect(),
            prefixes: self.prefixes.entries().into_iter().collect(),
            unix: self.unix.entries().into_iter().collect(),
            sockets: self.sockets.entries().into_iter().collect(),
            hosts: self.hosts.entries().into_iter().collect(),
            by_name: self.by_name.entries().into_iter().collect(),
            names: Names::default(),
        }
    }

    /// Puts a policy in force: its rules are written beside the old ones, then each role is pointed at them with one
    /// write, then the old rules go. Where a rule's write fails the roles still point at their old rules; where a role's
    /// does, some point at the new ones, and putting the old policy in force again points them back.
    pub fn apply(&mut self, table: &Table) -> Result<()> {
        let diff = table.diff(&self.in_force);
        let written = self.write(&diff);
        // After half of it the maps hold neither policy: what comes next must know what there is to mend.
        self.in_force = if written.is_ok() { table.numbers() } else { self.lies_there() };
        written
    }

    fn write(&mut self, diff: &Diff) -> Result<()> {
        for (key, rule) in &diff.add.exact {
            self.exact.put(*key, *rule)?;
        }
        for ((bits, key), rule) in &diff.add.prefixes {
            self.prefixes.put(*bits, *key, *rule)?;
        }
        for ((bits, key), rule) in &diff.add.unix {
            self.unix.put(*bits, *key, *rule)?;
        }
        for (key, rule) in &diff.add.sockets {
            self.sockets.put(*key, *rule)?;
        }
        for (key, rule) in &diff.add.by_name {
            self.by_name.put(*key, *rule)?;
        }
        for (name, id) in &diff.add.hosts {
            self.hosts.put(*name, *id)?;
        }
        for (role, policy) in &diff.add.roles {
            self.roles.put(*role, *policy)?;
        }
        for role in &diff.remove.roles {
            self.roles.remove(*role)?;
        }
        for key in &diff.remove.exact {
            self.exact.remove(*key)?;
        }
        for (bits, key) in &diff.remove.prefixes {
            self.prefixes.remove(*bits, *key)?;
        }
        for (bits, key) in &diff.remove.unix {
            self.unix.remove(*bits, *key)?;
        }
        for key in &diff.remove.sockets {
            self.sockets.remove(*key)?;
        }
        for key in &diff.remove.by_name {
            self.by_name.remove(*key)?;
        }
        for name in &diff.remove.hosts {
            self.hosts.remove(*name)?;
        }
        Ok(())
    }

    /// Makes these the servers whose answers count: the new ones before the old ones go.
    pub fn resolve_by(&mut self, keys: &BTreeSet<AddressKey>) -> Result<()> {
        let put = keys.iter().try_for_each(|key| self.resolvers.put(*key, 1));
        // Those that are not configured any more go in any case.
        for (key, _) in self.resolvers.entries() {
            if !keys.contains(&key) {
                self.resolvers.remove(key)?;
            }
        }
        put
    }

    pub fn roles(&self) -> BTreeMap<u32, Policy> {
        self.roles.entries().into_iter().collect()
    }
}
