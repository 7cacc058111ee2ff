//! `chaperone trail`: what one instance, process, endpoint or finding is the story of.

mod graph;
mod html;
mod line;
pub mod read;
mod text;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use self::read::{Read, Source};
use super::{
    Place,
    events::{WRONG_COMMAND_LINE, since},
    recorded, render,
};
use crate::{
    event::word::Time,
    trail::{
        Finder, Found, Grower, Trail, Wanted,
        find::Present,
        view::{self, Extent},
    },
};

/// Tell the story of one instance, process, endpoint or finding: the tree as it grew, in order of time.
///
/// What stands out is shown, the rest folded. The journal is read, which needs no daemon.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An instance (i-…), an exec id (x-…), pid:4711 or pid:4711@TIME, ADDRESS[:PORT], a prefix, a name, or finding:SEQ.
    /// With --file it may be left out: then all that is in the file.
    #[arg(value_name = "ID", required_unless_present = "file")]
    id: Option<String>,
    /// Only since a time (2026-01-31T12:00:00Z), or for a while back (30s, 10m, 2h, 1d).
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only until a time, or a while back.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// An event file with its closed segments, their directory, or one compressed segment; not the configured journal.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Fold nothing.
    #[arg(short, long)]
    all: bool,
    /// Show at most so many levels of the tree.
    #[arg(long, value_name = "LEVELS")]
    depth: Option<usize>,
    #[command(flatten)]
    place: Place,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: Form,
}

/// Form of a trail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// All of it for machines (docs/schema/trail.schema.json).
    Json,
    /// A graph for Graphviz.
    Dot,
    /// A graph for Mermaid.
    Mermaid,
    /// One page to attach to a case.
    Html,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let (wanted, since, until) = match asked(args) {
        Ok(asked) => asked,
        Err(wrong) => {
            anstream::eprintln!("chaperone trail: {wrong}");
            return Ok(ExitCode::from(WRONG_COMMAND_LINE));
        }
    };
    let source = match &args.file {
        Some(file) => Source { parts: recorded::parts(file, since)?, since, until },
        None => Source::journal(&args.place.settings()?.events_file, since, until),
    };
    let trail = trail(&wanted, &source)?;
    // What goes into a file is cut as well, for it is read by people; --all cuts nothing.
    let width = match render::line_width() {
        usize::MAX if !args.all => LINE_WIDTH,
        width => width,
    };
    let told = tell(&trail, args.output, Extent { all: args.all, depth: args.depth }, width)?;
    anstream::print!("{told}");
    Ok(ExitCode::SUCCESS)
}

fn asked(args: &Args) -> Result<(Wanted, Option<Time>, Option<Time>), String> {
    let wanted = args.id.as_deref().map_or(Ok(Wanted::Everything), str::parse)?;
    let now = Time::now();
    let time = |text: &Option<String>| text.as_deref().map(|text| since(text, now)).transpose();
    let until = time(&args.until).map_err(|wrong| wrong.replace("--since", "--until"))?;
    Ok((wanted, time(&args.since)?, until))
}

/// Reads it from recorded events.
///
/// # Errors
/// When the events cannot be read, or hold nothing of it: then with what was looked for where, and what there is.
pub fn trail(wanted: &Wanted, source: &Source) -> Result<Trail> {
    let range = (source.since, source.until);
    let mut found = Found::default();
    if *wanted != Wanted::Everything {
        let mut finder = Finder::new(wanted, range);
        let read = read::read(source, &mut finder)?;
        found = finder.found();
        if found.is_empty() {
            return Err(not_found(wanted, source, &read, found.nearest.take()));
        }
    }
    let mut grower = Grower::new(wanted, found, range);
    read::read(source, &mut grower)?;
    Ok(grower.trail())
}

fn not_found(wanted: &Wanted, source: &Source, read: &Read, nearest: Option<String>) -> anyhow::Error {
    let files = match source.parts.as_slice() {
        [first, .., last] => format!("{} … {}", first.path.display(), last.path.display()),
        [one] => one.path.display().to_string(),
        [] => "no file".to_owned(),
    };
    let range = match (source.since.or(read.first), source.until.or(read.last)) {
        (Some(first), Some(last)) => format!("from {first} to {last}"),
        _ => "which has no events in that time".to_owned(),
    };
    let nearest = nearest.or_else(|| {
        let mut present = Present::like(wanted);
        read::read(source, &mut present).ok()?;
        let text = wanted.to_string();
        let mut all: Vec<(usize, String)> = present
            .seen
            .iter()
            .map(|(name, time)| {
                (strsim::levenshtein(name, &text), format!("{} ({time})", render::harmless(name)))
            })
            .collect();
        all.sort();
        let nearest: Vec<String> = all.into_iter().take(3).map(|(_, name)| name).collect();
        (!nearest.is_empty()).then(|| nearest.join(", "))
    });
    let nearest = nearest.map(|nearest| format!("\n  nearest: {nearest}")).unwrap_or_default();
    anyhow::anyhow!("nothing is recorded of {wanted} in {files}, {range}{nearest}")
}

/// Puts it into a form.
///
/// # Errors
/// When it cannot be written as JSON, which would be a mistake of ours.
pub fn tell(trail: &Trail, form: Form, extent: Extent, width: usize) -> Result<String> {
    Ok(match form {
        Form::Text => text::page(trail, &view::rows(trail, extent), width),
        Form::Json => serde_json::to_string_pretty(trail)? + "\n",
        Form::Dot => graph::dot(trail, &view::rows(trail, extent)),
        Form::Mermaid => graph::mermaid(trail, &view::rows(trail, extent)),
        Form::Html => {
            let depth = Some(extent.depth.unwrap_or(html::DEPTH_MAX).min(html::DEPTH_MAX));
            html::page(trail, &view::rows(trail, Extent { depth, ..extent }))
        }
    })
}

/// Characters of a line where there is no terminal.
const LINE_WIDTH: usize = 120;
