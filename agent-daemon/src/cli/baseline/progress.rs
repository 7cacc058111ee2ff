//! How far it has come, on a terminal, for what lasts longer than a second.

use std::time::{Duration, Instant};

/// Tells at most twice a second.
pub struct Progress {
    what: String,
    of: u64,
    began: Instant,
    told: Option<Instant>,
    shown: bool,
}

impl Progress {
    /// Of so many bytes.
    pub fn new(what: String, of: u64) -> Self {
        Self { what, of, began: Instant::now(), told: None, shown: super::is_terminal() }
    }

    /// So many bytes are done.
    pub fn at(&mut self, done: u64) {
        let due = self.told.map_or(self.began.elapsed() > Duration::from_secs(1), |told| {
            told.elapsed() > Duration::from_millis(500)
        });
        if self.shown && due {
            self.told = Some(Instant::now());
            let per_cent = done.saturating_mul(100).checked_div(self.of).unwrap_or(100).min(100);
            anstream::eprint!("\r{} {per_cent} %\x1b[K", self.what);
        }
    }

    /// Takes the line away.
    pub fn end(&self) {
        if self.told.is_some() {
            anstream::eprint!("\r\x1b[K");
        }
    }
}
