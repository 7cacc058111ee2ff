//! What people are told beside the file: how many rules it has, what is left out, and what would have been refused.

use std::{collections::BTreeSet, fmt::Write as _};

use anstyle::Style;

use super::document::Written;
use crate::{
    baseline::{compare::grouped, promote::Promotion},
    cli::{
        baseline::moment,
        render::{self, BOLD, DIM, Table},
    },
    event::{Name, word::InstanceId},
    policy::dry_run::{DryRun, INSTANCES_MAX},
};

/// In a few lines and a table.
pub fn for_people(written: &Written, proposed: &Promotion, run: Option<&DryRun>) -> String {
    let mut text = format!(
        "rules: {} new, {} that the role has already; seen and not usual: {}\n",
        written.added, written.had, proposed.unusual
    );
    let left = proposed.left.iter().map(|left| (left.behaviour.to_string(), left.why.to_owned()));
    let left: Vec<(String, String)> = left.chain(written.cannot.iter().cloned()).collect();
    if !left.is_empty() {
        let mut table = Table::with_headings(&["USUAL, AND NO RULE", "WHY"]);
        for (what, why) in left.iter().take(LEFT_TOLD) {
            table.row([(BOLD, render::harmless(what)), (Style::new(), why.clone())]);
        }
        text += &table.render(render::line_width());
        if left.len() > LEFT_TOLD {
            let _ = writeln!(text, "and {} more (-o json has all)", left.len() - LEFT_TOLD);
        }
    }
    if let Some(run) = run {
        text += &judged(run);
    }
    text
}

fn judged(run: &DryRun) -> String {
    let mut text =
        format!("of {} recorded acts it would have refused {}", grouped(run.acts), grouped(run.refused));
    if run.refused_before > 0 {
        let _ = write!(text, ", of them {} that were refused then too", grouped(run.refused_before));
    }
    if run.unjudged > 0 {
        let _ = write!(text, "; {} cannot be judged from a record", grouped(run.unjudged));
    }
    text.push('\n');
    if run.targets.is_empty() {
        return text;
    }
    let mut all: Vec<_> = run.targets.iter().collect();
    all.sort_by_key(|(_, refusal)| (std::cmp::Reverse(refusal.acts), refusal.first));
    let mut table = Table::with_headings(&["WOULD BE REFUSED", "ACTS", "INSTANCES", "FIRST", "BY", "WHY"]);
    for (to, refusal) in all.iter().take(TARGETS_TOLD) {
        let more = if refusal.instances.len() >= INSTANCES_MAX { "+" } else { "" };
        table.row([
            (BOLD, render::harmless(to)),
            (Style::new(), grouped(refusal.acts)),
            (Style::new(), instances(&refusal.instances, more)),
            (DIM, moment(refusal.first)),
            (Style::new(), render::harmless(refusal.by.as_deref().unwrap_or("?"))),
            (DIM, render::harmless(&refusal.why)),
        ]);
    }
    text += &table.render(render::line_width());
    let more = all.len().saturating_sub(TARGETS_TOLD);
    if more > 0 || run.beyond > 0 {
        let beyond = if run.beyond > 0 {
            format!(", and {} acts to yet others", grouped(run.beyond))
        } else {
            String::new()
        };
        let _ = writeln!(text, "and {more} targets more (-o json has all){beyond}");
    }
    text
}

/// The number, and one or two by name.
fn instances(all: &BTreeSet<(Name, InstanceId)>, more: &str) -> String {
    let named: Vec<String> = all.iter().take(INSTANCES_NAMED).map(|(_, id)| id.to_string()).collect();
    match all.len() <= INSTANCES_NAMED && more.is_empty() {
        true => named.join(" "),
        false => format!("{}{more}: {} …", all.len(), named.join(" ")),
    }
}

const LEFT_TOLD: usize = 20;
const INSTANCES_NAMED: usize = 2;
const TARGETS_TOLD: usize = 40;
