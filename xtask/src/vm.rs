//! `cargo xtask vm`: one guest, one script, its output and status.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::guest::{Failed, Guest, Host, Script};
use crate::product;
use crate::setup::kernels::LINES;
use crate::step::{forward, note};

/// Status when the script did not end in time, as `timeout` has it.
const TIMED_OUT: u8 = 124;
/// Status when there was no guest to run the script in.
const NO_GUEST: u8 = 125;

#[derive(Args)]
pub struct Vm {
    /// Kernel to boot
    #[arg(long, default_value = "6.12", value_parser = LINES)]
    kernel: String,
    /// Boot without BPF LSM: what is left is the cgroup mode
    #[arg(long)]
    no_lsm: bool,
    /// Boot systemd with cron, at, sshd and D-Bus rather than a small init
    #[arg(long)]
    systemd: bool,
    /// Let the guest's clock tick once per instruction (one processor, slow)
    #[arg(long)]
    icount: bool,
    #[arg(long, default_value_t = 2, value_name = "N")]
    smp: u32,
    #[arg(long, default_value_t = 1024, value_name = "N")]
    memory_mb: u32,
    /// Give up after so long, boot included
    #[arg(long, default_value_t = 300, value_name = "N")]
    timeout_s: u64,
    /// Bring a file or directory into the guest
    #[arg(long, value_name = "HOST:GUEST", value_parser = file)]
    file: Vec<(PathBuf, String)>,
    /// Bring a file or directory back when the script is done
    #[arg(long, value_name = "GUEST:HOST", value_parser = fetch)]
    fetch: Vec<(String, PathBuf)>,
    /// Then open a shell in the guest on this terminal
    #[arg(long)]
    shell: bool,
    /// Mount real agents, from npm and PyPI, at /opt/agents
    #[arg(long)]
    agents: bool,
    /// Leave the product out, and do not build it
    #[arg(long)]
    bare: bool,
    /// Say on stderr how long boot and run took
    #[arg(long)]
    time: bool,
    /// A script file and its arguments, or a command line for bash
    #[arg(last = true, value_name = "SCRIPT")]
    script: Vec<String>,
}

pub fn run(arguments: Vm) -> ExitCode {
    match boot(arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            note(&format!("{error:#}"));
            let timed_out = error.downcast_ref::<Failed>().is_some_and(|failed| failed.timed_out);
            ExitCode::from(if timed_out { TIMED_OUT } else { NO_GUEST })
        }
    }
}

fn boot(arguments: Vm) -> Result<u8> {
    let script = script(&arguments)?;
    let host = Host::ready()?;
    let product = if arguments.bare { None } else { Some(product::build()?) };
    let guest = Guest {
        kernel: arguments.kernel,
        lsm: !arguments.no_lsm,
        systemd: arguments.systemd,
        icount: arguments.icount,
        one_thread: false,
        smp: arguments.smp,
        memory_mb: arguments.memory_mb,
        timeout: Duration::from_secs(arguments.timeout_s),
        files: arguments.file,
        fetch: arguments.fetch,
        shell: arguments.shell,
        agents: arguments.agents,
        disk: None,
        cut: None,
    };
    let output = guest.run(&host, product.as_ref(), &script, &mut forward)?;
    if arguments.time {
        let (boot, total) = (output.boot.as_secs_f32(), output.total.as_secs_f32());
        note(&format!("{}: script began after {boot:.1} s, all over after {total:.1} s", guest.title()));
    }
    Ok(u8::try_from(output.status).unwrap_or(u8::MAX))
}

fn script(arguments: &Vm) -> Result<Script> {
    let Some(first) = arguments.script.first() else {
        if arguments.shell {
            return Ok(Script::default());
        }
        bail!("nothing to run: give a script file or a command line after `--`, or --shell");
    };
    if !Path::new(first).is_file() {
        return Ok(Script::line(&arguments.script.join(" ")));
    }
    let program = fs::read(first).with_context(|| format!("read the script {first}"))?;
    let whole = program.starts_with(b"#!") || program.starts_with(b"\x7fELF");
    let program = if whole { program } else { [b"#!/bin/bash\n".as_slice(), &program].concat() };
    Ok(Script { program: Some(program), arguments: arguments.script[1..].to_vec() })
}

fn file(text: &str) -> Result<(PathBuf, String), String> {
    match text.rsplit_once(':') {
        Some((host, guest)) if guest.starts_with('/') && Path::new(host).exists() => {
            Ok((host.into(), guest.into()))
        }
        Some((host, guest)) if guest.starts_with('/') => Err(format!("there is no {host} here")),
        _ => Err("want HOST:GUEST with an absolute path in the guest".into()),
    }
}

fn fetch(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once(':') {
        Some((guest, host)) if guest.starts_with('/') && !host.is_empty() => Ok((guest.into(), host.into())),
        _ => Err("want GUEST:HOST with an absolute path in the guest".into()),
    }
}
