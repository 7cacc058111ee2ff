//! Shapes: how a process can come to be before it executes a command.

mod births;
mod images;
mod namespaces;
mod sessions;

use std::{
    ffi::CString,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    process::ExitCode,
    ptr,
};

use anyhow::{Context, bail};
use clap::Args;

use crate::act::sys::{self, Refused};

/// Is born in the given shape, then executes the command and waits for it.
#[derive(Debug, Args)]
pub struct Shape {
    /// The shape (see --list); several after each other with commas
    name: Option<String>,
    #[arg(long)]
    list: bool,
    #[arg(last = true)]
    command: Vec<CString>,
}

/// A shape and what it needs.
struct Row {
    name: &'static str,
    root: bool,
    about: &'static str,
    /// Returns in the process that stays behind; the born one executes the command and never returns.
    run: fn(&Command) -> Result<Born, Refused>,
}

const fn row(name: &'static str, about: &'static str, run: fn(&Command) -> Result<Born, Refused>) -> Row {
    Row { name, root: false, about, run }
}

impl Row {
    const fn root(mut self) -> Self {
        self.root = true;
        self
    }
}

const TABLES: &[&[Row]] = &[births::ROWS, sessions::ROWS, namespaces::ROWS, images::ROWS];

/// How the process that stays behind learns of the end.
enum Born {
    Child(libc::pid_t),
    /// Somebody else's child now: the end shows when the pipe that it inherited closes.
    Orphan,
}

/// The command at the end of the shape.
struct Command {
    words: Vec<CString>,
}

impl Command {
    /// The path of the command's file, as the shell would find it.
    fn path(&self) -> Result<PathBuf, Refused> {
        let name = Path::new(std::ffi::OsStr::from_bytes(self.words[0].as_bytes()));
        if name.components().count() > 1 {
            return Ok(name.to_owned());
        }
        let places = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
        let found = std::env::split_paths(&places).map(|place| place.join(name)).find(|path| path.is_file());
        found.ok_or_else(|| Refused::new("command", libc::ENOENT))
    }

    fn exec(&self) -> ! {
        self.exec_as(&self.words[0])
    }

    /// Executes the command from `file`, whatever its first word says.
    fn exec_as(&self, file: &CString) -> ! {
        let words: Vec<_> = self.words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect();
        // SAFETY: the file's name and the list are null-terminated.
        unsafe { libc::execvp(file.as_ptr(), words.as_ptr()) };
        give_up(&Refused::last("execvp"))
    }
}

/// Ends a process that could not become what it should.
fn give_up(refused: &Refused) -> ! {
    eprintln!("shape: {refused}");
    // SAFETY: ends this process alone, without its parent's exit work.
    unsafe { libc::_exit(126) }
}

/// Forks; the child runs `then`, which must not come back.
fn fork_then(then: impl FnOnce() -> Result<(), Refused>) -> Result<libc::pid_t, Refused> {
    // SAFETY: where other threads run, the child only makes system calls before its exec.
    let child = unsafe { libc::fork() };
    sys::call("fork", child)?;
    if child == 0 {
        let refused = then().err().unwrap_or_else(|| Refused::new("shape", libc::EIO));
        give_up(&refused);
    }
    Ok(child)
}

fn exit(status: i32) -> ! {
    // SAFETY: ends this process alone, without its parent's exit work.
    unsafe { libc::_exit(status) }
}

/// The exit status as the shell tells it.
fn wait(child: libc::pid_t) -> Result<i32, Refused> {
    let mut status = 0;
    // SAFETY: `status` is a valid int to fill.
    sys::call("waitpid", unsafe { libc::waitpid(child, &raw mut status, 0) })?;
    Ok(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) })
}

impl Shape {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let rows = || TABLES.iter().copied().flatten();
        if self.list {
            for Row { name, root, about, .. } in rows() {
                println!("{name:<18} {:<5} {about}", if *root { "root" } else { "" });
            }
            return Ok(ExitCode::SUCCESS);
        }
        let (Some(names), false) = (self.name, self.command.is_empty()) else {
            bail!("say: shape NAME -- CMD…")
        };
        let (name, rest) =
            names.split_once(',').map_or((names.as_str(), None), |(name, rest)| (name, Some(rest)));
        let row = rows()
            .find(|row| row.name == name)
            .with_context(|| format!("no shape {name}: see shape --list"))?;
        let command = Command { words: nest(rest, self.command)? };
        let (end, held) = sys::pipe().map_err(|refused| anyhow::anyhow!("{refused}"))?;
        keep_over_exec(&held);
        let outcome = (row.run)(&command).and_then(|born| match born {
            Born::Child(child) => wait(child),
            Born::Orphan => {
                drop(held);
                // Zero bytes: the last holder of the other end is gone.
                sys::read(&end, &mut [0]).map(|_| 0)
            }
        });
        match outcome {
            Ok(status) => Ok(ExitCode::from(u8::try_from(status).unwrap_or(255))),
            Err(refused) => bail!("shape {name}: {refused}"),
        }
    }
}

/// Further shapes are taken by this program again, as the command of the first.
fn nest(rest: Option<&str>, command: Vec<CString>) -> anyhow::Result<Vec<CString>> {
    let Some(rest) = rest else { return Ok(command) };
    let own = std::env::current_exe().context("find this program")?;
    let mut words = vec![CString::new(own.as_os_str().as_bytes())?];
    for word in ["act", "shape", rest, "--"] {
        words.push(CString::new(word)?);
    }
    words.extend(command);
    Ok(words)
}

fn keep_over_exec(fd: &OwnedFd) {
    // SAFETY: F_SETFD takes an int.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, 0) };
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_shape_has_its_own_name() {
        let names: Vec<_> = TABLES.iter().copied().flatten().map(|row| row.name).collect();
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), names.len());
    }
}
