//! The small values of an event: words of a vocabulary, ids, evidence, time; each with its one text form.

use std::{borrow::Cow, fmt, str::FromStr};

use agent_common::{
    event::net::{Op, Place},
    identity::{Origin, Recognised, evidence},
    rule::{Class, Mode},
    verdict::{Source, Verdict},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

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
vocabularies!(Origin Recognised Verdict Source Place Op Class Mode);

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

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl $name {
            /// The id, or `None` for the kernel's 0.
            #[must_use]
            pub fn some(raw: u64) -> Option<Self> {
                (raw != 0).then_some(Self(raw))
            }

            fn text(self) -> [u8; 18] {
                let mut text = *concat!($prefix, "-0000000000000000").as_bytes().first_chunk::<18>()
                    .expect("a letter, a dash and sixteen digits");
                hex(self.0, &mut text[2..]);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(std::str::from_utf8(&self.text()).unwrap_or_default())
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                text.strip_prefix(concat!($prefix, "-"))
                    .and_then(|digits| u64::from_str_radix(digits, 16).ok())
                    .map(Self)
                    .ok_or_else(|| format!(
                        concat!("`{}` is not an id of the form ", $prefix, "-0001000000000042"), text))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(std::str::from_utf8(&self.text()).unwrap_or_default())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": concat!("^", $prefix, "-[0-9a-f]{16}$") })
            }
        }
    };
}

hex_id! {
    /// An agent instance: `i-` and sixteen hexadecimal digits.
    InstanceId, "i"
}
hex_id! {
    /// A program image of a process: `x-` and sixteen hexadecimal digits.
    ExecId, "x"
}

/// Writes the low digits of `value`, as many as `out` has room for.
pub(crate) fn hex(value: u64, out: &mut [u8]) {
    let mut value = value;
    for digit in out.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
}

/// A moment, in nanoseconds since 1970 (UTC); shown as RFC 3339.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl Time {
    /// Now, by the system clock.
    #[must_use]
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    /// `2026-01-31T23:59:59.123456789Z`
    fn text(self) -> [u8; 30] {
        let (seconds, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        let (days, second) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil(days);
        let mut text = *b"0000-00-00T00:00:00.000000000Z";
        decimal(year, &mut text[0..4]);
        decimal(month, &mut text[5..7]);
        decimal(day, &mut text[8..10]);
        decimal(second / 3600, &mut text[11..13]);
        decimal(second / 60 % 60, &mut text[14..16]);
        decimal(second % 60, &mut text[17..19]);
        decimal(nanos, &mut text[20..29]);
        text
    }
}

/// Year, month and day of a day counted from 1970-01-01 (Howard Hinnant's `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day_of_year - (153 * shifted + 2) / 5 + 1)
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; the inverse of [`civil`].
fn days_of(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year).saturating_sub(719_468)
}

fn decimal(value: u64, out: &mut [u8]) {
    let mut value = value;
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl FromStr for Time {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse_time(text).ok_or_else(|| format!("`{text}` is not a time of the form 2026-01-31T23:59:59Z"))
    }
}

fn parse_time(text: &str) -> Option<Time> {
    let bytes = text.as_bytes();
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if !text.ends_with('Z') || marks.iter().any(|(at, mark)| bytes.get(*at) != Some(mark)) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if year < 1970
        || !(1..=12).contains(&month)
        || !(1..=31).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
    {
        return None;
    }
    let fraction = match text.get(19..text.len() - 1)? {
        "" => 0,
        dotted => {
            let digits = dotted.strip_prefix('.').filter(|d| (1..=9).contains(&d.len()))?;
            digits.parse::<u64>().ok()? * 10_u64.pow(9 - u32::try_from(digits.len()).ok()?)
        }
    };
    let seconds = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some(Time(seconds.checked_mul(1_000_000_000)? + fraction))
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for Time {
    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_text_form_and_come_back_from_it() {
        for (nanos, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_767_225_599_999_999_999, "2025-12-31T23:59:59.999999999Z"),
            (4_102_444_800_500_000_000, "2100-01-01T00:00:00.500000000Z"),
        ] {
            assert_eq!(Time(nanos).to_string(), text);
            assert_eq!(text.parse(), Ok(Time(nanos)));
        }
        assert_eq!(
            "2026-01-31T23:59:59Z".parse::<Time>().unwrap().to_string(),
            "2026-01-31T23:59:59.000000000Z"
        );
        for bad in
            ["", "now", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00.Z", "é026-01-01T"]
        {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
    }

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
