//! Shared by the proofs.

pub mod act;
