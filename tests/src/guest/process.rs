//! The process family: recognised before the first instruction, followed through every birth, told apart from people.

use crate::{case::Case, guest::Shared};

pub const CASES: &[Case<Shared>] = &[];
