//! The only writer of policy and identity maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use agent_common::{
    identity::{Basename, CgroupAgent, CgroupName, FileKey, Match, PathKey, SuffixKey, SuffixStep},
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
    policy::table::{Diff, Names, Table},
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
    paths: Hash<PathKey, Match>,
    basenames: Hash<Basename, u32>,
    suffixes: Hash<SuffixKey, SuffixStep>,
    cgroup_names: Hash<CgroupName, Match>,
    cgroup_paths: Hash<PathKey, Match>,
    cgroups: Hash<u64, CgroupAgent>,
    /// Without names.
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
        self.in_force = self.lies_there();
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

    /// Whether what identifies agents will fit beside what does now.
    pub fn has_room(&self, registry: &Registry, login_programs: &[PathBuf]) -> Result<()> {
        resolve(registry, login_programs).fits()
    }

    /// Points the identity maps at what the registry names, as it lies on the host now.
    pub fn identify(&mut self, registry: &Registry, login_programs: &[PathBuf]) -> Result<()> {
        let new = resolve(registry, login_programs);
        new.fits()?;
        let old = self.identified.clone();
        // Until all is written: what an error leaves behind is removed by the next look.
        self.identified.join(&new);
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
        for id in strangers(&self.cgroups.entries(), registry) {
            self.cgroups.remove(id)?;
        }
        self.identified = new;
        Ok(())
    }

    /// Notes which instance runs in a container, so that who enters it later is not taken for it.
    pub fn note_container(&mut self, cgroup: u64, instance: u64) -> Result<()> {
        match self.cgroups.get(cgroup)? {
            Some(entry) if entry.instance == 0 => self.cgroups.put(cgroup, CgroupAgent { instance, ..entry }),
            _ => Ok(()),
        }
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

    pub fn identified(&self) -> &Identities {
        &self.identified
    }

    pub fn roles(&self) -> BTreeMap<u32, Policy> {
        self.roles.entries().into_iter().collect()
    }
}

/// Cgroups of agents that nobody knows any more: the kernel side takes up what is made below an agent's or has its name,
/// also since the last look, of which this side knows nothing.
fn strangers(cgroups: &[(u64, CgroupAgent)], registry: &Registry) -> Vec<u64> {
    cgroups.iter().filter(|(_, entry)| !registry.knows(entry.found.agent)).map(|(id, _)| *id).collect()
}

fn file_key((ino, dev): (u64, u32)) -> FileKey {
    FileKey { ino, dev, generation: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::catalogue;

    #[test]
    fn a_cgroup_whose_agent_was_removed_is_nobodys_also_where_the_kernel_side_took_it_up() {
        let known = catalogue::known().unwrap();
        let mut registry = Registry::default();
        registry.recognise_too(&known);
        let cgroup = |agent| CgroupAgent { found: Match { agent, ..Match::default() }, instance: 0 };
        let cgroups = [(1, cgroup(known[0].id)), (2, cgroup(0)), (3, cgroup(known[1].id))];
        assert_eq!(strangers(&cgroups, &registry), [2]);
        registry.recognise_too(&known[..1]);
        assert_eq!(strangers(&cgroups, &registry), [2, 3]);
    }
}
