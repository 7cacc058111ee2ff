//! Accounting: nothing is lost without being counted, and a process ends once.

use anyhow::{Result, ensure};

use crate::{
    bench::accounting::{Storm, exits},
    case::{Case, Outcome, case},
    guest::Shared,
};

pub const CASES: &[Case<Shared>] = &[
    case("a_storm_is_recorded_or_counted_as_lost_to_the_unit_and_refused", adds_up),
    case("a_storm_of_one_instance_loses_no_event_of_others", shares),
    case("a_process_of_many_threads_ends_once_and_its_instance_with_it", ends_once),
];

fn adds_up(shared: &mut Shared) -> Result<Outcome> {
    for (stopped, connects) in [(false, 2_000), (true, FLOOD)] {
        let account = Storm { forks: 300, connects, others: 20, stopped }.account(&shared.mode)?;
        for row in &account.rows {
            ensure!(row.adds_up(), "{row:?}");
        }
        ensure!(account.unlabelled == 0, "{} births or acts without a label", account.unlabelled);
        ensure!(account.missed == 0, "{} connects passed", account.missed);
        let lost: u64 = account.rows.iter().map(|row| row.lost).sum();
        ensure!(!stopped || lost > 0, "the flood is too small to lose anything, so it shows nothing");
    }
    Ok(Outcome::Held)
}

fn shares(shared: &mut Shared) -> Result<Outcome> {
    let account = Storm { forks: 0, connects: FLOOD, others: 50, stopped: true }.account(&shared.mode)?;
    ensure!(account.lost_of_others == 0, "{} events of others were lost", account.lost_of_others);
    let lost: u64 = account.rows.iter().map(|row| row.lost).sum();
    ensure!(lost > 0, "the flood is too small to lose anything, so it shows nothing");
    Ok(Outcome::Held)
}

fn ends_once(shared: &mut Shared) -> Result<Outcome> {
    for (instance, exits, closed) in exits(&shared.mode, 16, 60)? {
        ensure!((exits, closed) == (1, 1), "{instance} was told {exits} exits and {closed} ends");
    }
    Ok(Outcome::Held)
}

/// More connects than a ring buffer that nobody reads has room for.
const FLOOD: u64 = 30_000;
