//! The role's file: what it has, then what is usual, each rule with what speaks for it.

use std::fmt::Write as _;

use serde::Serialize;

use crate::{
    baseline::promote::{Promotion, Proposed},
    config::document::{Answer, Protocol, Rest, RoleDocument},
    policy::{
        explain::{Act, explain},
        host::HostName,
        parse::{self, Target},
        table::Table,
    },
};
use agent_common::verdict::Source;

/// What is to be written.
pub struct Wish<'a> {
    pub role: &'a str,
    /// The role as it is, with the table that it is in.
    pub before: Option<(&'a RoleDocument, &'a Table)>,
    pub mode: Option<&'a str>,
    pub default: &'a str,
    pub proposed: &'a Promotion,
    pub instances: u64,
}

/// What was written.
pub struct Written {
    pub text: String,
    /// Rules that the role did not have.
    pub added: usize,
    /// Those that it has already, in this form or another, or has decided otherwise.
    pub had: usize,
    /// What cannot be a rule, and why.
    pub cannot: Vec<(String, String)>,
}

/// Writes the file.
pub fn write(wish: &Wish<'_>) -> Written {
    let mut written = Written { text: String::new(), added: 0, had: 0, cannot: Vec::new() };
    let spec = wish.before.map(|(role, _)| &role.spec);
    let mode = wish.mode.or(spec.map(|spec| spec.mode.name())).unwrap_or("alert");
    let mut text = format!(
        "# What {} instances usually did. Read it, change it, and put it below roles/ to have it in force.\napiVersion: \
         chaperone/v1\nkind: Role\nmetadata:\n  name: {}\n",
        wish.instances, wish.role
    );
    let labels = wish.before.map(|(role, _)| &role.metadata.labels).filter(|labels| !labels.is_empty());
    if let Some(labels) = labels {
        let _ = writeln!(text, "  labels: {}", inline(labels));
    }
    text.push_str("spec:\n");
    if let Some(description) = spec.and_then(|spec| spec.description.as_ref()) {
        let _ = writeln!(text, "  description: {}", inline(description));
    }
    let _ = writeln!(text, "  mode: {mode}\n  network:\n    default: {}", wish.default);
    if let Some(spec) = spec {
        if !spec.network.defaults.is_empty() {
            let _ = writeln!(text, "    defaults: {}", inline(&spec.network.defaults));
        }
        if !spec.network.spoken.is_empty() {
            let _ = writeln!(text, "    spoken: {}", inline(&spec.network.spoken));
        }
    }
    let had = spec.map_or(&[][..], |spec| &spec.network.rules);
    let mut rules: Vec<String> = had
        .iter()
        .map(|rule| line(&rule.to.value, rule.protocol.as_ref().map(|p| p.value.name()), rule.verdict, ""))
        .collect();
    rules.extend(endpoint_rules(wish, &mut written));
    list(&mut text, "    rules:", &rules);
    names(wish, &mut text, &mut written);
    if let Some(reactions) = spec.and_then(|spec| spec.baseline.as_ref()) {
        let _ = writeln!(text, "  baseline: {}", inline(reactions));
    }
    written.text = text;
    written
}

/// Writes what is usual as a promotion of the role.
pub fn promotion(wish: &Wish<'_>) -> Written {
    let mut written = Written { text: String::new(), added: 0, had: 0, cannot: Vec::new() };
    let mut text =
        format!("apiVersion: chaperone/v1\nkind: Promotion\nmetadata:\n  name: {}\nspec:\n", wish.role);
    let spec = wish.before.map(|(role, _)| &role.spec);
    let endpoints = spec.is_some_and(|spec| spec.network.default == Rest::Baseline);
    let rules = if endpoints { endpoint_rules(wish, &mut written) } else { Vec::new() };
    let asked = spec.and_then(|spec| spec.names.as_ref());
    let asked = asked.is_some_and(|names| names.default == Rest::Baseline);
    let names = if asked { name_rules(wish, &mut written) } else { Vec::new() };
    if rules.is_empty() {
        text += "  rules: []\n";
    }
    list(&mut text, "  rules:", &rules);
    list(&mut text, "  names:", &names);
    written.text = text;
    written
}

/// Questions: what may be reached by name may be asked for anyhow.
fn names(wish: &Wish<'_>, text: &mut String, written: &mut Written) {
    let before = wish.before.and_then(|(role, _)| role.spec.names.as_ref());
    if before.is_none() && wish.proposed.names.is_empty() {
        return;
    }
    let mut rules: Vec<String> = before
        .map_or(&[][..], |names| &names.rules)
        .iter()
        .map(|rule| format!("{{ name: {}, verdict: {} }}", inline(&rule.name.value), rule.verdict.name()))
        .collect();
    rules.extend(name_rules(wish, written));
    let default = before.map_or(wish.default, |names| names.default.name());
    let _ = writeln!(text, "  names:\n    default: {default}");
    list(text, "    rules:", &rules);
}

/// A rule for each endpoint that is usual and that the role says nothing of.
fn endpoint_rules(wish: &Wish<'_>, written: &mut Written) -> Vec<String> {
    let mut rules = Vec::new();
    for proposed in &wish.proposed.rules {
        let fault = parse::target(&proposed.to).err();
        if let Some(fault) = fault {
            written.cannot.push((proposed.to.clone(), fault.what.to_string()));
        } else if is_ruled(wish, proposed) {
            written.had += 1;
        } else {
            written.added += 1;
            rules.push(line(&proposed.to, proposed.protocol.as_deref(), Answer::Allow, &evidence(proposed)));
        }
    }
    rules
}

/// As [`endpoint_rules`], of names.
fn name_rules(wish: &Wish<'_>, written: &mut Written) -> Vec<String> {
    let mut rules = Vec::new();
    let allowed: Vec<HostName> = wish.proposed.rules.iter().filter_map(|rule| host(&rule.to)).collect();
    for proposed in &wish.proposed.names {
        match HostName::parse(&proposed.to) {
            Err(fault) => written.cannot.push((format!("name {}", proposed.to), fault.what.to_string())),
            Ok(name) if name.patterns().iter().any(|pattern| allowed.contains(pattern)) => written.had += 1,
            Ok(name) if is_asked(wish, &name) => written.had += 1,
            Ok(name) => {
                written.added += 1;
                let name = inline(&name.as_str());
                rules.push(format!("{{ name: {name}, verdict: allow }} # {}", evidence(proposed)));
            }
        }
    }
    rules
}

/// Whether a rule of the role decides it already, whatever it says: people have thought of it.
fn is_ruled(wish: &Wish<'_>, proposed: &Proposed) -> bool {
    let Some((role, table)) = wish.before else { return false };
    if role.spec.network.rules.iter().any(|rule| rule.to.value == proposed.to) {
        return true;
    }
    let protocol = proposed.protocol.as_deref().and_then(protocol);
    let act = Act::parse(&proposed.to, protocol);
    act.is_ok_and(|act| explain(table, wish.role, &act).source == Source::Rule)
}

fn is_asked(wish: &Wish<'_>, name: &HostName) -> bool {
    let Some((role, table)) = wish.before else { return false };
    role.spec.names.is_some()
        && !name.is_below()
        && explain(table, wish.role, &Act::Asking(name.clone())).source == Source::Rule
}

fn host(to: &str) -> Option<HostName> {
    match parse::target(to) {
        Ok(Target::Host { name, .. }) => Some(name),
        _ => None,
    }
}

fn protocol(name: &str) -> Option<Protocol> {
    Protocol::ALL.iter().copied().find(|protocol| protocol.name() == name)
}

fn line(to: &str, protocol: Option<&str>, verdict: Answer, evidence: &str) -> String {
    let protocol = protocol.map(|protocol| format!(", protocol: {protocol}")).unwrap_or_default();
    let evidence = if evidence.is_empty() { String::new() } else { format!(" # {evidence}") };
    format!("{{ to: {}{protocol}, verdict: {} }}{evidence}", inline(&to), verdict.name())
}

/// What speaks for a rule; on one line, whatever programs are called.
fn evidence(proposed: &Proposed) -> String {
    let by: Vec<&str> = proposed.by.iter().map(String::as_str).take(PROGRAMS_TOLD).collect();
    let more = if proposed.by.len() > by.len() { ", …" } else { "" };
    let text = format!(
        "{} acts, {} instances, {} days: {}{more}",
        proposed.acts,
        proposed.instances,
        proposed.days,
        by.join(", ")
    );
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn list(text: &mut String, head: &str, rules: &[String]) {
    if rules.is_empty() {
        return;
    }
    let _ = writeln!(text, "{head}");
    for rule in rules {
        let _ = writeln!(text, "      - {rule}");
    }
}

/// JSON is YAML, on one line and with every mark that YAML would take for its own in quotes.
fn inline(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

const PROGRAMS_TOLD: usize = 3;
