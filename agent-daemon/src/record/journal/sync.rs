//! Bringing the journal to the disk, on a thread of its own: nobody waits for a slow one.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{checkpoint::Head, segment};

/// What is to be on the disk before the head says so.
#[derive(Debug, Default)]
struct Request {
    /// Segments that were written to since the last request that was taken.
    files: Vec<File>,
    head: Option<Head>,
    /// Segments whose removal is recorded in what is to be synced.
    remove: Vec<PathBuf>,
}

/// The thread's other end.
#[derive(Debug)]
pub struct Sync {
    requests: Option<SyncSender<Request>>,
    /// What the thread could not take yet: a newer request adds to it.
    waiting: Option<Request>,
    thread: Option<JoinHandle<()>>,
    failures: Arc<AtomicU64>,
}

impl Sync {
    /// Starts the thread for this journal.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(events_file: &Path, key_dir: &Path) -> io::Result<Self> {
        let (requests, taken) = sync_channel(1);
        let failures = Arc::new(AtomicU64::new(0));
        let (path, key_dir, count) = (events_file.to_owned(), key_dir.to_owned(), failures.clone());
        let work = move || run(&taken, (&path, &key_dir), &count);
        let thread = thread::Builder::new().name("journal-sync".to_owned()).spawn(work)?;
        Ok(Self { requests: Some(requests), waiting: None, thread: Some(thread), failures })
    }

    /// Asks for a file to be brought to the disk, and then the head if there is one; after that, segments are removed
    /// whose removal the file records.
    pub fn ask(&mut self, file: &File, head: Option<Head>, remove: Vec<PathBuf>) {
        let waiting = self.waiting.get_or_insert_default();
        waiting.head = head.or(waiting.head.take());
        waiting.remove.extend(remove);
        let id = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
        if !waiting.files.iter().any(|one| id(one) == id(file)) {
            match file.try_clone() {
                Ok(file) => waiting.files.push(file),
                // Nothing says that it is on the disk then, and nothing is removed.
                Err(_) => {
                    waiting.head = None;
                    waiting.remove.clear();
                }
            }
        }
        self.push();
    }

    /// Hands on what waits, if the thread can take it.
    pub fn push(&mut self) {
        let (Some(requests), Some(request)) = (&self.requests, self.waiting.take()) else { return };
        if let Err(TrySendError::Full(request) | TrySendError::Disconnected(request)) =
            requests.try_send(request)
        {
            self.waiting = Some(request);
        }
    }

    /// How often it failed.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Waits until all is on the disk, at most so long; whether it is.
    pub fn end(&mut self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        while self.waiting.is_some() && Instant::now() < until {
            self.push();
            thread::sleep(Duration::from_millis(1));
        }
        self.requests = None;
        let Some(thread) = self.thread.take() else { return true };
        while !thread.is_finished() && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        thread.is_finished() && thread.join().is_ok() && self.waiting.is_none()
    }
}

fn run(requests: &Receiver<Request>, (events_file, key_dir): (&Path, &Path), failures: &AtomicU64) {
    let (mut failing, mut headless) = (false, false);
    for request in requests {
        if let Err(error) = sync(&request, events_file) {
            failures.fetch_add(1, Ordering::Relaxed);
            if !std::mem::replace(&mut failing, true) {
                warn!(path = %events_file.display(), %error, "the journal cannot be synced: a power cut may take more than its last seconds");
            }
            continue;
        }
        match request.head.map_or(Ok(()), |head| head.write(events_file, key_dir)) {
            Err(error) => {
                failures.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut headless, true) {
                    warn!(path = %events_file.display(), %error, "the journal's newest checkpoint cannot be noted: an end that is cut off may not be missed");
                }
            }
            Ok(()) => headless = false,
        }
        if std::mem::take(&mut failing) {
            info!("the journal can be synced again");
            // What failed before this may have been the record of their removal: they are proposed again.
            continue;
        }
        remove(&request.remove);
    }
}

fn sync(request: &Request, events_file: &Path) -> io::Result<()> {
    for file in &request.files {
        file.sync_data()?;
    }
    if request.head.is_some() {
        // Before the head, the names: a segment that was begun is nothing without its own.
        File::open(segment::directory(events_file))?.sync_all()?;
    }
    Ok(())
}

/// Only what surely is recorded as removed comes here. What cannot be removed is proposed again.
fn remove(segments: &[PathBuf]) {
    for segment in segments {
        match fs::remove_file(segment) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                warn!(path = %segment.display(), %error, "a segment of the journal cannot be removed");
                // Those behind it stay too: there is to be no hole.
                return;
            }
            _ => {}
        }
    }
}
