//! The net family.

use crate::{case::Case, guest::Shared};

pub const CASES: &[Case<Shared>] = &[];
pub const HOST_CASES: &[Case<()>] = &[];
