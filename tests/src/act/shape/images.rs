//! The same program under another name or under none: descriptors, copies, links, the loader.

use std::{
    env,
    ffi::{CString, OsStr, OsString},
    fs,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::PermissionsExt},
    },
    path::{Path, PathBuf},
    process,
};

use super::{Born, Command, Row, exit, fork_then, row, wait};
use crate::act::{
    passed::{self, Via},
    sys::{self, Refused},
};

pub(super) const ROWS: &[Row] = &[
    row("fexecve", "execveat(AT_EMPTY_PATH) of the open file", |command| {
        by_descriptor(command, Via::Fexecve)
    }),
    row("memfd", "the same of a copy in memory", |command| by_descriptor(command, Via::Memfd)),
    row("proc-fd", "exec of /proc/self/fd/N", proc_fd),
    row("proc-root", "exec of /proc/self/root/…", proc_root),
    row("symlink", "exec through a symbolic link", |command| {
        other_name(command, |from, to| std::os::unix::fs::symlink(from, to))
    }),
    row("hardlink", "exec of another name of the file", |command| {
        other_name(command, |from, to| fs::hard_link(from, to))
    }),
    row("copy", "exec of a copy of the file", |command| {
        other_name(command, |from, to| fs::copy(from, to).map(drop))
    }),
    row("script", "exec of a #! script that runs the command", script),
    row("loader", "the dynamic loader runs the file", loader),
    row("argv0", "exec with the first word -bash", argv0),
];

fn c_path(path: &Path) -> Result<CString, Refused> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Refused::new("command", libc::EINVAL))
}

fn by_descriptor(command: &Command, via: Via) -> Result<Born, Refused> {
    let path = c_path(&command.path()?)?;
    let words: Vec<OsString> =
        command.words.iter().map(|word| OsStr::from_bytes(word.as_bytes()).to_owned()).collect();
    let vars: Vec<_> = env::vars_os().collect();
    fork_then(|| Err(passed::exec(&path, via, &words, &vars))).map(Born::Child)
}

fn proc_fd(command: &Command) -> Result<Born, Refused> {
    let file = sys::open(&c_path(&command.path()?)?, libc::O_RDONLY)?;
    let name = c_path(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))?;
    fork_then(|| command.exec_as(&name)).map(Born::Child)
}

fn proc_root(command: &Command) -> Result<Born, Refused> {
    let path = fs::canonicalize(command.path()?).map_err(|error| Refused::io("command", &error))?;
    let name = c_path(&Path::new("/proc/self/root").join(path.strip_prefix("/").unwrap_or(&path)))?;
    fork_then(|| command.exec_as(&name)).map(Born::Child)
}

/// Beside the file if its file system must be the same, and gone when the command has ended.
fn other_name(command: &Command, make: fn(&Path, &Path) -> std::io::Result<()>) -> Result<Born, Refused> {
    let path = fs::canonicalize(command.path()?).map_err(|error| Refused::io("command", &error))?;
    let name = format!("chaperone-act-{}", process::id());
    let beside = path.with_file_name(&name);
    let other = match make(&path, &beside) {
        Ok(()) => beside,
        Err(_) => {
            let elsewhere = env::temp_dir().join(&name);
            make(&path, &elsewhere).map_err(|error| Refused::io("other name", &error))?;
            elsewhere
        }
    };
    run_and_remove(command, &other)
}

fn run_and_remove(command: &Command, file: &PathBuf) -> Result<Born, Refused> {
    let name = c_path(file)?;
    let child = fork_then(|| command.exec_as(&name))?;
    let status = wait(child);
    drop(fs::remove_file(file));
    exit(status?)
}

/// The kernel sees the script first, then its shell, then the command.
fn script(command: &Command) -> Result<Born, Refused> {
    let words: Vec<_> = command.words.iter().map(|word| quote(&word.to_string_lossy())).collect();
    let path = env::temp_dir().join(format!("chaperone-act-{}.sh", process::id()));
    let text = format!("#!/bin/sh\nexec {}\n", words.join(" "));
    let told = |error: std::io::Error| Refused::io("script", &error);
    fs::write(&path, text).map_err(told)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(told)?;
    run_and_remove(command, &path)
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// The kernel executes the loader, and the program is only a file that it maps.
fn loader(command: &Command) -> Result<Born, Refused> {
    let path = c_path(&command.path()?)?;
    let loader = LOADERS.iter().find(|loader| Path::new(loader).exists());
    let loader = loader.ok_or_else(|| Refused::new("loader", libc::ENOENT))?;
    let loader = c_path(Path::new(loader))?;
    let mut words = vec![loader, path];
    words.extend(command.words.iter().skip(1).cloned());
    fork_then(|| Command { words }.exec()).map(Born::Child)
}

fn argv0(command: &Command) -> Result<Born, Refused> {
    let path = c_path(&command.path()?)?;
    let mut words = command.words.clone();
    words[0] = c"-bash".to_owned();
    fork_then(|| Command { words }.exec_as(&path)).map(Born::Child)
}

const LOADERS: &[&str] = &["/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
