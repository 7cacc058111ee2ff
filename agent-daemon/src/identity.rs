//! Who is who.

pub mod discovery;
pub mod identified;
pub mod lineage;
pub mod naming;
pub mod registry;
