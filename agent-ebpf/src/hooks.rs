//! The hook families.

pub mod net;
pub mod process;
