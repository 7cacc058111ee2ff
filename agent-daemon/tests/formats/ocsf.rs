//! OCSF: every event against the classes and objects of the release, and what the checker itself finds.

use std::collections::{BTreeMap, BTreeSet};

use chaperone::record::format::{Form, OCSF_VERSION};
use regex::Regex;
use serde_json::{Value, json};

use super::{checker, json as written, samples, schema};

#[test]
fn every_event_is_valid() {
    let schema = Schema::read();
    checker::every_event_is_valid(Form::Ocsf, |value| problems(value, &schema));
}

/// A refusal of one field at a time: an event that is valid but for it.
#[test]
fn the_checker_finds_each_kind_of_mistake() {
    let schema = Schema::read();
    let valid = written(Form::Ocsf, &checker::rich());
    let set: &[(&str, Value, &str)] = &[
        ("/surprise", json!(1), "surprise: no such attribute"),
        ("/actor/process/surprise", json!("a"), "actor.process.surprise: no such attribute"),
        ("/severity_id", json!(7), "severity_id: 7 is not allowed"),
        ("/action_id", json!("2"), "action_id: not of type integer_t"),
        ("/message", json!(1), "message: not of type string_t"),
        ("/message", Value::Null, "message: not of type string_t"),
        ("/severity", json!("High"), "severity: \"High\" does not belong to 3"),
        ("/dst_endpoint/ip", json!("192.0.2.x"), "dst_endpoint.ip: not of type ip_t"),
        ("/dst_endpoint/port", json!(65_536), "dst_endpoint.port: not of type port_t"),
        ("/time", json!("2026-01-01T00:00:00Z"), "time: not of type timestamp_t"),
        ("/device", json!([]), "device: not of type device"),
        ("/attacks", json!({}), "attacks: not a list"),
        ("/type_uid", json!(400_102), "type_uid: not of class and activity"),
        ("/class_uid", json!(4_242), "class_uid: no such class"),
        ("/metadata/version", json!("1.7.0"), "metadata.version: another release"),
        (
            "/metadata/profiles",
            json!(["host"]),
            "action_id: no such attribute without the profile security_control",
        ),
        ("/metadata/profiles", json!(["host", "wrong"]), "metadata.profiles: no profile wrong"),
        ("/app_name", json!("x"), ""),
    ];
    checker::finds(&valid, set, |value| problems(value, &schema));
    let removed: &[(&[&str], &str)] = &[
        (&["/metadata"], "metadata: required"),
        (&["/time"], "time: required"),
        (&["/metadata/product"], "metadata.product: required"),
        (&["/device/type_id"], "device.type_id: required"),
        (&["/src_endpoint", "/dst_endpoint"], "event: at least one of dst_endpoint, src_endpoint"),
        (&["/actor/process/pid", "/actor/process/uid"], "actor.process: at least one of pid, uid, cpid"),
        (&["/policy/name"], "policy: at least one of name, type, uid"),
        (&["/message"], ""),
    ];
    checker::misses(&valid, removed, |value| problems(value, &schema));
}

#[test]
fn what_was_refused_says_so_and_what_was_allowed_does_not() {
    let of = |verdict: &str| {
        let event = samples().into_iter().find(|e| e.verdict.is_some_and(|v| v.name() == verdict)).unwrap();
        let value = written(Form::Ocsf, &event);
        ["action", "disposition", "status", "severity"].map(|name| value[name].as_str().unwrap().to_owned())
    };
    assert_eq!(of("deny"), ["Denied", "Blocked", "Failure", "Medium"]);
    assert_eq!(of("kill"), ["Denied", "Blocked", "Failure", "High"]);
    assert_eq!(of("allow"), ["Allowed", "Allowed", "Unknown", "Informational"]);
    assert_eq!(of("alert"), ["Observed", "Alert", "Unknown", "Medium"]);
    assert_eq!(of("hold"), ["Modified", "Delayed", "Unknown", "Medium"]);
}

/// All that is wrong with an event, as `path: what`.
fn problems(event: &Value, schema: &Schema) -> Vec<String> {
    let classes = schema.value["classes"].as_object().unwrap();
    let Some(class) = classes.values().find(|class| class["uid"] == event["class_uid"]) else {
        return vec!["class_uid: no such class".to_owned()];
    };
    let profiles: BTreeSet<&str> =
        event["metadata"]["profiles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let known = ["container", "host", "linux/linux_users", "security_control"];
    let mut check = Check { schema, profiles: &profiles, problems: Vec::new() };
    for profile in profiles.iter().filter(|profile| !known.contains(profile)) {
        check.problem("metadata.profiles", &format!("no profile {profile}"));
    }
    check.object(event, class, "");
    let number = |name: &str| event[name].as_u64().unwrap_or_default();
    if number("type_uid") != number("class_uid") * 100 + number("activity_id") {
        check.problem("type_uid", "not of class and activity");
    }
    for (name, is) in
        [("class_name", "caption"), ("category_name", "category"), ("category_uid", "category_uid")]
    {
        if event[name] != class[is] {
            check.problem(name, "not of the class");
        }
    }
    if event["metadata"]["version"] != OCSF_VERSION || schema.value["version"] != OCSF_VERSION {
        check.problem("metadata.version", "another release");
    }
    check.problems
}

/// The release, with the patterns of its types ready for use.
struct Schema {
    value: Value,
    patterns: BTreeMap<String, Regex>,
}

impl Schema {
    fn read() -> Self {
        let value = schema("ocsf-1.8.0");
        let types = value["types"].as_object().unwrap();
        let pattern = |kind: &Value| kind["regex"].as_str().map(|pattern| Regex::new(pattern).unwrap());
        let patterns = types.iter().filter_map(|(name, kind)| Some((name.clone(), pattern(kind)?))).collect();
        Self { value, patterns }
    }
}

struct Check<'a> {
    schema: &'a Schema,
    profiles: &'a BTreeSet<&'a str>,
    problems: Vec<String>,
}

impl Check<'_> {
    fn problem(&mut self, path: &str, what: &str) {
        self.problems.push(format!("{path}: {what}"));
    }

    fn active(&self, attribute: &Value) -> bool {
        let Some(profile) = attribute["profile"].as_str() else { return true };
        self.profiles.iter().any(|named| named.rsplit('/').next() == Some(profile))
    }

    fn object(&mut self, value: &Value, of: &Value, path: &str) {
        let Some(members) = value.as_object() else { return };
        let under = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        for (name, member) in members {
            let (attribute, path) = (&of["attributes"][name], under(name));
            if attribute.is_null() {
                self.problem(&path, "no such attribute");
            } else if !self.active(attribute) {
                let profile = attribute["profile"].as_str().unwrap();
                self.problem(&path, &format!("no such attribute without the profile {profile}"));
            } else if attribute["deprecated"] == true {
                self.problem(&path, "deprecated");
            } else {
                self.attribute(member, attribute, &path);
                self.sibling(member, attribute, value, &under);
            }
        }
        for (name, attribute) in of["attributes"].as_object().unwrap() {
            if attribute["req"] == "required" && self.active(attribute) && !members.contains_key(name) {
                self.problem(&under(name), "required");
            }
        }
        for (constraint, names) in of["constraints"].as_object().into_iter().flatten() {
            let names: Vec<&str> =
                names.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
            let count = names.iter().filter(|name| members.contains_key(**name)).count();
            let (holds, words) = match constraint.as_str() {
                "at_least_one" => (count >= 1, "at least one of"),
                "just_one" => (count == 1, "just one of"),
                other => panic!("a constraint that this test does not know: {other}"),
            };
            if !holds {
                self.problem(
                    if path.is_empty() { "event" } else { path },
                    &format!("{words} {}", names.join(", ")),
                );
            }
        }
    }

    fn attribute(&mut self, value: &Value, attribute: &Value, path: &str) {
        if attribute["array"] != true {
            return self.one(value, attribute, path);
        }
        match value.as_array() {
            Some(items) if !items.is_empty() => items.iter().for_each(|item| self.one(item, attribute, path)),
            _ => self.problem(path, "not a list"),
        }
    }

    fn one(&mut self, value: &Value, attribute: &Value, path: &str) {
        let name = attribute["type"].as_str().unwrap();
        if let Some(allowed) = attribute["enum"].as_object() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            if !allowed.contains_key(&text) {
                self.problem(path, &format!("{text} is not allowed"));
            }
        }
        let kind = &self.schema.value["types"][name];
        if !kind.is_null() {
            if !is_of(value, name, kind, self.schema.patterns.get(name)) {
                self.problem(path, &format!("not of type {name}"));
            }
        } else if !value.is_object() {
            self.problem(path, &format!("not of type {name}"));
        } else if name != "object" {
            // An object that the cut of the schema does not have is one that nobody has checked.
            let schema = self.schema;
            let object = &schema.value["objects"][name];
            assert!(object.is_object(), "{path}: the object {name} is not in tests/formats/ocsf-1.8.0.json");
            self.object(value, object, path);
        }
    }

    /// A number's caption stands beside it in the sibling.
    fn sibling(&mut self, value: &Value, attribute: &Value, of: &Value, under: &dyn Fn(&str) -> String) {
        let Some(sibling) = attribute["sibling"].as_str() else { return };
        let (Some(number), Some(caption)) = (value.as_u64(), of[sibling].as_str()) else { return };
        let expected = attribute["enum"][number.to_string()].as_str();
        if number != 99 && expected.is_some_and(|expected| expected != caption) {
            self.problem(&under(sibling), &format!("{caption:?} does not belong to {number}"));
        }
    }
}

fn is_of(value: &Value, name: &str, kind: &Value, pattern: Option<&Regex>) -> bool {
    match kind["type"].as_str().unwrap_or(name) {
        "string_t" => value.as_str().is_some_and(|text| {
            kind["max_len"].as_u64().is_none_or(|max| text.chars().count() as u64 <= max)
                && pattern.is_none_or(|pattern| pattern.is_match(text))
        }),
        "integer_t" | "long_t" => value.as_i64().is_some_and(|number| {
            let range = kind["range"].as_array();
            range.is_none_or(|range| {
                (range[0].as_i64().unwrap()..=range[1].as_i64().unwrap()).contains(&number)
            })
        }),
        "boolean_t" => value.is_boolean(),
        "float_t" => value.is_number(),
        "json_t" => !value.is_null(),
        other => panic!("a type that this test does not know: {other}"),
    }
}
