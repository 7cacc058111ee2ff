//! A promotion: shown with its dry run, and put in force by the daemon where that is asked for.

use std::process::ExitCode;

use anyhow::Result;
use serde_json::json;

use super::{Args, document, judge, report};
use crate::{
    baseline::promote::Promotion,
    cli::{block_on, role::Output},
    config::{
        Documents,
        document::{Rest, RoleDocument},
        problem::Problems,
    },
    control::{
        api::{Promote, Promoted},
        client,
    },
    policy::{self, table::Table},
};

/// Shows it, and applies it.
pub fn run(
    args: &Args,
    proposed: &Promotion,
    (role, there, before): (&RoleDocument, &Documents, &Table),
) -> Result<ExitCode> {
    let written = document::promotion(&document::Wish {
        role: &args.role,
        before: Some((role, before)),
        mode: None,
        default: Rest::Baseline.name(),
        proposed,
        instances: 0,
    });
    let dry_run = judge::judge(args, &with(there, &args.role, &written.text)?)?;
    if let Some(path) = &args.to {
        super::write(path, &written.text)?;
    }
    let text = args.reading.output == Output::Text;
    if text && args.to.is_none() {
        anstream::print!("{}", written.text);
    }
    if text {
        anstream::eprint!("{}", report::for_people(&written, proposed, dry_run.as_ref()));
    }
    let applied = args.apply.then(|| apply(args, &written.text)).transpose()?;
    if !text {
        let report = json!({
            "document": written.text, "added": written.added, "proposed": proposed, "dry_run": dry_run, "applied": applied
        });
        anstream::println!("{report}");
        return Ok(ExitCode::SUCCESS);
    }
    match &applied {
        Some(Promoted { version: Some(version), version_before, .. }) => {
            let before = version_before.map_or_else(|| "none".to_owned(), |before| before.to_string());
            anstream::eprintln!(
                "version {version} is in force for role {} (before: {before}; `chaperone baseline rollback --role {}` takes \
                 it back)",
                args.role,
                args.role
            );
        }
        _ => anstream::eprintln!("nothing is changed: --apply puts it in force"),
    }
    Ok(ExitCode::SUCCESS)
}

/// The table with this promotion in force.
fn with(there: &Documents, role: &str, text: &str) -> Result<Table> {
    let (mut documents, mut found) = (there.clone(), Problems::default());
    documents.promotions.retain(|promotion| promotion.metadata.name.value != role);
    documents.add("the promotion", text, &mut found);
    policy::build(&documents, found).map(|(_, table)| table).map_err(|Problems(all)| {
        let all: Vec<String> = all.iter().map(|p| p.for_people(false)).collect();
        anyhow::anyhow!("the promotion cannot be put in force:\n{}", all.join("\n"))
    })
}

fn apply(args: &Args, document: &str) -> Result<Promoted> {
    let wanted = Promote { role: args.role.clone(), document: document.to_owned() };
    Ok(block_on(client::ask(&args.reading.at.place.control_socket(), "/v1/baseline/promote", &wanted))??)
}
