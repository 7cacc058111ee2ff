//! From documents to the table that is put in force. Pure: same documents, same table.

use std::collections::BTreeMap;

use agent_common::{
    identity::name_id,
    limits::{
        EXACT_RULES_MAX, NAME_RULES_MAX, NAMES_MAX, PREFIX_RULES_MAX, ROLES_MAX, SOCKET_RULES_MAX,
        UNIX_RULES_MAX,
    },
    name::{ASKING, NameKey, NameRuleKey},
    rule::{ExactKey, PrefixKey, SocketKey, UnixKey, absent},
};

use super::draft::{Draft, built_in, draft};
pub use super::table::{Diff, Keys, Names, RuleText, Table};
use crate::{
    config::{
        Documents,
        document::{Mode, PromotionDocument},
        problem::{Place, Problem, Problems},
    },
    event::Name,
    identity::registry::UNREGISTERED,
};

/// The table of all roles, the built-in one included, or everything that is wrong with them.
pub fn compile(documents: &Documents) -> Result<Table, Problems> {
    let mut problems = Problems::default();
    let mut table = Table::default();
    let mut places: BTreeMap<u32, (&str, &Place)> = BTreeMap::new();
    let mut drafts = BTreeMap::new();
    drafts.insert(name_id(UNREGISTERED), (UNREGISTERED, built_in()));
    let promotions = promotions(documents, &mut problems);
    for role in &documents.roles {
        let name = &role.metadata.name;
        let id = name_id(&name.value);
        if let Some(problem) = name_taken(&name.value, &name.place, id, &places) {
            problems.push(problem);
            continue;
        }
        places.insert(id, (&name.value, &name.place));
        if let (Some(reactions), Mode::Enforce) = (role.spec.baseline, role.spec.mode) {
            table.names.reactions.insert(id, reactions);
        }
        if role.spec.goes_by_baseline() {
            let file = promotions.get(&*name.value).map(|one| Name::from(&*one.metadata.name.place.file));
            table.names.by_baseline.insert(name.value.clone(), file);
        }
        drafts.insert(id, (&name.value, draft(role, promotions.get(&*name.value).copied(), &mut problems)));
    }
    for (role, (name, draft)) in drafts {
        lay(&mut table, role, name, draft);
    }
    check_bounds(&table, documents, &mut problems);
    check_numbers(&table, documents, &mut problems);
    problems.settle(table, &documents.texts)
}

/// What was promoted, by role. That of a role which is not there (any more) is kept, and in force for nobody.
fn promotions<'a>(
    documents: &'a Documents,
    problems: &mut Problems,
) -> BTreeMap<&'a str, &'a PromotionDocument> {
    let mut all: BTreeMap<&str, &PromotionDocument> = BTreeMap::new();
    for promotion in &documents.promotions {
        let name = &promotion.metadata.name;
        if let Some(first) = all.get(&*name.value) {
            let what = format!("a second promotion for the role `{}`", name.value);
            let remedy = format!("keep one; the first is at {}", first.metadata.name.place);
            problems.push(Problem::new(&name.place, what, remedy));
            continue;
        }
        all.insert(&name.value, promotion);
    }
    all
}

fn name_taken(name: &str, place: &Place, id: u32, places: &BTreeMap<u32, (&str, &Place)>) -> Option<Problem> {
    if name == UNREGISTERED {
        let remedy = "give it another name: agents without a role have this one, which observes and allows";
        return Some(Problem::new(place, "the role `unregistered` is built in", remedy));
    }
    let (what, remedy) = match places.get(&id) {
        Some((first, at)) if *first == name => {
            (format!("a second role is called `{name}`"), format!("rename one; the first is at {at}"))
        }
        Some((first, at)) => {
            let what =
                format!("the roles `{name}` and `{first}` have the same number in the kernel ({id:#010x})");
            (what, format!("rename one; the other is at {at}"))
        }
        None if id == name_id(UNREGISTERED) => {
            let what = format!("the roles `{name}` and `{UNREGISTERED}` have the same number in the kernel");
            (what, "rename it".to_string())
        }
        None => return None,
    };
    Some(Problem::new(place, what, remedy))
}

/// Moves a draft into the table under its policy id.
fn lay(table: &mut Table, role: u32, name: &str, mut draft: Draft) {
    let content = draft.content(role);
    let mut id = (content ^ (content >> 32)) as u32;
    // 0 stands for no policy in events; two roles with one hash take turns in the order of their ids.
    while id == 0 || table.names.policies.contains_key(&id) {
        id = id.wrapping_add(1);
    }
    draft.policy.id = id;
    draft.policy.absent |= absent(&draft.rules);
    table.roles.insert(role, draft.policy);
    table.names.roles.insert(role, name.to_string());
    table.names.policies.insert(id, role);
    table.exact.extend(draft.rules.exact.into_iter().map(|(key, v)| (ExactKey { policy: id, ..key }, v)));
    table
        .sockets
        .extend(draft.rules.sockets.into_iter().map(|(key, v)| (SocketKey { policy: id, ..key }, v)));
    table.hosts.extend(draft.rules.hosts);
    let by_name = draft.rules.by_name.into_iter();
    table.by_name.extend(by_name.map(|(key, v)| (NameRuleKey { policy: id, ..key }, v)));
    let prefixes = draft.rules.prefixes.into_iter();
    table.prefixes.extend(prefixes.map(|((bits, key), v)| ((bits, PrefixKey { policy: id, ..key }), v)));
    let unix = draft.rules.unix.into_iter();
    table.unix.extend(unix.map(|((bits, key), v)| ((bits, UnixKey { policy: id, ..key }), v)));
    let texts = draft.texts.into_iter().enumerate();
    table.names.rules.extend(texts.map(|(index, text)| ((id, index as u16), text)));
}

/// Which rules on endpoints there are none of.
fn absent(rules: &Table) -> u8 {
    let ports = |every: bool| rules.prefixes.keys().any(|(_, key)| (key.port == 0) == every);
    let found = [
        (!rules.exact.is_empty(), absent::EXACT),
        (ports(false), absent::PORTS),
        (ports(true), absent::EVERY_PORT),
        (rules.by_name.keys().any(|key| key.protocol != ASKING), absent::NAMES),
    ];
    found.into_iter().filter(|(there, _)| !there).map(|(_, bit)| bit).sum()
}

/// Two names with one number would be one to the kernel: 64 bits of hash, so that it never happens by itself.
fn check_numbers(table: &Table, documents: &Documents, problems: &mut Problems) {
    let mut numbers = BTreeMap::new();
    for (name, id) in &table.hosts {
        if let (Some(first), Some(role)) = (numbers.insert(id, name), documents.roles.last()) {
            let text =
                |name: &NameKey| String::from_utf8_lossy(&name.text).trim_end_matches('\0').to_string();
            let what = format!("`{}` and `{}` have the same number in the kernel", text(first), text(name));
            problems.push(Problem::new(&role.metadata.name.place, what, "leave one of them out"));
        }
    }
}

/// A change lays the new rules beside the old, so each map must hold twice what is in force.
fn check_bounds(table: &Table, documents: &Documents, problems: &mut Problems) {
    let bounds = [
        ("roles", table.roles.len(), ROLES_MAX / 2, "half of ROLES_MAX"),
        (
            "rules with one address and port",
            table.exact.len(),
            EXACT_RULES_MAX / 2,
            "half of EXACT_RULES_MAX",
        ),
        (
            "rules with an address prefix",
            table.prefixes.len(),
            PREFIX_RULES_MAX / 2,
            "half of PREFIX_RULES_MAX",
        ),
        ("rules on unix sockets", table.unix.len(), UNIX_RULES_MAX / 2, "half of UNIX_RULES_MAX"),
        ("host names", table.hosts.len(), NAMES_MAX / 2, "half of NAMES_MAX"),
        ("rules by host name", table.by_name.len(), NAME_RULES_MAX / 2, "half of NAME_RULES_MAX"),
        ("rules on other sockets", table.sockets.len(), SOCKET_RULES_MAX / 2, "half of SOCKET_RULES_MAX"),
    ];
    let Some(place) = documents.roles.last().map(|role| &role.metadata.name.place) else { return };
    for (what, count, max, bound) in bounds {
        if count > max as usize {
            let what = format!("all roles together have {count} {what}, at most {max} ({bound})");
            let remedy =
                "join addresses to prefixes, leave out ports; a port or protocol counts as a rule of its own";
            problems.push(Problem::new(place, what, remedy));
        }
    }
}

#[cfg(test)]
mod tests {
    use agent_common::rule::Rule;

    use super::*;

    #[test]
    fn what_there_is_none_of_need_not_be_looked_for() {
        let mut rules = Table::default();
        assert_eq!(absent(&rules), absent::EXACT | absent::PORTS | absent::EVERY_PORT | absent::NAMES);
        let key = |port| PrefixKey { policy: 0, port, protocol: 6, _pad: 0, address: [0; 16] };
        rules.prefixes.insert((96, key(0)), Rule::NONE);
        assert_eq!(absent(&rules), absent::EXACT | absent::PORTS | absent::NAMES);
        rules.prefixes.insert((96, key(443)), Rule::NONE);
        let exact = ExactKey { policy: 0, port: 443, protocol: 6, _pad: 0, address: [0; 16] };
        rules.exact.insert(exact, Rule::NONE);
        assert_eq!(absent(&rules), absent::NAMES);
        rules.by_name.insert(NameRuleKey::default(), Rule::NONE);
        assert_eq!(absent(&rules), absent::NAMES);
        rules.by_name.insert(NameRuleKey { protocol: 6, ..NameRuleKey::default() }, Rule::NONE);
        assert_eq!(absent(&rules), 0);
    }
}
