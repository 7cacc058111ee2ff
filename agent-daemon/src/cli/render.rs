//! How things look to people: colours by meaning, columns, and text from outside made harmless.

use std::fmt::{Display, Write as _};

use agent_common::{identity::Origin, verdict::Verdict};
use anstyle::{AnsiColor, Style};

use crate::event::word::Word;

/// The colour of an origin.
pub fn origin(origin: Word<Origin>) -> Style {
    match origin.known() {
        Some(Origin::Agent) => AnsiColor::Magenta.on_default().bold(),
        Some(Origin::Human) => AnsiColor::Green.on_default(),
        Some(Origin::System) => Style::new().dimmed(),
        Some(Origin::Unknown) | None => AnsiColor::Yellow.on_default(),
    }
}

/// The colour of a verdict.
pub fn verdict(verdict: Word<Verdict>) -> Style {
    match verdict.known() {
        Some(Verdict::Allow) => AnsiColor::Green.on_default(),
        Some(Verdict::Alert | Verdict::Hold) => AnsiColor::Yellow.on_default().bold(),
        Some(Verdict::Deny | Verdict::Kill) => AnsiColor::Red.on_default().bold(),
        None => AnsiColor::Yellow.on_default(),
    }
}

/// For what is less important than its neighbours.
pub const DIM: Style = Style::new().dimmed();
pub const BOLD: Style = Style::new().bold();
pub const GOOD: Style = AnsiColor::Green.on_default();
pub const BAD: Style = AnsiColor::Red.on_default().bold();
pub const WARN: Style = AnsiColor::Yellow.on_default();

/// Text in a style, for a stream that strips styles where there is no terminal.
pub fn paint(style: Style, text: impl Display) -> String {
    format!("{style}{text}{style:#}")
}

/// Text that a process chose itself: without what a terminal would obey.
pub fn harmless(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // Control characters, and those that turn the direction of writing round.
            c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

/// Arguments as somebody would type them.
pub fn command<S: AsRef<str>>(argv: &[S]) -> String {
    let words: Vec<String> = argv.iter().map(|arg| quoted(arg.as_ref())).collect();
    words.join(" ")
}

fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,+@%^*~#?&!{}[]".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return arg.to_owned();
    }
    format!("'{}'", harmless(arg).replace('\'', r"'\''"))
}

/// Cut to at most `width` characters, the cut shown.
pub fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// Text with styles, cut to at most `width` characters that are seen; the styles before the cut end with it.
pub fn cut_painted(text: &str, width: usize) -> String {
    if anstream::adapter::strip_str(text).to_string().chars().count() <= width {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len());
    let (mut seen, mut in_style) = (0, false);
    for c in text.chars() {
        // What processes said was made harmless: an escape begins a style of ours, which ends with `m`.
        in_style |= c == '\x1b';
        if !in_style {
            seen += 1;
        }
        if seen >= width {
            break;
        }
        out.push(c);
        in_style &= c != 'm';
    }
    out.push_str("…\x1b[0m");
    out
}

/// How wide a line may be: the terminal's width, or no bound where it goes elsewhere.
pub fn line_width() -> usize {
    terminal_width().unwrap_or(usize::MAX)
}

fn terminal_width() -> Option<usize> {
    nix::ioctl_read_bad!(window_size, nix::libc::TIOCGWINSZ, nix::libc::winsize);
    if !std::io::IsTerminal::is_terminal(&std::io::stdout()) {
        return None;
    }
    let mut size = nix::libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request fills the structure that it is given.
    unsafe { window_size(1, &raw mut size) }.ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Rows in columns, each as wide as its widest cell; the last column is not padded.
#[derive(Default)]
pub struct Table {
    rows: Vec<Vec<(Style, String)>>,
}

impl Table {
    /// A table with a line of headings.
    pub fn with_headings(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|text| (DIM, (*text).to_owned())).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = (Style, String)>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// All rows as text with styles, no line wider than `width`.
    pub fn render(&self, width: usize) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let cell_width =
            |row: &Vec<(Style, String)>, at: usize| row.get(at).map_or(0, |(_, t)| t.chars().count());
        let widths: Vec<usize> = (0..columns)
            .map(|at| self.rows.iter().map(|row| cell_width(row, at)).max().unwrap_or_default())
            .collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut used = 0;
            for (at, (style, text)) in row.iter().enumerate() {
                let last = at + 1 == row.len();
                let text = if last {
                    cut(text, width.saturating_sub(used).max(LAST_COLUMN_MIN))
                } else {
                    text.clone()
                };
                out.push_str(&paint(*style, &text));
                if !last {
                    let fill = widths[at].saturating_sub(text.chars().count()) + 2;
                    out.push_str(&" ".repeat(fill));
                    used += widths[at] + 2;
                }
            }
            out.push('\n');
        }
        out
    }
}

/// On a narrow terminal lines wrap rather than lose their last column.
const LAST_COLUMN_MIN: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(harmless("a\x1b[2Jb\u{202e}c\nd"), "a\\u{1b}[2Jb\\u{202e}c\\nd");
        assert_eq!(command(&["sh", "-c", "echo 'a b'", ""]), r"sh -c 'echo '\''a b'\''' ''");
    }

    #[test]
    fn columns_are_aligned_and_the_last_is_cut() {
        let mut table = Table::with_headings(&["A", "BB"]);
        table.row([(Style::new(), "long".to_owned()), (Style::new(), "x".repeat(40))]);
        let text = anstream::adapter::strip_str(&table.render(30)).to_string();
        assert_eq!(text, format!("A     BB\nlong  {}…\n", "x".repeat(23)));
    }
}
