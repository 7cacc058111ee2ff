//! The proof: what runs inside guests, and on this host within cgroups of its own, to see that Chaperone holds.
//!
//! # Layout
//! - [`act`] the actors: every way of sending, every shape of birth, and the receiver at the other end
//! - [`sink`] the other end of an HTTP sink
//! - [`harness`] a daemon with a configuration, its events, and what processes are labelled
//! - [`agents`] programs that people run, by a scripted model
//! - [`guest`] the cases, one file per family; [`case`] how they are run and told
//! - [`power`] one life of a guest whose power is cut
//! - [`bench`] what is measured; [`demo`] what is shown

pub mod act;
pub mod agents;
pub mod bench;
pub mod case;
pub mod demo;
pub mod guest;
pub mod harness;
pub mod power;
pub mod sink;
