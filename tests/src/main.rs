//! The actors, the cases, the benchmarks and the demo, in one static binary that runs in any guest.

use std::process::ExitCode;

use chaperone_tests::{
    act::{Act, receive::Receive},
    agents::Agents,
    bench::Bench,
    demo::Demo,
    guest::{Guest, Host},
    power::Power,
    sink::Sink,
};
use clap::Parser;

/// What the proofs run inside guests.
#[derive(Debug, Parser)]
#[command(name = "chaperone-tests", version)]
enum Command {
    /// Perform one way of sending, be born in a shape, make a storm
    Act(Act),
    /// Listen on everything that the ways can reach
    Receive(Receive),
    /// Take events by HTTP, or as syslog
    Sink(Sink),
    /// Run the cases of a guest
    Guest(Guest),
    /// Run the cases that this host's own kernel allows, within cgroups made for them
    Host(Host),
    /// Run real agents by a scripted model, and people beside them
    Agents(Agents),
    /// Measure one thing and print one JSON object
    Bench(Bench),
    /// Live on a disk until the power is cut
    Power(Power),
    /// Show what Chaperone does
    Demo(Demo),
}

fn main() -> anyhow::Result<ExitCode> {
    match Command::parse() {
        Command::Act(act) => act.run(),
        Command::Receive(receive) => receive.run(),
        Command::Sink(sink) => sink.run(),
        Command::Guest(guest) => guest.run(),
        Command::Host(host) => host.run(),
        Command::Agents(agents) => agents.run(),
        Command::Bench(bench) => bench.run(),
        Command::Power(power) => power.run(),
        Command::Demo(demo) => demo.run(),
    }
}
