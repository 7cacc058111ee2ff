//! Program images by exec id, so that later events of a process can name its executable.

use std::collections::{BTreeSet, VecDeque};

use super::ids::IdMap;
use crate::event::Name;

/// What a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub exe: Name,
    pub script: Option<Name>,
    /// The process that executed it; its children may run it too.
    pub pid: u32,
    /// Whether an agent runs it.
    pub agent: bool,
}

impl Image {
    /// What was executed: the script where there is one.
    #[must_use]
    pub fn program(&self) -> Name {
        self.script.as_ref().unwrap_or(&self.exe).clone()
    }
}

/// Images that live processes run, and the latest of those that no longer do.
#[derive(Debug, Default)]
pub struct Images {
    by_exec: IdMap<u64, Known>,
    /// What each process executed last: it runs that and nothing before it.
    by_pid: IdMap<u32, u64>,
    /// Exec ids that their own process no longer runs; children that it forked may still run the image, so it stays for
    /// a while. Of agents, and of others: what people and the system start must not push out what an agent left behind.
    ended: [VecDeque<u64>; 2],
    inserted: u64,
}

#[derive(Debug)]
struct Known {
    image: Image,
    ended: bool,
    /// Counts images as they come: exec ids have no order among CPUs.
    at: u64,
}

impl Images {
    /// Notes the image of an exec, in place of what the same process ran before it.
    pub fn insert(&mut self, exec_id: u64, image: Image) {
        if let Some(former) = self.by_pid.get(&image.pid).copied().filter(|former| *former != exec_id) {
            self.ended(former, image.pid);
        }
        if self.by_exec.len() >= IMAGES_MAX && !self.by_exec.contains_key(&exec_id) {
            self.make_room();
            if self.by_exec.len() >= IMAGES_MAX {
                return;
            }
        }
        self.by_pid.insert(image.pid, exec_id);
        self.inserted += 1;
        self.by_exec.insert(exec_id, Known { image, ended: false, at: self.inserted });
    }

    /// Notes that a process ended, or runs another image by now.
    pub fn ended(&mut self, exec_id: u64, pid: u32) {
        let Some(known) = self.by_exec.get_mut(&exec_id).filter(|k| k.image.pid == pid && !k.ended) else {
            return;
        };
        known.ended = true;
        let queue = usize::from(known.image.agent);
        self.ended[queue].push_back(exec_id);
        if self.by_pid.get(&pid) == Some(&exec_id) {
            self.by_pid.remove(&pid);
        }
        while self.ended[queue].len() > ENDED_MAX {
            // One that was told again since then runs: what waited for a daemon is older than what /proc showed it.
            if let Some(oldest) = self.ended[queue].pop_front()
                && self.by_exec.get(&oldest).is_some_and(|known| known.ended)
            {
                self.by_exec.remove(&oldest);
            }
        }
    }

    /// Notes which processes there are: the exits of people's and the system's are not told, and any may be lost.
    pub fn sweep(&mut self, alive: &BTreeSet<u32>) {
        let gone: Vec<(u32, u64)> = self
            .by_pid
            .iter()
            .filter(|(pid, _)| !alive.contains(pid))
            .map(|(pid, exec_id)| (*pid, *exec_id))
            .collect();
        for (pid, exec_id) in gone {
            self.ended(exec_id, pid);
        }
    }

    /// Forgets some: what nobody runs any more as far as is known, then what people and the system run, the oldest
    /// first. What a live agent runs stays. Whose image is forgotten has no `exe` in its next events: nothing depends
    /// on it.
    fn make_room(&mut self) {
        let may_go = self.by_exec.iter().filter(|(_, known)| known.ended || !known.image.agent);
        let mut may_go: Vec<(bool, u64, u64)> =
            may_go.map(|(exec_id, known)| (!known.ended, known.at, *exec_id)).collect();
        may_go.sort_unstable();
        // Many at a time, so that not every exec from here on has to look through all.
        for (_, _, exec_id) in may_go.into_iter().take(ROOM) {
            if let Some(known) = self.by_exec.remove(&exec_id)
                && self.by_pid.get(&known.image.pid) == Some(&exec_id)
            {
                self.by_pid.remove(&known.image.pid);
            }
        }
        for queue in &mut self.ended {
            queue.retain(|exec_id| self.by_exec.get(exec_id).is_some_and(|known| known.ended));
        }
    }

    /// The image of this exec id.
    #[must_use]
    pub fn of(&self, exec_id: u64) -> Option<&Image> {
        self.by_exec.get(&exec_id).map(|known| &known.image)
    }

    /// How many are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_exec.len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_exec.is_empty()
    }
}

/// As many as a large host has processes; about 200 bytes each.
pub const IMAGES_MAX: usize = 131_072;

/// Images kept after their process ended, of agents and of others.
const ENDED_MAX: usize = 8_192;

/// Images that go at a time when there are too many.
const ROOM: usize = IMAGES_MAX / 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn image(pid: u32, agent: bool) -> Image {
        Image { exe: "/bin/x".into(), script: None, pid, agent }
    }

    #[test]
    fn of_a_chain_of_execs_within_one_process_the_last_is_kept_and_the_others_go_in_time() {
        let mut images = Images::default();
        for exec_id in 1..=100_000 {
            images.insert(exec_id, image(7, false));
        }
        assert_eq!((images.len(), images.of(1)), (ENDED_MAX + 1, None));
        assert!(images.of(100_000).is_some());
        // An exit that is told after the sweep is the same end.
        images.sweep(&BTreeSet::new());
        images.ended(100_000, 7);
        assert_eq!((images.len(), images.by_pid.len()), (ENDED_MAX, 0));
    }

    #[test]
    fn what_nobody_runs_any_more_goes_without_its_exit_being_told_and_pushes_out_no_agents() {
        let mut images = Images::default();
        // An agent's process that ended, whose child goes on.
        images.insert(1, image(1, true));
        images.ended(1, 1);
        for round in 0..20_u32 {
            for pid in 10..1_010 {
                images.insert(u64::from(round * 10_000 + pid), image(round * 10_000 + pid, false));
            }
            images.sweep(&BTreeSet::from([round * 10_000 + 10]));
        }
        assert_eq!(images.len(), 1 + ENDED_MAX + 1);
        assert!(images.of(1).is_some());
    }

    #[test]
    fn an_exec_that_waited_for_the_daemon_does_not_end_what_runs_now() {
        let mut images = Images::default();
        images.insert(2, image(7, false));
        // Both execs waited in the ring buffer.
        images.insert(1, image(7, false));
        images.insert(2, image(7, false));
        for exec_id in 10..100_000 {
            images.insert(exec_id, image(8, false));
        }
        assert!(images.of(2).is_some() && images.of(1).is_none());
    }

    #[test]
    fn at_the_bound_the_oldest_of_people_go_and_no_live_agents() {
        let mut images = Images::default();
        let count = IMAGES_MAX as u32;
        for pid in 0..count {
            images.insert(u64::from(pid), image(pid, pid < 1_000));
        }
        images.insert(u64::MAX, image(count, false));
        assert_eq!((images.len(), images.by_pid.len()), (IMAGES_MAX - ROOM + 1, IMAGES_MAX - ROOM + 1));
        assert!((0..1_000).all(|exec_id| images.of(exec_id).is_some()));
        assert!(images.of(1_000).is_none() && images.of(u64::from(count) - 1).is_some());
        assert!(images.of(u64::MAX).is_some());
    }
}
