//! Cgroup ids and the paths, containers and units behind them.

use super::ids::IdMap;
use crate::event::Name;

/// A cgroup of the unified hierarchy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Path below the root of the hierarchy.
    pub path: Name,
    pub container: Option<Name>,
    pub unit: Option<Name>,
}

/// Paths by cgroup id, filled at start and as cgroups are created.
#[derive(Debug, Default)]
pub struct Cgroups {
    by_id: IdMap<u64, Cgroup>,
    missed: bool,
}

impl Cgroups {
    /// Notes a cgroup's path. A cgroup of the same id that is gone is replaced.
    pub fn insert(&mut self, id: u64, path: &str) {
        if self.by_id.len() >= CGROUPS_MAX && !self.by_id.contains_key(&id) {
            // Most are of cgroups long gone; those still in use come back with the walk that the next miss asks for.
            self.by_id.clear();
        }
        let cgroup = Cgroup {
            path: Name::from(path),
            container: container(path).map(Name::from),
            unit: unit(path).map(Name::from),
        };
        self.by_id.insert(id, cgroup);
    }

    /// The cgroup of this id; `None` when it was never seen, which asks for a walk.
    pub fn at(&mut self, id: u64) -> Option<&Cgroup> {
        let found = self.by_id.get(&id);
        self.missed |= found.is_none() && id != 0;
        found
    }

    /// Whether an id was asked for that is not known, since the last call.
    pub fn take_missed(&mut self) -> bool {
        std::mem::take(&mut self.missed)
    }

    /// How many are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

/// The id of the container that a cgroup path belongs to: the innermost one.
#[must_use]
pub fn container(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(|component| {
        let name = component.strip_suffix(".scope").unwrap_or(component);
        if let Some(name) = component.strip_prefix("lxc.payload.") {
            return Some(name);
        }
        let id = RUNTIMES.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
        (id.len() == CONTAINER_ID_CHARS && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
    })
}

/// The systemd unit that a cgroup path belongs to: the innermost service or scope.
#[must_use]
pub fn unit(path: &str) -> Option<&str> {
    path.rsplit('/').find(|component| component.ends_with(".service") || component.ends_with(".scope"))
}

/// What container runtimes put before the id in a scope's name.
const RUNTIMES: &[&str] =
    &["docker-", "cri-containerd-", "libpod-", "crio-", "podman-", "nerdctl-", "containerd-"];

/// Docker, containerd, CRI-O and podman all name containers by 256 random bits.
const CONTAINER_ID_CHARS: usize = 64;

/// More than hosts have (Kubernetes: some hundred pods); about 20 MB at worst.
pub const CGROUPS_MAX: usize = 65_536;
