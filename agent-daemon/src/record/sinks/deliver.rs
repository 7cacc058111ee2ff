//! Hands a batch over: in halves where the other end refuses it for what it is, until the record is found that it does not
//! take, which is passed over.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail};
use tracing::warn;

use super::{Record, Task, Transport, answer::Answer};

/// What was learned of what the other end takes.
pub(super) struct Taste {
    bytes_max: usize,
    lowered: Instant,
    /// Records that were refused since one was taken.
    in_a_row: u32,
    told: Option<Instant>,
}

impl Default for Taste {
    fn default() -> Self {
        Self { bytes_max: BATCH_BYTES_MAX, lowered: Instant::now(), in_a_row: 0, told: None }
    }
}

impl Taste {
    /// How long a batch may be: as it was at first, after a while by steps.
    pub(super) fn bytes_max(&mut self) -> usize {
        if self.bytes_max < BATCH_BYTES_MAX && self.lowered.elapsed() >= LOWERED {
            self.bytes_max = (self.bytes_max * 2).min(BATCH_BYTES_MAX);
            self.lowered = Instant::now();
        }
        self.bytes_max
    }

    fn too_large(&mut self, part: &[Record]) {
        let bytes: usize = part.iter().map(|record| record.line.len()).sum();
        self.bytes_max = self.bytes_max.min(bytes / 2).max(1);
        self.lowered = Instant::now();
    }

    /// Whether it was not told a moment ago.
    fn is_to_be_told(&mut self) -> bool {
        let told = self.told.is_some_and(|told| told.elapsed() < TELL);
        if !told {
            self.told = Some(Instant::now());
        }
        !told
    }

    /// Whether everything seems to be refused, which no record is to blame for.
    pub(super) fn refuses_all(&self) -> bool {
        self.in_a_row > IN_A_ROW_MAX
    }
}

impl Task {
    /// Sends it. What was taken of it is acknowledged, also where the rest fails.
    pub(super) async fn deliver(&mut self, transport: &mut Transport, batch: &[Record]) -> Result<()> {
        let mut parts = vec![batch];
        while let Some(part) = parts.pop() {
            let Some(last) = part.last() else { continue };
            let sent = tokio::time::timeout(SEND_MAX, transport.send(part)).await;
            let error = match sent.unwrap_or_else(|_| Err(anyhow!("no answer to what was sent"))) {
                Ok(not_kept) => {
                    self.taste.in_a_row = 0;
                    self.stats.sent.fetch_add(part.len() as u64, Ordering::Relaxed);
                    self.not_kept(not_kept, last.seq);
                    if transport.progress().is_none() {
                        self.acknowledge(last.seq);
                    }
                    continue;
                }
                Err(error) => error,
            };
            let Some(answer) = error.downcast_ref::<Answer>().filter(|answer| answer.refuses_content())
            else {
                return Err(error);
            };
            if part.len() > 1 {
                if answer.is_too_large() {
                    self.taste.too_large(part);
                }
                let (former, latter) = part.split_at(part.len() / 2);
                parts.extend([latter, former]);
            } else {
                self.pass_over(last, answer)?;
            }
            // Many close the connection behind such an answer.
            *transport = Transport::connect(&self.sink).await?;
        }
        Ok(())
    }

    /// Counts records that were taken and thrown away: which ones, the other end does not say.
    fn not_kept(&mut self, count: u64, until: u64) {
        if count == 0 {
            return;
        }
        let refused = self.stats.refused.fetch_add(count, Ordering::Relaxed) + count;
        if self.taste.is_to_be_told() {
            let sink = &self.name;
            warn!(sink, until, count, refused, "a sink's other end took a batch and has not kept all of it");
        }
    }

    /// Counts a record that is not taken, and goes on behind it; where one after the other is refused, only after a pause.
    fn pass_over(&mut self, record: &Record, answer: &Answer) -> Result<()> {
        let refused = self.stats.refused.fetch_add(1, Ordering::Relaxed) + 1;
        self.acknowledge(record.seq);
        if self.taste.is_to_be_told() {
            let (sink, seq, answer) = (&self.name, record.seq, answer.to_string());
            warn!(sink, seq, answer, refused, "a sink's other end refuses a record: it is passed over");
        }
        self.taste.in_a_row = self.taste.in_a_row.saturating_add(1);
        if self.taste.refuses_all() {
            bail!("it refuses one record after the other, lately {}: {answer}", record.seq);
        }
        Ok(())
    }
}

const BATCH_BYTES_MAX: usize = 1 << 20;
const SEND_MAX: Duration = Duration::from_secs(30);
/// How long a batch's size stays as low as it had to be.
const LOWERED: Duration = Duration::from_secs(60);
/// More refused records than this, and none taken, are the other end's fault.
const IN_A_ROW_MAX: u32 = 16;
/// How often refused records are told at most; all are counted.
const TELL: Duration = Duration::from_secs(10);
