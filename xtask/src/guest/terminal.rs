//! The user's terminal while a guest has it: what it is, and that it comes back as it was.

use std::io::{self, IsTerminal as _};
use std::process::Command;

use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};

/// Settings of the terminal, restored when dropped; qemu makes it raw and is not asked to tidy up.
pub struct Saved {
    before: Option<Termios>,
}

impl Saved {
    pub fn of(shell: bool) -> Self {
        Self { before: if shell { tcgetattr(io::stdin()).ok() } else { None } }
    }
}

impl Drop for Saved {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // If the terminal is gone there is nothing to restore.
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

/// Kind and size of the terminal, for the guest's shell.
pub fn settings() -> String {
    let term = std::env::var("TERM").ok().filter(|term| is_plain(term)).unwrap_or_else(|| "vt100".into());
    let (rows, columns) = size().unwrap_or((24, 80));
    format!("GUEST_TERM={term}\nGUEST_ROWS={rows}\nGUEST_COLUMNS={columns}\n")
}

/// Columns of the terminal that standard output goes to, unless colour is not wanted there.
pub fn columns() -> Option<u16> {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let shown = io::stdout().is_terminal() && !plain;
    shown.then(|| size().map_or(80, |(_, columns)| columns))
}

fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|letter| letter.is_ascii_alphanumeric() || "-+._".contains(letter))
}

fn size() -> Option<(u16, u16)> {
    if !io::stdin().is_terminal() {
        return None;
    }
    let output = Command::new("stty").arg("size").stdin(std::process::Stdio::inherit()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (rows, columns) = text.trim().split_once(' ')?;
    Some((rows.parse().ok()?, columns.parse().ok()?)).filter(|(rows, columns)| *rows > 0 && *columns > 0)
}
