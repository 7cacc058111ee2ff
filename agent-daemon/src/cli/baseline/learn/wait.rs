//! Watching the daemon learn: how far each role is, until the time is over or it is stable.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use serde_json::json;

use super::Args;
use crate::{
    baseline::{
        Baselines, Support,
        compare::grouped,
        maturity::{Maturity, Stable},
        store::{Error, Store},
    },
    cli::{
        baseline::{moment, per_cent},
        block_on, render,
        role::Output,
    },
    control::{api::Status, client},
};

/// Looks at the store now and then; the daemon writes it.
pub fn run(args: &Args) -> Result<ExitCode> {
    if args.during.is_none() && !args.until_stable {
        bail!("say from what: --from FILE…, or --for TIME or --until-stable to watch the daemon learn");
    }
    if args.role.is_empty() {
        bail!("say of which role: --role NAME");
    }
    let begun = Instant::now();
    let (mut shown, mut due) = (String::new(), begun);
    loop {
        learning(args)?;
        let baselines = match Store::open_existing(&args.at.store()) {
            Err(Error::Missing(_)) => Baselines::default(),
            store => store?.load()?,
        };
        let support = args.at.settings().baselines.support;
        let over = args.during.is_some_and(|during| begun.elapsed() >= during);
        let stable = args.until_stable && args.role.iter().all(|role| is_stable(&baselines, role));
        let text: Vec<String> =
            args.role.iter().map(|role| how_far(&baselines, role, &support, args.output)).collect();
        let (text, end) = (text.join("\n"), over || stable);
        // For machines the end alone; people see what changed.
        let now = args.output == Output::Text && text != shown && Instant::now() >= due;
        if end || now {
            anstream::println!("{text}");
            due = Instant::now() + TOLD_EVERY;
        }
        shown = text;
        if end {
            if args.output == Output::Text {
                let why = if stable { "stable" } else { "the time is over" };
                anstream::println!("{why}; the daemon goes on learning");
            }
            return Ok(ExitCode::SUCCESS);
        }
        let left = args.during.map_or(LOOK_EVERY, |during| during.saturating_sub(begun.elapsed()));
        std::thread::sleep(left.min(LOOK_EVERY));
    }
}

/// Whether a daemon answers that learns.
fn learning(args: &Args) -> Result<()> {
    let status: Status = block_on(client::get(&args.at.place.control_socket(), "/v1/status"))??;
    match status.baselines_off {
        Some(why) => bail!("the daemon does not learn: {why}"),
        None => Ok(()),
    }
}

fn is_stable(baselines: &Baselines, role: &str) -> bool {
    let model = baselines.models.get(role);
    model.is_some_and(|model| Maturity::of(model).is_stable(&Stable::default()))
}

fn how_far(baselines: &Baselines, role: &str, support: &Support, output: Output) -> String {
    let maturity = baselines.models.get(role).map(|model| (model, Maturity::of(model)));
    if output == Output::Json {
        return json!({ "role": role, "maturity": maturity.map(|(_, maturity)| maturity) }).to_string();
    }
    let role = render::harmless(role);
    let Some((model, maturity)) = maturity else { return format!("{role}: nothing learned yet") };
    let usual = model.behaviours().filter(|(_, evidence)| model.is_usual(evidence, support)).count();
    format!(
        "{role}: {} instances, {} behaviours, {} of them usual; the next instance shows something new with a chance of {} \
         ({} to {}); last new {}, {} instances since",
        grouped(maturity.instances),
        grouped(maturity.behaviours as u64),
        grouped(usual as u64),
        per_cent(maturity.next_instance.estimate),
        per_cent(maturity.next_instance.low),
        per_cent(maturity.next_instance.high),
        moment(maturity.last_novelty),
        grouped(maturity.instances_since)
    )
}

/// `90s`, `30m`, `12h`, `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "write a number and s, m, h or d: 30m, 12h, 7d".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

/// The daemon writes every ten seconds.
const LOOK_EVERY: Duration = Duration::from_secs(10);
const TOLD_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        for wrong in ["", "7", "d", "-1d", "1w", "7é"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
