//! `chaperone baseline diff`: what is usual for one role, or on one host, and not for another.

use std::{collections::BTreeSet, path::Path, process::ExitCode};

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
    config::document::RuleSpec,
};

/// Show what is usual in one baseline and not in the other, or what two promotions allow.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A role of the store, an exported file that holds one role, or a version of what was promoted: ROLE@VERSION
    #[arg(value_name = "ROLE|FILE|ROLE@VERSION")]
    a: String,
    /// Another of the same kind
    #[arg(value_name = "ROLE|FILE|ROLE@VERSION")]
    b: String,
    #[command(flatten)]
    reading: Reading,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    match (version(&args.a), version(&args.b)) {
        (Some(a), Some(b)) => return promotions(args, a, b),
        (None, None) => {}
        _ => bail!("one is a version of what was promoted, and the other is not"),
    }
    let (a, b) = (model(args, &args.a)?, model(args, &args.b)?);
    let all = diff(&a, &b, &args.reading.support());
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

/// Role and version of `ROLE@VERSION`, where no file is called so.
fn version(name: &str) -> Option<(&str, u32)> {
    let (role, version) = name.rsplit_once('@').filter(|_| !Path::new(name).is_file())?;
    Some((role, version.parse().ok()?))
}

fn promotions(args: &Args, a: (&str, u32), b: (&str, u32)) -> Result<ExitCode> {
    let state_dir = args.reading.at.settings().state_dir;
    let rules = |(role, version): (&str, u32)| -> Result<BTreeSet<String>> {
        let (_, document) = super::versions::document(&state_dir, role, version)?;
        let protocol = |rule: &RuleSpec| {
            rule.protocol.as_ref().map(|p| format!(" {}", p.value.name())).unwrap_or_default()
        };
        let rules = document.spec.rules.iter().map(|rule| format!("{}{}", rule.to.value, protocol(rule)));
        let names = document.spec.names.iter().map(|rule| format!("asking for {}", rule.name.value));
        Ok(rules.chain(names).collect())
    };
    let (a, b) = (rules(a)?, rules(b)?);
    let (gone, new): (Vec<_>, Vec<_>) = (a.difference(&b).collect(), b.difference(&a).collect());
    if args.reading.output == Output::Json {
        anstream::println!("{}", json!({ "only_in_a": gone, "only_in_b": new }));
        return Ok(ExitCode::SUCCESS);
    }
    if gone.is_empty() && new.is_empty() {
        anstream::println!("both allow the same");
    }
    for (style, sign, rules) in [(BAD, "-", gone), (GOOD, "+", new)] {
        for rule in rules {
            anstream::println!("{style}{sign} {}{style:#}", render::harmless(rule));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn breadth(breadth: Option<Breadth>) -> String {
    breadth.map_or_else(|| "never".to_owned(), |b| format!("{} by {} on {} d", b.count, b.instances, b.days))
}

fn model(args: &Args, name: &str) -> Result<Model> {
    if !Path::new(name).is_file() {
        let (_, baselines) = args.reading.at.load()?;
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
