//! `cargo xtask test`: every check of the project in order, each timed, all failures seen.

mod cases;
mod promtool;
mod steps;

use std::collections::VecDeque;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::cache::Cache;
use crate::guest::Host;
use crate::product::{self, Product};
use crate::setup::toolchain;
use crate::step::{note, tail};
use cases::Count;
use steps::{Step, TABLE, Work};

/// Guests that run at once, on two processors that emulate. Two leave a quarter of them idle; a third makes each so slow
/// that cases run out of time.
const GUESTS_AT_ONCE: usize = 2;

#[derive(Args)]
pub struct Test {
    /// Only the steps with this in their name
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Leave out kernel 6.1 and systemd
    #[arg(long)]
    quick: bool,
    /// List the steps
    #[arg(long)]
    list: bool,
}

/// What steps need and bring together once.
pub struct Bench {
    pub cache: Cache,
    pub product: Option<Product>,
    pub host: Option<Host>,
}

/// What came of a step.
struct Done {
    name: &'static str,
    count: Count,
    took: Duration,
    /// Empty if it passed.
    why: String,
}

pub fn run(arguments: &Test) -> Result<ExitCode> {
    let wanted = |step: &&Step| {
        arguments.only.as_ref().is_none_or(|only| step.name.contains(only))
            && (step.quick || !arguments.quick)
    };
    let steps: Vec<&Step> = TABLE.iter().filter(wanted).collect();
    if steps.is_empty() {
        bail!("no step has that name; `cargo xtask test --list` shows them");
    }
    if arguments.list {
        steps.iter().for_each(|step| println!("{}", step.name));
        return Ok(ExitCode::SUCCESS);
    }
    let cache = Cache::open()?;
    toolchain::ensure(&cache)?;
    let mut bench = Bench { cache, product: None, host: None };
    let (guests, commands): (Vec<_>, Vec<_>) = steps
        .into_iter()
        .partition(|step| matches!(step.work, Work::Guest { .. } | Work::Agents | Work::Power(_)));
    let (before, after): (Vec<_>, Vec<_>) =
        commands.into_iter().partition(|step| !matches!(step.work, Work::Host));

    let mut done: Vec<Done> = before.iter().map(|step| perform(step, &bench)).collect();
    if !guests.is_empty() || !after.is_empty() {
        match product::build() {
            Ok(product) => bench.product = Some(product),
            Err(error) => done.push(failed("build the product", Duration::ZERO, format!("{error:#}"))),
        }
    }
    if bench.product.is_some() {
        if !guests.is_empty() {
            bench.host = Some(Host::ready()?);
            done.extend(perform_at_once(&guests, &bench));
        }
        done.extend(after.iter().map(|step| perform(step, &bench)));
    }
    Ok(report(&done))
}

fn perform_at_once(steps: &[&'static Step], bench: &Bench) -> Vec<Done> {
    let pending = Mutex::new(steps.iter().copied().collect::<VecDeque<_>>());
    let next = || pending.lock().ok().and_then(|mut pending| pending.pop_front());
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..GUESTS_AT_ONCE.min(steps.len()))
            .map(|_| {
                scope.spawn(|| std::iter::from_fn(next).map(|step| perform(step, bench)).collect::<Vec<_>>())
            })
            .collect();
        let mut done: Vec<Done> =
            workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect();
        done.sort_by_key(|done| steps.iter().position(|step| step.name == done.name));
        done
    })
}

fn perform(step: &Step, bench: &Bench) -> Done {
    note(&format!("{} …", step.name));
    let start = Instant::now();
    let outcome = steps::perform(step, bench);
    let took = start.elapsed();
    let done = match outcome {
        Ok(outcome) => {
            let mut count = cases::count(&outcome.text);
            let log = keep(step.name, &outcome.text)
                .map_or_else(|error| format!("{error:#}"), |path| path.display().to_string());
            let why = if outcome.passed && count.failed == 0 {
                count.passed = count.passed.max(u32::from(count.skipped == 0));
                String::new()
            } else {
                // A step that fails without a case that did, failed itself.
                count.failed = count.failed.max(1);
                let failures = cases::failures(&outcome.text);
                let shown = if failures.is_empty() {
                    tail(&cases::without_progress(&outcome.text))
                } else {
                    failures
                };
                format!("{shown}(all of it: {log})")
            };
            Done { name: step.name, count, took, why }
        }
        Err(error) => failed(step.name, took, format!("{error:#}")),
    };
    let word = if done.why.is_empty() { "passed" } else { "FAILED" };
    note(&format!("{} {word}, {:.1} s{}", done.name, took.as_secs_f32(), indent(&done.why)));
    done
}

fn failed(name: &'static str, took: Duration, why: String) -> Done {
    Done { name, count: Count { failed: 1, ..Count::default() }, took, why }
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("\n    {line}")).collect()
}

/// Keeps what a step wrote where a person can look it up.
fn keep(name: &str, text: &str) -> Result<PathBuf> {
    let directory = product::target_directory()?.join("xtask-test");
    fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let path = directory.join(format!("{}.log", name.replace([' ', ','], "-")));
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}

fn report(done: &[Done]) -> ExitCode {
    let mut total = Count::default();
    println!("\n{:<24} {:>7} {:>7} {:>8} {:>9}", "step", "passed", "failed", "skipped", "time");
    for Done { name, count, took, why } in done {
        let word = if why.is_empty() { "" } else { "  FAILED" };
        let Count { passed, failed, skipped } = count;
        println!("{name:<24} {passed:>7} {failed:>7} {skipped:>8} {:>7.1} s{word}", took.as_secs_f32());
        total.add(count);
    }
    println!("\n{} passed, {} failed", total.passed, total.failed);
    if total.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
