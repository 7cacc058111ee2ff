//! Baselines in the daemon: where they are kept, how what changed gets there, and what was recorded while they were not.
//!
//! Writing takes place beside the pipeline: the store goes to a thread of its own with what is to be written, and comes
//! back. A process that is killed has at most what changed since the last time to learn again, from the event file.

mod change;
mod events_file;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tracing::{info, warn};

use self::events_file::EventsFile;
use super::{Pipeline, content::Identifier};
use crate::{
    baseline::{
        compare::Rules,
        store::{self, Changes, Error, Store},
        watch::Watch,
    },
    config::reaction::Effect,
    event::{
        Event, Kind, Subject,
        finding::{BaselineChange, Reference},
        word::Word,
    },
    record::metrics,
};

/// Keeps the baselines of the line.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    rules: Rules,
    store: Stage,
    file: EventsFile,
    /// When to write next.
    due: Instant,
    /// What is stored does not hold: a write has failed.
    anew: bool,
    /// Why nothing is learned or compared now.
    off: Option<String>,
    pub write_failures: u64,
}

/// Where the store is.
#[derive(Debug)]
enum Stage {
    Closed,
    Here(Store),
    Writing(JoinHandle<(Store, Result<(), Error>)>),
}

impl Keeper {
    /// Keeps them in this directory; nothing is opened yet.
    #[must_use]
    pub fn new(state_dir: &Path, events_file: &Path, rules: Rules) -> Self {
        Self {
            path: state_dir.join(store::FILE),
            rules,
            store: Stage::Closed,
            file: EventsFile::new(events_file),
            due: Instant::now() + INTERVAL,
            anew: false,
            off: None,
            write_failures: 0,
        }
    }

    /// Why nothing is learned or compared now; `None` where it is.
    #[must_use]
    pub fn off(&self) -> Option<&str> {
        self.off.as_deref()
    }

    /// Opens the store, and learns what was recorded since it was written last; with what is to be told of that.
    fn open(&mut self) -> Result<(Watch, Vec<Event>), Error> {
        let store = Store::open(&self.path)?;
        let mut watch = Watch::new(store.load()?, self.rules.clone());
        let mut told = Vec::new();
        self.file.catch_up(&store, |seen, is_known_file| {
            for alert in watch.take(seen) {
                // What lay there before anything was learned is history.
                if is_known_file {
                    let subject = Subject {
                        origin: Word::from(agent_common::identity::Origin::Agent),
                        instance: seen.instance,
                        role: seen.role.clone(),
                        exec_id: seen.exec,
                        uid: seen.uid,
                        exe: seen.exe.clone(),
                        script: seen.script.clone(),
                        ..Subject::default()
                    };
                    let of = Reference { time: seen.time, seq: seen.seq };
                    told.push(finding(&alert, subject, of));
                }
            }
        })?;
        self.store = Stage::Here(store);
        Ok((watch, told))
    }

    /// Takes the store back from a write that has ended; whether it is here.
    fn settle(&mut self, wait: bool) -> bool {
        match std::mem::replace(&mut self.store, Stage::Closed) {
            Stage::Writing(writing) if wait || writing.is_finished() => {
                let Ok((store, wrote)) = writing.join() else { return false };
                if let Err(error) = wrote {
                    self.failed(&error);
                } else if std::mem::take(&mut self.anew) {
                    info!(path = %self.path.display(), "baselines can be written again");
                }
                self.store = Stage::Here(store);
            }
            stage => self.store = stage,
        }
        matches!(self.store, Stage::Here(_))
    }

    fn failed(&mut self, error: &Error) {
        self.write_failures += 1;
        if !std::mem::replace(&mut self.anew, true) {
            warn!(%error, "baselines cannot be written: they are kept in memory, and written when that is possible");
        }
    }

    fn changes(&mut self, watch: &mut Watch) -> Changes {
        let positions = self.file.positions();
        if self.anew {
            Changes::all(&mut watch.baselines, positions)
        } else {
            Changes::take(&mut watch.baselines, positions)
        }
    }
}

impl Pipeline {
    /// Opens the store of baselines; where that cannot be, says why and leaves it for later.
    pub fn open_baselines(&mut self) {
        match self.keeper.open() {
            Ok((watch, told)) => {
                if self.keeper.off.take().is_some() {
                    info!("baselines are learned and compared again");
                    self.tell_baselines("on", "the store can be opened");
                }
                self.line.watch = Some(watch);
                self.line.due.extend(told);
            }
            Err(error) => {
                let why = error.to_string();
                if self.keeper.off.as_deref() != Some(&why) {
                    warn!(error = why, "baselines are neither learned nor compared");
                    self.tell_baselines("off", &why);
                }
                self.keeper.off = Some(why);
            }
        }
    }

    fn tell_baselines(&mut self, action: &str, what: &str) {
        self.tell_change(BaselineChange {
            action: action.into(),
            what: what.into(),
            ..BaselineChange::default()
        });
    }

    /// What was found, for the metrics.
    pub(super) fn found_so_far(&self) -> metrics::Baselines {
        let promoted = self.in_force.table.names.promoted();
        let promoted = promoted.map(|(role, version)| (role.to_owned(), version)).collect();
        let unidentified = self.line.identifier.as_ref().map(Identifier::failed).unwrap_or_default();
        let write_failures = self.keeper.write_failures;
        let by_effect = |counts: &BTreeMap<&'static str, u64>| -> Vec<_> {
            let all = [Effect::Stop, Effect::Kill].iter();
            all.map(|e| (e.name(), counts.get(e.name()).copied().unwrap_or(0))).collect()
        };
        let (reactions, incomplete) = (by_effect(&self.reacted), by_effect(&self.incomplete));
        let Some(watch) = &self.line.watch else {
            return metrics::Baselines {
                unidentified,
                promoted,
                write_failures,
                reactions,
                incomplete,
                ..metrics::Baselines::default()
            };
        };
        let found = watch.found.iter();
        metrics::Baselines {
            on: true,
            found: found
                .map(|((role, what, severity), count)| {
                    (role.to_string(), what.name(), severity.name(), *count)
                })
                .collect(),
            flooded: watch.flooded,
            unidentified,
            write_failures,
            promoted,
            reactions,
            incomplete,
        }
    }

    /// Writes what changed, if it is time to.
    pub(super) fn keep_baselines(&mut self) {
        if let Some(journal) = &self.line.recorder.journal {
            self.keeper.file.follow(journal);
        }
        let Some(watch) = &mut self.line.watch else { return };
        if !self.keeper.settle(false) || Instant::now() < self.keeper.due {
            return;
        }
        let begun = Instant::now();
        let changes = self.keeper.changes(watch);
        // What takes the pipeline long is done less often.
        self.keeper.due = Instant::now() + INTERVAL.max(begun.elapsed() * INTERVAL_PER_WORK);
        let Stage::Here(mut store) = std::mem::replace(&mut self.keeper.store, Stage::Closed) else { return };
        self.keeper.store = Stage::Writing(std::thread::spawn(move || {
            let wrote = store.write(&changes);
            (store, wrote)
        }));
    }

    /// Writes the last changes; the daemon is ending.
    pub(super) fn close_baselines(&mut self) {
        if let Some(journal) = &self.line.recorder.journal {
            self.keeper.file.follow(journal);
        }
        let Some(watch) = &mut self.line.watch else { return };
        if self.keeper.settle(true) {
            let changes = self.keeper.changes(watch);
            if let Stage::Here(store) = &mut self.keeper.store
                && let Err(error) = store.write(&changes)
            {
                self.keeper.failed(&error);
            }
        }
    }
}

/// A finding as an event.
pub(super) fn finding(alert: &crate::baseline::alert::Alert, subject: Subject, of: Reference) -> Event {
    Event {
        kind: Kind::Finding,
        time: of.time,
        subject: Some(subject),
        finding: Some(Box::new(alert.told(of))),
        ..Event::default()
    }
}

/// Between two writes: what a killed daemon has to learn again is of this time.
const INTERVAL: Duration = Duration::from_secs(10);
/// Taking what changed may cost the pipeline one part in so many.
const INTERVAL_PER_WORK: u32 = 100;
