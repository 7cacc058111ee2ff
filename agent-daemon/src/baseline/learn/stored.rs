//! What the store needs to see of a model, and puts back.

use std::collections::BTreeMap;

use super::Model;
use crate::{
    baseline::{behaviour::Behaviour, content::Content, evidence::Evidence},
    event::Name,
};

impl Model {
    /// Puts a behaviour back as it was stored.
    pub fn put(&mut self, behaviour: Behaviour, evidence: Evidence) {
        self.at(behaviour, |there| *there = evidence);
    }

    /// Contents by executable.
    #[must_use]
    pub fn contents(&self) -> &BTreeMap<Name, Vec<(Content, Evidence)>> {
        &self.contents
    }

    /// Puts what an executable was seen to contain back.
    pub fn put_contents(&mut self, exe: Name, contents: Vec<(Content, Evidence)>) {
        self.contents.insert(exe, contents);
    }

    /// Whether anything changed since [`Model::settle`].
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.touched || self.tally != self.settled
    }

    /// Behaviours that have gone since then.
    #[must_use]
    pub fn removed(&self) -> &[Behaviour] {
        &self.removed
    }

    /// Behaviours that changed since then.
    pub fn changed(&self) -> impl Iterator<Item = (&Behaviour, &Evidence)> {
        self.behaviours.iter().filter(|(_, evidence)| evidence.changed)
    }

    /// What there is, is stored.
    pub fn settle(&mut self) {
        self.settled = self.tally.clone();
        self.removed.clear();
        self.touched = false;
        self.behaviours.values_mut().for_each(|evidence| evidence.changed = false);
    }
}
