//! What agents may reach: from documents to the kernel's tables, and back to words. Pure.

pub mod address;
pub mod compile;
mod draft;
pub mod dry_run;
pub mod explain;
pub mod host;
pub mod lookup;
pub mod number;
mod own;
pub mod parse;
pub mod table;

use crate::{
    config::{Documents, problem::Problems},
    identity::registry::Registry,
};
use table::Table;

/// Registry and table of all that was read, or everything that is wrong with it: what a reload and `role check` do.
/// `found` is what reading the files already brought up.
pub fn build(documents: &Documents, found: Problems) -> Result<(Registry, Table), Problems> {
    let mut problems = found;
    let mut keep = |result: Result<(), Problems>| result.unwrap_or_else(|more| problems.extend(more));
    let (mut registry, mut table) = (None, None);
    keep(Registry::new(documents).map(|value| registry = Some(value)));
    keep(compile::compile(documents).map(|value| table = Some(value)));
    problems.settle((), &documents.texts)?;
    Ok((registry.unwrap_or_default(), table.unwrap_or_default()))
}
