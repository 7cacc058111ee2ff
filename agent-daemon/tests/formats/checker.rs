//! What the checkers of OCSF and ECS have in common: every event is valid, and what is not is found.

use chaperone::{event::Event, record::format::Form};
use serde_json::Value;

use super::{events, json, samples};

pub fn every_event_is_valid(form: Form, problems: impl Fn(&Value) -> Vec<String>) {
    for event in events() {
        let value = json(form, &event);
        let problems = problems(&value);
        assert!(problems.is_empty(), "{problems:#?}\n{value:#}");
    }
}

/// An event that has much of what a form has a place for.
pub fn rich() -> Event {
    samples().into_iter().find(|event| event.network.as_ref().is_some_and(|n| n.name.is_some())).unwrap()
}

/// One field at a time is set in an event that is valid but for it; an empty text is for what may be.
pub fn finds(valid: &Value, set: &[(&str, Value, &str)], problems: impl Fn(&Value) -> Vec<String>) {
    assert_eq!(problems(valid), [""; 0]);
    for (pointer, value, problem) in set {
        let mut changed = valid.clone();
        let (at, name) = pointer.rsplit_once('/').unwrap();
        changed.pointer_mut(at).unwrap()[name] = value.clone();
        is_found(problem, &problems(&changed), pointer);
    }
}

/// As [`finds`], of what is not there any more.
pub fn misses(valid: &Value, removed: &[(&[&str], &str)], problems: impl Fn(&Value) -> Vec<String>) {
    for (pointers, problem) in removed {
        let mut changed = valid.clone();
        for pointer in *pointers {
            let (at, name) = pointer.rsplit_once('/').unwrap();
            changed.pointer_mut(at).unwrap().as_object_mut().unwrap().remove(name).unwrap();
        }
        is_found(problem, &problems(&changed), &pointers.join(" "));
    }
}

fn is_found(problem: &str, found: &[String], what: &str) {
    let right = found.iter().any(|one| one == problem) || problem.is_empty() && found.is_empty();
    assert!(right, "{what}: {found:?}");
}
