//! Where baselines are kept: one SQLite file, written in one transaction together with how far the events were learned.
//!
//! So a process that is killed at any moment has learned what the file says, to the line, and nothing twice.

mod changes;

use std::{
    fs,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};

pub use self::changes::Changes;
use super::{
    behaviour::Behaviour,
    document::{self, Shown},
    evidence::Evidence,
    learn::{Baselines, Model},
};
use crate::event::{
    Name,
    word::{InstanceId, Time},
};

/// The file, open.
#[derive(Debug)]
pub struct Store {
    db: Connection,
    path: PathBuf,
    /// Held by the one process that writes: another would write over what it does not know of.
    _writing: Option<fs::File>,
}

/// How far a file of events was learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// See [`super::replay::fingerprint`].
    pub file: String,
    /// The role it holds for; [`ALL_ROLES`] for what was learned of whatever role.
    pub role: Name,
    pub bytes: u64,
    pub lines: u64,
}

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("there is no baseline store at {}: nothing has been learned yet (`chaperone baseline learn`)", .0.display())]
    Missing(PathBuf),
    #[error("{} was written by a newer version (form {found}, this version reads {VERSION}): use that version, or export \
             there and import here", .path.display())]
    Newer { path: PathBuf, found: i64 },
    #[error("{} is not a baseline store: name another with --store", .0.display())]
    Foreign(PathBuf),
    #[error("{}: {what} is damaged: {why} (restore the file, or move it away and learn anew)", .path.display())]
    Damaged { path: PathBuf, what: String, why: String },
    #[error("another process is writing {}: wait until it has ended", .0.display())]
    Busy(PathBuf),
    #[error("{}: {source}", .path.display())]
    Sql { path: PathBuf, source: rusqlite::Error },
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

impl Store {
    /// Opens it for writing, and makes it where there is none. One process writes at a time.
    pub fn open(path: &Path) -> Result<Self, Error> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        }
        let lock = lock(path)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
        let mut store = Self::connect(path, flags)?;
        store._writing = Some(lock);
        store.prepare().map_err(|error| store.error(error))?;
        store.checked(true)
    }

    /// Opens it for reading.
    pub fn open_existing(path: &Path) -> Result<Self, Error> {
        let there = path.try_exists().map_err(|source| Error::Io { path: path.to_owned(), source })?;
        if !there {
            return Err(Error::Missing(path.to_owned()));
        }
        Self::connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?.checked(false)
    }

    fn connect(path: &Path, flags: OpenFlags) -> Result<Self, Error> {
        let db = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_NO_MUTEX);
        let db = db.map_err(|source| Error::Sql { path: path.to_owned(), source })?;
        Ok(Self { db, path: path.to_owned(), _writing: None })
    }

    fn prepare(&self) -> rusqlite::Result<()> {
        // With the log a transaction that a killed process did not end never was; what it ended is there.
        self.db.pragma_update(None, "journal_mode", "wal")?;
        self.db.pragma_update(None, "synchronous", "normal")?;
        self.db.busy_timeout(std::time::Duration::from_secs(5))
    }

    fn checked(self, make: bool) -> Result<Self, Error> {
        let number = |name| self.db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (id, version) =
            (|| Ok((number("application_id")?, number("user_version")?)))().map_err(|e| self.error(e))?;
        match (id, version) {
            (APPLICATION, VERSION) => Ok(self),
            (APPLICATION, found) if found > VERSION => Err(Error::Newer { path: self.path, found }),
            (0, 0) if make && self.is_empty()? => {
                let marks =
                    format!("PRAGMA application_id = {APPLICATION}; PRAGMA user_version = {VERSION};");
                self.db
                    .execute_batch(&format!("BEGIN; {SCHEMA} {marks} COMMIT;"))
                    .map_err(|error| self.error(error))?;
                Ok(self)
            }
            _ => Err(Error::Foreign(self.path)),
        }
    }

    fn is_empty(&self) -> Result<bool, Error> {
        let count = self.db.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get::<_, i64>(0));
        Ok(count.map_err(|error| self.error(error))? == 0)
    }

    /// All that is stored.
    pub fn load(&self) -> Result<Baselines, Error> {
        let mut baselines = Baselines::default();
        let roles: Vec<(i64, String, [String; 4])> = self
            .rows("SELECT id, name, tally, sources, roster, contents FROM role ORDER BY name", |row| {
                Ok((row.get(0)?, row.get(1)?, [row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?]))
            })?;
        let mut names = std::collections::HashMap::new();
        for (id, name, [tally, sources, roster, contents]) in roles {
            let model = document::frame(
                self.parsed(&name, &tally)?,
                self.parsed(&name, &sources)?,
                self.parsed(&name, &roster)?,
                self.parsed(&name, &contents)?,
            );
            let name = Name::from(name);
            names.insert(id, name.clone());
            baselines.models.insert(name, model);
        }
        let all: Vec<(i64, String, [i64; 3], String)> = self
            .rows("SELECT role, behaviour, first, last, rest, shown FROM behaviour", |row| {
                Ok((row.get(0)?, row.get(1)?, [row.get(2)?, row.get(3)?, row.get(4)?], row.get(5)?))
            })?;
        for (id, text, [first, last, rest], by) in all {
            let Some(model) = names.get(&id).and_then(|name| baselines.models.get_mut(name)) else {
                continue;
            };
            let behaviour: Behaviour = text.parse().map_err(|why| self.damaged(&text, why))?;
            let by = self.parsed(&text, &by)?;
            let (first, last) = (Time(first.cast_unsigned()), Time(last.cast_unsigned()));
            model.put(behaviour, Evidence::from(Shown { first, last, rest: rest.cast_unsigned(), by }));
        }
        baselines.models.values_mut().for_each(Model::settle);
        let live: Vec<(String, i64, String)> = self
            .rows("SELECT boot, instance, state FROM live", |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        for (boot, instance, state) in live {
            let key = (Name::from(&*boot), InstanceId(instance.cast_unsigned()));
            baselines.context.put(key, &state).map_err(|why| self.damaged("an instance", why))?;
        }
        Ok(baselines)
    }

    /// Writes changes in one transaction, so that a process killed at any moment has learned each line once.
    pub fn write(&mut self, changes: &Changes) -> Result<(), Error> {
        changes.write(&mut self.db).map_err(|source| self.error(source))
    }

    /// Takes what changed and writes it.
    pub fn flush(&mut self, baselines: &mut Baselines, positions: &[Position]) -> Result<(), Error> {
        self.write(&Changes::take(baselines, positions.to_vec()))
    }

    /// Removes a role's baseline, and how far it was learned.
    pub fn delete(&mut self, role: &str) -> Result<(), Error> {
        let delete = |db: &mut Connection| {
            let tx = db.transaction()?;
            tx.execute("DELETE FROM behaviour WHERE role = (SELECT id FROM role WHERE name = ?)", [role])?;
            tx.execute("DELETE FROM role WHERE name = ?", [role])?;
            tx.execute("DELETE FROM position WHERE role = ?", [role])?;
            tx.commit()
        };
        delete(&mut self.db).map_err(|source| self.error(source))
    }

    /// How far a file was learned of a role.
    pub fn position(&self, file: &str, role: &str) -> Result<Option<Position>, Error> {
        let row = self.db.query_row(
            "SELECT bytes, lines FROM position WHERE file = ? AND role = ?",
            [file, role],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)),
        );
        let position = |(bytes, lines): (i64, i64)| Position {
            file: file.to_owned(),
            role: role.into(),
            bytes: bytes.cast_unsigned(),
            lines: lines.cast_unsigned(),
        };
        Ok(row.optional().map_err(|error| self.error(error))?.map(position))
    }

    fn rows<T>(
        &self,
        sql: &str,
        read: impl Fn(&rusqlite::Row) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Error> {
        let all = || {
            let mut statement = self.db.prepare(sql)?;
            statement.query_map([], |row| read(row))?.collect::<rusqlite::Result<Vec<T>>>()
        };
        all().map_err(|error| self.error(error))
    }

    fn parsed<T: serde::de::DeserializeOwned>(&self, what: &str, json: &str) -> Result<T, Error> {
        serde_json::from_str(json).map_err(|error| self.damaged(what, error.to_string()))
    }

    fn damaged(&self, what: &str, why: String) -> Error {
        Error::Damaged { path: self.path.clone(), what: what.to_owned(), why }
    }

    fn error(&self, source: rusqlite::Error) -> Error {
        let path = self.path.clone();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::Busy(path),
            Some(ErrorCode::NotADatabase) => Error::Foreign(path),
            Some(ErrorCode::DatabaseCorrupt) => self.damaged("the file", source.to_string()),
            _ => Error::Sql { path, source },
        }
    }
}

/// Locks the file beside the store; the lock ends with the process, however it ends.
fn lock(path: &Path) -> Result<fs::File, Error> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(beside);
    let io = |source| Error::Io { path: path.to_owned(), source };
    let file = file.map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Busy(path.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(io(source)),
    }
}

/// What it is called below the daemon's `state_dir`.
pub const FILE: &str = "baseline.db";
/// In place of a role: everything that a file holds.
pub const ALL_ROLES: &str = "*";
/// `chap`, so that no other program's file is taken for one of ours.
const APPLICATION: i64 = 0x6368_6170;
/// Of the tables and of the texts in them.
const VERSION: i64 = 1;
const SCHEMA: &str = "
CREATE TABLE role (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, tally TEXT NOT NULL, sources TEXT NOT NULL,
    roster TEXT NOT NULL, contents TEXT NOT NULL);
CREATE TABLE behaviour (role INTEGER NOT NULL, behaviour TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
    rest INTEGER NOT NULL, shown TEXT NOT NULL, PRIMARY KEY (role, behaviour)) WITHOUT ROWID;
CREATE TABLE live (boot TEXT NOT NULL, instance INTEGER NOT NULL, state TEXT NOT NULL,
    PRIMARY KEY (boot, instance)) WITHOUT ROWID;
CREATE TABLE position (file TEXT NOT NULL, role TEXT NOT NULL, bytes INTEGER NOT NULL, lines INTEGER NOT NULL,
    PRIMARY KEY (file, role)) WITHOUT ROWID;
";

#[cfg(test)]
mod tests;
