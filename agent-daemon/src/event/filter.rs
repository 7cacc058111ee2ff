//! Which events somebody wants to see: the same words for the command line, the control socket and the event file.

use agent_common::{identity::Origin, verdict::Verdict};

use super::{
    Event, Kind,
    word::{InstanceId, Time, Vocabulary},
};

/// Every field that is set must match; an empty filter matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    pub agent: Option<String>,
    pub role: Option<String>,
    pub origin: Option<Origin>,
    /// Kinds, or beginnings of them up to an underscore: `net`, `process`; all where there is none.
    pub kinds: Vec<String>,
    pub verdict: Option<Verdict>,
    pub instance: Option<InstanceId>,
    pub since: Option<Time>,
}

impl Filter {
    /// Sets the field of this name, as queries and options call it.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "agent" => self.agent = Some(value.to_owned()),
            "role" => self.role = Some(value.to_owned()),
            "origin" => self.origin = Some(word(name, value)?),
            "kind" => self.kinds = value.split(',').map(kind).collect::<Result<_, _>>()?,
            "verdict" => self.verdict = Some(word(name, value)?),
            "instance" => self.instance = Some(value.parse()?),
            "since" => self.since = Some(value.parse()?),
            _ => return Err(format!("`{name}` is not a filter; there are {}", FIELDS.join(", "))),
        }
        Ok(())
    }

    /// From a query string: `agent=a&kind=net`.
    pub fn from_query(query: &str) -> Result<Self, String> {
        let mut filter = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or_else(|| format!("`{pair}` is not name=value"))?;
            filter.set(name, &unescape(value)?)?;
        }
        Ok(filter)
    }

    /// As a query string.
    #[must_use]
    pub fn to_query(&self) -> String {
        let fields = [
            ("agent", self.agent.clone()),
            ("role", self.role.clone()),
            ("origin", self.origin.map(|o| o.name().to_owned())),
            ("kind", Some(self.kinds.join(",")).filter(|kinds| !kinds.is_empty())),
            ("verdict", self.verdict.map(|v| v.name().to_owned())),
            ("instance", self.instance.map(|i| i.to_string())),
            ("since", self.since.map(|t| t.to_string())),
        ];
        let pairs: Vec<String> = fields
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", escape(&value?))))
            .collect();
        pairs.join("&")
    }

    /// Whether the event is one of those wanted.
    #[must_use]
    pub fn matches(&self, event: &Event) -> bool {
        let subject = event.subject.as_ref();
        let is =
            |wanted: &Option<String>, name: Option<&str>| wanted.as_deref().is_none_or(|w| name == Some(w));
        is(&self.agent, subject.and_then(|s| s.agent.as_deref()))
            && is(&self.role, subject.and_then(|s| s.role.as_deref()))
            && self.origin.is_none_or(|origin| event.origin() == Some(origin))
            && (self.kinds.is_empty() || self.kinds.iter().any(|kind| is_of_kind(event.kind, kind)))
            && self.verdict.is_none_or(|verdict| event.verdict.and_then(|v| v.known()) == Some(verdict))
            && self.instance.is_none_or(|id| subject.and_then(|s| s.instance) == Some(id))
            && self.since.is_none_or(|since| event.time >= since)
    }
}

/// Whether a kind is the one that is wanted, or begins so up to an underscore.
#[must_use]
pub fn is_of_kind(kind: Kind, wanted: &str) -> bool {
    let rest = kind.name().strip_prefix(wanted);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// Every kind, and every beginning of one that [`is_of_kind`] takes.
#[must_use]
pub fn kinds() -> Vec<&'static str> {
    let mut kinds: Vec<&str> = Kind::ALL
        .iter()
        .flat_map(|(_, name)| name.match_indices('_').map(|(at, _)| &name[..at]).chain([*name]))
        .collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

fn kind(value: &str) -> Result<String, String> {
    if Kind::ALL.iter().any(|(kind, _)| is_of_kind(*kind, value)) {
        return Ok(value.to_owned());
    }
    let names: Vec<&str> = Kind::ALL.iter().map(|(_, name)| *name).collect();
    Err(format!("`{value}` is not a kind of event; there are {}", names.join(", ")))
}

fn word<V: Vocabulary>(what: &str, value: &str) -> Result<V, String> {
    V::WORDS.iter().copied().find(|w| w.word() == value).ok_or_else(|| {
        let words: Vec<&str> = V::WORDS.iter().map(|w| w.word()).collect();
        format!("`{value}` is no {what}; there are {}", words.join(", "))
    })
}

fn escape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b':' => {
                out.push(char::from(byte))
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn unescape(value: &str) -> Result<String, String> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (digit(bytes.next()), digit(bytes.next())) {
            (Some(high), Some(low)) => out.push((high * 16 + low) as u8),
            _ => return Err(format!("`{value}` has a broken percent escape")),
        }
    }
    String::from_utf8(out).map_err(|_| format!("`{value}` is not UTF-8"))
}

/// Names of the fields.
pub const FIELDS: &[&str] = &["agent", "role", "origin", "kind", "verdict", "instance", "since"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Subject;

    fn event() -> Event {
        let subject = Subject {
            origin: Origin::Agent.into(),
            agent: Some("a b".into()),
            instance: InstanceId::some(7),
            ..Subject::default()
        };
        let verdict = Some(Verdict::Deny.into());
        Event {
            time: Time(1_000),
            kind: Kind::NetConnect,
            verdict,
            subject: Some(subject),
            ..Event::default()
        }
    }

    #[test]
    fn every_field_that_is_set_must_match() {
        for (query, expected) in [
            ("", true),
            ("agent=a%20b", true),
            ("agent=a", false),
            ("origin=agent&kind=net&verdict=deny", true),
            ("kind=net_connect", true),
            ("kind=net_send", false),
            ("kind=finding,net", true),
            ("kind=finding,process", false),
            ("verdict=allow", false),
            ("instance=i-0000000000000007", true),
            ("role=r", false),
            ("since=1970-01-01T00:00:00.000001Z", true),
            ("since=1970-01-01T00:00:01Z", false),
        ] {
            let filter = Filter::from_query(query).unwrap();
            assert_eq!(filter.matches(&event()), expected, "{query}");
            assert_eq!(Filter::from_query(&filter.to_query()).unwrap(), filter);
        }
    }

    #[test]
    fn a_wrong_filter_says_what_there_is() {
        for (query, part) in [
            ("kind=nett", "net_connect"),
            ("kind=net,nett", "`nett`"),
            ("origin=x", "human"),
            ("who=x", "agent"),
            ("agent", "="),
        ] {
            assert!(Filter::from_query(query).unwrap_err().contains(part), "{query}");
        }
        assert!(Filter::from_query("agent=%zz").is_err());
    }
}
