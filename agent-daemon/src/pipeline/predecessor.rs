//! What the daemons before this one have read and not recorded, or not even read.

use agent_common::progress::Batch;
use tracing::{info, warn};

use super::Pipeline;
use crate::{
    kernel::{Leftover, Ring},
    record::{file::Written, progress::Progress},
};

impl Pipeline {
    /// Begins where the daemon before this one came to, and records what those with another contract have left. Call
    /// before anything is recorded.
    pub fn take_over(&mut self, events: &mut Ring, left: Vec<Leftover>) {
        let noted = self.line.recorder.file.as_mut().map(|file| file.progress().batch());
        if let Some(noted) = noted {
            self.settle(&noted, events);
        }
        for left in left {
            self.record_leftover(left);
        }
        if let Some(file) = &mut self.line.recorder.file {
            // Positions of another ring buffer say nothing of ours.
            file.read_until(events.position());
        }
    }

    /// Passes over what the file tells already of a batch that a killed daemon was writing.
    fn settle(&mut self, noted: &Batch, events: &mut Ring) {
        let Some(file) = &mut self.line.recorder.file else { return };
        match file.settle(noted) {
            Ok(Written::Nothing) => {}
            Ok(Written::All) => events.skip_to(noted.until),
            Ok(Written::Lines(lines)) if noted.until > events.position() => {
                file.pass_over(lines);
                self.take(events);
                if let Some(file) = &mut self.line.recorder.file {
                    file.pass_over(0);
                }
            }
            Ok(Written::Lines(_)) => {}
            Err(error) => {
                warn!(%error, "the end of the event file cannot be looked at: its last events may be told twice");
            }
        }
    }

    fn record_leftover(&mut self, mut left: Leftover) {
        let progress = left.progress.as_ref().and_then(|map| Progress::mapped(map).ok());
        let mut read = 0;
        if let Some(mut ring) = left.ring.take() {
            if let Some(progress) = &progress {
                self.settle(&progress.batch(), &mut ring);
            }
            loop {
                let taken = self.take(&mut ring);
                read += taken;
                if taken == 0 {
                    break;
                }
            }
        }
        if let Some(file) = &mut self.line.recorder.file {
            let mut account = file.progress().account();
            let theirs = progress.map(|progress| progress.account()).unwrap_or_default();
            for (kind, lost) in &left.lost {
                let at = *kind as usize;
                account.inherited[at] += (lost + theirs.inherited[at]).saturating_sub(theirs.told[at]);
            }
            for at in 0..account.undecodable.len() {
                account.undecodable[at] += theirs.undecodable[at].saturating_sub(theirs.undecodable_told[at]);
            }
            account.unwritten += theirs.unwritten.saturating_sub(theirs.unwritten_told);
            file.progress().settle(account);
        }
        info!(events = read, "took over from a build with another contract");
        if let Err(error) = left.remove() {
            warn!(error = format!("{error:#}"), "what is recorded of another build's may be recorded again");
        }
    }
}
