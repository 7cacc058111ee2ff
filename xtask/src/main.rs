//! `cargo xtask`: everything about the project that a machine can do.

mod bench;
mod cache;
mod demo;
mod guest;
mod power;
mod product;
mod setup;
mod step;
mod test;
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
    /// See the main job done, in a guest or on this host
    Demo(demo::Demo),
    /// Run every check: style, unit tests, guests, this host
    Test(test::Test),
    /// Run a benchmark in the guests that it needs
    Bench(bench::Bench),
    /// Cut a guest's power at random moments and see that its journal holds
    Power(power::Power),
    /// Run a script in a guest that has the product installed
    Vm(vm::Vm),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Setup(arguments) => setup::run(&arguments),
        Task::Build => build(),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test(arguments) => test::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Power(arguments) => power::run(&arguments),
        Task::Vm(arguments) => Ok(vm::run(arguments)),
    };
    match done {
        Ok(status) => status,
        Err(error) => {
            step::note(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<ExitCode> {
    let product = product::build()?;
    println!("{}", product.program("chaperone").display());
    Ok(ExitCode::SUCCESS)
}
