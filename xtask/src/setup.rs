//! Brings what is missing on this machine: tools, kernels, the guest's image, the agents that run in it.

pub mod agents;
pub mod image;
pub mod kernels;
pub mod packages;
pub mod peers;
pub mod prometheus;
pub mod toolchain;

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::cache::Cache;
use crate::guest::accel;
use crate::step;

#[derive(Args)]
pub struct Setup {
    /// Read everything in the cache again and compare checksums
    #[arg(long)]
    verify: bool,
}

pub fn run(arguments: &Setup) -> Result<ExitCode> {
    let cache = Cache::open()?;
    toolchain::ensure(&cache)?;
    // Where it cannot be had the product is built without, and says so.
    toolchain::musl();
    packages::require(&[packages::QEMU])?;
    let image = image::ensure(&cache)?;
    for line in kernels::LINES {
        let kernel = kernels::ensure(&cache, line)?;
        accel::choose(&cache, &kernel, &image)?;
    }
    agents::ensure(&cache)?;
    peers::ensure(&cache)?;
    prometheus::ensure(&cache)?;
    if arguments.verify {
        cache.verify()?;
    }
    step::note("everything is there");
    Ok(ExitCode::SUCCESS)
}
