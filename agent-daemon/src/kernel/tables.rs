//! The only writer of policy and identity maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
};

use agent_common::{
    identity::{Basename, CgroupAgent, CgroupName, FileKey, Match, SuffixKey, SuffixStep},
    name::{AddressKey, NameKey, NameRuleKey},
    rule::{ExactKey, Policy, PrefixKey, Rule, SocketKey, UnixKey},
};
use anyhow::Result;

use super::raw::{Hash, Maps, Trie};
use crate::{
    identity::{
        identified::{Identities, resolve},
        patterns::Steps,
        registry::Registry,
    },
    policy::{
        address::address_bytes,
        table::{Names, Table},
    },
};

/// The maps that this file writes.
pub struct Tables {
    roles: Hash<u32, Policy>,
    exact: Hash<ExactKey, Rule>,
    prefixes: Trie<PrefixKey, Rule>,
    unix: Trie<UnixKey, Rule>,
    sockets: Hash<SocketKey, Rule>,
    hosts: Hash<NameKey, u64>,
    by_name: Hash<NameRuleKey, Rule>,
    resolvers: Hash<AddressKey, u32>,
    files: Hash<FileKey, Match>,
    paths: Hash<u64, Match>,
    basenames: Hash<Basename, u32>,
    suffixes: Hash<SuffixKey, SuffixStep>,
    cgroup_names: Hash<CgroupName, Match>,
    cgroup_paths: Hash<u64, Match>,
    cgroups: Hash<u64, CgroupAgent>,
    in_force: Table,
    identified: Identities,
}

impl Tables {
    /// Opens the maps. What is in them, after a daemon before this one, counts as in force.
    pub fn take(maps: &mut Maps<'_>) -> Result<Self> {
        let mut tables = Self {
            roles: Hash::take(maps, "ROLES")?,
            exact: Hash::take(maps, "EXACT_RULES")?,
            prefixes: Trie::take(maps, "PREFIX_RULES")?,
            unix: Trie::take(maps, "UNIX_RULES")?,
            sockets: Hash::take(maps, "SOCKET_RULES")?,
            hosts: Hash::take(maps, "NAME_IDS")?,
            by_name: Hash::take(maps, "NAME_RULES")?,
            resolvers: Hash::take(maps, "RESOLVERS")?,
            files: Hash::take(maps, "FILES")?,
            paths: Hash::take(maps, "PATHS")?,
            basenames: Hash::take(maps, "BASENAMES")?,
            suffixes: Hash::take(maps, "SUFFIXES")?,
            cgroup_names: Hash::take(maps, "CGROUP_NAMES")?,
            cgroup_paths: Hash::take(maps, "CGROUP_PATHS")?,
            cgroups: Hash::take(maps, "CGROUPS")?,
            in_force: Table::default(),
            identified: Identities::default(),
        };
        tables.adopt();
        Ok(tables)
    }

    fn adopt(&mut self) {
        self.in_force = Table {
            roles: self.roles.entries().into_iter().collect(),
            exact: self.exact.entries().into_iter().collect(),
            prefixes: self.prefixes.entries().into_iter().collect(),
            unix: self.unix.entries().into_iter().collect(),
            sockets: self.sockets.entries().into_iter().collect(),
            hosts: self.hosts.entries().into_iter().collect(),
            by_name: self.by_name.entries().into_iter().collect(),
            names: Names::default(),
        };
        let files = self.files.entries().into_iter();
        let cgroups = self.cgroups.entries().into_iter();
        self.identified = Identities {
            files: files.map(|(key, found)| ((key.ino, key.dev), found)).collect(),
            paths: self.paths.entries().into_iter().collect(),
            basenames: self.basenames.entries().into_iter().map(|(name, _)| name.0).collect(),
            steps: Steps(self.suffixes.entries().into_iter().collect()),
            cgroup_names: self
                .cgroup_names
                .entries()
                .into_iter()
                .map(|(name, found)| (name.0, found))
                .collect(),
            cgroup_paths: self.cgroup_paths.entries().into_iter().collect(),
            cgroups: cgroups.map(|(id, entry)| (id, entry.found)).collect(),
            watched: BTreeSet::new(),
        };
    }

    /// Puts a policy in force: its rules are written beside the old ones, then each role is pointed at them with one
    /// write, then the old rules go. Where a write fails the roles still point at their old rules.
    pub fn apply(&mut self, table: &Table) -> Result<()> {
        let diff = table.diff(&self.in_force);
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
        self.in_force = table.clone();
        Ok(())
    }

    /// Whether what identifies agents will fit beside what does now.
    pub fn has_room(&self, registry: &Registry, login_programs: &[PathBuf]) -> Result<()> {
        resolve(registry, login_programs).fits()
    }

    /// Points the identity maps at what the registry names, as it lies on the host now.
    pub fn identify(&mut self, registry: &Registry, login_programs: &[PathBuf]) -> Result<()> {
        let new = resolve(registry, login_programs);
        new.fits()?;
        let old = std::mem::take(&mut self.identified);
        for (key, found) in &new.files {
            self.files.put(file_key(*key), *found)?;
        }
        for (hash, found) in &new.paths {
            self.paths.put(*hash, *found)?;
        }
        for name in &new.basenames {
            self.basenames.put(Basename(*name), 1)?;
        }
        // What begins at a file's name, state 0, leads nowhere that is not there yet.
        for (key, step) in new.steps.0.iter().rev() {
            self.suffixes.put(*key, *step)?;
        }
        for (name, found) in &new.cgroup_names {
            self.cgroup_names.put(CgroupName(*name), *found)?;
        }
        for (hash, found) in &new.cgroup_paths {
            self.cgroup_paths.put(*hash, *found)?;
        }
        for (id, found) in &new.cgroups {
            let instance = self.cgroups.get(*id)?.map_or(0, |entry| entry.instance);
            self.cgroups.put(*id, CgroupAgent { found: *found, instance })?;
        }
        for key in old.files.keys().filter(|key| !new.files.contains_key(key)) {
            self.files.remove(file_key(*key))?;
        }
        for hash in old.paths.keys().filter(|hash| !new.paths.contains_key(hash)) {
            self.paths.remove(*hash)?;
        }
        for name in old.basenames.iter().filter(|name| !new.basenames.contains(*name)) {
            self.basenames.remove(Basename(*name))?;
        }
        for key in old.steps.0.keys().filter(|key| !new.steps.0.contains_key(key)) {
            self.suffixes.remove(*key)?;
        }
        for name in old.cgroup_names.keys().filter(|name| !new.cgroup_names.contains_key(*name)) {
            self.cgroup_names.remove(CgroupName(*name))?;
        }
        for hash in old.cgroup_paths.keys().filter(|hash| !new.cgroup_paths.contains_key(hash)) {
            self.cgroup_paths.remove(*hash)?;
        }
        for id in old.cgroups.keys().filter(|id| !new.cgroups.contains_key(id)) {
            self.cgroups.remove(*id)?;
        }
        self.identified = new;
        Ok(())
    }

    /// Makes these the servers whose answers count: the new ones before the old ones go.
    pub fn resolve_by(&mut self, netns: u64, servers: &BTreeSet<IpAddr>) -> Result<()> {
        let keys: BTreeSet<AddressKey> =
            servers.iter().map(|server| AddressKey { netns, address: address_bytes(*server) }).collect();
        for key in &keys {
            self.resolvers.put(*key, 1)?;
        }
        for (key, _) in self.resolvers.entries() {
            if !keys.contains(&key) {
                self.resolvers.remove(key)?;
            }
        }
        Ok(())
    }

    pub fn identified(&self) -> &Identities {
        &self.identified
    }

    pub fn roles(&self) -> BTreeMap<u32, Policy> {
        self.roles.entries().into_iter().collect()
    }
}

fn file_key((ino, dev): (u64, u32)) -> FileKey {
    FileKey { ino, dev, generation: 0 }
}
