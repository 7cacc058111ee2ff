//! What identifies agents on this host: files, paths and cgroups, as the registry names them and they lie here now.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use agent_common::{
    identity::{Match, PathKey, match_flags},
    limits,
};
use anyhow::{Result, ensure};

use super::{
    naming::{self, Files},
    patterns::{Known, Pattern, Steps},
    registry::{Agent, MatchSpec, Registry},
};

/// What identifies agents, as it was resolved.
#[derive(Clone, Debug, Default)]
pub struct Identities {
    pub files: BTreeMap<(u64, u32), Match>,
    pub paths: BTreeMap<PathKey, Match>,
    pub basenames: BTreeSet<[u8; limits::BASENAME_BYTES]>,
    /// What ends of paths stand for.
    pub steps: Steps,
    pub cgroup_names: BTreeMap<[u8; limits::CGROUP_NAME_BYTES], Match>,
    /// Paths below the hierarchy's root.
    pub cgroup_paths: BTreeMap<PathKey, Match>,
    /// Live cgroups by id.
    pub cgroups: BTreeMap<u64, Match>,
    /// Where a file that identifies an agent may appear or be replaced.
    pub watched: BTreeSet<PathBuf>,
}

/// What the registry names, as it lies on the host now. A file that is not there is known by its path when it comes.
#[must_use]
pub fn resolve(registry: &Registry, login_programs: &[PathBuf]) -> Identities {
    let files = Files::now();
    let mut found = Identities::default();
    let mut containers = Vec::new();
    let mut patterns = Vec::new();
    let registered = registry.agents().map(|agent| (agent, true));
    for (agent, registered) in registered.chain(registry.unregistered().map(|agent| (agent, false))) {
        for (entry, spec) in agent.matches.iter().enumerate() {
            let mut identity =
                Match { agent: agent.id, role: agent.role_id, entry: entry as u16, flags: 0, generation: 0 };
            match spec {
                MatchSpec::Exe(path) if Pattern::is_meant(path) => {
                    identity.flags = match_flags::PATTERN;
                    patterns.extend(known(agent, path, identity, registered));
                }
                MatchSpec::Exe(path) => found.add_file(&files, path, identity),
                MatchSpec::Unit(unit) => found.add_cgroup_name(unit, identity),
                MatchSpec::Cgroup(path) => {
                    found.cgroup_paths.extend(path_key(path).map(|key| (key, identity)));
                }
                MatchSpec::Container(id) => {
                    identity.flags = match_flags::CONTAINER;
                    found.add_container_names(id, identity);
                    containers.push((id.clone(), identity));
                }
            }
        }
    }
    found.steps = steps(patterns);
    for path in login_programs.iter().filter(|path| path.exists()) {
        let flags = match_flags::LOGIN_PROGRAM;
        // Agent 1 stands for no agent: the flag alone counts.
        found.add_file(&files, path, Match { agent: 1, flags, ..Match::default() });
    }
    if let Ok(root) = naming::cgroup_root() {
        found.add_live_cgroups(&root, &root, None, &containers);
    }
    found
}

fn known(agent: &Agent, path: &Path, found: Match, registered: bool) -> Option<Known> {
    match Pattern::parse(&path.to_string_lossy()) {
        Ok(pattern) => Some(Known { pattern, found, registered }),
        Err(error) => {
            tracing::warn!(agent = agent.name, path = %path.display(), %error, "no path ends in this");
            None
        }
    }
}

/// All patterns; those of registered agents alone where both together are too many.
fn steps(mut patterns: Vec<Known>) -> Steps {
    loop {
        match Steps::of(&patterns) {
            Ok(steps) => return steps,
            Err(error) if patterns.iter().any(|known| !known.registered) => {
                tracing::warn!(%error, "the built-in catalogue has no room beside the registered path patterns");
                patterns.retain(|known| known.registered);
            }
            Err(error) => {
                tracing::warn!(%error, "path patterns recognise nothing");
                return Steps::default();
            }
        }
    }
}

impl Identities {
    /// The agent that a path's end stands for.
    #[must_use]
    pub fn pattern(&self, path: &Path) -> Option<Match> {
        self.steps.find(path)
    }

    /// The agent that a file is, by identity or by path.
    #[must_use]
    pub fn file(&self, key: (u64, u32), path: &Path) -> Option<Match> {
        let by_path = || self.paths.get(&path_key(path)?);
        self.files.get(&key).or_else(by_path).copied()
    }

    /// Adds what another look has found; of what both have, the other's counts.
    pub fn join(&mut self, other: &Self) {
        self.files.extend(&other.files);
        self.paths.extend(&other.paths);
        self.basenames.extend(&other.basenames);
        self.steps.0.extend(&other.steps.0);
        self.cgroup_names.extend(&other.cgroup_names);
        self.cgroup_paths.extend(&other.cgroup_paths);
        self.cgroups.extend(&other.cgroups);
        self.watched.extend(other.watched.iter().cloned());
    }

    /// Whether it fits into the kernel's maps beside as much again, as a change needs it.
    pub fn fits(&self) -> Result<()> {
        let bounds = [
            ("files that are agents", self.files.len(), limits::FILES_MAX, "FILES_MAX"),
            ("paths that are agents", self.paths.len(), limits::PATHS_MAX, "PATHS_MAX"),
            ("names of files that are agents", self.basenames.len(), limits::PATHS_MAX, "PATHS_MAX"),
            ("names of cgroups that are agents", self.cgroup_names.len(), limits::CGROUPS_MAX, "CGROUPS_MAX"),
            ("paths of cgroups that are agents", self.cgroup_paths.len(), limits::CGROUPS_MAX, "CGROUPS_MAX"),
            ("live cgroups of agents", self.cgroups.len(), limits::CGROUPS_LIVE_MAX, "CGROUPS_LIVE_MAX"),
        ];
        for (what, count, max, name) in bounds {
            let max = max as usize / 2;
            ensure!(
                count <= max,
                "the registered agents together have {count} {what}, at most {max} (half of {name}): name fewer in \
                 `match`, or a cgroup that holds several"
            );
        }
        Ok(())
    }

    fn add_file(&mut self, files: &Files, path: &Path, mut identity: Match) {
        self.watched.extend(naming::directories(path));
        self.add_path(path, identity);
        if let Some(file) = files.find(path) {
            self.add_path(&file.canonical, identity);
            identity.generation = file.generation;
            self.files.insert((file.key.ino, file.key.dev), identity);
        }
    }

    fn add_path(&mut self, path: &Path, identity: Match) {
        // What a link leads to may be longer than any key; such a file is known by its identity.
        self.paths.extend(path_key(path).map(|key| (key, identity)));
        if let Some(name) = path.file_name() {
            self.basenames.insert(padded(name.as_bytes()));
        }
    }

    fn add_cgroup_name(&mut self, name: &str, identity: Match) {
        self.cgroup_names.insert(padded(name.as_bytes()), identity);
    }

    /// A whole id says what each runtime will call the container's cgroup, so it is known when it is made. A prefix
    /// is known only where the container already runs.
    fn add_container_names(&mut self, id: &str, identity: Match) {
        if id.len() < CONTAINER_DIGITS {
            return;
        }
        self.add_cgroup_name(id, identity);
        for runtime in CONTAINER_SCOPES {
            self.add_cgroup_name(&format!("{runtime}-{id}.scope"), identity);
        }
    }

    /// Walks the hierarchy: a cgroup is an agent's by its name, its path, its container id, or its parent.
    fn add_live_cgroups(
        &mut self,
        root: &Path,
        directory: &Path,
        inherited: Option<Match>,
        containers: &[(String, Match)],
    ) {
        let name = directory.file_name().unwrap_or_default().as_bytes();
        let below = Path::new("/").join(directory.strip_prefix(root).unwrap_or(directory));
        let mut identity = self.cgroup_names.get(&padded::<{ limits::CGROUP_NAME_BYTES }>(name)).copied();
        identity = identity.or_else(|| self.cgroup_paths.get(&path_key(&below)?).copied());
        if identity.is_none() {
            let text = String::from_utf8_lossy(name);
            identity = containers.iter().find(|(id, _)| contains_id(&text, id)).map(|(_, found)| *found);
            if let Some(identity) = identity {
                // By its whole name from here on, so that it is known at once when it is restarted.
                self.cgroup_names.insert(padded(name), identity);
            }
        }
        let identity = identity.or(inherited);
        if let Some(identity) = identity
            && let Ok(metadata) = std::fs::metadata(directory)
        {
            self.cgroups.insert(metadata.ino(), identity);
        }
        let Ok(children) = std::fs::read_dir(directory) else { return };
        for child in children.flatten() {
            if child.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.add_live_cgroups(root, &child.path(), identity, containers);
            }
        }
    }
}

/// Digits of a whole container id.
const CONTAINER_DIGITS: usize = 64;
/// How runtimes name containers' cgroups where systemd makes them: `NAME-ID.scope`.
const CONTAINER_SCOPES: &[&str] = &["docker", "libpod", "cri-containerd", "crio"];

/// Whether a cgroup's name holds a container's id (`docker-<id>.scope`, `<id>`, `cri-containerd-<id>.scope`).
fn contains_id(name: &str, id: &str) -> bool {
    name.split(['-', '.', ':']).any(|part| part.len() >= 12 && part.starts_with(id))
}

fn path_key(path: &Path) -> Option<PathKey> {
    PathKey::of(path.as_os_str().as_bytes())
}

/// Zero padded; cut so that a closing NUL stays, as bpf_probe_read_kernel_str leaves it.
fn padded<const N: usize>(text: &[u8]) -> [u8; N] {
    let mut bytes = [0; N];
    let kept = text.len().min(N - 1);
    bytes[..kept].copy_from_slice(&text[..kept]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_looks_joined_nothing_is_missing_and_the_later_counts() {
        let found = |agent| Match { agent, ..Match::default() };
        let key = |n: u64| PathKey::of(&n.to_ne_bytes()).unwrap();
        let look = |paths: &[(u64, u32)], cgroups: &[(u64, u32)]| Identities {
            paths: paths.iter().map(|(n, agent)| (key(*n), found(*agent))).collect(),
            cgroups: cgroups.iter().map(|(id, agent)| (*id, found(*agent))).collect(),
            watched: BTreeSet::from([PathBuf::from(format!("/{}", paths.len()))]),
            ..Identities::default()
        };
        let mut joined = look(&[(1, 7), (2, 7)], &[(5, 7)]);
        joined.join(&look(&[(2, 8)], &[(6, 8)]));
        let agents = [key(1), key(2)].map(|key| joined.paths[&key].agent);
        assert_eq!((agents, joined.paths.len()), ([7, 8], 2));
        let agents = [5, 6].map(|id| joined.cgroups[&id].agent);
        assert_eq!((agents, joined.cgroups.len()), ([7, 8], 2));
        assert_eq!(joined.watched.len(), 2);
    }

    #[test]
    fn more_than_fits_is_told_by_name() {
        let mut found = Identities::default();
        let half = limits::PATHS_MAX / 2;
        let key = |n: u32| PathKey::of(&n.to_ne_bytes()).unwrap();
        found.paths = (0..half).map(|n| (key(n), Match::default())).collect();
        assert!(found.fits().is_ok());
        found.paths.insert(key(half), Match::default());
        let error = found.fits().unwrap_err().to_string();
        assert!(error.contains("8193 paths that are agents, at most 8192 (half of PATHS_MAX)"), "{error}");
    }
    /// Two paths with one FNV-1a hash, which took a second to find.
    #[test]
    fn a_path_is_known_by_all_of_it() {
        let registered = Path::new("/opt/invoice-bot/bin/run");
        let made = Path::new(std::ffi::OsStr::from_bytes(b"/tmp/MfGi8\xe4qL3AI\xc8YwZT4\x1abeyMS>/run"));
        let hash = |path: &Path| agent_common::identity::hash_bytes(path.as_os_str().as_bytes());
        assert_eq!(hash(registered), hash(made));
        let mut known = Identities::default();
        known.add_path(registered, Match { agent: 3, ..Match::default() });
        assert_eq!(known.file((1, 1), registered).map(|found| found.agent), Some(3));
        assert_eq!(known.file((1, 1), made), None);
    }
}
