//! From one observation to behaviours: which image executed which, how deep and how broad, and how fast, per instance.

mod live;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use self::live::Live;
use super::{
    behaviour::{Behaviour, Endpoint, Program, path},
    observation::{Act, Observation},
};
use crate::event::{Name, word::InstanceId};

/// Which instance: its boot and its id.
pub type Key = (Name, InstanceId);

/// What is known of instances that run; the same observations in the same order give the same behaviours.
#[derive(Debug, Default)]
pub struct Context {
    live: BTreeMap<Key, Live>,
    /// Keys of those that changed or ended since the store was last written.
    changed: BTreeSet<Key>,
    /// Generalised paths, so that each is made once: no more than a memory of what [`path::generalise`] says.
    paths: HashMap<Name, Name>,
    /// Instances that had to give way to others before they ended.
    pub evicted: u64,
}

impl Context {
    /// What an instance did with this; nothing for what is no instance's.
    pub fn behaviours(&mut self, seen: &Observation) -> Vec<Behaviour> {
        let Some(instance) = seen.instance else { return Vec::new() };
        let key = (seen.boot.clone(), instance);
        match seen.act {
            Act::End => {
                self.live.remove(&key);
                self.changed.insert(key);
                return Vec::new();
            }
            Act::Lost(_) | Act::Other => return Vec::new(),
            _ => {}
        }
        let program = self.program(seen);
        if seen.refused {
            // It did not happen: it makes nothing deeper or faster, and is compared as the attempt that it was.
            return single(seen, program).into_iter().collect();
        }
        if !self.live.contains_key(&key) {
            self.make_room(&key.0);
        }
        let live = match self.live.get_mut(&key) {
            Some(live) => live,
            None => self.live.entry(key.clone()).or_default(),
        };
        if !std::mem::replace(&mut live.changed, true) {
            self.changed.insert(key);
        }
        let mut found = Vec::new();
        if let Act::Exec { begins, .. } = seen.act {
            let by = live.exec(seen, begins, &program, &mut found);
            found.push(Behaviour::Exec { by, child: program });
        } else if let Some(done) = single(seen, live.image(seen, &program)) {
            if let Behaviour::Connect { to, .. } = &done {
                live.endpoint(seen.time, to, &mut found);
            }
            found.push(done);
        }
        if let Some(uid) = seen.uid.filter(|uid| live.user(*uid)) {
            found.push(Behaviour::User(uid));
        }
        found
    }

    fn program(&mut self, seen: &Observation) -> Program {
        match &seen.exe {
            None => Program::Unknown,
            Some(exe) => Program::File {
                exe: self.path(exe),
                script: seen.script.as_ref().map(|script| self.path(script)),
            },
        }
    }

    fn path(&mut self, path: &Name) -> Name {
        if let Some(known) = self.paths.get(path) {
            return known.clone();
        }
        if self.paths.len() >= PATHS_MAX {
            self.paths.clear();
        }
        let general = path::generalise(path);
        self.paths.insert(path.clone(), general.clone());
        general
    }

    /// At the bound one goes: of another boot, which does not act any more, or else the oldest, which comes back at once if
    /// it still acts.
    fn make_room(&mut self, boot: &Name) {
        let is_of_another = |end: Option<(&Key, &Live)>| end.is_some_and(|((of, _), _)| of != boot);
        let last = !is_of_another(self.live.first_key_value()) && is_of_another(self.live.last_key_value());
        if self.live.len() >= INSTANCES_MAX
            && let Some((key, _)) = if last { self.live.pop_last() } else { self.live.pop_first() }
        {
            self.changed.insert(key);
            self.evicted += 1;
        }
    }

    /// What changed since [`Context::settle`]: the state as text, or `None` where the instance has gone.
    pub fn changed(&self) -> impl Iterator<Item = (&Key, Option<String>)> {
        let text = |live: &Live| serde_json::to_string(live).expect("numbers and texts are always JSON");
        self.changed.iter().map(move |key| (key, self.live.get(key).map(text)))
    }

    /// Every instance that runs, and its state as text.
    pub fn all(&self) -> impl Iterator<Item = (&Key, String)> {
        let text = |live: &Live| serde_json::to_string(live).expect("numbers and texts are always JSON");
        self.live.iter().map(move |(key, live)| (key, text(live)))
    }

    /// How many run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether none runs.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// What there is, is stored.
    pub fn settle(&mut self) {
        for key in std::mem::take(&mut self.changed) {
            if let Some(live) = self.live.get_mut(&key) {
                live.changed = false;
            }
        }
    }

    /// Puts an instance back as [`Context::changed`] gave it.
    pub fn put(&mut self, key: Key, state: &str) -> Result<(), String> {
        let live = serde_json::from_str(state).map_err(|error| error.to_string())?;
        self.live.insert(key, live);
        Ok(())
    }
}

/// The act by itself; an exec is not, for it has a parent.
fn single(seen: &Observation, by: Program) -> Option<Behaviour> {
    Some(match &seen.act {
        Act::Endpoint { address, port, protocol, name } => {
            Behaviour::Connect { by, to: Endpoint::reached(*address, *port, protocol.clone(), name.clone()) }
        }
        Act::Listen { address, port, protocol } => {
            Behaviour::Listen { by, on: Endpoint::offered(*address, *port, protocol.clone()) }
        }
        Act::Unix(path) => Behaviour::Unix { by, path: path::generalise(path) },
        Act::Ask(name) => Behaviour::Name { by, name: path::escaped(name).into() },
        Act::Socket(what) => Behaviour::Socket { by, what: path::escaped(what).into() },
        Act::Exec { .. } | Act::Identified { .. } | Act::End | Act::Lost(_) | Act::Other => return None,
    })
}

/// Instances that run at a time: as many as the kernel side follows.
pub const INSTANCES_MAX: usize = 16_384;
/// Paths whose general form is remembered.
const PATHS_MAX: usize = 16_384;

#[cfg(test)]
mod tests;
