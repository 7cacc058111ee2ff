//! A role's baseline as one JSON document, which other hosts can take in: `kind: Baseline`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    behaviour::Behaviour,
    content::Content,
    evidence::{By, Entry, Evidence},
    learn::{Model, Source, Stay, Tally},
};
use crate::event::{
    Name,
    word::{InstanceId, Time},
};

/// The document.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    api_version: String,
    kind: String,
    pub metadata: Metadata,
    spec: Spec,
}

/// Whose it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metadata {
    /// The role.
    pub name: Name,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    /// Of this document's form.
    version: u32,
    tally: Tally,
    sources: Vec<Source>,
    roster: Vec<Resident>,
    #[serde(default)]
    contents: Contents,
    behaviours: Vec<Row>,
}

/// A source, an instance, and from when to when.
pub type Resident = (u32, InstanceId, Time, Time);
/// Contents of executables, with what showed them.
pub type Contents = BTreeMap<Name, Vec<(Content, Shown)>>;
/// A day, a source, an instance, and how often.
pub type Pair = (u32, u32, InstanceId, u64);

/// Evidence as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shown {
    pub first: Time,
    pub last: Time,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rest: u64,
    pub by: Vec<Pair>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    behaviour: Behaviour,
    #[serde(flatten)]
    shown: Shown,
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

impl From<&Evidence> for Shown {
    fn from(evidence: &Evidence) -> Self {
        let pair = |entry: &Entry| (entry.day, entry.by.source, entry.by.instance, entry.count);
        let by = evidence.entries.iter().map(pair).collect();
        Self { first: evidence.first, last: evidence.last, rest: evidence.rest, by }
    }
}

impl From<Shown> for Evidence {
    fn from(shown: Shown) -> Self {
        let entry = |(day, source, instance, count)| Entry { day, by: By { source, instance }, count };
        let mut entries: Vec<Entry> = shown.by.into_iter().map(entry).collect();
        entries.sort_unstable();
        Self { first: shown.first, last: shown.last, entries, rest: shown.rest, changed: false }
    }
}

/// The instances that a model remembers.
#[must_use]
pub fn residents(model: &Model) -> Vec<Resident> {
    model.roster.iter().map(|(by, stay)| (by.source, by.instance, stay.first, stay.last)).collect()
}

/// Contents as they are stored.
#[must_use]
pub fn contents(model: &Model) -> Contents {
    let one = |(content, evidence): &(Content, Evidence)| (content.clone(), Shown::from(evidence));
    model.contents().iter().map(|(exe, all)| (exe.clone(), all.iter().map(one).collect())).collect()
}

/// A model of these parts, without behaviours.
#[must_use]
pub fn frame(tally: Tally, sources: Vec<Source>, roster: Vec<Resident>, contents: Contents) -> Model {
    let mut model = Model::default();
    (model.tally, model.sources) = (tally, sources);
    for (source, instance, first, last) in roster {
        model.roster.insert(By { source, instance }, Stay { first, last });
    }
    for (exe, all) in contents {
        model.put_contents(exe, all.into_iter().map(|(content, shown)| (content, shown.into())).collect());
    }
    model
}

impl Document {
    /// A role's baseline as a document.
    #[must_use]
    pub fn of(role: &Name, model: &Model) -> Self {
        let row = |(behaviour, evidence): (&Behaviour, &Evidence)| Row {
            behaviour: behaviour.clone(),
            shown: evidence.into(),
        };
        Self {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            metadata: Metadata { name: role.clone() },
            spec: Spec {
                version: VERSION,
                tally: model.tally.clone(),
                sources: model.sources.clone(),
                roster: residents(model),
                contents: contents(model),
                behaviours: model.behaviours().map(row).collect(),
            },
        }
    }

    /// Reads a document; the error says what is wrong and what to do.
    pub fn parse(text: &str) -> Result<(Name, Model), String> {
        let head: Head = serde_json::from_str(text).map_err(|error| {
            format!("not a baseline: {error} (make one with `chaperone baseline export`)")
        })?;
        if head.api_version != API_VERSION || head.kind != KIND {
            return Err(format!("not a baseline: it is of kind {}, {}", head.kind, head.api_version));
        }
        if head.spec.version > VERSION {
            return Err(format!(
                "a baseline of form {}, and this version reads up to {VERSION} (upgrade Chaperone here)",
                head.spec.version
            ));
        }
        let document: Self =
            serde_json::from_str(text).map_err(|error| format!("not a baseline: {error}"))?;
        let Spec { tally, sources, roster, contents, behaviours, .. } = document.spec;
        let mut model = frame(tally, sources, roster, contents);
        for row in behaviours {
            model.put(row.behaviour, row.shown.into());
        }
        Ok((document.metadata.name, model))
    }
}

/// As much as tells whether the rest can be read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    api_version: String,
    kind: String,
    spec: HeadSpec,
}

#[derive(Deserialize)]
struct HeadSpec {
    version: u32,
}

const API_VERSION: &str = "chaperone/v1";
const KIND: &str = "Baseline";
const VERSION: u32 = 1;
