//! What the programs are that agents execute: their bytes and their package, found out beside the pipeline.
//!
//! The line never waits: an exec is recorded as it is, and `program_identified` follows it.

mod package;

use std::{
    collections::{HashMap, HashSet},
    fs::{File, Metadata, OpenOptions},
    io::Read as _,
    os::{
        fd::AsRawFd as _,
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
};

use nix::libc;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::{
    event::{
        Event, Kind, Name, Subject,
        finding::Reference,
        process::{self, Program},
    },
    identity::naming::Files,
};

/// Asks the worker, and counts what could not be found out.
#[derive(Debug)]
pub struct Identifier {
    jobs: SyncSender<Job>,
    /// Role, file and script → the second in which it was asked last.
    asked: HashMap<(u32, process::File, Option<Name>), u64>,
    failed: Arc<[AtomicU64; REASONS.len()]>,
}

/// An exec whose program is to be identified, and the script that it runs.
#[derive(Debug)]
struct Job {
    subject: Subject,
    file: process::File,
    /// Where the script lay, in the process's own view of files.
    script: Option<PathBuf>,
    /// Of the process.
    mount_namespace: u32,
    of: Reference,
}

/// What of an exec is identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Image,
    Script,
}

/// Why a program has not been identified; the place in [`REASONS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Busy,
    Gone,
    Changed,
    TooLarge,
}

impl Identifier {
    /// Starts the worker; what it finds comes from the receiver. It ends when either is dropped.
    ///
    /// # Errors
    /// When the host gives no more threads.
    pub fn start() -> std::io::Result<(Self, mpsc::Receiver<Event>)> {
        let (jobs, queue) = sync_channel(JOBS_MAX);
        let (found, results) = mpsc::channel(JOBS_MAX);
        let failed = Arc::<[AtomicU64; REASONS.len()]>::default();
        let worker = Worker { failed: failed.clone(), ..Worker::default() };
        std::thread::Builder::new().name("identify".into()).spawn(move || worker.run(&queue, &found))?;
        Ok((Self { jobs, asked: HashMap::new(), failed }, results))
    }

    /// Has the program of an exec identified, unless that was asked just now.
    pub fn ask(&mut self, event: &Event) {
        let (Some(subject), Some(exec)) = (&event.subject, &event.exec) else { return };
        let key = (subject.ids.role, exec.file, subject.script.clone());
        let second = event.time.0 / 1_000_000_000;
        if self.asked.get(&key) == Some(&second) {
            return;
        }
        if self.asked.len() >= ASKED_MAX {
            self.asked.clear();
        }
        self.asked.insert(key, second);
        let of = Reference { time: event.time, seq: event.seq };
        let whole = |field| event.truncated.iter().all(|cut| &*cut.field != field);
        let script = subject.script.as_ref().filter(|_| whole("script") && whole("cwd"));
        let job = Job {
            subject: subject.clone(),
            file: exec.file,
            script: script.map(|script| Path::new(&*exec.cwd).join(&**script)),
            mount_namespace: exec.namespaces.mnt,
            of,
        };
        if self.jobs.try_send(job).is_err() {
            count(&self.failed, Reason::Busy);
        }
    }

    /// How often a program was not identified, by reason.
    #[must_use]
    pub fn failed(&self) -> Vec<(&'static str, u64)> {
        REASONS
            .iter()
            .zip(&*self.failed)
            .map(|(reason, count)| (*reason, count.load(Ordering::Relaxed)))
            .collect()
    }
}

fn count(failed: &[AtomicU64; REASONS.len()], reason: Reason) {
    failed[reason as usize].fetch_add(1, Ordering::Relaxed);
}

/// A file at a moment: whatever is written to it changes this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Version {
    dev: u64,
    ino: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl From<&Metadata> for Version {
    fn from(m: &Metadata) -> Self {
        Self {
            dev: m.dev(),
            ino: m.ino(),
            len: m.len(),
            modified: (m.mtime(), m.mtime_nsec()),
            changed: (m.ctime(), m.ctime_nsec()),
        }
    }
}

/// What a file was found to be.
#[derive(Clone, Debug)]
struct Found {
    sha256: Name,
    package: Option<package::Package>,
    /// What was installed then.
    installed: package::Installed,
}

#[derive(Debug, Default)]
struct Worker {
    known: HashMap<Version, Found>,
    /// Role, path, hash and package's version that were told.
    told: HashSet<(Name, Name, Name, Option<Name>)>,
    failed: Arc<[AtomicU64; REASONS.len()]>,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>, found: &mpsc::Sender<Event>) {
        // Hashing must not take time from what it is about.
        // SAFETY: takes numbers; 0 is this thread.
        let _ = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
        while let Ok(job) = jobs.recv() {
            // The script first: it has a process to be looked up by, which may end.
            for part in [Part::Script, Part::Image] {
                match self.identify(&job, part) {
                    Ok(Some(event)) => {
                        if found.blocking_send(event).is_err() {
                            return;
                        }
                    }
                    Ok(None) => {}
                    Err(reason) => count(&self.failed, reason),
                }
            }
        }
    }

    /// The event, unless there is no such part, or the same was told of the role before.
    fn identify(&mut self, job: &Job, part: Part) -> Result<Option<Event>, Reason> {
        let (path, opened) = match (part, &job.script) {
            (Part::Script, None) => return Ok(None),
            (Part::Script, Some(at)) => (&job.subject.script, open_script(job, at)),
            (Part::Image, _) => {
                let path = job.subject.exe.as_deref().unwrap_or_default();
                (&job.subject.exe, open(job.subject.pid, Path::new(path), &job.file))
            }
        };
        let (Some(path), Some(role)) = (path, &job.subject.role) else { return Err(Reason::Gone) };
        let (file, here) = opened.ok_or(Reason::Gone)?;
        let metadata = file.metadata().map_err(|_| Reason::Gone)?;
        let version = Version::from(&metadata);
        // What was written after the exec is not what ran; the file's clock may be a tick behind the event's.
        let changed_ns = version.changed.0.saturating_mul(1_000_000_000).saturating_add(version.changed.1);
        if u64::try_from(changed_ns).unwrap_or_default().saturating_add(TICK_NS) > job.of.time.0 {
            return Err(Reason::Changed);
        }
        // A package manager puts files in place before it notes their version.
        let installed = package::Installed::now();
        let found = match self.known.get(&version) {
            Some(found) if found.installed == installed => found.clone(),
            known => {
                let sha256 = known.map_or_else(|| hash(&file, version), |known| Ok(known.sha256.clone()))?;
                let package = here.as_deref().and_then(package::of);
                let found = Found { sha256, package, installed };
                if self.known.len() >= KNOWN_MAX {
                    self.known.clear();
                }
                self.known.insert(version, found.clone());
                found
            }
        };
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        let of_package = found.package.as_ref().map(|package| package.version.clone());
        if !self.told.insert((role.clone(), path.clone(), found.sha256.clone(), of_package)) {
            return Ok(None);
        }
        let program = Program {
            path: path.clone(),
            sha256: found.sha256,
            package: found.package.as_ref().map(|package| package.name.clone()),
            version: found.package.map(|package| package.version),
            bytes: version.len,
            of: job.of,
        };
        Ok(Some(Event {
            kind: Kind::ProgramIdentified,
            subject: Some(job.subject.clone()),
            program: Some(Box::new(program)),
            ..Event::default()
        }))
    }
}

/// The very file that was executed: what the process runs, or else what lies at its path here; and that path, where it
/// leads to it in the daemon's own mount namespace.
fn open(pid: u32, path: &Path, wanted: &process::File) -> Option<(File, Option<PathBuf>)> {
    let files = Files::now();
    let is_it = |file: &File| {
        files.of_open(file).is_some_and(|(key, generation)| {
            let same = generation == 0 || wanted.generation == 0 || generation == wanted.generation;
            (key.dev, key.ino) == (wanted.dev, wanted.inode) && same
        })
    };
    let at = |path: &Path| regular(path).filter(|file| is_it(file));
    let here = at(path);
    let path = here.is_some().then(|| path.to_owned());
    Some((at(Path::new(&format!("/proc/{pid}/exe"))).or(here)?, path))
}

/// What lies at the script's path, in the process's own view of files while it runs what it ran then, else in the
/// daemon's if that was the same; and the path where it is the daemon's. An event has no inode of a script, but a file
/// that was put there or moved there since has a later change of its own, which the caller looks at.
fn open_script(job: &Job, path: &Path) -> Option<(File, Option<PathBuf>)> {
    let own = std::fs::metadata("/proc/self/ns/mnt").ok()?.ino() == u64::from(job.mount_namespace);
    let here = own.then(|| path.to_owned());
    let process = PathBuf::from(format!("/proc/{}", job.subject.pid));
    let runs = regular(&process.join("exe")).and_then(|exe| Files::now().of_open(&exe));
    let file = match runs {
        Some((key, _)) if (key.dev, key.ino) == (job.file.dev, job.file.inode) => {
            regular(&process.join("root").join(path.strip_prefix("/").ok()?))?
        }
        _ => regular(here.as_deref()?)?,
    };
    Some((file, here))
}

/// An agent may have put anything at the path by now: what is no file must not be opened, for a device may act on that,
/// and a pipe waits for its other end.
fn regular(path: &Path) -> Option<File> {
    let there = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path).ok()?;
    there.metadata().ok().filter(Metadata::is_file)?;
    File::open(format!("/proc/self/fd/{}", there.as_raw_fd())).ok()
}

/// SHA-256 of a file that nobody writes to meanwhile, hexadecimal.
fn hash(file: &File, version: Version) -> Result<Name, Reason> {
    if version.len > BYTES_MAX {
        return Err(Reason::TooLarge);
    }
    // One byte more than it had: a file that grows meanwhile has no end.
    let mut bytes = file.take(version.len.saturating_add(1));
    let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match bytes.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => hasher.update(&buffer[..read]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Reason::Gone),
        }
    }
    let after = file.metadata().map_err(|_| Reason::Gone)?;
    if Version::from(&after) != version {
        return Err(Reason::Changed);
    }
    let digits: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(digits.into())
}

const REASONS: [&str; 4] = ["busy", "gone", "changed", "too_large"];
/// Execs that wait for the worker, and what it found that waits for the pipeline.
pub const JOBS_MAX: usize = 256;
/// Files of a role that were asked for within the second.
const ASKED_MAX: usize = 4_096;
/// Files whose content is known.
pub const KNOWN_MAX: usize = 4_096;
/// Role, path and content that were told; then they are told again.
pub const TOLD_MAX: usize = 16_384;
/// Of a file; larger ones are not read.
const BYTES_MAX: u64 = 512 << 20;
const NICE: i32 = 19;
/// A tick of the slowest kernels (CONFIG_HZ=100), which is what a file's times are counted in.
const TICK_NS: u64 = 10_000_000;

#[cfg(test)]
mod tests;
