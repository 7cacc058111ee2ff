//! The text is what Prometheus reads, strictly.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::{
    event::{Event, Ids, Subject},
    record::metrics::VERDICTS_MAX,
};

/// Everything that can be shown is shown, with a name that needs escaping.
fn full() -> (Metrics, Gauges) {
    let mut metrics = Metrics::default();
    metrics.received(Kind::NetConnect, Origin::Agent as u8);
    metrics.received(Kind::NetConnect, 200);
    metrics.undecodable[2] = 1;
    judge(&mut metrics, 1, "a\"b\\\n");
    judge(&mut metrics, 1, "a\"b\\\n");
    let by = |name: &str| BTreeMap::from([(name.to_owned(), 3)]);
    let gauges = Gauges {
        version: "1",
        mode: "lsm".to_owned(),
        instances: by("bot"),
        processes: BTreeMap::from([("agent", 1), ("none", 2)]),
        follower_lines_lost: 7,
        ring: Some((128, 4 << 20)),
        hooks: vec![Hook { name: "task_newtask".to_owned(), runs: 5, seconds: 0.000_001_5 }],
        guarantees: vec![Guarantee { rule: "endpoint", way: "tcp", guarantee: "refused_in_the_call" }],
        bounds: vec![Bound { name: "INSTANCES", used: 1, max: 16_384 }],
        submitted: by("net"),
        lost: by("net"),
        named: by("verdicts"),
        ..Gauges::default()
    };
    (metrics, gauges)
}

fn judge(metrics: &mut Metrics, agent: u32, name: &str) {
    let subject = Subject {
        agent: Some(name.into()),
        role: Some("r".into()),
        ids: Ids { agent, role: 2, cgroup: 0 },
        ..Subject::default()
    };
    metrics.judged(&Event {
        verdict: Some(Verdict::Deny.into()),
        subject: Some(subject),
        ..Event::default()
    });
}

#[test]
fn what_was_counted_is_shown() {
    let (metrics, gauges) = full();
    let text = render(&metrics, &gauges);
    for line in [
        "chaperone_info{version=\"1\",mode=\"lsm\"} 1",
        "chaperone_events_total{kind=\"net_connect\",origin=\"agent\"} 1",
        "chaperone_events_total{kind=\"net_connect\",origin=\"unknown\"} 1",
        "chaperone_verdicts_total{agent=\"a\\\"b\\\\\\n\",role=\"r\",verdict=\"deny\"} 2",
        "chaperone_events_lost_total{kind=\"kind\",place=\"decode\"} 1",
        "chaperone_events_lost_total{kind=\"line\",place=\"follower\"} 7",
        "chaperone_ring_waiting_bytes 128",
        "chaperone_hook_seconds_total{hook=\"task_newtask\"} 0.0000015",
        "chaperone_guarantee_info{rule=\"endpoint\",way=\"tcp\",guarantee=\"refused_in_the_call\"} 1",
        "chaperone_bound_limit{bound=\"INSTANCES\"} 16384",
        "chaperone_processes{origin=\"none\"} 2",
        "chaperone_followers 0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}

#[test]
fn every_family_has_help_and_type_once_its_samples_follow_and_no_series_stands_twice() {
    let (metrics, gauges) = full();
    for (metrics, gauges) in [(metrics, gauges), (Metrics::default(), Gauges::default())] {
        let text = render(&metrics, &gauges);
        assert!(text.ends_with('\n') && !text.contains("\n\n"));
        let (mut families, mut series) = (BTreeSet::new(), BTreeSet::new());
        let (mut family, mut kind) = (String::new(), String::new());
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, what) = help.split_once(' ').unwrap();
                assert!(what.ends_with('.') && !what.contains('\\'), "{line}");
                assert!(families.insert(name), "{name} stands twice");
                let (typed, of) = lines
                    .next()
                    .and_then(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
                    .expect("TYPE follows HELP");
                assert_eq!(typed, name);
                (family, kind) = (name.to_owned(), of.to_owned());
                let counts = name.ends_with("_total");
                assert!(matches!(of, "counter" | "gauge") && (of == "counter") == counts, "{line}");
                let unit = ["_milliseconds", "_nanoseconds", "_ns", "_kilobytes", "_percent"];
                assert!(unit.iter().all(|unit| !name.contains(unit)), "{name} is not in a base unit");
                continue;
            }
            let (name, labels, value) = sample(line);
            assert_eq!(name, family, "a sample stands with its family");
            assert!(series.insert((name.to_owned(), labels.clone())), "{line} stands twice");
            let forbidden = ["instance", "pid", "address", "path", "exec_id"];
            assert!(labels.iter().all(|(label, _)| !forbidden.contains(&label.as_str())), "{line}");
            assert!(value.is_finite() && (kind == "gauge" || value >= 0.0), "{line}");
            assert!(!name.ends_with("_info") || value == 1.0, "{line}");
        }
    }
}

#[test]
fn more_agents_than_are_counted_one_by_one_are_counted_together() {
    let mut metrics = Metrics::default();
    for agent in 1..=VERDICTS_MAX as u32 + 100 {
        judge(&mut metrics, agent, &format!("agent-{agent}"));
    }
    let text = render(&metrics, &Gauges::default());
    let shown: Vec<&str> = text.lines().filter(|l| l.starts_with("chaperone_verdicts_total{")).collect();
    assert_eq!(shown.len(), VERDICTS_MAX + 1);
    let other = "chaperone_verdicts_total{agent=\"(other)\",role=\"(other)\",verdict=\"deny\"} 100";
    assert!(shown.contains(&other), "{}", shown[0]);
}

/// `name{label="text",…} value`, and nothing else.
fn sample(line: &str) -> (&str, Vec<(String, String)>, f64) {
    let name_end = line.find(|c: char| !(c.is_ascii_lowercase() || c == '_')).expect(line);
    let (name, mut rest) = line.split_at(name_end);
    assert!(name.starts_with("chaperone_"), "{line}");
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, quoted) = rest.split_once("=\"").expect(line);
            assert!(!label.is_empty() && label.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
            let mut text = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next().expect(line) {
                    (end, '"') => break end,
                    (_, '\\') => match chars.next().expect(line).1 {
                        escaped @ ('\\' | '"' | 'n') => text.push(escaped),
                        other => panic!("\\{other} is no escape: {line}"),
                    },
                    (_, other) => text.push(other),
                }
            };
            labels.push((label.to_owned(), text));
            rest = &quoted[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').expect(line);
    }
    let distinct: BTreeSet<&String> = labels.iter().map(|(label, _)| label).collect();
    assert_eq!(distinct.len(), labels.len(), "{line}");
    let value = rest.strip_prefix(' ').expect(line);
    (name, labels, value.parse().expect(line))
}
