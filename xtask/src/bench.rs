//! `cargo xtask bench`: a benchmark in every guest that it needs, as one table or one JSON object.

mod merge;
mod table;

use std::fs;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::guest::{AGENTS_MEMORY_MB, Guest, Host, Script};
use crate::product::{self, Product};
use crate::step::{forward, note, output, step};

/// Where the runner leaves its object in the guest.
const RESULT: &str = "/tmp/bench.json";
const TIMEOUT: Duration = Duration::from_secs(7200);

/// A benchmark and where it is run.
struct Benchmark {
    name: &'static str,
    kernels: &'static [&'static str],
    /// Whether it is run without BPF LSM too.
    cgroup: bool,
    systemd: bool,
    /// Real agents are run, which `test` does too.
    agents: bool,
    /// Durations are instructions.
    icount: bool,
    /// Programs come and go: see [`Guest::one_thread`].
    one_thread: bool,
    memory_mb: Option<u32>,
}

/// A small guest with BPF LSM.
const PLAIN: Benchmark = Benchmark {
    name: "",
    kernels: &["6.12"],
    cgroup: false,
    systemd: false,
    agents: false,
    icount: false,
    one_thread: false,
    memory_mb: None,
};

const TABLE: [Benchmark; 10] = [
    Benchmark { name: "accounting", ..PLAIN },
    Benchmark { name: "attribution", systemd: true, ..PLAIN },
    Benchmark { name: "agents", cgroup: true, agents: true, memory_mb: Some(AGENTS_MEMORY_MB), ..PLAIN },
    Benchmark { name: "baselines", cgroup: true, agents: true, memory_mb: Some(3072), ..PLAIN },
    Benchmark { name: "cost", icount: true, memory_mb: Some(COST_MEMORY_MB), ..PLAIN },
    Benchmark { name: "endpoints", kernels: &["6.1", "6.12"], cgroup: true, ..PLAIN },
    Benchmark { name: "journal", icount: true, ..PLAIN },
    Benchmark { name: "names", kernels: &["6.1", "6.12"], cgroup: true, ..PLAIN },
    Benchmark { name: "soak", ..PLAIN },
    Benchmark { name: "gaps", kernels: &["6.1", "6.12"], cgroup: true, one_thread: true, ..PLAIN },
];

/// Room for 10,000 processes.
const COST_MEMORY_MB: u32 = 6144;

#[derive(Args)]
pub struct Bench {
    /// Benchmark to run
    #[arg(value_parser = TABLE.map(|benchmark| benchmark.name))]
    name: String,
    /// How to print what came out
    #[arg(short, long, default_value = "table")]
    output: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

pub fn run(arguments: &Bench) -> Result<ExitCode> {
    let found = TABLE.iter().find(|benchmark| benchmark.name == arguments.name);
    let benchmark = found.with_context(|| format!("no benchmark {}", arguments.name))?;
    let host = Host::ready()?;
    let product = product::build()?;
    let guests = guests(benchmark);
    let mut whole = Value::Null;
    for guest in &guests {
        let part = step(&format!("{} in {}", benchmark.name, guest.title()), || {
            measure(benchmark, guest, &host, &product)
        })?;
        whole = merge::merge(whole, part);
    }
    if let Some(whole) = whole.as_object_mut() {
        describe(whole, &guests);
    }
    match arguments.output {
        Format::Json => println!("{whole}"),
        Format::Table => print!("{}", table::render(&whole)),
    }
    Ok(if faults(&whole) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came out otherwise than it must, at any depth: a count, or a list of examples.
fn faults(whole: &Value) -> u64 {
    let Some(fields) = whole.as_object() else { return 0 };
    let fault = |(name, value): (&String, &Value)| match (name.as_str(), value) {
        ("wrong" | "missed" | "unlabelled", Value::Array(all)) => all.len() as u64,
        ("wrong" | "missed" | "unlabelled", count) => count.as_u64().unwrap_or_default(),
        (_, deeper) => faults(deeper),
    };
    fields.iter().map(fault).sum()
}

fn guests(benchmark: &Benchmark) -> Vec<Guest> {
    let modes: &[bool] = if benchmark.cgroup { &[true, false] } else { &[true] };
    let guest = |kernel: &str, lsm: bool| Guest {
        kernel: kernel.into(),
        lsm,
        systemd: benchmark.systemd,
        agents: benchmark.agents,
        icount: benchmark.icount,
        one_thread: benchmark.one_thread,
        memory_mb: benchmark.memory_mb.unwrap_or(Guest::default().memory_mb),
        timeout: TIMEOUT,
        ..Guest::default()
    };
    benchmark.kernels.iter().flat_map(|kernel| modes.iter().map(move |lsm| guest(kernel, *lsm))).collect()
}

fn measure(benchmark: &Benchmark, guest: &Guest, host: &Host, product: &Product) -> Result<Value> {
    let place = tempfile::tempdir().context("make a directory for the result")?;
    let result = place.path().join("bench.json");
    let guest = Guest { fetch: vec![(RESULT.into(), result.clone())], ..guest.clone() };
    let mode = if guest.lsm { "lsm" } else { "cgroup" };
    let command =
        if benchmark.name == "agents" { "agents".to_owned() } else { format!("bench {}", benchmark.name) };
    let script = Script::line(&format!("exec chaperone-tests {command} --mode {mode} >&2"));
    let output = guest.run(host, Some(product), &script, &mut forward)?;
    if output.status != 0 {
        note(&format!("{} in {} ended with status {}", benchmark.name, guest.title(), output.status));
    }
    let text = fs::read_to_string(&result).with_context(|| format!("read {}", result.display()))?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("{RESULT} is not JSON"))?;
    if !value.is_object() {
        bail!("{RESULT} is not one JSON object");
    }
    Ok(value)
}

/// Adds what somebody needs to compare or repeat it.
fn describe(whole: &mut Map<String, Value>, guests: &[Guest]) {
    let mut git = Command::new("git");
    let commit = output(git.args(["describe", "--always", "--dirty"]).current_dir(product::root()));
    whole.insert("guests".into(), json!(guests.iter().map(Guest::title).collect::<Vec<_>>()));
    whole.insert(
        "commit".into(),
        json!(commit.map_or_else(|_| "unknown".into(), |commit| commit.trim().to_owned())),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_out_wrong_at_any_depth_is_a_fault() {
        assert_eq!(faults(&json!({ "rows": [{ "wrong": 9 }], "wrong": 0, "missed": 0, "cases": 3 })), 0);
        assert_eq!(faults(&json!({ "wrong": [1, 2], "trees": { "wrong": 1 }, "unlabelled": 1 })), 4);
    }
}
