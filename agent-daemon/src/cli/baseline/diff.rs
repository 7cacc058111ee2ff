//! `chaperone baseline diff`: what is usual for one role, or on one host, and not for another.

use std::{path::Path, process::ExitCode};

use anstyle::Style;
use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::Reading;
use crate::{
    baseline::{
        Model,
        diff::{Side, diff},
        document::Document,
        evidence::Breadth,
    },
    cli::{
        render::{self, BAD, GOOD, Table},
        role::Output,
    },
};

/// Show what is usual in one baseline and not in the other.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A role of the store, or an exported file that holds one role
    #[arg(value_name = "ROLE|FILE")]
    a: String,
    /// Another
    #[arg(value_name = "ROLE|FILE")]
    b: String,
    #[command(flatten)]
    reading: Reading,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let (a, b) = (model(args, &args.a)?, model(args, &args.b)?);
    let all = diff(&a, &b, &args.reading.support.support());
    if args.reading.output == Output::Json {
        anstream::println!("{}", json!(all));
        return Ok(ExitCode::SUCCESS);
    }
    if all.is_empty() {
        anstream::println!("the same is usual in both");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::with_headings(&["", "IN A", "IN B", "BEHAVIOUR"]);
    for one in &all {
        let (style, sign) = if one.usual_in == Side::A { (BAD, "-") } else { (GOOD, "+") };
        table.row([
            (style, sign.to_owned()),
            (Style::new(), breadth(one.in_a)),
            (Style::new(), breadth(one.in_b)),
            (style, render::harmless(&one.behaviour.to_string())),
        ]);
    }
    anstream::print!("{}", table.render(render::line_width()));
    Ok(ExitCode::SUCCESS)
}

fn breadth(breadth: Option<Breadth>) -> String {
    breadth.map_or_else(|| "never".to_owned(), |b| format!("{} by {} on {} d", b.count, b.instances, b.days))
}

fn model(args: &Args, name: &str) -> Result<Model> {
    if !Path::new(name).is_file() {
        let (_, baselines) = super::load(&args.reading.at.store)?;
        return Ok(super::role(&baselines, name)?.clone());
    }
    let text = std::fs::read_to_string(name).with_context(|| format!("read {name}"))?;
    let mut all = text.lines().filter(|line| !line.trim().is_empty());
    let (Some(line), None) = (all.next(), all.next()) else {
        bail!(
            "{name} does not hold exactly one role (export one with `chaperone baseline export --role NAME`)"
        );
    };
    let (_, model) = Document::parse(line).map_err(anyhow::Error::msg).with_context(|| name.to_owned())?;
    Ok(model)
}
