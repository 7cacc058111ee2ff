//! The cases of a guest, in one mode, and those that this host's own kernel allows.

pub mod accounting;
pub mod attribution;
pub mod baselines;
pub mod disk;
pub mod identified;
pub mod installed;
pub mod listeners;
pub mod names;
pub mod net;
pub mod operate;
pub mod process;
pub mod promoted;
pub mod react;
pub mod record;
pub mod sinks;
pub mod systemd;
pub mod watched;

use std::process::ExitCode;

use clap::Args;

use crate::case::Tally;

/// Runs the cases of a guest.
#[derive(Debug, Args)]
pub struct Guest {
    /// What the guest was booted for: `lsm` or `cgroup`.
    #[arg(long, default_value = "lsm")]
    pub mode: String,
    /// The guest runs systemd: the cases that need it.
    #[arg(long)]
    pub systemd: bool,
    /// The cases in which daemons come and go, and programs with them.
    #[arg(long)]
    pub lifetime: bool,
    /// Only cases whose name contains this.
    #[arg(long)]
    pub only: Option<String>,
}

/// What the cases of one run share.
#[derive(Debug)]
pub struct Shared {
    pub mode: String,
}

impl Shared {
    #[must_use]
    pub fn is_lsm(&self) -> bool {
        self.mode == "lsm"
    }
}

/// How releases of the oldest supported line begin.
const OLDEST: &str = "6.1.";

fn kernel_is_oldest() -> anyhow::Result<bool> {
    Ok(nix::sys::utsname::uname()?.release().as_encoded_bytes().starts_with(OLDEST.as_bytes()))
}

impl Guest {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut shared = Shared { mode: self.mode };
        let mut tally = Tally::default();
        let only = self.only.as_deref();
        if self.systemd {
            tally.run(systemd::CASES, only, &mut shared);
            tally.run(watched::CASES, only, &mut shared);
            tally.run(sinks::SYSTEMD_CASES, only, &mut shared);
            tally.run(installed::CASES, only, &mut shared);
            return Ok(tally.exit_code());
        }
        if self.lifetime {
            tally.run(process::lifetime::CASES, only, &mut shared);
            return Ok(tally.exit_code());
        }
        tally.run(&process::cases(), only, &mut shared);
        tally.run(net::CASES, only, &mut shared);
        tally.run(names::CASES, only, &mut shared);
        tally.run(listeners::CASES, only, &mut shared);
        tally.run(promoted::CASES, only, &mut shared);
        tally.run(react::CASES, only, &mut shared);
        tally.run(accounting::CASES, only, &mut shared);
        let oldest = kernel_is_oldest()?;
        if !oldest {
            tally.run(operate::CASES, only, &mut shared);
            tally.run(react::FURTHER, only, &mut shared);
        }
        if shared.is_lsm() {
            // Labels are given and followed by the same programs in both modes: once is enough.
            tally.run(attribution::CASES, only, &mut shared);
        }
        if shared.is_lsm() && !oldest {
            // What user space does of itself is the same over every kernel and mode.
            tally.run(process::KNOWN, only, &mut shared);
            tally.run(attribution::FURTHER, only, &mut shared);
            tally.run(names::FURTHER, only, &mut shared);
            tally.run(baselines::CASES, only, &mut shared);
            tally.run(identified::CASES, only, &mut shared);
            tally.run(record::CASES, only, &mut shared);
            tally.run(sinks::CASES, only, &mut shared);
            tally.run(sinks::NETWORK_CASES, only, &mut shared);
        }
        Ok(tally.exit_code())
    }
}

/// Runs the cases that this host's own kernel allows, within cgroups made for them.
#[derive(Debug, Args)]
pub struct Host {
    /// Only cases whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

impl Host {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut tally = Tally::default();
        tally.run(net::HOST_CASES, self.only.as_deref(), &mut ());
        Ok(tally.exit_code())
    }
}
