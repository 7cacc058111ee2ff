//! `chaperone baseline compare`: what in recorded events differs from what is usual.

use std::{
    io::{BufWriter, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anstyle::Style;
use anyhow::Result;

use super::{Reading, moment, progress::Progress};
use crate::{
    baseline::{
        alert::{Alert, Alerts},
        compare::{Rules, compare, grouped},
        context::Context,
        severity::{Severities, Severity},
    },
    cli::{
        render::{self, BAD, BOLD, DIM, Table, WARN},
        role::Output,
    },
};

/// Compare recorded events with the baselines, and show what differs.
///
/// Nothing is learned by it. As JSON each finding is one line, in the order of the events; for people findings of one
/// cause are one line, the gravest first.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Event files, the older ones first
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    from: Vec<PathBuf>,
    /// Only of this role
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    /// A table of severities, instead of the one that the daemon's settings name, if any (with --store, of the built-in one)
    #[arg(long, value_name = "FILE")]
    severities: Option<PathBuf>,
    #[command(flatten)]
    reading: Reading,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let (_, baselines) = args.reading.at.load()?;
    // With a store of its own it has nothing to do with a daemon's settings.
    let set =
        args.reading.at.store.is_none().then(|| args.reading.at.settings().baselines.severities).flatten();
    let severities = match args.severities.as_ref().or(set.as_ref()) {
        Some(path) => crate::daemon::severities(path)?,
        None => Severities::default(),
    };
    let rules = Rules { support: args.reading.support(), severities };
    let (mut context, mut alerts) = (Context::default(), Alerts::default());
    let (mut acts, mut found) = (0_u64, 0_u64);
    let mut out = BufWriter::new(std::io::stdout().lock());
    for path in &args.from {
        let Some((bytes, _)) = super::open(path)? else { continue };
        let mut progress = Progress::new(format!("compare {}", path.display()), bytes);
        let mut replay = super::replay(path, 0, 0)?;
        while let Some((_, seen)) = replay.step()? {
            if replay.lines.is_multiple_of(PROGRESS_LINES) {
                progress.at(replay.bytes);
            }
            if args.role.is_some() && args.role.as_deref() != seen.role.as_deref() {
                continue;
            }
            let behaviours = context.behaviours(&seen);
            acts += u64::from(!behaviours.is_empty());
            for finding in compare(&baselines, &rules, &seen, &behaviours) {
                found += 1;
                match args.reading.output {
                    Output::Json => {
                        serde_json::to_writer(&mut out, &finding)?;
                        out.write_all(b"\n")?;
                    }
                    Output::Text => drop(alerts.join(&finding)),
                }
            }
        }
        progress.end();
        super::tell(path, &replay.faults);
    }
    out.flush()?;
    if args.reading.output == Output::Text {
        anstream::print!("{}", table(&alerts));
        anstream::println!(
            "findings: {}, of causes: {}, in acts: {}",
            grouped(found),
            grouped(alerts.all().count() as u64 + alerts.forgotten),
            grouped(acts)
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn table(alerts: &Alerts) -> String {
    let mut all: Vec<&Alert> = alerts.all().collect();
    all.sort_by_key(|alert| (std::cmp::Reverse(alert.finding.severity), alert.first));
    if all.is_empty() {
        return String::new();
    }
    let headings =
        ["SEVERITY", "WHAT", "ROLE", "COUNT", "INSTANCES", "FIRST", "BEHAVIOUR", "NEAREST", "WAS SEEN"];
    let mut table = Table::with_headings(&headings);
    for alert in all {
        let finding = &alert.finding;
        table.row([
            (severity(finding.severity), finding.severity.name().to_owned()),
            (BOLD, finding.what.name().to_owned()),
            (Style::new(), render::harmless(&finding.role)),
            (Style::new(), grouped(alert.count)),
            (Style::new(), alert.instances.to_string()),
            (DIM, moment(alert.first)),
            (BOLD, render::harmless(&finding.behaviour.to_string())),
            (Style::new(), finding.nearness.name().to_owned()),
            (DIM, finding.how_unusual.clone()),
        ]);
    }
    table.render(render::line_width())
}

fn severity(severity: Severity) -> Style {
    match severity {
        Severity::Critical | Severity::High => BAD,
        Severity::Medium => WARN,
        Severity::Low | Severity::Info => DIM,
    }
}

const PROGRESS_LINES: u64 = 10_000;
