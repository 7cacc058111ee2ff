//! What the audience sees: headings, prose, and lines from the terminal, the daemon and the command line.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    process::{Command, Stdio},
    sync::Mutex,
};

use anyhow::{Context as _, Result, ensure};
use nix::pty::{OpenptyResult, Winsize, openpty};

/// Standard output, a line at a time, from several threads.
pub struct Screen {
    /// Columns of the terminal that all this ends on; none for a file or a pipe.
    columns: Option<u16>,
    /// None once nobody looks any more.
    out: Mutex<Option<io::Stdout>>,
}

/// Where a line comes from, which its mark shows.
#[derive(Clone, Copy)]
pub enum From {
    Terminal,
    Events,
    Shown,
}

impl Screen {
    pub fn new(columns: Option<u16>) -> Self {
        Self { columns, out: Mutex::new(Some(io::stdout())) }
    }

    /// Columns that a line from somewhere may have.
    pub fn width(&self) -> usize {
        self.columns.map_or(usize::MAX, |columns| usize::from(columns.saturating_sub(MARGIN)))
    }

    /// A line as it stands.
    pub fn line(&self, text: &str) {
        if let Ok(mut out) = self.out.lock()
            && let Some(out) = out.as_mut()
        {
            // Nobody watches any more if this fails; what is checked still counts.
            let _ = writeln!(out, "{text}").and_then(|()| out.flush());
        }
    }

    /// Shows nothing from here on.
    pub fn mute(&self) {
        if let Ok(mut out) = self.out.lock() {
            *out = None;
        }
    }

    pub fn heading(&self, text: &str) {
        self.line("");
        self.line(&self.paint("1", &format!("== {text}")));
    }

    /// A line from somewhere, behind its mark.
    pub fn from(&self, from: From, text: &str) {
        let mark = match from {
            From::Terminal => self.paint("36", "  |"),
            From::Events => self.paint("33", "  >"),
            From::Shown => "   ".to_owned(),
        };
        self.line(&format!("{mark} {text}"));
    }

    /// A command line that is about to be run for the audience.
    pub fn command(&self, text: &str) {
        self.line(&format!("    {}", self.paint("1", &format!("# {text}"))));
    }

    pub fn check(&self, what: &str, holds: bool) {
        let mark = if holds { self.paint("32", "yes") } else { self.paint("1;31", "NO ") };
        self.line(&format!("    {mark}  {what}"));
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        if self.columns.is_some() { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Makes a command write as it does to a terminal of this width, when there is one: in colour, and cut to fit
    /// once `spare` columns are taken out. What it writes is read from the file.
    pub fn attach(&self, command: &mut Command, spare: u16) -> Result<File> {
        let columns = self.columns.map_or(0, |columns| (columns + spare).saturating_sub(MARGIN));
        let size = Winsize { ws_row: 0, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } =
            openpty(&size, None).context("open a terminal to show output in")?;
        command.stdin(Stdio::null()).stdout(Stdio::from(slave));
        if self.columns.is_some() {
            command.env_remove("NO_COLOR").env("TERM", "xterm-256color");
        } else {
            command.env("NO_COLOR", "1").env("TERM", "dumb");
        }
        Ok(File::from(master))
    }

    /// Runs a command and gives the lines that it would show.
    pub fn run(&self, mut command: Command, spare: u16) -> Result<Vec<String>> {
        let mut output = self.attach(&mut command, spare)?;
        let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
        // Our own end of the slave has to go, or the reading never ends.
        drop(command);
        let mut bytes = Vec::new();
        // The last reader of a terminal is told EIO instead of an end.
        let _ = output.read_to_end(&mut bytes);
        let status = child.wait()?;
        let text = String::from_utf8_lossy(&bytes).replace('\r', "");
        ensure!(status.success(), "{status}: {text}");
        Ok(text.lines().map(str::to_owned).collect())
    }
}

/// Text without what colours it.
pub fn plain(text: &str) -> String {
    let mut parts = text.split('\x1b');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |all, part| all + part.split_once('m').map_or("", |(_, rest)| rest))
}

/// Text without the columns `from..to`, its colours kept.
pub fn without_columns(text: &str, from: usize, to: usize) -> String {
    let (mut out, mut column, mut colouring) = (String::new(), 0, false);
    for letter in text.chars() {
        colouring |= letter == '\x1b';
        if colouring {
            out.push(letter);
            colouring = letter != 'm';
            continue;
        }
        if !(from..to).contains(&column) {
            out.push(letter);
        }
        column += 1;
    }
    out
}

/// Columns taken by the marks.
const MARGIN: u16 = 4;
