//! `chaperone baseline show`: what is usual for a role, with the evidence, and how mature that is.

use std::process::ExitCode;

use anstyle::Style;
use anyhow::Result;
use serde_json::{Value, json};

use super::{Reading, moment, per_cent};
use crate::{
    baseline::{Model, Support, compare::grouped, maturity::Maturity},
    cli::{
        render::{self, BOLD, DIM, GOOD, Table, WARN},
        role::Output,
    },
    event::Name,
};

/// Show what roles usually do, with how often, by how many instances, and on how many days.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// This role's behaviours; without it, all roles in one line each
    #[arg(long, value_name = "NAME")]
    role: Option<String>,
    #[command(flatten)]
    reading: Reading,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let (_, baselines) = args.reading.at.load()?;
    let support = args.reading.support();
    match (&args.role, args.reading.output) {
        (None, Output::Text) => anstream::print!("{}", roles(&baselines.models, &support)),
        (None, Output::Json) => {
            let all: Vec<Value> =
                baselines.models.iter().map(|(role, model)| head(role, model, &support)).collect();
            anstream::println!("{}", json!(all));
        }
        (Some(role), Output::Text) => {
            anstream::print!("{}", one(super::role(&baselines, role)?, &support));
        }
        (Some(name), Output::Json) => {
            let model = super::role(&baselines, name)?;
            let mut shown = head(&Name::from(&**name), model, &support);
            shown["behaviours"] = model.behaviours().map(|row| behaviour(model, &support, row)).collect();
            anstream::println!("{shown}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

type Row<'a> = (&'a crate::baseline::Behaviour, &'a crate::baseline::evidence::Evidence);

fn usual(model: &Model, support: &Support) -> usize {
    model.behaviours().filter(|(_, evidence)| model.is_usual(evidence, support)).count()
}

fn head(role: &Name, model: &Model, support: &Support) -> Value {
    json!({ "role": role, "usual": usual(model, support), "support": support, "maturity": Maturity::of(model), "tally": model.tally })
}

fn behaviour(model: &Model, support: &Support, (behaviour, evidence): Row) -> Value {
    json!({
        "behaviour": behaviour,
        "usual": model.is_usual(evidence, support),
        "breadth": evidence.breadth(),
        "hosts": model.hosts_of(evidence),
        "first": evidence.first,
        "last": evidence.last,
    })
}

fn roles(models: &std::collections::BTreeMap<Name, Model>, support: &Support) -> String {
    let mut table = Table::with_headings(&[
        "ROLE",
        "USUAL",
        "SEEN",
        "ACTS",
        "INSTANCES",
        "NEXT INSTANCE SHOWS NEW",
        "LAST NEW",
    ]);
    for (role, model) in models {
        let maturity = Maturity::of(model);
        table.row([
            (BOLD, render::harmless(role)),
            (GOOD, grouped(usual(model, support) as u64)),
            (Style::new(), grouped(maturity.behaviours as u64)),
            (Style::new(), grouped(model.tally.observed)),
            (Style::new(), grouped(maturity.instances)),
            (Style::new(), per_cent(maturity.next_instance.estimate)),
            (DIM, moment(maturity.last_novelty)),
        ]);
    }
    table.render(render::line_width())
}

fn one(model: &Model, support: &Support) -> String {
    let mut table =
        Table::with_headings(&["", "ACTS", "INSTANCES", "DAYS", "HOSTS", "FIRST", "LAST", "BEHAVIOUR"]);
    for (behaviour, evidence) in model.behaviours() {
        let (breadth, usual) = (evidence.breadth(), model.is_usual(evidence, support));
        let more = if breadth.at_least { "+" } else { "" };
        table.row([
            if usual { (GOOD, "usual".to_owned()) } else { (DIM, "seen".to_owned()) },
            (Style::new(), grouped(breadth.count)),
            (Style::new(), format!("{}{more}", breadth.instances)),
            (Style::new(), format!("{}{more}", breadth.days)),
            (Style::new(), model.hosts_of(evidence).to_string()),
            (DIM, moment(evidence.first)),
            (DIM, moment(evidence.last)),
            (if usual { Style::new() } else { DIM }, render::harmless(&behaviour.to_string())),
        ]);
    }
    table.render(render::line_width()) + &maturity(model, support)
}

fn maturity(model: &Model, support: &Support) -> String {
    let (maturity, tally) = (Maturity::of(model), &model.tally);
    let range = |chance: &crate::baseline::maturity::Chance| {
        format!("{} ({} to {})", per_cent(chance.estimate), per_cent(chance.low), per_cent(chance.high))
    };
    let mut lines = vec![
        format!(
            "{} of {} behaviours are usual: at least {} instances, on {} days or {} hosts",
            grouped(usual(model, support) as u64),
            grouped(maturity.behaviours as u64),
            support.instances,
            support.days,
            support.hosts
        ),
        format!(
            "the next instance shows something new: {}; {} of {} showed something that no other did",
            range(&maturity.next_instance),
            maturity.instances_alone,
            maturity.instances
        ),
        format!(
            "the next act does: {}, by Good–Turing; {} of {} acts are of behaviours seen once",
            range(&maturity.next_act),
            grouped(maturity.seen_once),
            grouped(maturity.acts)
        ),
        format!(
            "last something new: {}, {} instances and {} hours of events ago",
            moment(maturity.last_novelty),
            grouped(maturity.instances_since),
            maturity.seconds_since / 3600
        ),
    ];
    let warnings = [
        (tally.folded, "behaviours were folded into wider ones for want of room"),
        (tally.left_out, "acts were left out for want of room"),
        (tally.unknown_sources, "acts were left out: too many hosts and boots"),
        (tally.refused, "acts were refused, and taught nothing"),
    ];
    for (count, what) in warnings.iter().filter(|(count, _)| *count > 0) {
        lines.push(render::paint(WARN, format!("{} {what}", grouped(*count))));
    }
    lines.push(String::new());
    format!("\n{}", lines.join("\n"))
}
