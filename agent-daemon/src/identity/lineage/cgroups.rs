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
    by_id: IdMap<u64, (Cgroup, Sweep)>,
    missed: bool,
    sweeps: Sweep,
    /// How many lived at the last sweep, and how many have come since.
    lived: usize,
    came: usize,
}

/// Counts walks that end in forgetting: of each cgroup, after which it was last known to live.
type Sweep = u32;

impl Cgroups {
    /// Notes a cgroup's path. A cgroup of the same id that is gone is replaced.
    pub fn insert(&mut self, id: u64, path: &str) {
        if self.by_id.len() >= CGROUPS_MAX && !self.by_id.contains_key(&id) {
            self.by_id.retain(|_, (_, seen)| *seen == self.sweeps);
        }
        if self.by_id.len() >= CGROUPS_MAX && !self.by_id.contains_key(&id) {
            // So many within one round: those still in use come back with the walk that the next miss asks for.
            self.by_id.clear();
        }
        let cgroup = Cgroup {
            path: Name::from(path),
            container: container(path).map(Name::from),
            unit: unit(path).map(Name::from),
        };
        self.came += usize::from(self.by_id.insert(id, (cgroup, self.sweeps)).is_none());
    }

    /// Whether so many came since the last sweep that a walk is worth it; then every cgroup that lives is to be
    /// inserted again, and [`Self::end_sweep`] called.
    pub fn begin_sweep(&mut self) -> bool {
        let worth = self.came > self.lived + SWEEP_MIN;
        self.sweeps += Sweep::from(worth);
        worth
    }

    /// Forgets what was there neither at this sweep's walk nor since the one before: of one that has just gone, events
    /// may wait.
    pub fn end_sweep(&mut self) {
        self.by_id.retain(|_, (_, seen)| *seen + 1 >= self.sweeps);
        self.lived = self.by_id.values().filter(|(_, seen)| *seen == self.sweeps).count();
        self.came = 0;
    }

    /// The cgroup of this id; `None` when it was never seen, which asks for a walk.
    pub fn at(&mut self, id: u64) -> Option<&Cgroup> {
        let found = self.by_id.get(&id).map(|(cgroup, _)| cgroup);
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

/// For fewer than these, forgetting is not worth a walk.
const SWEEP_MIN: usize = 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroups_that_are_gone_are_forgotten_a_sweep_later() {
        let mut cgroups = Cgroups::default();
        let mut swept = 0;
        for id in 0..100_000_u64 {
            cgroups.insert(id, "/a.scope");
            if cgroups.begin_sweep() {
                swept += 1;
                // Ten live, and none of the others.
                (0..10).for_each(|id| cgroups.insert(id, "/a.scope"));
                cgroups.end_sweep();
                assert!(cgroups.at(id).is_some() && cgroups.at(0).is_some());
            }
        }
        assert!((2..100).contains(&swept), "{swept}");
        assert!(cgroups.len() < 4_000, "{}", cgroups.len());
        assert!(cgroups.at(100).is_none());
    }
}
