//! `cargo xtask`: everything about the project that a machine can do.

mod cache;
mod guest;
mod product;
mod setup;
mod step;
mod vm;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chaperone's automation", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring what is missing: tools, kernels, the guest's image
    Setup(setup::Setup),
    /// Build the product for this host and for guests
    Build,
    /// Run a script in a guest that has the product installed
    Vm(vm::Vm),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Setup(arguments) => setup::run(&arguments),
        Task::Build => build(),
        Task::Vm(arguments) => return vm::run(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            step::note(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let product = product::build()?;
    println!("{}", product.program("chaperone").display());
    Ok(())
}
