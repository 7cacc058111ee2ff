//! What needs a booted system: logins, cron, at, units.

use anyhow::{Result, bail, ensure};
use serde_json::Value;

use crate::{
    bench::attribution::{
        cases, handed,
        score::{Seen, Who},
        stage::Stage,
        systemd,
    },
    case::{Case, Outcome, case},
    guest::Shared,
    harness::{Daemon, Start},
};

pub const CASES: &[Case<Shared>] = &[
    case("a unit that is older than the daemon is found", older_unit),
    case("a unit is its agent from its first instruction, each time it starts", unit),
    case("logins are people, services are the system, agents are agents in both", logins),
    case("who enters an agent's container is not the agent", container),
    case("work that an agent hands over is told", handed_over),
    case("names by systemd-resolved hold over its stub, varlink and D-Bus", super::names::real::by_unit),
    case("cron is the system, and an agent's table is told", cron),
];

fn begin() -> Result<(Stage, Daemon)> {
    ensure!(handed::has_systemd(), "this guest was not booted with systemd");
    let stage = Stage::set()?;
    let daemon = Daemon::start(&Start { documents: Stage::documents(), ..Start::default() })?;
    Ok((stage, daemon))
}

fn older_unit(_: &mut Shared) -> Result<Outcome> {
    let mut stage = Stage::set()?;
    let leaf = stage.leaf("a unit's main process", Who::Agent, "unit");
    let below = stage.leaf("a unit's other process", Who::Agent, "unit");
    systemd::start_unit(&format!("{below} & exec {leaf}"))?;
    stage.wait(2);
    let mut daemon = Daemon::start(&Start { documents: Stage::documents(), ..Start::default() })?;
    let seen = stage.look(&daemon);
    systemd::run("systemctl", &["stop", systemd::UNIT])?;
    daemon.wait(0, "the agent found", |event| event["kind"] == "agent_found" && event["agent"] == "unit")?;
    all_right(&seen?)
}

fn unit(_: &mut Shared) -> Result<Outcome> {
    let (mut stage, daemon) = begin()?;
    all_right(&systemd::unit(&mut stage, &daemon)?)
}

fn logins(_: &mut Shared) -> Result<Outcome> {
    let (mut stage, daemon) = begin()?;
    systemd::run("loginctl", &["enable-linger", "alice"])?;
    let seen = systemd::logins(&mut stage, &daemon)?;
    for (case, words) in [
        ("ssh with a command", &["loginuid", "login_session"][..]),
        ("ssh with a terminal", &["loginuid", "terminal"]),
        ("login on a terminal", &["loginuid", "terminal"]),
    ] {
        let Some(seen) = seen.iter().find(|seen| seen.case == case) else { bail!("no case {case}") };
        for word in words {
            let has = seen.evidence.as_array().is_some_and(|all| all.iter().any(|one| one == word));
            ensure!(has, "{case}: the evidence {} does not say {word}", seen.evidence);
        }
    }
    all_right(&seen)
}

fn container(_: &mut Shared) -> Result<Outcome> {
    let (mut stage, daemon) = begin()?;
    all_right(&cases::container(&mut stage, &daemon)?)
}

fn handed_over(_: &mut Shared) -> Result<Outcome> {
    let (mut stage, mut daemon) = begin()?;
    let told = handed::ways(&mut stage, &mut daemon)?;
    all_told(&told)
}

fn cron(_: &mut Shared) -> Result<Outcome> {
    let (mut stage, mut daemon) = begin()?;
    let (seen, told) = systemd::cron(&mut stage, &mut daemon)?;
    all_told(&told)?;
    all_right(&seen)
}

/// Every way that has an event has told it.
fn all_told(told: &[Value]) -> Result<Outcome> {
    let silent: Vec<&str> = told
        .iter()
        .filter(|told| told["event"].is_null() && told["broker"] != "")
        .filter_map(|told| told["way"].as_str())
        .collect();
    ensure!(silent.is_empty(), "no event told of {silent:?}");
    Ok(Outcome::Held)
}

pub fn all_right(seen: &[Seen]) -> Result<Outcome> {
    let wrong: Vec<String> =
        seen.iter().filter(|seen| !seen.right()).map(|seen| seen.wrong().to_string()).collect();
    ensure!(wrong.is_empty(), "{} of {} are wrong: {}", wrong.len(), seen.len(), wrong.join(" "));
    Ok(Outcome::Held)
}
