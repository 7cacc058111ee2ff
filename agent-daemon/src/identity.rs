//! Who is who.

pub mod catalogue;
pub mod channel;
pub mod discovery;
pub mod identified;
pub mod lineage;
pub mod naming;
pub mod patterns;
pub mod registry;
