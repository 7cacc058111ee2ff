//! Notices changes of files: configuration asks for a reload, programs that identify agents for another look.

use std::{
    os::fd::{AsFd, AsRawFd, RawFd},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::{
    io::unix::AsyncFd,
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tracing::warn;

use crate::pipeline::Request;

/// Watches `config_dir` and its `agents` and `roles` for as long as anybody takes the requests.
pub fn configuration(config_dir: &Path, requests: mpsc::Sender<Request>) -> impl Future<Output = ()> + use<> {
    let dirs = vec![config_dir.join("agents"), config_dir.join("roles"), config_dir.to_owned()];
    async move {
        let (keep, dirs) = watch::channel(dirs);
        watch_all(dirs, SETTLE_EDITORS, Request::Reload("file"), requests).await;
        drop(keep);
    }
}

/// Watches the directories in which files that identify agents may appear or be replaced.
pub async fn identifying_files(dirs: watch::Receiver<Vec<PathBuf>>, requests: mpsc::Sender<Request>) {
    watch_all(dirs, SETTLE_INSTALLERS, Request::Identify, requests).await;
}

async fn watch_all(
    mut dirs: watch::Receiver<Vec<PathBuf>>,
    settle: Duration,
    request: Request,
    requests: mpsc::Sender<Request>,
) {
    loop {
        let watched = dirs.borrow_and_update().clone();
        let watch = match Watch::new(watched) {
            Ok(watch) => watch,
            Err(error) => {
                warn!(%error, "changes of files are not noticed; SIGHUP still reloads the configuration");
                return;
            }
        };
        // What changed between the last look and the watch is seen by another look.
        if requests.send(request).await.is_err() {
            return;
        }
        loop {
            tokio::select! {
                changed = watch.changed() => if !changed { return },
                changed = dirs.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    break;
                }
            }
            // Editors and package managers write a file in several steps, and several files at a time.
            let _ =
                timeout(SETTLE_MAX, async { while timeout(settle, watch.changed()).await == Ok(true) {} })
                    .await;
            if requests.send(request).await.is_err() {
                return;
            }
            // A directory in which something changes all the time must not keep the daemon busy.
            sleep(PAUSE).await;
        }
    }
}

struct Watch {
    inotify: AsyncFd<Descriptor>,
    dirs: Vec<PathBuf>,
}

impl Watch {
    fn new(dirs: Vec<PathBuf>) -> std::io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        // SAFETY: the descriptor is owned by what is registered, and closed by its drop alone.
        let registered = unsafe { AsyncFd::register(Descriptor(inotify)) };
        let inotify = registered.map_err(|error| error.into_parts().1)?;
        let watch = Self { inotify, dirs };
        watch.arm();
        Ok(watch)
    }

    /// Watches what exists; a directory that is watched already stays so. Answers which exist.
    fn arm(&self) -> Vec<bool> {
        self.dirs.iter().map(|dir| self.inotify.get_ref().0.add_watch(dir, CHANGES).is_ok()).collect()
    }

    /// Waits for a change; `false` when watching has become impossible.
    async fn changed(&self) -> bool {
        let mut armed = self.arm();
        loop {
            tokio::select! {
                ready = self.inotify.readable() => {
                    let Ok(mut ready) = ready else { return false };
                    let events = self.inotify.get_ref().0.read_events();
                    ready.clear_ready();
                    if events.is_ok_and(|events| !events.is_empty()) {
                        return true;
                    }
                }
                // A directory that did not exist cannot be watched, and one that was replaced has to be anew.
                () = sleep(REARM) => {
                    let now = self.arm();
                    if std::mem::replace(&mut armed, now.clone()) != now {
                        return true;
                    }
                }
            }
        }
    }
}

/// Tokio asks for the number, nix lends the descriptor only.
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

const CHANGES: AddWatchFlags = AddWatchFlags::IN_CLOSE_WRITE
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_CREATE)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_ATTRIB);
/// Without another change of the configuration for this long, its changes have settled.
const SETTLE_EDITORS: Duration = Duration::from_millis(200);
/// The same for the files that identify agents: an agent may be started right after it was installed.
const SETTLE_INSTALLERS: Duration = Duration::from_millis(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(100);
/// A directory in which something changes all the time is looked at all the same.
const SETTLE_MAX: Duration = Duration::from_secs(2);
/// How often directories that do not exist are looked for.
const REARM: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[tokio::test]
    async fn many_changes_ask_for_one_reload_and_directories_may_come_later() {
        let dir = tempfile::tempdir().unwrap();
        let (ask, mut asked) = mpsc::channel(8);
        tokio::spawn(configuration(dir.path(), ask));
        // What changed before there was a watch.
        assert_eq!(asked.recv().await, Some(Request::Reload("file")));
        sleep(Duration::from_millis(50)).await;
        fs::create_dir(dir.path().join("agents")).unwrap();
        for n in 0..5 {
            fs::write(dir.path().join(format!("agents/{n}.yaml")), "x").unwrap();
            sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(asked.recv().await, Some(Request::Reload("file")));
        assert!(timeout(Duration::from_millis(500), asked.recv()).await.is_err());
        fs::write(dir.path().join("agents/0.yaml"), "y").unwrap();
        assert_eq!(asked.recv().await, Some(Request::Reload("file")));
    }
}
