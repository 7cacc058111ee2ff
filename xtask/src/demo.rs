//! `cargo xtask demo`: the main job, shown in a guest or on this host.

use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::guest::{Guest, Host, Script, terminal};
use crate::product;
use crate::setup::kernels::LINES;
use crate::step::{forward, note};

/// Boot and demo under emulation, several times over.
const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Args)]
pub struct Demo {
    /// Stay in the guest, with everything running and a shell on this terminal
    #[arg(long, conflicts_with = "host")]
    shell: bool,
    /// Show it on this host, in the mode that its kernel permits
    #[arg(long)]
    host: bool,
    /// Kernel of the guest
    #[arg(long, default_value = "6.12", value_parser = LINES)]
    kernel: String,
}

pub fn run(arguments: &Demo) -> Result<ExitCode> {
    if arguments.host { on_host() } else { in_guest(arguments) }
}

fn in_guest(arguments: &Demo) -> Result<ExitCode> {
    let host = Host::ready()?;
    let product = product::build()?;
    let guest = Guest {
        kernel: arguments.kernel.clone(),
        timeout: TIMEOUT,
        shell: arguments.shell,
        ..Guest::default()
    };
    note(&format!(
        "booting a guest: kernel {} with BPF LSM, root image thrown away afterwards",
        guest.kernel
    ));
    // The demo writes to a port, not to a terminal: only we know where its lines end.
    let terminal = terminal::columns().map(|columns| format!(" --terminal {columns}")).unwrap_or_default();
    let script = if arguments.shell {
        note("a shell in the guest follows; `exit` ends both");
        Script::line(&format!("chaperone-tests demo --keep{terminal}"))
    } else {
        Script::line(&format!("exec chaperone-tests demo{terminal}"))
    };
    let output = guest.run(&host, Some(&product), &script, &mut forward)?;
    note(&format!("the guest is gone again; {:.0} s in all", output.total.as_secs_f32()));
    Ok(ExitCode::from(u8::try_from(output.status).unwrap_or(u8::MAX)))
}

fn on_host() -> Result<ExitCode> {
    let product = product::build()?;
    note("starting on this host, with processes and cgroups of its own");
    let mut demo = Command::new(product.program("chaperone-tests"));
    let status = demo
        .args(["demo", "--host"])
        .env("PATH", product.path()?)
        .status()
        .context("cannot start chaperone-tests")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
