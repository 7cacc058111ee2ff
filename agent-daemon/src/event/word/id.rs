//! Ids of instances and program images: a letter and sixteen hexadecimal digits.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

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
