//! Endpoints: every way out, by an agent whose role names its target and by one whose role names nothing, seen at the
//! receiving end.

mod expected;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use self::expected::Expected;
use crate::{
    act::{
        Verdict,
        selfcheck::{Received, Row, Selfcheck},
    },
    harness::{Daemon, Start, script},
};

/// One way, once.
#[derive(Debug, Serialize)]
pub struct Line {
    pub way: &'static str,
    pub kernel: String,
    pub mode: String,
    /// Whether the role names the target.
    pub named: bool,
    pub expected: &'static str,
    pub got: &'static str,
    pub errno: Option<String>,
    pub received: Received,
    /// An event of the act with this verdict is in the daemon's file.
    pub event: bool,
    /// Why something else than the rule's answer is expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<&'static str>,
    pub good: bool,
}

/// Performs every way, named and not.
pub fn run(mode: &str) -> Result<Value> {
    let mut rows = lines(mode, false, &[])?;
    rows.extend(lines(mode, true, &[])?);
    for row in rows.iter().filter(|row| !row.good) {
        eprintln!(
            "{} named={} expected {} got {} errno {:?} received {:?} event {}",
            row.way, row.named, row.expected, row.got, row.errno, row.received, row.event
        );
    }
    Ok(serde_json::json!({ "wrong": rows.iter().filter(|row| !row.good).count(), "rows": rows }))
}

/// The ways whose names begin with one of `only` (all when empty), by an agent of a role that names all or nothing.
pub fn lines(mode: &str, named: bool, only: &[&str]) -> Result<Vec<Line>> {
    let launcher = PathBuf::from("/run/chaperone-ways");
    script(&launcher, "#!/bin/sh\nexec \"$@\"\n")?;
    let mut daemon = Daemon::start(&Start {
        documents: documents(&launcher.display().to_string(), named),
        mode: Some(mode.to_owned()),
        ..Start::default()
    })?;
    let rows = Selfcheck::behind(&launcher, only)?;
    daemon.settle()?;
    let verdicts = verdicts(&daemon.seen);
    let kernel = nix::sys::utsname::uname().context("uname")?.release().to_string_lossy().into_owned();
    Ok(rows.iter().map(|row| line(row, &kernel, mode, named, &verdicts)).collect())
}

fn line(row: &Row, kernel: &str, mode: &str, named: bool, verdicts: &BTreeMap<String, Vec<String>>) -> Line {
    let Expected { answer, why } = expected::of(row.way, mode, named);
    let got = match (row.outcome, row.received) {
        (Verdict::Unsupported, Received::Nothing) => "unsupported",
        (Verdict::Refused, Received::Nothing) => "deny",
        (Verdict::Failed, Received::Nothing) => "failed",
        _ => "allow",
    };
    let wanted = if got == "deny" { "deny" } else { "allow" };
    let event = verdicts.get(row.way).is_some_and(|all| all.iter().any(|verdict| verdict == wanted));
    // Who is not looked at has no event to show; who is refused always has.
    let told = event || got != "deny";
    // An act that went through is as good as without an observer only if it arrived as it does then.
    let good = match got {
        "unsupported" => true,
        "allow" => answer == "allow" && (row.good || !named || row.outcome != Verdict::Sent),
        _ => answer == got && told,
    };
    Line {
        way: row.way,
        kernel: kernel.to_owned(),
        mode: mode.to_owned(),
        named,
        expected: answer,
        got,
        errno: row.errno.clone(),
        received: row.received,
        event,
        why,
        good,
    }
}

/// Way → verdicts of the network events of the instance that performed it.
fn verdicts(events: &[Value]) -> BTreeMap<String, Vec<String>> {
    let mut ways: BTreeMap<&str, &str> = BTreeMap::new();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for event in events {
        let Some(instance) = event["instance"].as_str() else { continue };
        if event["kind"] == "process_exec" {
            let words: Vec<&str> =
                event["argv"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            if let Some(at) = words.iter().position(|word| *word == "act")
                && let Some(way) = words.get(at + 1)
            {
                ways.insert(instance, way);
            }
        } else if let (Some(way), Some(verdict)) = (ways.get(instance), event["verdict"].as_str()) {
            found.entry((*way).to_owned()).or_default().push(verdict.to_owned());
        }
    }
    found
}

fn documents(launcher: &str, named: bool) -> String {
    let rules = if named { NAMED } else { "    rules: []\n" };
    format!(
        "apiVersion: chaperone/v1\nkind: Agent\nmetadata: {{ name: ways }}\nspec: {{ owner: tests, role: ways, match: \
         [ {{ exe: {launcher} }} ] }}\n---\napiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: ways }}\nspec:\n  \
         mode: enforce\n  network:\n    default: deny\n{rules}"
    )
}

/// Everything that the ways reach, each by the narrowest rule of its kind.
const NAMED: &str = r#"    rules:
      - { to: 127.0.0.0/8, verdict: allow }
      - { to: "::1", verdict: allow }
      - { to: 239.255.71.71, verdict: allow }
      - { to: "ff12::4747", verdict: allow }
      - { to: "raw:*", verdict: allow }
      - { to: packet, verdict: allow }
      - { to: "vsock:1:*", verdict: allow }
      - { to: "unix:/tmp/chaperone-act-47474/*", verdict: allow }
      - { to: "unix:@chaperone-act-47474*", verdict: allow }
      - { to: "protocol:sctp", verdict: allow }
      - { to: "protocol:dccp", verdict: allow }
      - { to: "protocol:115", verdict: allow }
      - { to: "protocol:256", verdict: allow }
      - { to: "family:3", verdict: allow }
      - { to: "family:4", verdict: allow }
      - { to: "family:5", verdict: allow }
      - { to: "family:9", verdict: allow }
      - { to: "family:15", verdict: allow }
      - { to: "family:16", verdict: allow }
      - { to: "family:21", verdict: allow }
      - { to: "family:24", verdict: allow }
      - { to: "family:26", verdict: allow }
      - { to: "family:27", verdict: allow }
      - { to: "family:29", verdict: allow }
      - { to: "family:30", verdict: allow }
      - { to: "family:31", verdict: allow }
      - { to: "family:33", verdict: allow }
      - { to: "family:34", verdict: allow }
      - { to: "family:35", verdict: allow }
      - { to: "family:36", verdict: allow }
      - { to: "family:37", verdict: allow }
      - { to: "family:38", verdict: allow }
      - { to: "family:39", verdict: allow }
      - { to: "family:41", verdict: allow }
      - { to: "family:42", verdict: allow }
      - { to: "family:43", verdict: allow }
      - { to: "family:45", verdict: allow }
      - { to: routing, verdict: allow }
"#;
