//! What the daemons before this one have read and not recorded, or not even read.

use agent_common::progress::Batch;
use tracing::{info, warn};

use super::Pipeline;
use crate::{
    kernel::{Leftover, Ring},
    record::{
        journal::{Of, Written},
        progress::Progress,
    },
};

impl Pipeline {
    /// Begins where the daemon before this one came to, and records what those with another contract have left. Call
    /// before anything is recorded.
    pub fn take_over(&mut self, events: &mut Ring, left: Vec<Leftover>) {
        // All notes are looked at before a line is added, by which the file would no longer be as they have it.
        let own =
            self.line.recorder.journal.as_mut().map(|journal| journal.progress().batch()).unwrap_or_default();
        let own_found = self.found(&own);
        let left: Vec<_> = left.into_iter().map(|left| self.look_at(left)).collect();
        self.begin(events);
        self.pass_over(&own, own_found, events);
        for (left, progress, found) in left {
            self.record_leftover(left, progress, found);
        }
        self.begin(events);
    }

    /// What is written from now on tells of this ring buffer.
    fn begin(&mut self, events: &Ring) {
        let maker = self.line.record.maker();
        if let Some(journal) = &mut self.line.recorder.journal {
            journal.begin(Of { ring: events.id(), maker, until: events.position() });
        }
    }

    fn look_at(&mut self, left: Leftover) -> (Leftover, Option<Progress>, Written) {
        let progress = left.progress.as_ref().and_then(|map| Progress::mapped(map).ok());
        let found = progress.as_ref().map_or(Written::Nothing, |progress| self.found(&progress.batch()));
        (left, progress, found)
    }

    /// How much of a noted batch is in the file.
    fn found(&mut self, noted: &Batch) -> Written {
        let Some(journal) = &mut self.line.recorder.journal else { return Written::Nothing };
        journal.settle(noted).unwrap_or_else(|error| {
            warn!(%error, "the end of the event file cannot be looked at: its last events may be told twice");
            Written::Nothing
        })
    }

    /// Passes over what the file tells already of a batch that a killed daemon was writing.
    fn pass_over(&mut self, noted: &Batch, found: Written, events: &mut Ring) {
        let Some(journal) = &mut self.line.recorder.journal else { return };
        if noted.ring != events.id() {
            return;
        }
        match found {
            Written::Nothing => {}
            Written::All => events.skip_to(noted.until),
            // Which records these lines are is known by making them again: where this daemon makes others, they are told
            // twice.
            Written::Lines(lines)
                if noted.until > events.position() && noted.maker == self.line.record.maker() =>
            {
                journal.pass_over(lines);
                self.take(events);
                if let Some(journal) = &mut self.line.recorder.journal {
                    journal.pass_over(0);
                }
            }
            Written::Lines(_) => {}
        }
    }

    fn record_leftover(&mut self, mut left: Leftover, progress: Option<Progress>, found: Written) {
        let mut read = 0;
        if let Some(mut ring) = left.ring.take() {
            if let Some(progress) = &progress {
                self.pass_over(&progress.batch(), found, &mut ring);
            }
            loop {
                let taken = self.take(&mut ring);
                read += taken;
                if taken == 0 {
                    break;
                }
            }
        }
        if let Some(journal) = &mut self.line.recorder.journal {
            let mut account = journal.progress().account();
            let theirs = progress.as_ref().map(Progress::account).unwrap_or_default();
            let mut settled = theirs;
            for (kind, lost) in &left.lost {
                let at = *kind as usize;
                account.inherited[at] += (lost + theirs.inherited[at]).saturating_sub(theirs.told[at]);
                settled.told[at] = lost + theirs.inherited[at];
            }
            for at in 0..account.undecodable.len() {
                account.undecodable[at] += theirs.undecodable[at].saturating_sub(theirs.undecodable_told[at]);
            }
            account.unwritten += theirs.unwritten.saturating_sub(theirs.unwritten_told);
            (settled.undecodable_told, settled.unwritten_told) = (theirs.undecodable, theirs.unwritten);
            journal.progress().settle(account);
            // Theirs is ours from here on, also for a daemon that finds both because this one could not unlink them.
            if let Some(mut progress) = progress {
                progress.settle(settled);
            }
        }
        info!(events = read, "took over from a build with another contract");
        if let Err(error) = left.remove() {
            warn!(error = format!("{error:#}"), "what is recorded of another build's may be recorded again");
        }
    }
}
