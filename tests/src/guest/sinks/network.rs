//! Sinks whose other end is across a network that drops every packet for a while, without a word.

use std::{
    collections::BTreeSet,
    path::Path,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};

use super::{Place, has_all, seqs, value, wait};
use crate::{
    case::{Case, Outcome, case},
    guest::{Shared, disk::run},
    harness::Ended,
};

pub const CASES: &[Case<Shared>] =
    &[case("sinks_across_a_network_that_drops_packets_notice_it_and_miss_nothing", dropped)];

fn dropped(shared: &mut Shared) -> Result<Outcome> {
    let place = Place::make("/run/chaperone-sinks")?;
    let far = Far::set()?;
    let (hook, syslog) = (place.0.join("hook"), place.0.join("syslog"));
    let _receivers = [far.receiver(HOOK, &hook, &[])?, far.receiver(SYSLOG, &syslog, &["--syslog"])?];
    let sinks =
        format!("{{ hook: {{ to: \"http://{HOOK}/in\" }}, syslog: {{ to: \"syslog+tcp://{SYSLOG}\" }} }}");
    let mut daemon = place.daemon(shared, &sinks)?;
    let names = ["hook", "syslog"];
    place.act(5)?;
    for sink in names {
        wait(sink, || Ok(value(&daemon, "waiting", sink)? == 0.0 && value(&daemon, "up", sink)? == 1.0))?;
    }

    far.drop_packets()?;
    let begun = Instant::now();
    place.act(20)?;
    let mut noticed = Vec::new();
    for sink in names {
        wait(&format!("{sink} told down"), || Ok(value(&daemon, "up", sink)? == 0.0))?;
        noticed.push(format!("{sink} after {:.0} s", begun.elapsed().as_secs_f32()));
    }
    daemon.settle()?;
    for sink in names {
        ensure!(value(&daemon, "waiting", sink)? >= 20.0, "{sink} believes what never arrived");
    }

    far.carry_packets()?;
    for sink in names {
        wait(sink, || Ok(value(&daemon, "waiting", sink)? == 0.0 && value(&daemon, "up", sink)? == 1.0))?;
        ensure!(value(&daemon, "missed_total", sink)? == 0.0, "{sink} missed some");
    }
    for (sink, kept) in [("hook", &hook), ("syslog", &syslog)] {
        let numbers = seqs(kept)?;
        has_all(&daemon, sink, &numbers)?;
        let twice = numbers.len() - numbers.iter().collect::<BTreeSet<_>>().len();
        println!("# {} records by {sink}, {twice} of them twice", numbers.len());
    }
    println!("# noticed: {}", noticed.join(", "));
    Ok(Outcome::Held)
}

/// A network namespace at the other end of a wire.
struct Far;

impl Far {
    fn set() -> Result<Self> {
        // What was made goes with it, however far that came.
        let far = Self;
        for line in MAKE {
            ip(line)?;
        }
        Ok(far)
    }

    /// A receiver over there, which listens when this comes back.
    fn receiver(&self, at: &str, kept: &Path, more: &[&str]) -> Result<Ended> {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", FAR]).arg(std::env::current_exe()?);
        command.args(["sink", at]).arg(kept).args(more).stdin(Stdio::null());
        let receiver = Ended(command.spawn().context("start the receiver")?);
        wait("the receiver", || Ok(std::net::TcpStream::connect(at).is_ok()))?;
        Ok(receiver)
    }

    /// What comes is not from where it may come, and nothing goes back.
    fn drop_packets(&self) -> Result<()> {
        ip("-n chaperone-sink route add blackhole 10.78.0.1/32")
    }

    fn carry_packets(&self) -> Result<()> {
        ip("-n chaperone-sink route del blackhole 10.78.0.1/32")
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        for words in [["link", "del", "ch-sink0"], ["netns", "del", FAR]] {
            drop(Command::new("ip").args(words).output());
        }
    }
}

fn ip(line: &str) -> Result<()> {
    run("ip", &line.split(' ').collect::<Vec<_>>())
}

const FAR: &str = "chaperone-sink";
const HOOK: &str = "10.78.0.2:9876";
const SYSLOG: &str = "10.78.0.2:6514";
/// Each line for ip(8).
const MAKE: &[&str] = &[
    "netns add chaperone-sink",
    "link add ch-sink0 type veth peer name ch-sink1 netns chaperone-sink",
    "addr add 10.78.0.1/24 dev ch-sink0",
    "link set ch-sink0 up",
    "-n chaperone-sink addr add 10.78.0.2/24 dev ch-sink1",
    "-n chaperone-sink link set ch-sink1 up",
    "netns exec chaperone-sink sysctl -qw net.ipv4.conf.all.rp_filter=1",
];
