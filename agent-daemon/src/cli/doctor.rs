//! `chaperone doctor`: what this host gives, what follows from it, and what would give more.

mod costs;
mod sinks;

use std::process::ExitCode;

use anstyle::Style;
use anyhow::Result;
use serde_json::json;

use super::{
    Place, block_on,
    render::{self, BAD, BOLD, DIM, GOOD, Table, WARN, paint},
    role::Output,
};
use crate::{
    baseline::compare::grouped,
    control::{
        api::{JournalView, Status},
        client::{self, Error},
    },
    kernel::{
        KernelMode,
        capability::{
            self, Host, State,
            guarantee::{self, Guarantee, Strength},
        },
    },
};

/// Say what this host lets Chaperone guarantee, and what is missing for more.
///
/// Needs no daemon; where one runs, it is asked too. Exit status: 0 everything is refused in the call (lsm mode),
/// 1 the host limits what can be refused (cgroup mode), or a changed configuration was refused, 2 the daemon cannot
/// run here.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    place: Place,
    /// Form of the output.
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// List every map, queue and buffer: its bound, how full it is, and what happens at the bound.
    #[arg(long)]
    bounds: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let host = capability::probe();
    let daemon: Result<Status, Error> = block_on(client::get(&args.place.control_socket(), "/v1/status"))?;
    // What runs knows better than what could be told from outside.
    let running = daemon.as_ref().ok().and_then(|status| match status.mode.as_str() {
        "lsm" => Some(KernelMode::Lsm),
        "cgroup" => Some(KernelMode::Cgroup),
        _ => None,
    });
    let mode = running.or(host.mode);
    let mode_reason = daemon.as_ref().map_or("", |status| status.mode_reason.as_str());
    let remedy = guarantee::remedy(&host, mode_reason);
    let guarantees = mode.map(|mode| guarantee::of(mode, &remedy)).unwrap_or_default();
    let status = daemon.as_ref().ok();
    let sinks = sinks::look(&args.place, status)?;
    match args.output {
        Output::Text if args.bounds => anstream::print!("{}", costs::bounds_table(status)),
        Output::Json => {
            let daemon =
                daemon.as_ref().map_or_else(|error| json!({ "error": error.to_string() }), |s| json!(s));
            anstream::println!(
                "{}",
                json!({
                    "host": host, "mode": mode, "guarantees": guarantees,
                    "memory": costs::memory(status), "bounds": costs::bounds(status), "sinks": sinks, "daemon": daemon,
                })
            );
        }
        Output::Text => {
            anstream::print!("{}", found(&host));
            anstream::print!("{}", follows(mode, &guarantees));
            anstream::print!("{}", running_daemon(&daemon));
            if let Some(status) = status {
                anstream::print!("{}", costs::costs(status));
            }
            anstream::print!("{}", sinks::shown(&sinks));
        }
    }
    let troubled = daemon.is_ok_and(|status| !status.policy.problems.is_empty());
    Ok(ExitCode::from(match mode {
        Some(KernelMode::Lsm) if !troubled => FULL,
        Some(_) => LIMITED,
        None => CANNOT_RUN,
    }))
}

fn found(host: &Host) -> String {
    let mut table = Table::default();
    for capability in &host.capabilities {
        let (style, mark) = match capability.state {
            State::Present => (GOOD, "yes"),
            State::Missing => (BAD, "no"),
            State::Unknown => (WARN, "?"),
        };
        let name = (Style::new(), capability.name.to_owned());
        table.row([(style, format!("  {mark:<3}")), name, (DIM, capability.found.clone())]);
    }
    let mut out = format!("{}\n{}", paint(BOLD, format!("kernel {}", host.kernel)), table.render(usize::MAX));
    for capability in host.capabilities.iter().filter(|c| !c.remedy.is_empty()) {
        out.push_str(&format!(
            "\n{} (for {})\n    {}\n",
            capability.name, capability.needed_for, capability.remedy
        ));
    }
    out
}

fn follows(mode: Option<KernelMode>, guarantees: &[Guarantee]) -> String {
    let mut out = String::from("\n");
    out.push_str(&match mode {
        Some(KernelMode::Lsm) => {
            format!("{} what a role does not allow is refused in the call\n", paint(GOOD, "lsm mode:"))
        }
        Some(KernelMode::Cgroup) => {
            format!(
                "{} refused where cgroup hooks see it, and not where they do not\n",
                paint(WARN, "cgroup mode:")
            )
        }
        None => format!("{}\n", paint(BAD, "the daemon cannot run here")),
    });
    let mut table = Table::default();
    for Guarantee { what, rule, guarantee, .. } in guarantees {
        let style = match guarantee {
            Strength::RefusedInTheCall | Strength::RecognisedAtItsStart => GOOD,
            Strength::RefusedAtTheCgroup | Strength::KilledAfter | Strength::SeenOnly => WARN,
            Strength::NotRecognised | Strength::NotSeen => BAD,
        };
        let what = (Style::new(), format!("  {what}"));
        table.row([what, (DIM, (*rule).to_owned()), (style, guarantee.name().to_owned())]);
    }
    out.push_str(&table.render(usize::MAX));
    out.push_str(&why(guarantees));
    out
}

/// Each reason once, with the ways that it holds for, and what would help.
fn why(guarantees: &[Guarantee]) -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for of in guarantees.iter().filter(|of| !of.reason.is_empty()) {
        match reasons.iter_mut().find(|(reason, _)| *reason == of.reason) {
            Some((_, ways)) => ways.push(of.way),
            None => reasons.push((of.reason, vec![of.way])),
        }
    }
    let mut out = String::new();
    for (reason, ways) in reasons {
        out.push_str(&format!("  {} {reason}\n", paint(DIM, format!("{}:", ways.join(", ")))));
    }
    if let Some(of) = guarantees.iter().find(|of| !of.remedy.is_empty()) {
        out.push_str(&format!("  {} {}\n", paint(BOLD, "for more:"), render::harmless(&of.remedy)));
    }
    out
}

fn running_daemon(daemon: &Result<Status, Error>) -> String {
    let status = match daemon {
        Ok(status) => status,
        Err(error) => return format!("\n{} {error}\n", paint(WARN, "daemon:")),
    };
    let mut out = format!(
        "\n{} {} runs in {} mode (pid {}): {} agents, {} roles, {} live instances, {} events recorded\n",
        paint(GOOD, "daemon:"),
        status.version,
        status.mode,
        status.pid,
        status.policy.agents,
        status.policy.roles,
        status.instances,
        status.events_recorded,
    );
    if !status.mode_reason.is_empty() {
        out.push_str(&format!("  {} {}\n", paint(WARN, "why not lsm mode:"), status.mode_reason));
    }
    let lost: u64 = status.counters.lost.values().sum();
    if lost > 0 {
        out.push_str(&format!("  {} {lost} events were lost (chaperone metrics)\n", paint(WARN, "lost:")));
    }
    if let Some(journal) = &status.journal {
        out.push_str(&self::journal(journal));
    }
    if let Some(why) = &status.baselines_off {
        out.push_str(&format!("  {} {}\n", paint(WARN, "baselines are off:"), render::harmless(why)));
    }
    for role in status.promoted.iter().filter(|(_, version)| **version == 0).map(|(role, _)| role) {
        out.push_str(&format!(
            "  {} role {} goes by its baseline, and nothing of it is promoted: what its own rules do not name is refused \
             (chaperone baseline promote --role {} --apply)\n",
            paint(WARN, "nothing promoted:"),
            render::harmless(role),
            render::harmless(role)
        ));
    }
    for problem in &status.policy.problems {
        out.push_str(&format!("  {} {}\n", paint(BAD, "configuration refused:"), render::harmless(problem)));
    }
    out
}

/// `journal: 12,345 records, 3 not signed yet`, and what is wrong with it.
fn journal(view: &JournalView) -> String {
    let (seq, unsigned) = (grouped(view.seq), grouped(view.unsigned));
    let mut out = format!("  {} {seq} records, {unsigned} not signed yet\n", paint(BOLD, "journal:"));
    for (count, what) in [
        (view.unwritten, "lines could not be written, and are counted as lost"),
        (
            view.sync_failures,
            "times it could not be brought to the disk, or its newest checkpoint not be noted",
        ),
        (view.removed_early, "times segments were removed before their time: there was no room"),
    ] {
        if count > 0 {
            out.push_str(&format!("  {} {} {what}\n", paint(WARN, "journal:"), grouped(count)));
        }
    }
    out
}

const FULL: u8 = 0;
const LIMITED: u8 = 1;
const CANNOT_RUN: u8 = 2;
