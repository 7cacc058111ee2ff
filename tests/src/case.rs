//! Cases: run one after the other, told in one line each as `ok NAME`, `FAILED NAME: why` or `skipped NAME: why`.

use std::{process::ExitCode, time::Instant};

/// One thing that must be seen to hold; the name reads as a sentence.
pub struct Case<T> {
    pub name: &'static str,
    pub run: fn(&mut T) -> anyhow::Result<Outcome>,
}

/// How a case ended that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Held,
    /// What this host or mode cannot show, and why.
    Skipped(String),
}

/// A case, for tables.
pub const fn case<T>(name: &'static str, run: fn(&mut T) -> anyhow::Result<Outcome>) -> Case<T> {
    Case { name, run }
}

/// Counts of a run.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub held: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Tally {
    /// Runs the cases whose name contains `only`, with everything that they share.
    pub fn run<T>(&mut self, cases: &[Case<T>], only: Option<&str>, shared: &mut T) {
        for case in cases.iter().filter(|case| only.is_none_or(|only| case.name.contains(only))) {
            self.perform(case.name, || (case.run)(shared));
        }
    }

    /// Runs one case and tells how it came out.
    pub fn perform(&mut self, name: &str, case: impl FnOnce() -> anyhow::Result<Outcome>) {
        let start = Instant::now();
        let outcome = case();
        let seconds = start.elapsed().as_secs_f32();
        match outcome {
            Ok(Outcome::Held) => {
                self.held += 1;
                println!("ok {name} ({seconds:.1} s)");
            }
            Ok(Outcome::Skipped(why)) => {
                self.skipped += 1;
                println!("skipped {name}: {why}");
            }
            Err(error) => {
                self.failed += 1;
                println!("FAILED {name}: {}", format!("{error:#}").replace('\n', " | "));
            }
        }
    }

    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        if self.failed == 0 && self.held > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}
