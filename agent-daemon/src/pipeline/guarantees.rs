//! What this host lets be guaranteed, compared with the daemon's start before: a host that lost BPF LSM says so.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use super::Pipeline;
use crate::{
    event::{
        Event, Kind,
        local::{GuaranteeChange, Guarantees},
    },
    kernel::capability::{
        self,
        guarantee::{self, Guarantee},
    },
};

/// What is kept in the state directory.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    mode: String,
    /// Way → what was done about it.
    ways: BTreeMap<String, String>,
}

impl Pipeline {
    /// What is guaranteed now, with what would give more.
    pub(super) fn guarantees(&self) -> Vec<Guarantee> {
        let remedy = guarantee::remedy(&capability::probe(), self.kernel.reason());
        guarantee::of(self.kernel.mode(), &remedy)
    }

    /// Tells what is guaranteed otherwise than at the start before, and keeps what is guaranteed now.
    pub fn tell_guarantees(&mut self, state_dir: &Path) {
        let path = state_dir.join(FILE);
        let now = self.guarantees();
        let kept = Kept {
            mode: self.mode().to_owned(),
            ways: now.iter().map(|g| (g.way.to_owned(), g.guarantee.word().to_owned())).collect(),
        };
        let before = match read(&path) {
            Ok(before) => before,
            Err(error) => {
                let path = path.display();
                warn!(%path, %error, "what was guaranteed before is not known; a change since then goes untold");
                None
            }
        };
        let changes = before.as_ref().map(|before| changes(before, &now)).unwrap_or_default();
        if let (Some(before), false) = (&before, changes.is_empty()) {
            let mode = self.mode();
            warn!(
                before = before.mode,
                now = mode,
                reason = self.kernel.reason(),
                "what this host guarantees has changed"
            );
            let guarantees = Guarantees {
                mode_before: before.mode.as_str().into(),
                mode: mode.into(),
                mode_reason: self.kernel.reason().into(),
                remedy: now
                    .iter()
                    .map(|g| g.remedy.as_str())
                    .find(|r| !r.is_empty())
                    .unwrap_or_default()
                    .into(),
                changes,
            };
            let guarantees = Some(Box::new(guarantees));
            self.line.tell_now(Event { kind: Kind::GuaranteeChanged, guarantees, ..Event::default() });
        }
        if before.as_ref() != Some(&kept)
            && let Err(error) = write(&path, &kept)
        {
            warn!(path = %path.display(), %error, "what is guaranteed now cannot be kept for the next start");
        }
    }
}

/// Ways that this version knows and the one before did not are no change of the host.
fn changes(before: &Kept, now: &[Guarantee]) -> Vec<GuaranteeChange> {
    let changed = now.iter().filter_map(|g| {
        let was = before.ways.get(g.way)?;
        (was != g.guarantee.word()).then(|| GuaranteeChange {
            rule: g.rule.into(),
            way: g.way.into(),
            before: was.as_str().into(),
            now: g.guarantee.word().into(),
        })
    });
    changed.collect()
}

/// `None` where there was no start before.
fn read(path: &Path) -> io::Result<Option<Kept>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Beside it and then in its place: half a file would be one that cannot be read.
fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    let beside = PathBuf::from(format!("{}.new", path.display()));
    fs::write(&beside, serde_json::to_vec_pretty(kept)?)?;
    fs::rename(beside, path)
}

const FILE: &str = "guarantees.json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::KernelMode;

    fn kept(mode: KernelMode) -> Kept {
        let ways = guarantee::of(mode, "").into_iter();
        let ways = ways.map(|g| (g.way.to_owned(), g.guarantee.word().to_owned())).collect();
        Kept { mode: format!("{mode:?}").to_lowercase(), ways }
    }

    #[test]
    fn a_host_without_bpf_lsm_after_a_reboot_differs_way_by_way() {
        let now = guarantee::of(KernelMode::Cgroup, "");
        let changed = changes(&kept(KernelMode::Lsm), &now);
        let of = |way: &str| changed.iter().find(|c| &*c.way == way).map(|c| (&*c.rule, &*c.before, &*c.now));
        assert_eq!(of("unix"), Some(("unix", "refused_in_the_call", "not_seen")));
        assert_eq!(of("tcp_connect"), Some(("endpoint", "refused_in_the_call", "refused_at_the_cgroup")));
        assert_eq!(
            of("script_by_another_path"),
            Some(("agent", "recognised_at_its_start", "not_recognised"))
        );
        assert_eq!(of("program"), None);
        assert!(changes(&kept(KernelMode::Cgroup), &now).is_empty());
    }

    #[test]
    fn a_way_that_the_version_before_did_not_know_is_no_change() {
        let mut before = kept(KernelMode::Lsm);
        before.ways.remove("unix");
        before.ways.insert("gone".to_owned(), "not_seen".to_owned());
        assert!(changes(&before, &guarantee::of(KernelMode::Lsm, "")).is_empty());
    }

    #[test]
    fn what_is_kept_comes_back_and_rubbish_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state").join(FILE);
        assert_eq!(read(&path).unwrap(), None);
        write(&path, &kept(KernelMode::Lsm)).unwrap();
        assert_eq!(read(&path).unwrap(), Some(kept(KernelMode::Lsm)));
        for rubbish in ["", "{\"mode\":", "\u{0}\u{1}"] {
            fs::write(&path, rubbish).unwrap();
            assert!(read(&path).is_err(), "{rubbish}");
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(read(&path).is_err() && write(&path, &kept(KernelMode::Lsm)).is_err());
    }
}
