//! One subject's story from recorded events: the tree of processes as it grew, with all that they did.
//!
//! Pure: lines in, a bounded tree out. [`find`] says which instances a subject belongs to, [`grow`] makes the tree of
//! their events, [`view`] chooses what fits on a screen. Each is one pass over the events; a [`Pass`] names texts that a
//! line must hold to be worth parsing.

mod act;
pub mod find;
pub mod grow;
pub mod needles;
pub mod view;
pub mod wanted;

pub use self::{
    find::{Finder, Found},
    grow::{Grower, Mark, Node, NodeKind, Trail},
    wanted::Wanted,
};

/// One way through the events, in their order.
pub trait Pass {
    /// Where in a block of whole lines the next line may be that concerns it: any byte of that line.
    fn next(&self, block: &[u8]) -> Option<usize>;
    /// Takes such a line, without its end.
    fn line(&mut self, line: &[u8]);
}

/// The JSON Schema of `chaperone trail -o json`.
#[must_use]
pub fn schema() -> serde_json::Value {
    let generator = schemars::generate::SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Trail>().to_value();
    schema["title"] = "Chaperone trail".into();
    schema
}
