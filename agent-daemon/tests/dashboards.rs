//! Dashboards and alerts name what there is: metrics, their labels, the counters; and each alert has a runbook and a test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use agent_common::event::Counter;
use regex::Regex;
use serde_json::Value;

#[test]
fn every_file_names_only_metrics_and_labels_that_there_are() {
    let labels = labels();
    assert!(labels.len() > 30, "{labels:?}");
    let mut wrong = Vec::new();
    for (file, expr) in expressions() {
        let metrics: BTreeSet<&str> =
            words(&expr).filter(|word| word.starts_with("chaperone_") || *word == "up").collect();
        assert!(!metrics.is_empty(), "{file}: {expr} names no metric");
        for metric in &metrics {
            if !labels.contains_key(*metric) {
                wrong.push(format!("{file}: no metric {metric}"));
            }
        }
        for (metric, label, value) in selectors(&expr) {
            if !labels.get(&metric).is_some_and(|known| known.contains(&label)) {
                wrong.push(format!("{file}: {metric} has no label {label}"));
            }
            if label == "counter" {
                wrong.extend(unknown_counters(&value).map(|name| format!("{file}: no counter {name}")));
            }
        }
        let all: BTreeSet<&String> = metrics.iter().filter_map(|m| labels.get(*m)).flatten().collect();
        for label in grouped_by(&expr).filter(|label| !all.contains(label)) {
            wrong.push(format!("{file}: {expr} is grouped by {label}, which none of its metrics has"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_wrong_label_would_be_seen() {
    let found = selectors(r#"sum by (a) (x_total{kind="b",place!~"c|d"}) / y{e=~"f"}"#);
    let found: Vec<_> = found.iter().map(|(metric, label, value)| (&**metric, &**label, &**value)).collect();
    assert_eq!(found, [("x_total", "kind", "b"), ("x_total", "place", "c|d"), ("y", "e", "f")]);
    assert_eq!(grouped_by("sum by (a, b) (x) / max by (c) (y)").collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(unknown_counters("refused|nonsense").collect::<Vec<_>>(), ["nonsense"]);
    assert_eq!(unknown_counters("spoken_.*").count(), 0);
}

#[test]
fn every_dashboard_can_be_imported() {
    let dollar = Regex::new(r"\$([a-z]+)").unwrap();
    let mut uids = BTreeSet::new();
    for (file, board) in boards() {
        assert!(uids.insert(board["uid"].as_str().unwrap().to_owned()), "{file}: its uid is another's");
        let variables: BTreeSet<&str> = board["templating"]["list"]
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v["name"].as_str().unwrap())
            .collect();
        let mut ids = BTreeSet::new();
        for panel in board["panels"].as_array().unwrap() {
            let title = panel["title"].as_str().unwrap();
            assert!(ids.insert(panel["id"].as_u64().unwrap()), "{file}: {title}: its id is another's");
            assert!(!panel["targets"].as_array().unwrap().is_empty(), "{file}: {title} shows nothing");
            let place = &panel["gridPos"];
            assert!(place["x"].as_u64().unwrap() + place["w"].as_u64().unwrap() <= 24, "{file}: {title}");
            for target in panel["targets"].as_array().unwrap() {
                let expr = target["expr"].as_str().unwrap();
                for used in dollar.captures_iter(expr) {
                    assert!(variables.contains(&used[1]), "{file}: {title}: no variable {}", &used[1]);
                }
                assert!(expr.contains("$host"), "{file}: {title} shows hosts that were not chosen");
            }
        }
    }
    assert_eq!(uids.len(), 4);
}

#[test]
fn every_alert_has_a_summary_a_runbook_and_both_tests() {
    let rules = read("dashboards/alerts.yaml");
    let tests = read("dashboards/alerts.test.yaml");
    let book = read("docs/RUNBOOKS.md");
    let sections: BTreeSet<&str> = book.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let mut alerts = BTreeSet::new();
    for alert in rules.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        alerts.insert(name);
        for part in ["severity: ", "summary: ", "description: "] {
            assert!(alert.contains(part), "{name} has no {part}");
        }
        let link = format!("runbook: docs/RUNBOOKS.md#{}\n", name.to_ascii_lowercase());
        assert!(alert.contains(&link), "{name} does not lead to its runbook");
        for case in ["fires", "stays silent"] {
            assert!(tests.contains(&format!("- name: {name} {case}\n")), "{name}: no test that it {case}");
        }
    }
    assert!(alerts.len() >= 20);
    assert_eq!(alerts, sections, "sections of docs/RUNBOOKS.md");
    assert_eq!(tests.matches("- name: ").count(), 2 * alerts.len());
}

/// Every metric with its labels, as `record/metrics/text.rs` writes them; the scrape adds `instance` and `job`.
fn labels() -> BTreeMap<String, BTreeSet<String>> {
    let code = read("agent-daemon/src/record/metrics/text.rs");
    let (metric, label) =
        (Regex::new("\"(chaperone_[a-z_]+)\"").unwrap(), Regex::new(r#"\("([a-z]+)", "#).unwrap());
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut current = String::new();
    let by_scrape = || BTreeSet::from(["instance".to_owned(), "job".to_owned()]);
    found.insert("up".to_owned(), by_scrape());
    for line in code.lines() {
        for name in metric.captures_iter(line) {
            current = name[1].to_owned();
            found.entry(current.clone()).or_insert_with(by_scrape);
        }
        if let Some((_, list)) = line.split_once("&[") {
            let known = found.entry(current.clone()).or_default();
            known.extend(label.captures_iter(list).map(|label| label[1].to_owned()));
        }
    }
    found
}

/// File and expression, of all dashboards, their variables and the alerts.
fn expressions() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in read("dashboards/alerts.yaml").lines() {
        if let Some(expr) = line.trim().strip_prefix("expr: ") {
            found.push(("alerts.yaml".to_owned(), expr.to_owned()));
        }
    }
    for (file, board) in boards() {
        for panel in board["panels"].as_array().unwrap() {
            let targets = panel["targets"].as_array().unwrap().iter();
            found.extend(targets.map(|target| (file.clone(), target["expr"].as_str().unwrap().to_owned())));
        }
        for variable in board["templating"]["list"].as_array().unwrap() {
            let query = variable["query"].as_str().unwrap();
            if let Some(of) = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')')) {
                let (metric, label) = of.rsplit_once(", ").unwrap();
                found.push((file.clone(), format!("count by ({label}) ({metric})")));
            }
        }
    }
    assert!(found.len() > 60, "{}", found.len());
    found
}

fn boards() -> Vec<(String, Value)> {
    let mut files: Vec<_> =
        fs::read_dir(root().join("dashboards")).unwrap().flatten().map(|f| f.path()).collect();
    files.sort();
    files.retain(|path| path.extension().is_some_and(|ending| ending == "json"));
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files
        .iter()
        .map(|path| (name(path), serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()))
        .collect()
}

/// Metric, label and value of all selectors.
fn selectors(expr: &str) -> Vec<(String, String, String)> {
    let selector = Regex::new(r#"([a-z_]+)\{([^}]*)\}"#).unwrap();
    let matcher = Regex::new(r#"([a-z_]+)\s*(?:=~|!~|!=|=)\s*"([^"]*)""#).unwrap();
    let mut found = Vec::new();
    for part in selector.captures_iter(expr) {
        for of in matcher.captures_iter(&part[2]) {
            found.push((part[1].to_owned(), of[1].to_owned(), of[2].to_owned()));
        }
    }
    found
}

fn grouped_by(expr: &str) -> impl Iterator<Item = String> {
    let by = Regex::new(r"\bby \(([^)]*)\)").unwrap();
    let lists: Vec<String> = by.captures_iter(expr).map(|list| list[1].to_owned()).collect();
    lists.into_iter().flat_map(|list| list.split(", ").map(str::to_owned).collect::<Vec<_>>())
}

/// Those of `a|b|c_.*` that no counter of the kernel side has.
fn unknown_counters(value: &str) -> impl Iterator<Item = &str> {
    value.split('|').filter(|name| {
        let begin = name.strip_suffix(".*");
        let fits = |counter: &Counter| match begin {
            Some(begin) => counter.name().starts_with(begin),
            None => counter.name() == *name,
        };
        !Counter::ALL.iter().any(fits)
    })
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !(c.is_alphanumeric() || c == '_'))
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}
