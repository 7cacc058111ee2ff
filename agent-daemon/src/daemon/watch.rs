//! Notices changes of files: configuration asks for a reload, programs that identify agents for another look.

use std::{
    fs::{self, Metadata},
    hash::{DefaultHasher, Hash as _, Hasher},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use crate::pipeline::Request;

/// Watches `config_dir` and its `agents` and `roles` for as long as anybody takes the requests.
pub fn configuration(config_dir: &Path, requests: mpsc::Sender<Request>) -> impl Future<Output = ()> + use<> {
    let dirs = vec![config_dir.join("agents"), config_dir.join("roles"), config_dir.to_owned()];
    async move {
        let (keep, dirs) = watch::channel(dirs);
        watch_all(dirs, &EDITED, Request::Reload("file"), requests).await;
        drop(keep);
    }
}

/// Watches the directories in which files that identify agents may appear or be replaced.
pub async fn identifying_files(dirs: watch::Receiver<Vec<PathBuf>>, requests: mpsc::Sender<Request>) {
    watch_all(dirs, &INSTALLED, Request::Identify, requests).await;
}

/// How directories are looked at, and how often.
struct Look {
    /// What a directory looks like: anything that differs after a change.
    of: fn(&Path, &mut DefaultHasher),
    every: Duration,
    /// Without another change for this long, its changes have settled.
    settle: Duration,
}

/// Documents may be written in place: each file is looked at.
const EDITED: Look =
    Look { of: entries, every: Duration::from_millis(500), settle: Duration::from_millis(200) };
/// A program that was written in place is the same file; another one changes the directory. An agent may be started
/// right after it was installed.
const INSTALLED: Look =
    Look { of: directory, every: Duration::from_millis(250), settle: Duration::from_millis(20) };

async fn watch_all(
    mut dirs: watch::Receiver<Vec<PathBuf>>,
    look: &Look,
    request: Request,
    requests: mpsc::Sender<Request>,
) {
    loop {
        let watched = dirs.borrow_and_update().clone();
        let mut watch = Watch::new(watched, look);
        // What changed between the look that came before and the watch is seen by another.
        if requests.send(request).await.is_err() {
            return;
        }
        loop {
            tokio::select! {
                () = watch.changed(look.every) => {}
                changed = dirs.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
            }
            // Editors and package managers write a file in several steps, and several files at a time.
            let _ = timeout(SETTLE_MAX, async { while watch.changes_within(look.settle).await {} }).await;
            if requests.send(request).await.is_err() {
                return;
            }
            // A directory in which something changes all the time must not keep the daemon busy.
            sleep(PAUSE).await;
        }
    }
}

/// Looks now and then. Not inotify: where one directory of a file system is watched by it, every open, read and close
/// of any file there takes 80 instructions more, whoever does it.
struct Watch<'a> {
    dirs: Vec<PathBuf>,
    look: &'a Look,
    seen: u64,
}

impl<'a> Watch<'a> {
    fn new(dirs: Vec<PathBuf>, look: &'a Look) -> Self {
        let mut watch = Self { dirs, look, seen: 0 };
        watch.seen = watch.now();
        watch
    }

    fn now(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for dir in &self.dirs {
            (self.look.of)(dir, &mut hasher);
        }
        hasher.finish()
    }

    /// Waits for a change.
    async fn changed(&mut self, every: Duration) {
        while !self.changes_within(every).await {}
    }

    /// Whether there is a change after so long.
    async fn changes_within(&mut self, pause: Duration) -> bool {
        sleep(pause).await;
        let now = self.now();
        std::mem::replace(&mut self.seen, now) != now
    }
}

/// A directory: which one, and when a name in it changed last.
fn directory(path: &Path, hasher: &mut DefaultHasher) {
    describe(fs::metadata(path).ok().as_ref(), hasher);
}

/// A directory and each file in it.
fn entries(path: &Path, hasher: &mut DefaultHasher) {
    directory(path, hasher);
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        // Followed: a mounted configuration is exchanged behind a link that stays.
        describe(fs::metadata(entry.path()).ok().as_ref(), hasher);
    }
}

fn describe(found: Option<&Metadata>, hasher: &mut DefaultHasher) {
    found
        .map(|m| (m.dev(), m.ino(), m.size(), (m.mtime(), m.mtime_nsec()), (m.ctime(), m.ctime_nsec())))
        .hash(hasher);
}

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// A directory in which something changes all the time is looked at all the same.
const SETTLE_MAX: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn many_changes_ask_for_one_reload_and_directories_may_come_later() {
        let dir = tempfile::tempdir().unwrap();
        let (ask, mut asked) = mpsc::channel(8);
        tokio::spawn(configuration(dir.path(), ask));
        assert_eq!(asked.recv().await, Some(Request::Reload("file")), "what changed before the watch");
        fs::create_dir(dir.path().join("agents")).unwrap();
        for n in 0..5 {
            fs::write(dir.path().join(format!("agents/{n}.yaml")), "x").unwrap();
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(asked.recv().await, Some(Request::Reload("file")));
        assert!(timeout(Duration::from_millis(900), asked.recv()).await.is_err());
        fs::write(dir.path().join("agents/0.yaml"), "y").unwrap();
        assert_eq!(asked.recv().await, Some(Request::Reload("file")));
    }
}
