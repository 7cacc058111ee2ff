//! An event from its line.
//!
//! serde keeps all that a flattened part may have until the end of the line, which is half of what reading costs. Here
//! the line is gone through once for each of the three parts that it has instead, which answers the same.

use agent_common::verdict::Verdict;
use memchr::memmem;
use serde::Deserialize;

use super::{
    Event, Kind, Name, Subject, Truncated, finding, journal, local, names, net, process,
    word::{Time, Word},
};

impl Event {
    /// Reads it from a line of JSON: what [`serde_json::from_slice`] answers, in a part of the time.
    ///
    /// # Errors
    /// When the line is not an event.
    pub fn read_line(line: &[u8]) -> serde_json::Result<Self> {
        let mut json = serde_json::Deserializer::from_slice(line);
        let mut event = Core::deserialize(&mut json)?;
        json.end()?;
        // A part that is there has a field that it always has.
        let has = |field: &str| memmem::find(line, field.as_bytes()).is_some();
        if has("\"origin\"") {
            event.subject = serde_json::from_slice::<Subject>(line).ok();
        }
        if has("\"argv\"") {
            event.exec = serde_json::from_slice::<process::Exec>(line).ok().map(Box::new);
        }
        Ok(event)
    }
}

/// The same fields, which the compiler holds against each other; without the flattened ones.
#[derive(Deserialize)]
#[serde(remote = "Event")]
struct Core {
    time: Time,
    seq: u64,
    kind: Kind,
    host: Name,
    boot_id: Name,
    #[serde(default)]
    verdict: Option<Word<Verdict>>,
    #[serde(skip)]
    subject: Option<Subject>,
    #[serde(skip)]
    exec: Option<Box<process::Exec>>,
    #[serde(default)]
    exit: Option<process::Exit>,
    #[serde(default)]
    fork: Option<process::Fork>,
    #[serde(default)]
    new_cgroup: Option<process::NewCgroup>,
    #[serde(default)]
    network: Option<net::Network>,
    #[serde(default)]
    unix: Option<net::Unix>,
    #[serde(default)]
    dns: Option<Box<names::Dns>>,
    #[serde(default)]
    channel: Option<Box<names::Channel>>,
    #[serde(default)]
    spoken: Option<net::Spoken>,
    #[serde(default)]
    tls: Option<net::Tls>,
    #[serde(default)]
    http: Option<net::Http>,
    #[serde(default)]
    decision: Option<net::Decision>,
    #[serde(default)]
    handed_off: Option<Name>,
    #[serde(default)]
    truncated: Vec<Truncated>,
    #[serde(default)]
    unreadable: Vec<Name>,
    #[serde(default)]
    daemon: Option<local::Daemon>,
    #[serde(default)]
    policy: Option<local::Policy>,
    #[serde(default)]
    lost: Option<local::Lost>,
    #[serde(default)]
    guarantees: Option<Box<local::Guarantees>>,
    #[serde(default)]
    program: Option<Box<process::Program>>,
    #[serde(default)]
    finding: Option<Box<finding::Finding>>,
    #[serde(default)]
    reaction: Option<Box<finding::Reaction>>,
    #[serde(default)]
    baseline: Option<Box<finding::BaselineChange>>,
    #[serde(default)]
    journal: Option<Box<journal::Opened>>,
    #[serde(default)]
    checkpoint: Option<Box<journal::Checkpoint>>,
    #[serde(default)]
    removed: Option<Box<journal::Removed>>,
    #[serde(default)]
    hash: Option<Box<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_serde_reads_it() {
        let lines = [
            include_str!("../../tests/formats/events.ndjson"),
            include_str!("../../tests/trail/morning.ndjson"),
            include_str!("../../tests/traffic/events.ndjson"),
            "{\"time\":\"2026-01-31T08:59:12.000000000Z\",\"seq\":1,\"kind\":\"process_exec\",\"host\":\"a\",\"boot_id\":\"b\",\
             \"origin\":7,\"argv\":[1]}\nno JSON\n{}",
        ];
        for line in lines.iter().flat_map(|lines| lines.split('\n')).filter(|line| !line.is_empty()) {
            let serde = serde_json::from_str::<Event>(line);
            let ours = Event::read_line(line.as_bytes());
            match (serde, ours) {
                (Ok(serde), Ok(ours)) => assert_eq!(serde, ours, "{line}"),
                (Err(_), Err(_)) => {}
                (serde, ours) => panic!("{line}\n{serde:?}\n{ours:?}"),
            }
        }
    }
}
