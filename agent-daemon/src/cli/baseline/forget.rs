//! `chaperone baseline forget`: leaves out what was learned from an instance, on certain days, or of a form.

use std::process::ExitCode;

use anyhow::{Result, bail};
use serde_json::json;

use super::At;
use crate::{
    baseline::{
        learn::{Forget, Forgotten},
        store::Store,
    },
    cli::{block_on, role::Output},
    control::{api::ForgetRequest, client},
    event::word::{InstanceId, Time},
};

/// Forget what a role was seen to do, as far as all that is given holds.
///
/// Evidence is kept by day (UTC), so that a window covers whole days.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The role
    #[arg(long, value_name = "NAME")]
    role: String,
    /// From this day on (a time such as 2026-01-31T00:00:00Z)
    #[arg(long, value_name = "TIME")]
    since: Option<Time>,
    /// Until this day, that included
    #[arg(long, value_name = "TIME")]
    until: Option<Time>,
    /// What this instance showed
    #[arg(long, value_name = "ID")]
    instance: Option<InstanceId>,
    /// What was shown on this host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Behaviours of this form; `*` stands for any characters
    #[arg(long, value_name = "TEXT")]
    behaviour: Option<String>,
    /// All that is known of the role; the files it was learned from can be learned anew
    #[arg(long, conflicts_with_all = ["since", "until", "instance", "host", "behaviour"])]
    all: bool,
    #[command(flatten)]
    at: At,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let what = Forget {
        since: args.since,
        until: args.until,
        instance: args.instance,
        host: args.host.clone(),
        behaviour: args.behaviour.clone(),
    };
    if what == Forget::default() && !args.all {
        bail!("say what to forget: --since, --until, --instance, --host, --behaviour, or --all of the role");
    }
    // One that is not there is not made by this.
    drop(Store::open_existing(&args.at.store())?);
    let done = match args.at.writable()? {
        Some(store) => forget(args, store, &what)?,
        None => {
            let request = ForgetRequest { role: args.role.clone(), what: (!args.all).then_some(what) };
            Some(block_on(client::ask(&args.at.place.control_socket(), "/v1/baseline/forget", &request))??)
        }
    };
    let Some(done) = done.filter(|_| !args.all) else {
        match args.output {
            Output::Json => anstream::println!("{}", json!({ "role": args.role, "all": true })),
            Output::Text => anstream::println!("all that was known of role {} is forgotten", args.role),
        }
        return Ok(ExitCode::SUCCESS);
    };
    match args.output {
        Output::Json => anstream::println!("{}", json!({ "role": args.role, "forgotten": done })),
        Output::Text => {
            anstream::println!(
                "{} behaviours are forgotten, {} have less evidence, {} instances are forgotten",
                done.behaviours,
                done.lessened,
                done.instances
            );
            if done.counts_uncertain > 0 {
                anstream::println!(
                    "the counts of {} may still hold some of it: who showed them was not kept one by one; what counts as \
                     usual does not rest on that",
                    done.counts_uncertain
                );
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Forgets it where no daemon writes; `None` where all was forgotten.
fn forget(args: &Args, mut store: Store, what: &Forget) -> Result<Option<Forgotten>> {
    let mut baselines = store.load()?;
    super::role(&baselines, &args.role)?;
    if args.all {
        store.delete(&args.role)?;
        return Ok(None);
    }
    let Some(model) = baselines.models.get_mut(&*args.role) else { bail!("role {} has gone", args.role) };
    let done = model.forget(what);
    store.flush(&mut baselines, &[])?;
    Ok(Some(done))
}
