//! Says what is being done while it is done, and runs the commands that do it.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::guest::Stream;

/// What is done sooner need not be announced.
const MOMENT: Duration = Duration::from_millis(700);
/// Lines of a failed command's output that are shown.
const TAIL_LINES: usize = 80;

/// Does `work`; once it has taken a moment, says what is being done, and at the end how long it took. Goes to stderr:
/// stdout belongs to what was asked for.
pub fn step<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let start = Instant::now();
    let (finish, finished) = channel::<()>();
    std::thread::scope(|scope| {
        let said = scope.spawn(move || {
            let slow = finished.recv_timeout(MOMENT) == Err(RecvTimeoutError::Timeout);
            if slow {
                eprintln!("xtask: {what} …");
            }
            slow
        });
        let done = work().with_context(|| what.to_owned());
        drop(finish);
        if said.join().unwrap_or(true) && done.is_ok() {
            eprintln!("xtask: {what}: done in {:.1} s", start.elapsed().as_secs_f32());
        }
        done
    })
}

/// Says one thing that somebody should know.
pub fn note(text: &str) {
    eprintln!("xtask: {text}");
}

/// Runs a command that has nothing to say unless it fails.
pub fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs a command and gives what it wrote to stdout.
pub fn output(command: &mut Command) -> Result<String> {
    let name = name_of(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{name}`: is it installed?"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    bail!("`{name}` failed ({}):\n{}{}", output.status, tail(&stdout), tail(&stderr));
}

/// The last lines of a text, each ended.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(TAIL_LINES);
    lines[from..].iter().map(|line| format!("{line}\n")).collect()
}

fn name_of(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).take(4).collect::<Vec<_>>().join(" ")
}

/// Passes a guest's output on to ours, at once.
pub fn forward(stream: Stream, bytes: &[u8]) {
    // Nobody reads us any more if this fails; the guest's status still counts.
    let _ = match stream {
        Stream::Stdout => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
        Stream::Stderr => io::stderr().write_all(bytes),
    };
}
