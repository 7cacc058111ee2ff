//! The forms that others read: every kind of event against the published schemas, and as people see it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "formats/cef.rs"]
mod cef;
#[path = "formats/checker.rs"]
mod checker;
#[path = "common/current.rs"]
mod current;
#[path = "formats/ecs.rs"]
mod ecs;
#[path = "formats/ocsf.rs"]
mod ocsf;

use std::{collections::BTreeSet, fs, net::IpAddr, path::Path};

use chaperone::{
    event::{Event, Kind, word::Time},
    record::format::Form,
};
use current::current;
use serde_json::{Map, Value};

/// Samples of every kind, with the odd and the hostile among them.
fn samples() -> Vec<Event> {
    read("tests/formats/events.ndjson")
}

/// The samples, and what real agents did.
fn events() -> Vec<Event> {
    let mut all = samples();
    all.extend(read("tests/traffic/events.ndjson"));
    all
}

fn read(path: &str) -> Vec<Event> {
    text(path).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn schema(name: &str) -> Value {
    serde_json::from_str(&text(&format!("tests/formats/{name}.json"))).unwrap()
}

fn written(form: Form, event: &Event) -> String {
    let mut out = Vec::new();
    form.write(event, &mut out);
    let line = String::from_utf8(out).unwrap();
    let line = line.strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'), "{line}");
    line.to_owned()
}

fn json(form: Form, event: &Event) -> Value {
    serde_json::from_str(&written(form, event)).unwrap()
}

#[test]
fn the_samples_are_events_of_every_kind() {
    let kinds: BTreeSet<Kind> = samples().iter().map(|event| event.kind).collect();
    let all: BTreeSet<Kind> = Kind::ALL.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, all);
    for line in text("tests/formats/events.ndjson").lines() {
        let event: Event = serde_json::from_str(line).unwrap();
        assert_eq!(serde_json::to_value(&event).unwrap(), serde_json::from_str::<Value>(line).unwrap());
    }
}

#[test]
fn one_event_of_each_kind_reads_as_it_always_has() {
    let (mut ocsf, mut ecs, mut cef) = (Map::new(), Map::new(), String::new());
    for (kind, name) in Kind::ALL {
        let event = samples().into_iter().find(|event| event.kind == *kind).unwrap();
        ocsf.insert((*name).to_owned(), json(Form::Ocsf, &event));
        ecs.insert((*name).to_owned(), json(Form::Ecs, &event));
        cef += &(written(Form::Cef, &event) + "\n");
    }
    for (name, all) in [("ocsf", ocsf), ("ecs", ecs)] {
        let path = format!("agent-daemon/tests/formats/expected/{name}.json");
        current(&path, &(serde_json::to_string_pretty(&all).unwrap() + "\n"));
    }
    current("agent-daemon/tests/formats/expected/cef.txt", &cef);
}

/// The table of docs/FORMATS.md: what each kind becomes.
#[test]
fn the_page_says_what_each_kind_becomes() {
    let mut table =
        "| kind | OCSF class | its activities | ECS category | its types |\n|---|---|---|---|---|\n"
            .to_owned();
    for (kind, name) in Kind::ALL {
        let mut columns: [BTreeSet<String>; 4] = Default::default();
        for event in samples().iter().filter(|event| event.kind == *kind) {
            let (ocsf, ecs) = (json(Form::Ocsf, event), json(Form::Ecs, event));
            columns[0].insert(format!("{} ({})", ocsf["class_name"].as_str().unwrap(), ocsf["class_uid"]));
            columns[1].insert(format!(
                "{} ({})",
                ocsf["activity_name"].as_str().unwrap(),
                ocsf["activity_id"]
            ));
            for (at, list) in [(2, "category"), (3, "type")] {
                let words = ecs["event"][list].as_array().into_iter().flatten();
                columns[at].extend(words.map(|word| word.as_str().unwrap().to_owned()));
            }
        }
        let columns = columns.map(|words| words.into_iter().collect::<Vec<_>>().join(", "));
        table += &format!("| `{name}` | {} |\n", columns.join(" | "));
    }
    let page = text("../docs/FORMATS.md");
    let (head, rest) = page.split_once(BEGIN).unwrap();
    let (_, tail) = rest.split_once(END).unwrap();
    current("docs/FORMATS.md", &format!("{head}{BEGIN}\n{table}{END}{tail}"));
}

const BEGIN: &str = "<!-- kinds: written by the test -->";
const END: &str = "<!-- end -->";

#[test]
fn the_form_of_our_own_is_the_line_of_the_event_file() {
    for (event, line) in samples().iter().zip(text("tests/formats/events.ndjson").lines()) {
        assert_eq!(json(Form::Json, event), serde_json::from_str::<Value>(line).unwrap());
    }
}

/// Whatever is changed in an event changes what is written of it: no value of it is without a place.
#[test]
fn nothing_that_an_event_says_is_lost_in_json_forms() {
    for event in samples() {
        let whole = serde_json::to_value(&event).unwrap();
        let mut paths = Vec::new();
        leaves(&whole, "", &mut paths);
        for path in paths {
            let mut changed = whole.clone();
            let at = changed.pointer_mut(&path).unwrap();
            *at = another(at);
            let changed: Event = serde_json::from_value(changed).unwrap();
            for form in [Form::Ocsf, Form::Ecs] {
                let same = written(form, &changed) == written(form, &event);
                // Words that an event knows no more than before, such as `unknown`.
                assert!(!same || changed == event, "{form:?} says nothing of {path}: {whole}");
            }
        }
    }
}

/// A value of the same kind that is not this one.
fn another(value: &Value) -> Value {
    match value {
        Value::Bool(yes) => (!yes).into(),
        Value::Number(number) => number.as_u64().unwrap().checked_sub(1).unwrap_or(1).into(),
        Value::String(text) => {
            if let Ok(time) = text.parse::<Time>() {
                // OCSF counts some times in milliseconds.
                return Time(time.0 + 1_000_000).to_string().into();
            }
            match text.parse::<IpAddr>() {
                Ok(IpAddr::V4(_)) => "198.51.100.99".into(),
                Ok(IpAddr::V6(_)) => "2001:db8:99::99".into(),
                Err(_) if text.len() == 18 && (text.starts_with("i-") || text.starts_with("x-")) => {
                    format!("{}9999", &text[..14]).into()
                }
                Err(_) if Kind::parse(text).is_some() => "cgroup_created".into(),
                Err(_) => format!("{text}x").into(),
            }
        }
        other => panic!("a value that no event has: {other}"),
    }
}

/// Each form shows what was masked as it was recorded, and an event that was masked has nothing else in its place.
#[test]
fn what_is_masked_stays_masked_in_every_form() {
    let event =
        samples().into_iter().find(|event| event.exec.as_ref().is_some_and(|e| e.argv_masked > 0)).unwrap();
    for form in [Form::Json, Form::Ocsf, Form::Ecs, Form::Cef] {
        let line = written(form, &event);
        assert!(line.contains("***"), "{line}");
    }
}

/// Pointers to all values that are no object and no list.
fn leaves(value: &Value, path: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| leaves(value, &format!("{path}/{name}"), out));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(at, item)| leaves(item, &format!("{path}/{at}"), out));
        }
        _ => out.push(path.to_owned()),
    }
}
