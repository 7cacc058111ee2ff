//! Who is who.

pub mod registry;
