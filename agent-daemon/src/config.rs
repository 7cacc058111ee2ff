//! Configuration: the daemon's settings, and the documents that people write, as files hold them.
//!
//! Reading never stops at the first mistake: whatever is wrong is collected in [`problem::Problems`], each with file,
//! line, column and remedy. What documents mean is for [`crate::identity::registry`] and [`crate::policy`] to say.

pub mod document;
pub mod fields;
pub mod files;
pub mod kept;
pub mod problem;
pub mod promoted;
pub mod reaction;
pub mod read;
pub mod schema;
pub mod settings;
pub mod sinks;
pub mod yaml;

pub use files::Documents;
pub use settings::{Arguments, Config, Record, Recorded};
