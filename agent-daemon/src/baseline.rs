//! Baselines: what a role usually does, and what differs from it.
//!
//! An event becomes an [`observation::Observation`], that in its [`context`] becomes [`behaviour::Behaviour`]s, and those
//! are learned into a role's [`learn::Model`]. No clock and no files, except in the store.
//!
//! [`watch::Watch`] is their straight line: compared before it is learned, so that what is new is found before it is known,
//! and findings of one cause joined by [`alert::Alerts`]. [`store::Changes`] are what is to be written now and then.

pub mod alert;
pub mod behaviour;
pub mod compare;
pub mod content;
pub mod context;
pub mod diff;
pub mod document;
pub mod evidence;
pub mod learn;
pub mod maturity;
pub mod observation;
pub mod promote;
pub mod replay;
pub mod severity;
pub mod store;
pub mod support;
pub mod watch;

pub use self::{
    behaviour::Behaviour,
    learn::{Baselines, Bounds, Model},
    observation::Observation,
    support::Support,
};
