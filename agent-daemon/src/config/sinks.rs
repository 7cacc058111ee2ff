//! Where events go beside the journal: `sinks` in the daemon's settings.

mod wanted;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use agent_common::verdict::Verdict;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    fields::{self, Fields},
    problem::{Problem, Problems, quoted},
    reaction::Severity,
    yaml::Node,
};
use crate::event::word::Word;

/// Sinks by name.
pub type Sinks = BTreeMap<String, Sink>;

/// One place that events are sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sink {
    /// `file:/path`, `journald:`, `syslog+udp://HOST:PORT`, `syslog+tcp://…`, `syslog+tls://…`, `http://…`, `https://…`,
    /// `otlp+http://…/v1/logs`, `otlp+https://…`, `nats://HOST:PORT`, `nats+tls://…`.
    #[schemars(with = "String")]
    pub to: Target,
    /// What events are written as.
    #[serde(default)]
    pub form: Form,
    /// Certificates (PEM) that the other end is trusted by, in place of the host's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// A file whose first line is a secret: of `http`, the key of the signature; of `nats`, `USER:PASSWORD` or a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// Of `nats`: the subject that is published to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Only events of these kinds, or whose kind begins so up to an underscore (`net`, `process`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<String>,
    /// Only events with one of these verdicts; those without a verdict are none of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verdicts: Vec<Word<Verdict>>,
    /// Only events that matter at least so much: docs/FORMATS.md.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity_min: Option<Severity>,
}

impl Sink {
    /// One that is sent everything, as it was recorded.
    #[must_use]
    pub fn new(to: Target) -> Self {
        Self {
            to,
            form: Form::default(),
            ca: None,
            secret_file: None,
            subject: None,
            kinds: Vec::new(),
            verdicts: Vec::new(),
            severity_min: None,
        }
    }
}

agent_common::vocabulary! {
    /// What events are written as: docs/FORMATS.md.
    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    pub enum Form {
        /// The event itself, as docs/EVENTS.md describes it.
        #[default]
        Json = 1 => "json",
        /// Open Cybersecurity Schema Framework, JSON.
        Ocsf = 2 => "ocsf",
        /// Elastic Common Schema, JSON.
        Ecs = 3 => "ecs",
        /// Common Event Format, one line of text.
        Cef = 4 => "cef",
    }
}

/// Which transport, and its other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    File(PathBuf),
    Journald,
    Syslog { over: Over, host: String, port: u16 },
    Http { tls: bool, host: String, port: u16, path: String, otlp: bool },
    Nats { tls: bool, host: String, port: u16 },
}

/// What syslog goes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Udp,
    Tcp,
    Tls,
}

impl Target {
    /// From its text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text == "journald:" {
            return Some(Self::Journald);
        }
        if let Some(path) = text.strip_prefix("file:") {
            return path.starts_with('/').then(|| Self::File(path.into()));
        }
        let (scheme, rest) = text.split_once("://")?;
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let with_path = matches!(scheme, "http" | "https" | "otlp+http" | "otlp+https");
        let (host, port) = authority_of(authority, default_port(scheme)?)?;
        if !with_path && !matches!(path, "" | "/") {
            return None;
        }
        let path = if path.is_empty() { "/" } else { path }.to_owned();
        Some(match scheme {
            "syslog+udp" => Self::Syslog { over: Over::Udp, host, port },
            "syslog+tcp" => Self::Syslog { over: Over::Tcp, host, port },
            "syslog+tls" => Self::Syslog { over: Over::Tls, host, port },
            "nats" => Self::Nats { tls: false, host, port },
            "nats+tls" => Self::Nats { tls: true, host, port },
            _ => Self::Http {
                tls: scheme.ends_with("https"),
                host,
                port,
                path,
                otlp: scheme.starts_with("otlp"),
            },
        })
    }

    /// The word before its address.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Journald => "journald",
            Self::Syslog { over: Over::Udp, .. } => "syslog+udp",
            Self::Syslog { over: Over::Tcp, .. } => "syslog+tcp",
            Self::Syslog { over: Over::Tls, .. } => "syslog+tls",
            Self::Http { tls: false, otlp: false, .. } => "http",
            Self::Http { tls: true, otlp: false, .. } => "https",
            Self::Http { tls: false, otlp: true, .. } => "otlp+http",
            Self::Http { tls: true, otlp: true, .. } => "otlp+https",
            Self::Nats { tls: false, .. } => "nats",
            Self::Nats { tls: true, .. } => "nats+tls",
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = self.scheme();
        match self {
            Self::File(path) => write!(f, "{scheme}:{}", path.display()),
            Self::Journald => write!(f, "{scheme}:"),
            Self::Http { host, port, path, .. } => write!(f, "{scheme}://{}{path}", authority(host, *port)),
            Self::Syslog { host, port, .. } | Self::Nats { host, port, .. } => {
                write!(f, "{scheme}://{}", authority(host, *port))
            }
        }
    }
}

impl Serialize for Target {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no sink")))
    }
}

/// A host and its port as they stand in a URI: an IPv6 address in brackets (RFC 3986, 3.2.2).
pub fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// As IANA has them: syslog-tls (RFC 5425), syslog-conn (RFC 6587), OTLP's own, NATS' own.
fn default_port(scheme: &str) -> Option<u16> {
    Some(match scheme {
        "syslog+udp" => 514,
        "syslog+tcp" => 601,
        "syslog+tls" => 6514,
        "http" => 80,
        "https" => 443,
        "otlp+http" | "otlp+https" => 4318,
        "nats" | "nats+tls" => 4222,
        _ => return None,
    })
}

fn authority_of(text: &str, default: u16) -> Option<(String, u16)> {
    // Secrets have a file of their own: settings are shown and kept.
    if text.contains('@') {
        return None;
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => text.rsplit_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Some(default), |port| port.parse().ok().filter(|port| *port > 0))?;
    let usable = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "?#/\\".contains(c));
    usable.then(|| (host.to_owned(), port))
}

/// The sinks of the settings, whose events come from this file.
pub fn sinks(node: &Node, events_file: &Path, problems: &mut Problems) -> Sinks {
    let Some(fields) = Fields::of(node, "sinks", problems) else { return Sinks::new() };
    let mut sinks = Sinks::new();
    for (name, key, value) in fields.rest() {
        let usual = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(usual) {
            let what = format!("a sink cannot be named {}", quoted(name));
            let remedy = format!("at most {NAME_BYTES_MAX} letters, digits, - and _");
            problems.push(Problem::new(&key.place, what, remedy));
            continue;
        }
        if sinks.len() >= SINKS_MAX {
            let remedy = "send to one place that passes on to others";
            problems.push(Problem::new(&key.place, format!("more than {SINKS_MAX} sinks"), remedy));
            break;
        }
        let Some(sink) = sink(value, problems) else { continue };
        if let Target::File(path) = &sink.to {
            let other = sinks.iter().find(|(_, other)| other.to == sink.to).map(|(name, _)| name);
            let taken = match other {
                Some(other) => Some(format!("is the file of the sink {other} too")),
                None => {
                    is_of_journal(path, events_file).then(|| "is one of the journal's own files".to_owned())
                }
            };
            if let Some(taken) = taken {
                let what = format!("{} {taken}", quoted(&path.display().to_string()));
                problems.push(Problem::new(&value.place, what, "write another file"));
            }
        }
        sinks.insert(name.to_owned(), sink);
    }
    sinks
}

/// Whether the journal may have a file of that name: the event file, a segment, the head, what is set aside.
fn is_of_journal(path: &Path, events_file: &Path) -> bool {
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let (name, own) = (name(path), name(events_file));
    let stem = events_file.file_stem().unwrap_or_default().to_string_lossy();
    let segment = name.strip_prefix(&*stem).and_then(|rest| rest.strip_prefix('-'));
    let is_segment = segment.and_then(|rest| rest.split_once('.')).is_some_and(|(number, _)| {
        number.len() == super::settings::SEGMENT_DIGITS && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    let beside = name == own || name.strip_prefix(&own).is_some_and(|rest| rest.starts_with('.'));
    path.parent() == events_file.parent() && (beside || is_segment)
}

fn sink(node: &Node, problems: &mut Problems) -> Option<Sink> {
    let mut fields = Fields::of(node, "a sink", problems)?;
    let to = fields.need("to").and_then(|node| {
        let text = fields::text(node, "to", problems)?;
        let target = Target::parse(&text);
        if target.is_none() {
            let remedy = "write file:/path, journald:, syslog+udp|tcp|tls://HOST:PORT, http(s)://…, otlp+http(s)://… or nats://…, \
                          without a password";
            problems.push(Problem::new(&node.place, format!("to cannot be {}", quoted(&text)), remedy));
        }
        target
    });
    let mut path = |name: &'static str| {
        fields.get(name).and_then(|node| super::settings::absolute(node, name, problems))
    };
    let (ca, secret_file) = (path("ca"), path("secret_file"));
    let form = fields.get("form").and_then(|node| {
        let words: Vec<_> = Form::ALL.iter().map(|form| (form.name(), *form)).collect();
        fields::word(node, "form", &words, problems)
    });
    let subject = fields.get("subject").and_then(|node| subject(node, problems));
    let kinds = fields.get("kinds").map(|node| wanted::kinds(node, problems));
    let verdicts = fields.get("verdicts").map(|node| wanted::verdicts(node, problems));
    let severity_min = fields.get("severity_min").and_then(|node| wanted::severity(node, problems));
    fields.finish(problems);
    let to = to?;
    if subject.is_none() && matches!(to, Target::Nats { .. }) {
        let remedy = "add subject: chaperone.events, one that a stream takes";
        problems.push(Problem::new(&node.place, "a nats sink has no subject", remedy));
    }
    let (kinds, verdicts) = (kinds.unwrap_or_default(), verdicts.unwrap_or_default());
    Some(Sink { to, form: form.unwrap_or_default(), ca, secret_file, subject, kinds, verdicts, severity_min })
}

fn subject(node: &Node, problems: &mut Problems) -> Option<String> {
    let text = fields::text(node, "subject", problems)?;
    let usable = text.split('.').all(|part| !part.is_empty()) && !text.contains([' ', '*', '>']);
    if !usable {
        let what = format!("subject cannot be {}", quoted(&text));
        problems.push(Problem::new(&node.place, what, "write one such as chaperone.events, without * and >"));
        return None;
    }
    Some(text)
}

/// Each is a task and a file of its own.
pub const SINKS_MAX: usize = 16;
const NAME_BYTES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journals_files_are_no_sinks() {
        let events_file = Path::new("/var/log/chaperone/events.ndjson");
        for name in ["events.ndjson", "events.ndjson.head", "events-00000000000000000001.ndjson.gz"] {
            assert!(is_of_journal(&events_file.with_file_name(name), events_file), "{name}");
        }
        for name in ["copy.ndjson", "events-copy.ndjson", "events-2026.ndjson", "events.ndjson2"] {
            assert!(!is_of_journal(&events_file.with_file_name(name), events_file), "{name}");
        }
        assert!(!is_of_journal(Path::new("/var/log/events.ndjson"), events_file));
    }

    #[test]
    fn targets_come_back_from_their_text() {
        for (text, whole) in [
            ("file:/var/log/x", "file:/var/log/x"),
            ("journald:", "journald:"),
            ("syslog+udp://10.0.0.1", "syslog+udp://10.0.0.1:514"),
            ("syslog+tls://[2001:db8::1]:6514", "syslog+tls://[2001:db8::1]:6514"),
            ("https://h.example.com/a?b=c", "https://h.example.com:443/a?b=c"),
            ("otlp+http://c:4318/v1/logs", "otlp+http://c:4318/v1/logs"),
            ("nats://n", "nats://n:4222"),
        ] {
            assert_eq!(Target::parse(text).unwrap().to_string(), whole);
        }
        for bad in
            ["", "file:x", "syslog://h", "http://", "http://u:p@h/", "nats://h/x", "syslog+tcp://h:0", "x"]
        {
            assert_eq!(Target::parse(bad), None, "{bad}");
        }
    }
}
