//! The hook families.

pub mod names;
pub mod net;
pub mod process;
