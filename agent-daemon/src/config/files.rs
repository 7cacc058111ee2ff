//! Finds and reads configuration files, whatever state they are in.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    document::{AgentDocument, MatchSpec, PromotionDocument, RoleDocument},
    problem::{Place, Problem, Problems, Texts},
    promoted,
    read::{self, Document},
    settings::Config,
    yaml,
};

/// All documents that were read, with the files they came from.
#[derive(Clone, Debug, Default)]
pub struct Documents {
    pub agents: Vec<AgentDocument>,
    pub roles: Vec<RoleDocument>,
    /// What was promoted of roles' baselines.
    pub promotions: Vec<PromotionDocument>,
    /// The settings and where they stand, if a document of kind `Daemon` was read.
    pub daemon: Option<(Config, Place)>,
    pub texts: Texts,
    /// What the `exe` paths lead to, as far as they exist now.
    pub executables: BTreeMap<PathBuf, Executable>,
    /// Directories that were to be read and are not there.
    pub missing: Vec<PathBuf>,
}

/// A file that an `exe` path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// Behind every symlink.
    pub path: PathBuf,
    pub dev: u64,
    pub ino: u64,
}

impl Documents {
    /// The agents and roles of a configuration directory, with what was promoted and is kept below `state_dir`;
    /// directories that do not exist are empty.
    #[must_use]
    pub fn read(config_dir: &Path, state_dir: Option<&Path>) -> (Self, Problems) {
        let (mut documents, mut problems) = (Self::default(), Problems::default());
        for name in DIRECTORIES {
            documents.read_dir(&config_dir.join(name), &mut problems);
        }
        if let Some(state_dir) = state_dir {
            documents.read_dir(&promoted::directory(state_dir), &mut problems);
        }
        documents.resolve();
        (documents, problems)
    }

    /// The documents of files and directories that somebody names: each of them must exist. Of a directory, its
    /// own files and those in `agents/` and `roles/`.
    #[must_use]
    pub fn read_paths(paths: &[PathBuf]) -> (Self, Problems) {
        let (mut documents, mut problems) = (Self::default(), Problems::default());
        for path in paths {
            if path.is_dir() {
                documents.read_dir(path, &mut problems);
                for name in DIRECTORIES {
                    documents.read_dir(&path.join(name), &mut problems);
                }
            } else {
                documents.read_file(path, &mut problems);
            }
        }
        documents.resolve();
        (documents, problems)
    }

    /// The documents of one file, none where it does not exist.
    #[must_use]
    pub fn read_file_if_any(path: &Path) -> (Self, Problems) {
        let (mut documents, mut problems) = (Self::default(), Problems::default());
        if !matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound) {
            documents.read_file(path, &mut problems);
        }
        (documents, problems)
    }

    /// The documents of texts that were read before.
    #[must_use]
    pub fn from_texts(texts: &Texts) -> (Self, Problems) {
        let (mut documents, mut problems) = (Self::default(), Problems::default());
        for (file, text) in &texts.0 {
            documents.add(file, text, &mut problems);
        }
        documents.resolve();
        (documents, problems)
    }

    /// Adds the documents of a text; `file` is what it is called in reports.
    pub fn add(&mut self, file: &str, text: &str, problems: &mut Problems) {
        let file: Arc<str> = file.into();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        self.texts.0.insert(file.clone(), text.into());
        let before = problems.0.len();
        let nodes = yaml::documents(&file, text, problems);
        if nodes.is_empty() && problems.0.len() == before {
            let remedy = "write a document, or remove the file: an empty one is taken for half-written";
            problems.push(Problem::new(&Place::file(&file), "holds no document", remedy));
        }
        for node in nodes {
            match read::document(&node, problems) {
                Some(Document::Agent(agent)) => self.agents.push(agent),
                Some(Document::Role(role)) => self.roles.push(role),
                Some(Document::Promotion(promotion)) => self.promotions.push(promotion),
                Some(Document::Daemon(config)) => match &self.daemon {
                    None => self.daemon = Some((config, node.place)),
                    Some((_, first)) => {
                        let remedy = format!("keep one; the first is at {first}");
                        problems.push(Problem::new(&node.place, "a second document of kind Daemon", remedy));
                    }
                },
                None => {}
            }
        }
    }

    fn read_dir(&mut self, dir: &Path, problems: &mut Problems) {
        let place = Place::file(&dir.display().to_string());
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.missing.push(dir.to_owned());
                return;
            }
            Err(error) => {
                problems.push(Problem::new(
                    &place,
                    format!("cannot be read: {error}"),
                    access_remedy(&error),
                ));
                return;
            }
        };
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in entries {
            match entry {
                Ok(entry) if is_configuration(&entry.path()) => paths.push(entry.path()),
                Ok(_) => {}
                Err(error) => problems.push(Problem::new(
                    &place,
                    format!("cannot be listed: {error}"),
                    access_remedy(&error),
                )),
            }
        }
        if paths.len() > FILES_MAX {
            let what = format!("holds {} configuration files, at most {FILES_MAX}", paths.len());
            problems.push(Problem::new(&place, what, "put several documents into one file"));
            return;
        }
        // The order of the directory is not stable, that of reports and rule numbers must be.
        paths.sort();
        for path in paths {
            self.read_file(&path, problems);
        }
    }

    fn read_file(&mut self, path: &Path, problems: &mut Problems) {
        let mut name = path.display().to_string();
        if path.is_symlink()
            && let Ok(target) = fs::canonicalize(path)
        {
            name = format!("{name} -> {}", target.display());
        }
        if self.texts.0.contains_key(name.as_str()) {
            return;
        }
        match read_settled(path) {
            Ok(text) => self.add(&name, &text, problems),
            Err((line, what, remedy)) => {
                let place = Place { line, ..Place::file(&name) };
                problems.push(Problem::new(&place, what, remedy));
            }
        }
    }

    /// Follows the `exe` paths, so that two names of one file are seen to be one.
    fn resolve(&mut self) {
        for spec in self.agents.iter().flat_map(|agent| &agent.spec.matches) {
            let MatchSpec::Exe(path) = &spec.value else { continue };
            if let Ok(resolved) = fs::canonicalize(path)
                && let Ok(meta) = fs::metadata(&resolved)
            {
                let executable = Executable { path: resolved, dev: meta.dev(), ino: meta.ino() };
                self.executables.insert(path.clone(), executable);
            }
        }
    }
}

type Unreadable = (u32, String, String);

/// Reads a file that nobody writes to meanwhile. One that is being written is read again a little later; one that goes
/// on changing is an error, since what was read may be half of the old and half of the new.
fn read_settled(path: &Path) -> Result<String, Unreadable> {
    for _ in 0..READS_MAX {
        let (wait, text) = read_text(path)?;
        if wait.is_zero() {
            return Ok(text);
        }
        std::thread::sleep(wait);
    }
    let remedy = "write the new one beside it and rename it (mv); it is read again when it has settled";
    Err((0, "is being changed while it is read".into(), remedy.into()))
}

/// The text, and how long to wait before reading it again: zero when nobody wrote to it just before or meanwhile.
fn read_text(path: &Path) -> Result<(Duration, String), Unreadable> {
    let failed = |error: io::Error| (0, format!("cannot be read: {error}"), access_remedy(&error));
    let begun = Instant::now();
    // A named pipe called x.yaml must not stop the daemon.
    let file =
        OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Err((0, "is not a regular file".into(), "replace it by a file, or rename it".into()));
    }
    let mut bytes = Vec::new();
    (&file).take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let what = format!("is larger than {} KiB", FILE_BYTES_MAX >> 10);
        return Err((0, what, "split it into several files".into()));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() as u32 + 1;
        (line, "is not UTF-8".into(), "save it as UTF-8".into())
    })?;
    let changed = file.metadata().and_then(|meta| meta.modified()).map_err(failed)?;
    // One from the future is one whose clock was set; there is nothing to wait for.
    let age = changed.elapsed().unwrap_or(SETTLED);
    // Read within less than that, so that a write before or meanwhile is one that just was.
    let wait = if begun.elapsed() < SETTLED { SETTLED.saturating_sub(age) } else { SETTLED };
    Ok((wait, text))
}

fn access_remedy(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "make it readable for the user that runs this".into(),
        io::ErrorKind::NotFound => "check the path; a symlink may lead nowhere".into(),
        io::ErrorKind::NotADirectory => "make it a directory".into(),
        _ => "check the file and the disk".into(),
    }
}

/// Whether a file of a directory is configuration: editors and Kubernetes keep hidden files beside it.
fn is_configuration(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
    !hidden && path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml")
}

/// Below the configuration directory; any kind of document may stand in either.
const DIRECTORIES: [&str; 2] = ["agents", "roles"];
/// Enough for some ten thousand rules; more in one file is a mistake.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Reads of one file that is being written.
const READS_MAX: usize = 3;
/// A file that nobody wrote to for this long is not being written; a little more than the coarsest clock of writes.
const SETTLED: Duration = Duration::from_millis(30);
/// Files of one directory.
pub const FILES_MAX: usize = 10_000;
