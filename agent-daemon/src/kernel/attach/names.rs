//! The programs that learn addresses' names: in force only while a role names a host, since every packet of the host
//! passes them.
//!
//! Pinned like all others, so whoever comes next finds them attached or not, in either case as the rules in force want
//! it. They come before the first rule by name and go after the last.

use std::{
    fs::{self, File},
    os::fd::AsFd as _,
};

use anyhow::{Context as _, Result};

use super::{NAMES, Programs};

impl Programs {
    /// Learns names from now on, if that is not so already; call before a rule by name comes in force.
    pub fn learn_names(&mut self) -> Result<()> {
        if NAMES.iter().all(|name| self.learns_by(name)) {
            return Ok(());
        }
        let root = File::open(&self.root).with_context(|| format!("open {}", self.root.display()))?;
        // What was loaded at the start is let go once all is attached; the maps are found by their pins.
        let mut opened = match (&self.unloaded, &self.unpinned_object) {
            (None, None) => Some(self.given.open(self.pins.as_ref())?),
            _ => None,
        };
        for name in NAMES.iter().filter(|name| !self.learns_by(name)).copied().collect::<Vec<_>>() {
            let at_start = self.unloaded.as_mut().map(|(object, _)| object);
            let object = at_start.or(self.unpinned_object.as_mut()).or(opened.as_mut());
            let object = object.context("the kernel object is not there")?;
            let mut program = object.load(name, None).with_context(|| format!("load {name}"))?;
            program.attach(root.as_fd()).with_context(|| format!("attach {name}"))?;
            if let Some(pins) = &self.pins {
                program.pin(&pins.link(name))?;
                pins.succeed(name)?;
            } else {
                self.programs.insert(name, program);
            }
        }
        Ok(())
    }

    /// Learns no names any more; call when no rule by name is in force.
    pub fn forgo_names(&mut self) -> Result<()> {
        for name in NAMES {
            self.programs.remove(name);
            if let Some(pins) = &self.pins {
                let link = pins.link(name);
                if link.exists() {
                    fs::remove_file(&link).with_context(|| format!("unlink {}", link.display()))?;
                }
                pins.succeed(name)?;
            }
        }
        Ok(())
    }

    fn learns_by(&self, name: &str) -> bool {
        match &self.pins {
            Some(pins) => pins.link(name).exists(),
            None => self.programs.contains_key(name),
        }
    }
}
