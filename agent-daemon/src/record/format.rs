//! Events in the forms that others read: which there are, and what all of them share.
//!
//! A form takes from the event's own JSON what it has a place for ([`fields`]); the rest goes where the form keeps what
//! its schema does not know. So nothing is lost, nothing is added, and what was masked stays masked.

mod cef;
mod ecs;
mod fields;
mod ocsf;
mod words;

use super::severity::Severity;
pub use crate::config::sinks::Form;
use crate::event::{Event, Kind, Name, word::Time};

impl Form {
    /// Appends the event as one line, its end included. An event that cannot be written leaves `out` as it was.
    pub fn write(self, event: &Event, out: &mut Vec<u8>) {
        let start = out.len();
        let value = match self {
            Self::Json => return event.write_line(out),
            Self::Cef => {
                out.extend_from_slice(cef::line(event).as_bytes());
                out.push(b'\n');
                return;
            }
            Self::Ocsf => ocsf::value(event),
            Self::Ecs => ecs::value(event),
        };
        match serde_json::to_writer(&mut *out, &value) {
            Ok(()) => out.push(b'\n'),
            // A JSON value can always be written to memory.
            Err(_) => out.truncate(start),
        }
    }
}

/// The release of OCSF whose classes are written.
pub const OCSF_VERSION: &str = "1.8.0";
/// The release of ECS whose fields are written.
pub const ECS_VERSION: &str = "9.4.0";

const PRODUCT: &str = "Chaperone";
/// Of the program that writes the line: an event does not say which has recorded it.
const PRODUCT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// What tells an event from every other one of this host: `seq` alone starts anew with the daemon.
fn uid(boot_id: &str, time: Time, seq: u64) -> String {
    format!("{boot_id}-{}-{seq}", time.0)
}

/// ATT&CK technique and sub-technique of an event, where one is certain.
fn technique(event: &Event) -> Option<(String, Option<String>)> {
    let channel = (event.kind == Kind::DnsChannel).then(|| Name::from("T1071.004"));
    let id = event.finding.as_ref().and_then(|finding| finding.technique.clone()).or(channel)?;
    let sub = id.contains('.').then(|| id.to_string());
    Some((id.split('.').next().unwrap_or_default().to_owned(), sub))
}

/// The last component of a path.
fn base_name(path: &str) -> &str {
    path.rsplit('/').find(|part| !part.is_empty()).unwrap_or(path)
}

/// What names the rule of a decision: the role and the rule's place in its list.
fn rule_id(event: &Event) -> Option<String> {
    let rule = event.decision.as_ref()?.rule.as_ref()?;
    Some(format!("{}#{}", event.subject.as_ref()?.role.as_deref()?, rule.index))
}
