//! What is known at this moment of where an act leads: the answers that gave addresses their names, asked of the daemon.

use std::{net::IpAddr, path::Path};

use agent_common::name::NameKey;
use serde::Serialize;

use crate::{
    cli::{Place, block_on, render::harmless},
    control::{api::NameView, client},
    policy::{
        explain::{Act, Endpoint, Explanation, explain},
        host::HostName,
        table::Table,
    },
};

/// One address that the act would lead to, and what becomes of it.
#[derive(Debug, Serialize)]
pub struct Now {
    pub address: IpAddr,
    /// The answers that gave the address its names.
    pub answers: Vec<NameView>,
    pub explanation: Explanation,
}

/// `None` where no daemon answers, or the act leads to no host.
pub fn now(table: &Table, role: &str, act: &Act, config: &Path) -> Option<Vec<Now>> {
    if !matches!(act, Act::Endpoint(_) | Act::Host { .. }) {
        return None;
    }
    let place = Place { config: config.into(), socket: None };
    if !place.is_a_daemons() {
        return None;
    }
    let names: Vec<NameView> = block_on(client::get(&place.control_socket(), "/v1/names")).ok()?.ok()?;
    Some(of(table, role, act, &names))
}

fn of(table: &Table, role: &str, act: &Act, names: &[NameView]) -> Vec<Now> {
    let (port, protocol, mut addresses): (_, _, Vec<IpAddr>) = match act {
        Act::Endpoint(to) => (to.port, to.protocol, vec![to.address]),
        Act::Host { name, port, protocol } => {
            let name = name.as_str();
            let given =
                names.iter().filter(|view| view.name == name || view.patterns.iter().any(|p| p == name));
            (*port, *protocol, given.map(|view| view.address).collect())
        }
        _ => return Vec::new(),
    };
    addresses.sort_unstable();
    addresses.dedup();
    let one = |address| {
        let answers: Vec<NameView> = names.iter().filter(|view| view.address == address).cloned().collect();
        let set = |view: &NameView| -> Vec<NameKey> {
            view.patterns.iter().filter_map(|text| Some(HostName::parse(text).ok()?.key())).collect()
        };
        let to = Endpoint { address, port, protocol };
        let explanation = explain(table, role, &Act::Carrier { to, sets: answers.iter().map(set).collect() });
        Now { address, answers, explanation }
    };
    addresses.into_iter().map(one).collect()
}

/// A line for each answer.
pub fn for_people(now: &[Now]) -> String {
    let mut lines = Vec::new();
    for Now { explanation, answers, .. } in now {
        let verdict = format!("now      {} {}", explanation.verdict.name(), explanation.to);
        if answers.is_empty() {
            lines.push(format!("{verdict}: known by no name"));
        }
        for NameView { name, patterns, since_s, expires_s, resolver, .. } in answers {
            let patterns = if patterns.is_empty() { "nothing".to_owned() } else { patterns.join(", ") };
            let name = harmless(name);
            let whose = match (resolver, since_s, expires_s) {
                (Some(resolver), Some(since_s), Some(expires_s)) => {
                    format!("from {resolver} {since_s} s ago, for {expires_s} s more")
                }
                _ => "from /etc/hosts".to_owned(),
            };
            lines.push(format!("{verdict}: {name} (in rules {patterns}), {whose}"));
        }
    }
    if lines.is_empty() {
        lines.push("now      no address is known by this name: nobody has asked for it".to_owned());
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Documents, problem::Problems},
        policy,
    };

    fn view(name: &str, patterns: &[&str]) -> NameView {
        let address = "192.0.2.7".parse().unwrap();
        let patterns = patterns.iter().map(|&text| text.to_owned()).collect();
        let (since_s, expires_s, resolver) = (Some(3), Some(57), Some(address));
        NameView { name: name.into(), address, patterns, since_s, expires_s, resolver }
    }

    #[test]
    fn the_answer_that_gave_an_address_its_name_is_told_and_the_strictest_of_its_names_counts() {
        let text = "apiVersion: chaperone/v1\nkind: Role\nmetadata: { name: r }\nspec:\n  mode: enforce\n  network:\n    \
                    default: deny\n    rules:\n      - { to: \"*.example.com:443\", verdict: allow }\n      \
                    - { to: \"bad.example.org\", verdict: deny }\n";
        let (mut documents, mut found) = (Documents::default(), Problems::default());
        documents.add("r.yaml", text, &mut found);
        let (_, table) = policy::build(&documents, found).unwrap();
        let act = Act::parse("a.example.com:443", None).unwrap();
        assert!(for_people(&of(&table, "r", &act, &[])).contains("nobody has asked"));
        let mut names = vec![view("a.example.com", &["*.example.com"])];
        let told = for_people(&of(&table, "r", &act, &names));
        assert!(
            told.starts_with("now      allow 192.0.2.7:443 tcp: a.example.com (in rules *.example.com)"),
            "{told}"
        );
        names.push(view("a.example.com", &["bad.example.org"]));
        let now = of(&table, "r", &act, &names);
        assert_eq!(now[0].explanation.verdict.name(), "deny");
        assert_eq!(now[0].explanation.others[0].why, "another name of the address has a stricter one");
        let act = Act::parse("192.0.2.8:443", None).unwrap();
        assert!(
            for_people(&of(&table, "r", &act, &names)).contains("deny 192.0.2.8:443 tcp: known by no name")
        );
    }
}
