//! Configuration and policy, from files to verdicts: one binary, one module per subject.

#[path = "policy/errors.rs"]
mod errors;
#[path = "policy/explain.rs"]
mod explain;
#[path = "policy/files.rs"]
mod files;
#[path = "policy/fuzz.rs"]
mod fuzz;
#[path = "policy/precedence.rs"]
mod precedence;
#[path = "policy/promoted.rs"]
mod promoted;
#[path = "policy/registry.rs"]
mod registry;
#[path = "policy/shipped.rs"]
mod shipped;
#[path = "policy/table.rs"]
mod table;

use chaperone::{
    config::{Documents, problem::Problems},
    identity::registry::Registry,
    policy::{self, table::Table},
};

/// Registry and table of one text.
fn build(text: &str) -> Result<(Registry, Table), Problems> {
    let (mut documents, mut problems) = (Documents::default(), Problems::default());
    documents.add("test.yaml", text, &mut problems);
    policy::build(&documents, problems)
}

/// The table of one text without mistakes.
fn table(text: &str) -> Table {
    build(text).unwrap_or_else(|problems| panic!("{problems}")).1
}

/// A role document with these rules, one a line.
fn role(name: &str, mode: &str, network: &str) -> String {
    format!(
        "apiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: {name} }}\nspec:\n  mode: {mode}\n  network: {network}\n"
    )
}

/// An agent document with this `match` list.
fn agent(name: &str, role: &str, matches: &str) -> String {
    format!(
        "apiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: {name} }}\nspec: {{ owner: o, role: {role}, match: {matches} }}\n"
    )
}
