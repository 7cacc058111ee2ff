//! `chaperone baseline versions` and `rollback`: what was promoted, and an earlier version in force again.

use std::{path::Path, process::ExitCode};

use anstyle::Style;
use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{
    cli::{
        Place, block_on,
        render::{self, BOLD, DIM, GOOD, Table},
        role::Output,
    },
    config::{Documents, document::PromotionDocument, problem::Problems, promoted},
    control::{
        api::{Promoted, RollBack},
        client,
    },
};

/// Show what was promoted of a role's baseline, and which version is in force.
#[derive(Debug, clap::Args)]
pub struct Versions {
    /// The role
    #[arg(long, value_name = "NAME")]
    role: String,
    #[command(flatten)]
    place: Place,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Put an earlier version of a promotion in force again.
#[derive(Debug, clap::Args)]
pub struct Rollback {
    /// The role
    #[arg(long, value_name = "NAME")]
    role: String,
    /// The version; 0 for none. Without it the one before
    #[arg(long, value_name = "VERSION")]
    to: Option<u32>,
    #[command(flatten)]
    place: Place,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// One version, for `versions`.
#[derive(Debug, Serialize)]
struct Version {
    version: u32,
    in_force: bool,
    rules: usize,
    names: usize,
    /// When and by whom, as its first line says.
    promoted: String,
}

/// Runs `versions`.
pub fn versions(args: &Versions) -> Result<ExitCode> {
    let state_dir = args.place.settings().unwrap_or_default().state_dir;
    let current = promoted::in_force(&state_dir, &args.role).with_context(|| unreadable(&state_dir))?;
    let mut all = Vec::new();
    for version in promoted::versions(&state_dir, &args.role).with_context(|| unreadable(&state_dir))? {
        let (text, document) = document(&state_dir, &args.role, version)?;
        let head = text.lines().next().unwrap_or_default();
        all.push(Version {
            version,
            in_force: current == Some(version),
            rules: document.spec.rules.len(),
            names: document.spec.names.len(),
            promoted: head.trim_start_matches("# Promoted ").trim_end_matches('.').to_owned(),
        });
    }
    if args.output == Output::Json {
        anstream::println!("{}", serde_json::to_string(&all)?);
        return Ok(ExitCode::SUCCESS);
    }
    if all.is_empty() {
        anstream::println!(
            "nothing of role {} was promoted (`chaperone baseline promote --apply`)",
            args.role
        );
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::with_headings(&["VERSION", "", "RULES", "NAMES", "PROMOTED"]);
    for one in &all {
        let (style, mark) = if one.in_force { (GOOD, "in force") } else { (Style::new(), "") };
        table.row([
            (BOLD, one.version.to_string()),
            (style, mark.to_owned()),
            (Style::new(), one.rules.to_string()),
            (Style::new(), one.names.to_string()),
            (DIM, render::harmless(&one.promoted)),
        ]);
    }
    anstream::print!("{}", table.render(render::line_width()));
    if current.is_none() {
        anstream::println!("none is in force");
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `rollback`.
pub fn rollback(args: &Rollback) -> Result<ExitCode> {
    let wanted = RollBack { role: args.role.clone(), to: args.to };
    let done: Promoted =
        block_on(client::ask(&args.place.control_socket(), "/v1/baseline/rollback", &wanted))??;
    let number = |version: Option<u32>| version.map_or_else(|| "none".to_owned(), |v| format!("version {v}"));
    match args.output {
        Output::Json => anstream::println!("{}", serde_json::to_string(&done)?),
        Output::Text => anstream::println!(
            "in force for role {}: {} (before: {})",
            done.role,
            number(done.version),
            number(done.version_before)
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// A version as it is kept.
pub fn document(state_dir: &Path, role: &str, version: u32) -> Result<(String, PromotionDocument)> {
    let what = || format!("version {version} of role {role} in {}", state_dir.display());
    let text = promoted::read(state_dir, role, version).with_context(what)?;
    let (mut documents, mut found) = (Documents::default(), Problems::default());
    documents.add(&what(), &text, &mut found);
    let one = documents.promotions.pop().filter(|_| found.0.is_empty());
    Ok((text, one.with_context(|| format!("{}: this is no promotion", what()))?))
}

fn unreadable(state_dir: &Path) -> String {
    format!("read what was promoted in {}", state_dir.display())
}
