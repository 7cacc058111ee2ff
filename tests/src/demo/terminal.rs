//! A person at a terminal: a pseudo-terminal, a shell on it, and what appears on its screen.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::{
    libc,
    pty::{OpenptyResult, openpty},
    unistd::{User, fchown},
};

use super::{
    screen::{From, Screen},
    wait_until,
};

/// Who sits there, and where.
pub struct Seat {
    pub user: User,
    pub directory: PathBuf,
    pub prompt: String,
    /// Variables of the shell beside the usual ones.
    pub env: Vec<(String, String)>,
    /// A cgroup of ours that the shell begins in.
    pub cgroup: Option<PathBuf>,
}

/// The terminal; dropping it hangs up.
pub struct Terminal {
    shell: Child,
    keyboard: File,
    prompt: String,
    shown: Arc<Mutex<Shown>>,
}

/// What is on the screen.
#[derive(Default)]
struct Shown {
    lines: Vec<String>,
    /// The line that has not ended: a prompt, when the shell waits.
    open: String,
}

impl Terminal {
    /// Opens it as login does: a session of its own, with the terminal in control.
    pub fn open(seat: &Seat, screen: Arc<Screen>) -> Result<Self> {
        let OpenptyResult { master, slave } = openpty(None, None).context("open a terminal")?;
        fchown(&slave, Some(seat.user.uid), Some(seat.user.gid)).context("give the terminal to its user")?;
        let mut command = Command::new("/bin/bash");
        command
            .args(["--norc", "--noprofile", "--noediting", "-i"])
            .current_dir(&seat.directory)
            .env_clear()
            .env("HOME", &seat.user.dir)
            .env("USER", &seat.user.name)
            .env("LANG", "C.UTF-8")
            .env("TERM", "dumb")
            .env("PS1", &seat.prompt)
            .envs(seat.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::from(slave.try_clone()?))
            .stdout(Stdio::from(slave.try_clone()?))
            .stderr(Stdio::from(slave));
        if nix::unistd::geteuid().is_root() {
            command.uid(seat.user.uid.as_raw()).gid(seat.user.gid.as_raw());
        }
        let cgroup = seat.cgroup.as_deref().map(members).transpose()?;
        // SAFETY: async-signal-safe calls only, on descriptors opened before the fork.
        unsafe {
            command.pre_exec(move || {
                if let Some(cgroup) = &cgroup
                    && libc::write(cgroup.as_raw_fd(), c"0".as_ptr().cast(), 1) != 1
                {
                    return Err(std::io::Error::last_os_error());
                }
                if libc::setsid() < 0 || libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let shell = command.spawn().context("start a shell on the terminal")?;
        let keyboard = File::from(master);
        let shown = Arc::new(Mutex::new(Shown::default()));
        let output = keyboard.try_clone()?;
        let reader = Arc::clone(&shown);
        thread::spawn(move || read(output, &reader, &screen));
        let terminal = Self { shell, keyboard, prompt: seat.prompt.clone(), shown };
        terminal.wait_prompt()?;
        Ok(terminal)
    }

    /// Types a line, which the terminal shows.
    pub fn enter(&mut self, line: &str) -> Result<()> {
        let before = self.lines().len();
        writeln!(self.keyboard, "{line}").context("type on the terminal")?;
        wait_until("the terminal shows what was typed", TYPED_MAX, || Ok(self.lines().len() > before))
    }

    /// Types a command and waits until the shell asks for the next; what it printed.
    pub fn run(&mut self, line: &str) -> Result<String> {
        let before = self.lines().len();
        self.enter(line)?;
        self.wait_prompt()?;
        Ok(self.lines()[before..].join("\n"))
    }

    /// Waits until the shell asks for a command.
    pub fn wait_prompt(&self) -> Result<()> {
        wait_until("the shell asks for a command", COMMAND_MAX, || {
            Ok(self.shown.lock().is_ok_and(|shown| shown.open == self.prompt))
        })
    }

    /// All whole lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.shown.lock().map(|shown| shown.lines.clone()).unwrap_or_default()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // As when a terminal is closed: the whole session gets SIGHUP.
        // SAFETY: kill takes numbers; the shell leads a session and a group of its own.
        unsafe { libc::kill(self.shell.id() as libc::pid_t, libc::SIGHUP) };
        for _ in 0..100 {
            if self.shell.try_wait().is_ok_and(|ended| ended.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        drop(self.shell.kill());
        drop(self.shell.wait());
    }
}

fn members(cgroup: &Path) -> Result<File> {
    let path = cgroup.join("cgroup.procs");
    File::options().write(true).open(&path).with_context(|| format!("open {}", path.display()))
}

/// Shows each line as it ends, until the terminal is hung up.
fn read(mut output: File, shown: &Mutex<Shown>, screen: &Screen) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = output.read(&mut bytes) {
        let text = String::from_utf8_lossy(&bytes[..count]).replace('\r', "");
        let Ok(mut shown) = shown.lock() else { return };
        for part in text.split_inclusive('\n') {
            shown.open.push_str(part);
            if shown.open.ends_with('\n') {
                let line = std::mem::take(&mut shown.open).trim_end().to_owned();
                screen.from(From::Terminal, &line);
                shown.lines.push(line);
            }
        }
    }
}

const TYPED_MAX: Duration = Duration::from_secs(20);
const COMMAND_MAX: Duration = Duration::from_secs(90);
