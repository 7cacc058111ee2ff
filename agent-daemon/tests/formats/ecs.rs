//! ECS: every event against the fields of the release, and what the checker itself finds.

use std::net::IpAddr;

use chaperone::{
    event::word::Time,
    record::format::{ECS_VERSION, Form},
};
use serde_json::{Value, json};

use super::{checker, json as written, schema};

#[test]
fn every_event_is_valid() {
    let schema = schema("ecs-9.4.0");
    checker::every_event_is_valid(Form::Ecs, |value| problems(value, &schema));
}

/// A refusal of one field at a time: an event that is valid but for it.
#[test]
fn the_checker_finds_each_kind_of_mistake() {
    let schema = schema("ecs-9.4.0");
    let valid = written(Form::Ecs, &checker::rich());
    let set: &[(&str, Value, &str)] = &[
        ("/surprise", json!(1), "surprise: no such field"),
        ("/process/surprise", json!("a"), "process.surprise: no such field"),
        ("/process/pid", json!("7"), "process.pid: not of type long"),
        ("/user/id", json!(7), "user.id: not of type keyword"),
        ("/user/id", Value::Null, "user.id: not of type keyword"),
        ("/destination/ip", json!("192.0.2"), "destination.ip: not of type ip"),
        ("/@timestamp", json!("yesterday"), "@timestamp: not of type date"),
        ("/event/kind", json!("wrong"), "event.kind: wrong is not allowed"),
        ("/event/category", json!(["wrong"]), "event.category: wrong is not allowed"),
        ("/event/category", json!("network"), "event.category: not a list"),
        ("/user/id", json!(["7"]), "user.id: a list"),
        ("/event/category", json!(["malware"]), "event.type: connection is not expected of malware"),
        ("/event/outcome", json!("maybe"), "event.outcome: maybe is not allowed"),
        ("/host/os/type", json!("templeos"), "host.os.type: templeos is not allowed"),
        ("/process", json!(1), "process: no such field"),
        ("/ecs/version", json!("9.3.0"), "ecs.version: another release"),
        ("/chaperone/surprise", json!(1), ""),
    ];
    checker::finds(&valid, set, |value| problems(value, &schema));
    checker::misses(&valid, &[(&["/@timestamp"], "@timestamp: required")], |value| problems(value, &schema));
}

/// All that is wrong with a document, as `path: what`.
fn problems(document: &Value, schema: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (name, value) in document.as_object().unwrap() {
        if name != "chaperone" {
            check(value, name, schema, &mut found);
        }
    }
    for (name, field) in schema["fields"].as_object().unwrap() {
        let there = document.pointer(&format!("/{}", name.replace('.', "/"))).is_some();
        if field["required"] == true && !there {
            found.push(format!("{name}: required"));
        }
    }
    if document["ecs"]["version"] != ECS_VERSION || schema["version"] != ECS_VERSION {
        found.push("ecs.version: another release".to_owned());
    }
    found.extend(pairs(document, schema));
    found
}

fn check(value: &Value, path: &str, schema: &Value, found: &mut Vec<String>) {
    let field = &schema["fields"][path];
    if let (Some(members), true) = (value.as_object(), field.is_null() || field["type"] == "object") {
        for (name, value) in members {
            check(value, &format!("{path}.{name}"), schema, found);
        }
        return;
    }
    if field.is_null() {
        found.push(format!("{path}: no such field"));
        return;
    }
    match (field["array"] == true, value.as_array()) {
        (true, Some(items)) => items.iter().for_each(|item| one(item, field, path, schema, found)),
        (true, None) => found.push(format!("{path}: not a list")),
        (false, Some(_)) => found.push(format!("{path}: a list")),
        (false, None) => one(value, field, path, schema, found),
    }
}

fn one(value: &Value, field: &Value, path: &str, schema: &Value, found: &mut Vec<String>) {
    let kind = field["type"].as_str().unwrap();
    let text = value.as_str();
    let holds = match kind {
        "keyword" | "wildcard" | "match_only_text" | "constant_keyword" => text.is_some(),
        "long" => value.is_i64(),
        "ip" => text.is_some_and(|text| text.parse::<IpAddr>().is_ok()),
        "date" => text.is_some_and(|text| text.parse::<Time>().is_ok()),
        "object" => {
            check(value, path, schema, found);
            value.is_object()
        }
        other => panic!("{path}: a type that this test does not know: {other}"),
    };
    if !holds {
        found.push(format!("{path}: not of type {kind}"));
    }
    let Some(text) = text else { return };
    let allowed = match (&field["allowed"], &field["expected"]) {
        (Value::Object(values), _) => values.contains_key(text),
        (Value::Array(values), _) | (_, Value::Array(values)) => values.iter().any(|value| value == text),
        _ => true,
    };
    if !allowed {
        found.push(format!("{path}: {text} is not allowed"));
    }
}

/// Each type is expected of one of the categories, and each category has one of its types.
fn pairs(document: &Value, schema: &Value) -> Vec<String> {
    let words = |name: &str| -> Vec<String> {
        let list = document["event"][name].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (categories, types) = (words("category"), words("type"));
    let expected = |category: &str, kind: &str| {
        let of = schema["fields"]["event.category"]["allowed"][category].as_array();
        of.is_some_and(|of| of.iter().any(|one| one == kind))
    };
    let mut found = Vec::new();
    for kind in &types {
        if !categories.iter().any(|category| expected(category, kind)) {
            found.push(format!("event.type: {kind} is not expected of {}", categories.join(", ")));
        }
    }
    for category in &categories {
        if !types.iter().any(|kind| expected(category, kind)) {
            found.push(format!("event.category: no type of {category}"));
        }
    }
    found
}
