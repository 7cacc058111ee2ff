//! The only writer of policy and identity maps: of those that say who is an agent here, of the others in `rules`.

pub mod rules;

use std::{collections::BTreeSet, path::PathBuf};

use agent_common::identity::{
    Basename, CgroupAgent, CgroupName, FileKey, Match, PathKey, SuffixKey, SuffixStep,
};
use anyhow::Result;

use super::raw::{Hash, Maps};
use crate::identity::{
    identified::{Identities, resolve},
    patterns::Steps,
    registry::Registry,
};

/// The maps that say who is an agent.
pub struct Tables {
    files: Hash<FileKey, Match>,
    paths: Hash<PathKey, Match>,
    basenames: Hash<Basename, u32>,
    suffixes: Hash<SuffixKey, SuffixStep>,
    cgroup_names: Hash<CgroupName, Match>,
    cgroup_paths: Hash<PathKey, Match>,
    cgroups: Hash<u64, CgroupAgent>,
    identified: Identities,
}

impl Tables {
    /// Opens the maps. What is in them, after a daemon before this one, counts as in force.
    pub fn take(maps: &mut Maps<'_>) -> Result<Self> {
        let mut tables = Self {
            files: Hash::take(maps, "FILES")?,
            paths: Hash::take(maps, "PATHS")?,
            basenames: Hash::take(maps, "BASENAMES")?,
            suffixes: Hash::take(maps, "SUFFIXES")?,
            cgroup_names: Hash::take(maps, "CGROUP_NAMES")?,
            cgroup_paths: Hash::take(maps, "CGROUP_PATHS")?,
            cgroups: Hash::take(maps, "CGROUPS")?,
            identified: Identities::default(),
        };
        tables.adopt();
        Ok(tables)
    }

    fn adopt(&mut self) {
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

    pub fn identified(&self) -> &Identities {
        &self.identified
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
