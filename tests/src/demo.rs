//! The demo.

use std::process::ExitCode;

use clap::Args;

/// Shows what Chaperone does.
#[derive(Debug, Args)]
pub struct Demo {
    /// Leave everything running
    #[arg(long)]
    keep: bool,
    /// On this host instead of a guest
    #[arg(long)]
    host: bool,
}

impl Demo {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let _ = (self.keep, self.host);
        anyhow::bail!("not built yet")
    }
}
