//! `chaperone events`: what was recorded, from the event file or as it happens.

pub(super) mod compact;

use std::{
    io::{BufRead, BufReader, ErrorKind, Write},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};

use super::{Place, block_on, recorded, render};
use crate::{
    control::client::{self, Lines},
    event::{Event, Kind, filter::Filter, word::Time},
    record::{
        format,
        journal::segment::{self, Part},
    },
};

/// Show recorded events; with -f, as they happen.
///
/// Without -f the journal is read (the event file and the segments before it), which needs no daemon.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Follow: show new events until interrupted. With --since, those since then first.
    #[arg(short, long)]
    follow: bool,
    /// Only of this agent.
    #[arg(long, value_name = "NAME")]
    agent: Option<String>,
    /// Only of this role.
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// Only of this origin: agent, human, system.
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// Only of these kinds (net_connect) or families (net, process, unix, policy), with commas between.
    #[arg(long, value_name = "KIND,…")]
    kind: Option<String>,
    /// Only with this verdict: allow, alert, hold, deny, kill.
    #[arg(long, value_name = "VERDICT")]
    verdict: Option<String>,
    /// Only of this instance.
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Only since a time (2026-01-31T12:00:00Z), or for a while back (30s, 10m, 2h, 1d).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// At most this many, the latest.
    #[arg(short = 'n', long, value_name = "COUNT", conflicts_with = "follow")]
    lines: Option<usize>,
    /// The event file with its closed segments, their directory, or one compressed segment; not the configured one.
    #[arg(long, value_name = "FILE", conflicts_with = "follow")]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: Place,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

/// One line for people, the event itself, or one of the forms that others read (docs/FORMATS.md).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    /// A short line for people.
    #[default]
    Compact,
    /// The event itself, one JSON object a line.
    Json,
    /// Open Cybersecurity Schema Framework 1.8.0, JSON.
    Ocsf,
    /// Elastic Common Schema 9.4.0, JSON.
    Ecs,
    /// Common Event Format.
    Cef,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let filter = match filter(args) {
        Ok(filter) => filter,
        Err(wrong) => {
            anstream::eprintln!("chaperone events: {wrong}");
            return Ok(ExitCode::from(WRONG_COMMAND_LINE));
        }
    };
    let mut printer = Printer::new(args.output, filter);
    if args.follow {
        let socket = args.place.control_socket();
        // Without `since`: that concerns what is read from the file, and everything new is newer.
        let query = Filter { since: None, ..printer.filter.clone() }.to_query();
        block_on(async {
            // Following begins before the file is read, so that nothing falls between the two.
            let mut lines = client::follow(&socket, &format!("/v1/events?{query}")).await?;
            if args.since.is_some() {
                printer
                    .journal(&segment::since(&args.place.settings()?.events_file, printer.filter.since))?;
            }
            printer.follow(&mut lines).await
        })??;
        return Ok(ExitCode::SUCCESS);
    }
    printer.keep_last = args.lines;
    let parts = match &args.file {
        Some(file) => recorded::parts(file, printer.filter.since)?,
        None => segment::since(&args.place.settings()?.events_file, printer.filter.since),
    };
    printer.journal(&parts)?;
    printer.finish()?;
    Ok(ExitCode::SUCCESS)
}

fn filter(args: &Args) -> Result<Filter, String> {
    let mut filter = Filter::default();
    let options = [
        ("agent", &args.agent),
        ("role", &args.role),
        ("origin", &args.origin),
        ("kind", &args.kind),
        ("verdict", &args.verdict),
        ("instance", &args.instance),
    ];
    for (name, value) in options {
        if let Some(value) = value {
            filter.set(name, value).map_err(|wrong| format!("--{name}: {wrong}"))?;
        }
    }
    filter.since = args.since.as_deref().map(|text| since(text, Time::now())).transpose()?;
    Ok(filter)
}

/// A time, or how far back from `now`.
pub(super) fn since(text: &str, now: Time) -> Result<Time, String> {
    let units = [("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    let back = units.iter().find_map(|(unit, seconds)| {
        let count: u64 = text.strip_suffix(unit)?.parse().ok()?;
        Some(Duration::from_secs(count.saturating_mul(*seconds)))
    });
    if let Some(back) = back {
        let ns = u64::try_from(back.as_nanos()).unwrap_or(u64::MAX);
        return Ok(Time(now.0.saturating_sub(ns)));
    }
    text.parse().map_err(|wrong| format!("--since: {wrong}, nor a while such as 10m"))
}

/// As clap answers.
pub(super) const WRONG_COMMAND_LINE: u8 = 2;

struct Printer {
    form: Form,
    filter: Filter,
    out: anstream::AutoStream<std::io::Stdout>,
    /// Lines held back until the last ones are known, each with its day.
    keep_last: Option<usize>,
    kept: std::collections::VecDeque<(Option<String>, String)>,
    /// Of the line that was printed last.
    day: Option<String>,
    /// The latest event that the file had: the same may come again from the socket.
    last: Option<(crate::event::Name, u64)>,
    unreadable: u64,
}

impl Printer {
    fn new(form: Form, filter: Filter) -> Self {
        let out = anstream::AutoStream::auto(std::io::stdout());
        Self {
            form,
            filter,
            out,
            keep_last: None,
            kept: Default::default(),
            day: None,
            last: None,
            unreadable: 0,
        }
    }

    /// All segments in which there can be what is asked for.
    fn journal(&mut self, parts: &[Part]) -> Result<()> {
        let Some(count) = self.keep_last else {
            return parts.iter().try_for_each(|part| self.part(part));
        };
        // From the newest back: of months only so much is read.
        for part in parts.iter().rev() {
            let after = std::mem::take(&mut self.kept);
            self.part(part)?;
            self.kept.extend(after);
            self.kept.drain(..self.kept.len().saturating_sub(count));
            if self.kept.len() >= count {
                break;
            }
        }
        Ok(())
    }

    fn part(&mut self, part: &Part) -> Result<()> {
        let path = &part.path;
        let left_out = match self.file(part).or_else(|error| part.pass_over(error)) {
            Ok(left_out) => left_out,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                anyhow::bail!(
                    "{} does not exist: has the daemon ever run? (--file names another)",
                    path.display()
                )
            }
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        if let Some(left_out) = left_out {
            anstream::eprintln!("chaperone: {left_out}");
        }
        Ok(())
    }

    fn file(&mut self, part: &Part) -> std::io::Result<Option<String>> {
        let file = part.open()?;
        let mut reader = BufReader::with_capacity(1 << 20, file);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line)? > 0 {
            if let Some(text) = self.text_of(line.trim_ascii_end(), true) {
                match self.keep_last {
                    Some(count) => {
                        self.kept.push_back(text);
                        if self.kept.len() > count {
                            self.kept.pop_front();
                        }
                    }
                    None => self.print(text)?,
                }
            }
            line.clear();
        }
        Ok(None)
    }

    async fn follow(&mut self, lines: &mut Lines) -> Result<()> {
        while let Some(line) = lines.next().await? {
            if let Some(text) = self.text_of(&line, false) {
                self.print(text)?;
                self.out.flush()?;
            }
        }
        anstream::eprintln!("chaperone events: the daemon ended the stream");
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        for text in std::mem::take(&mut self.kept) {
            self.print(text)?;
        }
        if self.unreadable > 0 {
            anstream::eprintln!(
                "chaperone events: {} lines are not events and were passed over",
                self.unreadable
            );
        }
        Ok(())
    }

    /// For people with the day where it is another one: a line has the time of day alone.
    fn print(&mut self, (day, text): (Option<String>, String)) -> std::io::Result<()> {
        if day.is_some() && day != self.day {
            let told = day.as_deref().unwrap_or_default();
            writeln!(self.out, "{}", render::paint(render::DIM, format!("{told}, times are UTC")))?;
            self.day = day;
        }
        writeln!(self.out, "{text}")
    }

    /// What to print for a line, if anything, and its day.
    fn text_of(&mut self, line: &[u8], from_file: bool) -> Option<(Option<String>, String)> {
        let Ok(event) = Event::read_line(line) else {
            self.unreadable += 1;
            return None;
        };
        if from_file {
            self.last = Some((event.boot_id.clone(), event.seq));
        } else if self.last.as_ref().is_some_and(|(boot, seq)| *boot == event.boot_id && event.seq <= *seq) {
            return None;
        }
        // What a follower lost is told whatever it asked for.
        let about_us = event.lost.as_ref().is_some_and(|lost| lost.follower > 0);
        if !about_us && !self.filter.matches(&event) {
            return None;
        }
        // For people there is nothing in one, unless they ask.
        if event.kind == Kind::Checkpoint
            && self.filter.kinds.is_empty()
            && matches!(self.form, Form::Compact)
        {
            return None;
        }
        let day =
            matches!(self.form, Form::Compact).then(|| event.time.to_string().chars().take(10).collect());
        let text = match self.form {
            Form::Compact => compact::line(&event),
            Form::Json => String::from_utf8_lossy(line).into_owned(),
            Form::Ocsf => written(format::Form::Ocsf, &event),
            Form::Ecs => written(format::Form::Ecs, &event),
            Form::Cef => written(format::Form::Cef, &event),
        };
        Some((day, text))
    }
}

/// The event in a form, without the end of its line.
fn written(form: format::Form, event: &Event) -> String {
    let mut line = Vec::new();
    form.write(event, &mut line);
    String::from_utf8_lossy(line.trim_ascii_end()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_a_while() {
        let now: Time = "2026-01-31T12:00:00Z".parse().unwrap();
        assert_eq!(since("10m", now).unwrap().to_string(), "2026-01-31T11:50:00.000000000Z");
        assert_eq!(since("2026-01-31T00:00:00Z", now).unwrap().to_string(), "2026-01-31T00:00:00.000000000Z");
        assert!(since("yesterday", now).is_err());
    }
}
