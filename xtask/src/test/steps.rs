//! The table of checks, and how each kind is done.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Bench, promtool};
use crate::guest::{AGENTS_MEMORY_MB, Guest, Script};
use crate::setup::{peers, prometheus, toolchain};
use crate::{power, product};

/// A guest's whole share of the tests, under emulation on a busy machine.
const GUEST_TIMEOUT: Duration = Duration::from_secs(2400);

pub struct Step {
    pub name: &'static str,
    /// Whether it is done in a hurry too.
    pub quick: bool,
    pub work: Work,
}

pub enum Work {
    Cargo(&'static [&'static str]),
    /// cargo, with the other ends of sinks at hand.
    Tests(&'static [&'static str]),
    /// cargo of the nightly toolchain, for the kernel programs.
    Nightly(&'static [&'static str]),
    Guest {
        kernel: &'static str,
        lsm: bool,
        systemd: bool,
        lifetime: bool,
    },
    /// Alerts and dashboards.
    Promtool,
    /// Real agents, in a guest with BPF LSM.
    Agents,
    /// A guest whose power is cut so often.
    Power(u32),
    Host,
}

pub const TABLE: [Step; 17] = [
    Step { name: "fmt", quick: true, work: Work::Cargo(&["fmt", "--all", "--check", "--", "--color=never"]) },
    Step {
        name: "clippy",
        quick: true,
        work: Work::Cargo(&[
            "clippy",
            "--workspace",
            "--exclude=agent-ebpf",
            "--all-targets",
            "--",
            "-Dwarnings",
        ]),
    },
    Step {
        name: "clippy, kernel programs",
        quick: true,
        work: Work::Nightly(&[
            "clippy",
            "--package=agent-ebpf",
            "--target=bpfel-unknown-none",
            "-Zbuild-std=core",
            "--",
            "-Dwarnings",
        ]),
    },
    Step {
        name: "unit tests",
        quick: true,
        work: Work::Tests(&["test", "--workspace", "--exclude=agent-ebpf"]),
    },
    Step { name: "promtool", quick: true, work: Work::Promtool },
    Step {
        name: "guest 6.12 lsm",
        quick: true,
        work: Work::Guest { kernel: "6.12", lsm: true, systemd: false, lifetime: false },
    },
    Step {
        name: "guest 6.12 cgroup",
        quick: true,
        work: Work::Guest { kernel: "6.12", lsm: false, systemd: false, lifetime: false },
    },
    Step {
        name: "guest 6.12 systemd",
        quick: false,
        work: Work::Guest { kernel: "6.12", lsm: true, systemd: true, lifetime: false },
    },
    Step {
        name: "guest 6.1 lsm",
        quick: false,
        work: Work::Guest { kernel: "6.1", lsm: true, systemd: false, lifetime: false },
    },
    Step {
        name: "guest 6.1 cgroup",
        quick: false,
        work: Work::Guest { kernel: "6.1", lsm: false, systemd: false, lifetime: false },
    },
    Step {
        name: "guest 6.12 lsm, lifetime",
        quick: true,
        work: Work::Guest { kernel: "6.12", lsm: true, systemd: false, lifetime: true },
    },
    Step {
        name: "guest 6.12 cgroup, lifetime",
        quick: true,
        work: Work::Guest { kernel: "6.12", lsm: false, systemd: false, lifetime: true },
    },
    Step {
        name: "guest 6.1 lsm, lifetime",
        quick: false,
        work: Work::Guest { kernel: "6.1", lsm: true, systemd: false, lifetime: true },
    },
    Step {
        name: "guest 6.1 cgroup, lifetime",
        quick: false,
        work: Work::Guest { kernel: "6.1", lsm: false, systemd: false, lifetime: true },
    },
    Step { name: "power cuts", quick: true, work: Work::Power(3) },
    Step { name: "real agents", quick: false, work: Work::Agents },
    Step { name: "host", quick: true, work: Work::Host },
];

pub struct Outcome {
    pub passed: bool,
    /// All that was written to both streams.
    pub text: String,
}

pub fn perform(step: &Step, bench: &Bench) -> Result<Outcome> {
    match step.work {
        Work::Cargo(arguments) => command(cargo(bench)?.args(arguments)),
        Work::Tests(arguments) => {
            let peers = peers::ensure(&bench.cache)?;
            command(cargo(bench)?.args(arguments).env("CHAPERONE_PEERS", peers))
        }
        Work::Nightly(arguments) => {
            let mut cargo = Command::new("rustup");
            cargo.args(["run", "nightly", "cargo"]).args(arguments).current_dir(product::root());
            cargo.env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_RUSTFLAGS", "--cfg=bpf_target_arch=\"x86_64\"");
            // The toolchain that runs us would speak for this one too.
            command(
                cargo
                    .env_remove("RUSTUP_TOOLCHAIN")
                    .env_remove("CARGO")
                    .env("PATH", toolchain::path(&bench.cache)?),
            )
        }
        Work::Promtool => promtool::perform(&bench.cache),
        Work::Guest { kernel, lsm, systemd, lifetime } => {
            let mode = if lsm { "lsm" } else { "cgroup" };
            let part = match (systemd, lifetime) {
                (true, _) => " --systemd",
                (_, true) => " --lifetime",
                (_, false) => "",
            };
            let script = format!("exec chaperone-tests guest --mode {mode}{part}");
            // Only the guest that is not in a hurry gets a Prometheus: it is large.
            let files = match systemd {
                true => vec![(
                    prometheus::ensure(&bench.cache)?.join("prometheus"),
                    "/usr/local/bin/prometheus".to_owned(),
                )],
                false => Vec::new(),
            };
            let guest = Guest {
                kernel: kernel.into(),
                lsm,
                systemd,
                files,
                one_thread: lifetime,
                ..Guest::default()
            };
            run(guest, &script, bench)
        }
        Work::Power(cuts) => {
            let (host, product) = (bench.host.as_ref(), bench.product.as_ref());
            let (passed, text) = power::few(
                cuts,
                host.context("guests need their image")?,
                product.context("guests need the product")?,
            )?;
            Ok(Outcome { passed, text })
        }
        Work::Agents => run(
            Guest { agents: true, memory_mb: AGENTS_MEMORY_MB, ..Guest::default() },
            "exec chaperone-tests agents",
            bench,
        ),
        Work::Host => {
            let product = bench.product.as_ref().context("the product is built before the host's step")?;
            let mut tests = Command::new(product.program("chaperone-tests"));
            command(tests.arg("host").env("PATH", product.path()?))
        }
    }
}

fn cargo(bench: &Bench) -> Result<Command> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(product::root()).env("PATH", toolchain::path(&bench.cache)?);
    Ok(cargo)
}

pub(super) fn command(command: &mut Command) -> Result<Outcome> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Ok(Outcome { passed: output.status.success(), text: text.into_owned() })
}

fn run(guest: Guest, script: &str, bench: &Bench) -> Result<Outcome> {
    let host = bench.host.as_ref().context("guests are set up before their steps")?;
    let guest = Guest { timeout: GUEST_TIMEOUT, ..guest };
    let mut bytes = Vec::new();
    let output = guest.run(host, bench.product.as_ref(), &Script::line(script), &mut |_, chunk| {
        bytes.extend_from_slice(chunk)
    });
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    match output {
        Ok(output) => Ok(Outcome { passed: output.status == 0, text }),
        // What it did until then is worth as much as why it stopped.
        Err(error) => {
            text += &format!("\nFAILED the guest: {}\n", one_line(&error));
            Ok(Outcome { passed: false, text })
        }
    }
}

/// As cases tell their failures, so that the whole of it is shown.
fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").trim().replace('\n', " | ")
}
