//! JSON Schemas of the documents, generated from their types.

use schemars::{JsonSchema, generate::SchemaSettings};

use super::{
    document::{AgentDocument, PromotionDocument, RoleDocument},
    settings::DaemonDocument,
};

/// File name below docs/schema and content, for each kind of document.
#[must_use]
pub fn schemas() -> Vec<(&'static str, String)> {
    vec![
        ("agent.schema.json", schema::<AgentDocument>()),
        ("role.schema.json", schema::<RoleDocument>()),
        ("promotion.schema.json", schema::<PromotionDocument>()),
        ("daemon.schema.json", schema::<DaemonDocument>()),
    ]
}

fn schema<T: JsonSchema>() -> String {
    let schema = SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>();
    // Cannot fail: a schema is plain JSON.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}
