//! One connect after the other without pause, each counted by its answer.

use std::{io::Write as _, net::TcpStream, process::ExitCode};

use clap::Args;

/// Where it connects to: something listens there that no role names.
pub const TARGET: &str = "127.0.0.1:4747";
/// Attempts between two lines.
pub const BATCH: u64 = 100;
/// Exit status of an attempt that was refused.
pub const REFUSED: u8 = 13;

/// Connects until it is killed; every hundred attempts are a line with how many were not refused with EPERM.
#[derive(Debug, Args)]
pub struct Hammer {
    /// Once, with the answer as exit status: 13 refused, 0 anything else
    #[arg(long)]
    once: bool,
    /// So many times instead of until it is killed
    #[arg(long, default_value_t = u64::MAX)]
    count: u64,
}

impl Hammer {
    pub fn run(&self) -> anyhow::Result<ExitCode> {
        if self.once {
            return Ok(ExitCode::from(if refused() { REFUSED } else { 0 }));
        }
        let mut output = std::io::stdout().lock();
        let mut left = self.count;
        while left > 0 {
            let batch = left.min(BATCH);
            let passed = (0..batch).filter(|_| !refused()).count();
            writeln!(output, "{passed}")?;
            output.flush()?;
            left -= batch;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn refused() -> bool {
    matches!(TcpStream::connect(TARGET), Err(error) if error.raw_os_error() == Some(libc::EPERM))
}
