//! Sinks: each reads the event file behind the daemon's back, from the record after the last that its other end has
//! acknowledged, and sends it on.
//!
//! Nothing is handed to a sink, so that a slow or dead one costs the pipeline nothing, and what it missed it reads when
//! the other end is back: every record at least once, in order; after a broken connection some come again, with the same
//! `seq`. What retention has removed before it was read is counted as missed.

mod answer;
mod check;
pub mod cursor;
mod deliver;
mod file;
mod http;
mod journald;
mod nats;
mod record;
mod settle;
mod socket;
mod stats;
mod syslog;
pub mod tail;
mod tls;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use tokio::sync::watch;
use tracing::{info, warn};

use self::{answer::Answer, cursor::Cursor, deliver::Taste, settle::Unsettled, socket::Progress, tail::Tail};
pub use self::{
    check::{Check, check},
    record::Record,
    stats::{AllStats, Stats},
};
use crate::{
    config::sinks::{Sink, Sinks, Target},
    record::journal::Extent,
};

/// Starts the sinks, each on a thread of its own: one that stands still, as a file system may, holds up no other. They end
/// with the process.
///
/// # Errors
/// When the state directory cannot be written, or the host gives no more threads.
pub fn start(
    sinks: &Sinks,
    events_file: &Path,
    extent: &watch::Receiver<Extent>,
    state_dir: &Path,
) -> Result<AllStats> {
    let mut all = AllStats::new();
    for (name, sink) in sinks {
        let stats = Arc::new(Stats::of(sink));
        all.insert(name.clone(), stats.clone());
        let cursor = Cursor::open(&state_dir.join("sinks"), name, events_file)
            .with_context(|| format!("open the place of sink {name}"))?;
        let task = Task {
            name: name.clone(),
            sink: sink.clone(),
            events_file: events_file.to_owned(),
            extent: extent.clone(),
            cursor,
            stats,
            taste: Taste::default(),
        };
        // One thread for what may stand still, so that it never piles up.
        let runtime =
            tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).enable_all().build()?;
        std::thread::Builder::new()
            .name(format!("sink {name}"))
            .spawn(move || runtime.block_on(task.run()))
            .with_context(|| format!("start the thread of sink {name}"))?;
    }
    Ok(all)
}

/// One sink at work.
struct Task {
    name: String,
    sink: Sink,
    events_file: PathBuf,
    extent: watch::Receiver<Extent>,
    cursor: Cursor,
    stats: Arc<Stats>,
    taste: Taste,
}

/// Where records go, once it is connected.
enum Transport {
    File(file::File),
    Journald(journald::Journald),
    Syslog(syslog::Syslog),
    Http(http::Http),
    Nats(nats::Nats),
}

impl Transport {
    /// Connects, in so long or not at all.
    async fn connect(sink: &Sink) -> Result<Self> {
        let connected = tokio::time::timeout(CONNECT_MAX, Self::try_connect(sink)).await;
        connected.unwrap_or_else(|_| Err(anyhow!("no answer to the connect")))
    }

    async fn try_connect(sink: &Sink) -> Result<Self> {
        Ok(match &sink.to {
            Target::File(path) => Self::File(file::File::open(path).await?),
            Target::Journald => Self::Journald(journald::Journald::connect(Path::new(journald::SOCKET))?),
            Target::Syslog { over, host, port } => {
                Self::Syslog(syslog::Syslog::connect(*over, host, *port, sink.ca.as_deref()).await?)
            }
            Target::Http { tls, host, port, path, otlp } => {
                Self::Http(http::Http::connect(*tls, host, *port, path, *otlp, sink).await?)
            }
            Target::Nats { tls, host, port } => {
                Self::Nats(nats::Nats::connect(*tls, host, *port, sink).await?)
            }
        })
    }

    /// How many of the batch the other end says that it has not kept, of what it took.
    async fn send(&mut self, batch: &[Record]) -> Result<u64> {
        match self {
            Self::File(file) => file.send(batch).await?,
            Self::Journald(journald) => journald.send(batch).await?,
            Self::Syslog(syslog) => syslog.send(batch).await?,
            Self::Http(http) => return http.send(batch).await,
            Self::Nats(nats) => nats.send(batch).await?,
        }
        Ok(0)
    }

    /// How far what was sent has come, where a send that returns says nothing: syslog's other end acknowledges nothing.
    fn progress(&self) -> Option<&Progress> {
        match self {
            Self::Syslog(syslog) => syslog.progress(),
            _ => None,
        }
    }

    /// Whether the connection is still there.
    fn check(&mut self) -> Result<()> {
        match self {
            Self::Syslog(syslog) => syslog.check(),
            _ => Ok(()),
        }
    }
}

impl Task {
    async fn run(mut self) {
        self.stats.acknowledged.store(self.cursor.acknowledged(), Ordering::Relaxed);
        let mut wait = BACKOFF_MIN;
        let mut failing = false;
        let mut tail = Tail::after(&self.events_file, self.extent.clone(), self.cursor.acknowledged());
        loop {
            let ended = match Transport::connect(&self.sink).await {
                Ok(mut transport) => {
                    let before = self.stats.acknowledged.load(Ordering::Relaxed);
                    tail.again_after(self.cursor.acknowledged());
                    let ended = self.serve(&mut transport, &mut tail, &mut failing).await;
                    let passed = self.stats.acknowledged.load(Ordering::Relaxed) > before;
                    if passed && !self.taste.refuses_all() {
                        wait = BACKOFF_MIN;
                    }
                    ended
                }
                Err(error) => error,
            };
            let asked = ended.downcast_ref::<Answer>().and_then(|answer| answer.wait);
            let error = format!("{ended:#}");
            self.stats.fail(&error);
            if !std::mem::replace(&mut failing, true) {
                let (sink, to) = (&self.name, &self.stats.to);
                warn!(sink, to, error, "a sink takes no events: they wait in the event file");
            }
            self.cursor.keep();
            tokio::time::sleep(asked.unwrap_or(wait)).await;
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    /// Sends what there is and what comes, until that fails.
    async fn serve(
        &mut self,
        transport: &mut Transport,
        tail: &mut Tail,
        failing: &mut bool,
    ) -> anyhow::Error {
        let read = record::has_to_be_read(&self.sink);
        let mut unsettled = Unsettled::default();
        loop {
            let mut batch = match tail.next(BATCH_RECORDS_MAX, self.taste.bytes_max()) {
                Ok(batch) => batch,
                Err(error) => return anyhow::Error::new(error).context("read the event file"),
            };
            self.stats.missed.fetch_add(tail.take_missed(), Ordering::Relaxed);
            let last = batch.last().map(|record| record.seq);
            if read {
                let all = batch.len();
                batch.retain_mut(|record| record.read(&self.sink));
                self.stats.filtered.fetch_add((all - batch.len()) as u64, Ordering::Relaxed);
            }
            if let Some(until) = last {
                self.stats.newest.store(until, Ordering::Relaxed);
                if let Err(error) = self.deliver(transport, &batch).await {
                    return error;
                }
                // What it does not want counts as taken, behind what it wants.
                match transport.progress() {
                    Some(progress) => unsettled.push(until, progress.written()),
                    None => self.acknowledge(until),
                }
            }
            if let Err(error) = transport.check() {
                return error;
            }
            if let Some(progress) = transport.progress() {
                match progress.arrived() {
                    Ok(arrived) => {
                        let settled = unsettled.settle(arrived, progress.written(), Instant::now());
                        settled.into_iter().for_each(|until| self.acknowledge(until));
                    }
                    Err(error) => return anyhow::Error::new(error).context("ask for what has arrived"),
                }
            }
            if unsettled.is_taken() {
                self.stats.up.store(1, Ordering::Relaxed);
                if std::mem::replace(failing, false) {
                    info!(sink = self.name, "a sink takes events again");
                }
            }
            if last.is_none() {
                self.cursor.keep();
                tokio::time::sleep(IDLE).await;
            } else {
                // The connection's turn.
                tokio::task::yield_now().await;
            }
        }
    }

    fn acknowledge(&mut self, seq: u64) {
        self.cursor.advance(seq);
        self.stats.acknowledged.store(seq, Ordering::Relaxed);
    }
}

/// The first line of a secret's file.
fn secret(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => bail!("{} is empty", path.display()),
    }
}

/// Records that are sent at once, at most.
const BATCH_RECORDS_MAX: usize = 500;
/// How often the event file is looked at while nothing comes.
const IDLE: Duration = Duration::from_millis(200);
/// After a failure, doubled with each.
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(30);
const CONNECT_MAX: Duration = Duration::from_secs(10);
