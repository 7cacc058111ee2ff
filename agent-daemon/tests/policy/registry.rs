//! Agents and roles by name and number, over a reload too.

use std::collections::HashMap;

use agent_common::identity::name_id;
use chaperone::identity::registry::MatchSpec;

use super::{agent, build, role};

/// Two names that have one number.
pub fn names_with_one_id() -> (String, String) {
    let mut seen: HashMap<u32, String> = HashMap::new();
    for i in 0..2_000_000u32 {
        let name = format!("n{i}");
        if let Some(other) = seen.insert(name_id(&name), name.clone()) {
            return (other, name);
        }
    }
    panic!("two million names with two million numbers");
}

#[test]
fn an_agent_is_found_by_name_and_number() {
    let text = role("r", "observe", "{ default: allow }")
        + "---\n"
        + &agent("a", "r", "[ { exe: /nowhere/a }, { container: abcdef012345 } ]");
    let (registry, _) = build(&text).unwrap();
    let found = registry.agent_named("a").unwrap();
    assert_eq!(registry.agent(found.id), Some(found));
    assert_eq!((found.role.as_str(), found.role_id), ("r", name_id("r")));
    assert_eq!(registry.role_name(found.role_id), Some("r"));
    assert_eq!(
        found.matches,
        [MatchSpec::Exe("/nowhere/a".into()), MatchSpec::Container("abcdef012345".into())]
    );
    assert_eq!(found.source.to_string(), "test.yaml:10");
    assert!(registry.agent_named("b").is_none());
}

#[test]
fn an_agent_without_a_role_observes() {
    let text = "apiVersion: chaperone/v1\nkind: Agent\nmetadata: { name: a }\nspec: { owner: o }\n";
    let (registry, table) = build(text).unwrap();
    let found = registry.agent_named("a").unwrap();
    assert_eq!((found.role.as_str(), found.role_id), ("unregistered", name_id("unregistered")));
    assert!(table.roles.contains_key(&found.role_id));
}

#[test]
fn removed_names_are_remembered_for_late_events_and_not_for_ever() {
    let text = role("r", "observe", "{ default: allow }") + "---\n" + &agent("a", "r", "[]");
    let (mut before, _) = build(&text).unwrap();
    let (a, r) = (name_id("a"), name_id("r"));
    for i in 0..2000 {
        let (mut after, _) = build(&agent(&format!("b{i}"), "unregistered", "[]")).unwrap();
        after.succeed(before);
        if i == 0 {
            assert_eq!((after.agent_name(a), after.role_name(r)), (Some("a"), Some("r")));
            assert!(after.agent(a).is_none());
        }
        before = after;
    }
    assert_eq!(before.agent_name(a), None);
    assert_eq!(before.agent_name(name_id("b1990")), Some("b1990"));
}
