//! How it stands with a sink: counted where it works, read by the metrics and `doctor`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use crate::{
    config::sinks::{Form, Sink},
    event::word::Time,
};

/// What became of one sink's records.
#[derive(Debug, Default)]
pub struct Stats {
    pub form: Form,
    /// Its other end, as text.
    pub to: String,
    /// Records that were sent, again ones too.
    pub sent: AtomicU64,
    /// Records that it does not want.
    pub filtered: AtomicU64,
    /// The last record that the other end has acknowledged, or that it does not want.
    pub acknowledged: AtomicU64,
    /// The last record that there is, as far as was read.
    pub newest: AtomicU64,
    /// Sends that failed.
    pub failures: AtomicU64,
    /// Records that were gone before they were read.
    pub missed: AtomicU64,
    /// Records that the other end refuses for what they are.
    pub refused: AtomicU64,
    /// Whether the last send was taken.
    pub up: AtomicU64,
    /// The last failure. A channel, since there are no locks: the sink writes it, whoever asks reads it.
    error: watch::Sender<Option<Failure>>,
}

/// Why a sink took nothing, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub at: Time,
    pub error: String,
}

/// All sinks' by name.
pub type AllStats = BTreeMap<String, Arc<Stats>>;

impl Stats {
    #[must_use]
    pub fn of(sink: &Sink) -> Self {
        Self { form: sink.form, to: sink.to.to_string(), ..Self::default() }
    }

    /// Counts a connect or a send that failed.
    pub fn fail(&self, error: &str) {
        self.up.store(0, Ordering::Relaxed);
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.error.send_replace(Some(Failure { at: Time::now(), error: error.to_owned() }));
    }

    /// The last failure, also where it is mended.
    #[must_use]
    pub fn error(&self) -> Option<Failure> {
        self.error.borrow().clone()
    }
}
