//! The small values of an event: words of a vocabulary, evidence, ids, time; each with its one text form.

mod id;
mod time;

use std::{borrow::Cow, fmt};

use agent_common::{
    event::{
        net::{Op, Place},
        spoken::Finding,
    },
    identity::{Origin, Recognised, evidence},
    rule::{Class, Mode},
    spoken::Protocol,
    verdict::{Source, Verdict},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::AgentState;

pub(crate) use self::id::hex;
pub use self::{
    id::{ExecId, InstanceId},
    time::Time,
};

/// A closed list of words that the kernel side sends as raw numbers.
pub trait Vocabulary: Copy + PartialEq + 'static {
    const NAME: &'static str;
    const WORDS: &'static [Self];
    fn word(self) -> &'static str;
    fn from_number(raw: u8) -> Option<Self>;
}

macro_rules! vocabularies {
    ($($t:ident)*) => {$(
        impl Vocabulary for $t {
            const NAME: &'static str = stringify!($t);
            const WORDS: &'static [Self] = $t::ALL;
            fn word(self) -> &'static str { self.name() }
            fn from_number(raw: u8) -> Option<Self> { $t::from_raw(raw) }
        }
    )*};
}
vocabularies!(Origin Recognised Verdict Source Place Op Class Mode AgentState Finding Protocol);

/// A word, or `unknown` for a number that this build has no word for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word<V>(Option<V>);

impl<V: Vocabulary> Word<V> {
    /// The word with this raw number.
    #[must_use]
    pub fn from_raw(raw: u8) -> Self {
        Self(V::from_number(raw))
    }

    /// The value, unless it is unknown.
    #[must_use]
    pub fn known(self) -> Option<V> {
        self.0
    }

    /// The word as text.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.map_or(UNKNOWN, V::word)
    }
}

impl<V> Default for Word<V> {
    fn default() -> Self {
        Self(None)
    }
}

impl<V> From<V> for Word<V> {
    fn from(value: V) -> Self {
        Self(Some(value))
    }
}

impl<V: Vocabulary> fmt::Display for Word<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl<V: Vocabulary> Serialize for Word<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de, V: Vocabulary> Deserialize<'de> for Word<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Ok(Self(V::WORDS.iter().copied().find(|w| w.word() == text)))
    }
}

impl<V: Vocabulary> JsonSchema for Word<V> {
    fn schema_name() -> Cow<'static, str> {
        V::NAME.into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut words: Vec<&str> = V::WORDS.iter().map(|w| w.word()).collect();
        if !words.contains(&UNKNOWN) {
            words.push(UNKNOWN);
        }
        json_schema!({ "type": "string", "enum": words })
    }
}

/// Said where the daemon does not know; matches nothing.
pub const UNKNOWN: &str = "unknown";

/// Why a process has its origin: bits of [`evidence`], shown as a list of words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence(pub u16);

impl Evidence {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    /// The words of the bits that are set.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        evidence::NAMES.iter().filter(move |(bit, _)| self.0 & bit != 0).map(|(_, name)| *name)
    }
}

impl Serialize for Evidence {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.words())
    }
}

impl<'de> Deserialize<'de> for Evidence {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = Vec::<Cow<str>>::deserialize(deserializer)?;
        let bit =
            |word: &str| evidence::NAMES.iter().find(|(_, name)| *name == word).map_or(0, |(bit, _)| *bit);
        Ok(Self(words.iter().fold(0, |bits, word| bits | bit(word))))
    }
}

impl JsonSchema for Evidence {
    fn schema_name() -> Cow<'static, str> {
        "Evidence".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let words: Vec<&str> = evidence::NAMES.iter().map(|(_, name)| *name).collect();
        json_schema!({ "type": "array", "items": { "type": "string", "enum": words } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_evidence_come_back_from_their_text() {
        let id = InstanceId(0x0001_0000_0000_0042);
        assert_eq!(id.to_string(), "i-0001000000000042");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("x-12".parse::<InstanceId>().is_err());
        let both = Evidence(evidence::LINEAGE | evidence::TERMINAL);
        let json = serde_json::to_string(&both).unwrap();
        assert_eq!(json, r#"["lineage","terminal"]"#);
        assert_eq!(serde_json::from_str::<Evidence>(&json).unwrap(), both);
    }

    #[test]
    fn a_number_without_a_word_is_unknown() {
        assert_eq!(Word::<Verdict>::from_raw(77).name(), "unknown");
        assert_eq!(serde_json::from_str::<Word<Verdict>>("\"deny\"").unwrap().known(), Some(Verdict::Deny));
    }
}
