//! Baselines on recorded traffic of real agents: the figures of docs/BENCHMARKS.md, and that a replay says what the host said.
//!
//! `UPDATE=1` writes the figures anew. `CHAPERONE_TRAFFIC=DIR` judges another record than the one that is kept here. How a record is made stands in docs/BENCHMARKS.md.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "traffic/judge.rs"]
mod judge;

use std::{collections::BTreeMap, path::PathBuf, sync::LazyLock};

use chaperone::{
    baseline::{Baselines, observation, watch::Watch},
    config::{Documents, problem::Problems},
    event::finding::Reference,
    policy::{self, dry_run, explain::explain},
};
use judge::{Record, judge, observations, rules};
use serde_json::{Value, json};

static RECORD: LazyLock<Record> = LazyLock::new(|| {
    let read = |name: &str| &*std::fs::read_to_string(directory().join(name)).unwrap().leak();
    Record { events: read("events.ndjson"), labels: read("labels.json"), documents: read("documents.yaml") }
});

fn directory() -> PathBuf {
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/traffic").into();
    std::env::var_os("CHAPERONE_TRAFFIC").map_or(kept, PathBuf::from)
}

#[test]
fn the_figures_are_those_that_are_told() {
    let (rows, _) = judge(*RECORD);
    let text =
        serde_json::to_string_pretty(&json!({ "rows": rows, "explained": explained() })).unwrap() + "\n";
    let path = directory().join("figures.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let told = std::fs::read_to_string(&path).unwrap();
    assert!(told == text, "not as in {} (UPDATE=1 writes it): {text}", path.display());
}

#[test]
fn two_replays_find_the_same_to_the_bit() {
    let ((_, first), (_, second)) = (judge(*RECORD), judge(*RECORD));
    assert!(!first.is_empty() && first == second);
}

#[test]
fn a_replay_finds_what_the_daemon_found() {
    let mut watch = Watch::new(Baselines::default(), rules());
    let mut replayed = Vec::new();
    for seen in observations(*RECORD) {
        let of = Reference { time: seen.time, seq: seen.seq };
        replayed.extend(watch.take(&seen).iter().map(|alert| json!(alert.told(of))));
    }
    let lines = RECORD.events.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let recorded: Vec<Value> =
        lines.filter(|event| event["kind"] == "finding").map(|event| event["finding"].clone()).collect();
    assert!(!recorded.is_empty());
    assert_eq!(replayed, recorded);
}

#[test]
fn explain_says_of_every_recorded_act_what_the_kernel_did() {
    let explained = explained();
    assert!(explained["agree"].as_u64() > Some(0), "{explained}");
    assert_eq!(explained["differ"], json!([]), "{explained}");
}

/// The look-ups of `explain` against the kernel's verdict, of each event that has a decision.
fn explained() -> Value {
    let (mut documents, mut problems) = (Documents::default(), Problems::default());
    documents.add("documents.yaml", RECORD.documents, &mut problems);
    let (_, table) = policy::build(&documents, problems).unwrap_or_else(|problems| panic!("{problems}"));
    let (mut agree, mut differ) = (BTreeMap::<String, u64>::new(), Vec::new());
    let mut unjudged = BTreeMap::<String, u64>::new();
    for line in RECORD.events.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["decision"].is_null() || event["role"].is_null() {
            continue;
        }
        let kind = event["kind"].as_str().unwrap();
        let seen = observation::read(line.as_bytes()).unwrap();
        let Some(Ok(act)) = dry_run::act(&seen.act) else {
            let network = &event["network"];
            let what = format!("{kind} {} {}", network["class"], network["family"]).replace('"', "");
            *unjudged.entry(what).or_default() += 1;
            continue;
        };
        let says = explain(&table, seen.role.as_deref().unwrap(), &act);
        let said = json!([
            says.verdict.name(),
            says.wanted.name(),
            says.source.name(),
            says.rule.map(|rule| rule.text.to_string())
        ]);
        let decision = &event["decision"];
        let did = json!([event["verdict"], decision["wanted"], decision["source"], decision["rule"]["text"]]);
        if said == did {
            *agree.entry(event["verdict"].as_str().unwrap().to_owned()).or_default() += 1;
        } else {
            differ.push(format!("{} {act}: explain {said}, kernel {did}", event["seq"]));
        }
    }
    json!({ "agree": agree.values().sum::<u64>(), "by_verdict": agree, "differ": differ, "unjudged": unjudged })
}
