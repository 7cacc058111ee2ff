//! What people are told is what the kernel decides, and why.

use agent_common::verdict::{Source, Verdict};
use chaperone::{
    config::document::Protocol,
    policy::{
        explain::{Act, Endpoint, Explanation, explain},
        table::Table,
    },
};

use super::{role, table};

fn ask(table: &Table, to: &str) -> Explanation {
    explain(table, "r", &Act::parse(to, None).unwrap_or_else(|fault| panic!("{to}: {fault:?}")))
}

fn enforced_with(rules: &str, names: &str) -> Table {
    let network = format!("{{ default: deny, rules: [ {rules} ] }}");
    table(&(role("r", "enforce", &network).trim_end().to_owned() + "\n" + names))
}

fn enforced(rules: &str) -> Table {
    table(&role("r", "enforce", &format!("{{ default: deny, rules: [ {rules} ] }}")))
}

#[test]
fn the_longer_prefix_wins_then_the_port() {
    let table = enforced(
        "{ to: 10.0.0.0/8, verdict: allow }, { to: \"10.1.0.0/16:443\", verdict: deny }, \
         { to: 10.1.2.0/24, verdict: alert }, { to: \"10.1.2.0/24:443\", verdict: allow }, { to: \"10.1.2.3:443\", verdict: deny }",
    );
    for (to, verdict, rule, others) in [
        ("10.9.9.9:1", Verdict::Allow, "10.0.0.0/8 allow", 0),
        ("10.1.9.9:443", Verdict::Deny, "10.1.0.0/16:443 deny", 1),
        ("10.1.9.9:80", Verdict::Allow, "10.0.0.0/8 allow", 0),
        ("10.1.2.9:80", Verdict::Alert, "10.1.2.0/24 alert", 1),
        ("10.1.2.9:443", Verdict::Allow, "10.1.2.0/24:443 allow", 3),
        ("10.1.2.3:443", Verdict::Deny, "10.1.2.3:443 deny", 4),
    ] {
        let explanation = ask(&table, to);
        assert_eq!(explanation.verdict, verdict, "{to}");
        assert_eq!(explanation.rule.map(|rule| rule.text).as_deref(), Some(rule), "{to}");
        assert_eq!(explanation.others.len(), others, "{to}");
    }
    let explanation = ask(&table, "10.1.2.9:443");
    let why: Vec<&str> = explanation.others.iter().map(|other| other.why.as_str()).collect();
    assert_eq!(
        why,
        ["it names every port, the other this one", "its prefix is shorter", "its prefix is shorter"]
    );
}

#[test]
fn what_no_rule_names_gets_the_default_of_its_class() {
    let table = table(&role("r", "enforce", "{ default: alert, defaults: { unix: allow, vsock: deny } }"));
    for (to, verdict) in [
        ("10.0.0.1:80", Verdict::Alert),
        ("unix:/run/x", Verdict::Allow),
        ("vsock:2:22", Verdict::Deny),
        ("raw:icmp", Verdict::Alert),
        ("packet", Verdict::Alert),
        ("protocol:sctp", Verdict::Alert),
        ("family:alg", Verdict::Alert),
        ("netlink", Verdict::Allow),
        ("routing", Verdict::Deny),
    ] {
        let explanation = ask(&table, to);
        assert_eq!((explanation.verdict, explanation.source), (verdict, Source::Default), "{to}");
    }
}

#[test]
fn unix_names_match_whole_or_by_prefix_the_longest_first() {
    let table = enforced(
        "{ to: \"unix:/run/x\", verdict: allow }, { to: \"unix:/run/d/*\", verdict: alert }, \
         { to: \"unix:/run/d/secret\", verdict: deny }, { to: \"unix:@a\", verdict: allow }, { to: \"unix:@pre*\", verdict: allow }",
    );
    for (to, verdict) in [
        ("unix:/run/x", Verdict::Allow),
        ("unix:/run/xy", Verdict::Deny),
        ("unix:/run/", Verdict::Deny),
        ("unix:/run/d/1", Verdict::Alert),
        ("unix:/run/d/secret", Verdict::Deny),
        ("unix:/run/d/secret2", Verdict::Alert),
        ("unix:@a", Verdict::Allow),
        ("unix:@ab", Verdict::Deny),
        ("unix:@prefixed", Verdict::Allow),
        ("unix:/pre", Verdict::Deny),
    ] {
        let act = match to {
            "unix:/run/" => Act::Unix(b"/run/".to_vec()),
            _ => Act::parse(to, None).unwrap(),
        };
        assert_eq!(explain(&table, "r", &act).verdict, verdict, "{to}");
    }
    let behind_a_nul = explain(&table, "r", &Act::Unix(b"\0a\0more".to_vec()));
    assert_eq!(behind_a_nul.verdict, Verdict::Deny);
    let longest = format!("unix:/{}", "x".repeat(107));
    let table = enforced(&format!("{{ to: \"{longest}\", verdict: allow }}"));
    assert_eq!(ask(&table, &longest).verdict, Verdict::Allow);
    assert_eq!(explain(&table, "r", &Act::Unix(vec![b'x'; 4000])).verdict, Verdict::Deny);
}

#[test]
fn vsock_and_raw_rules_may_stand_for_every() {
    let table = enforced(
        "{ to: \"vsock:2:22\", verdict: allow }, { to: \"vsock:2:*\", verdict: alert }, { to: \"vsock:*:7\", verdict: allow }, \
         { to: \"raw:*\", verdict: alert }, { to: \"raw:icmp\", verdict: allow }",
    );
    for (to, verdict) in [
        ("vsock:2:22", Verdict::Allow),
        ("vsock:2:23", Verdict::Alert),
        ("vsock:2:7", Verdict::Alert),
        ("vsock:3:7", Verdict::Allow),
        ("vsock:3:8", Verdict::Deny),
        ("raw:icmp", Verdict::Allow),
        ("raw:255", Verdict::Alert),
    ] {
        assert_eq!(ask(&table, to).verdict, verdict, "{to}");
    }
}

#[test]
fn without_a_protocol_a_rule_speaks_for_tcp_udp_and_unless_it_names_a_port_for_ping() {
    let table = enforced(
        "{ to: 10.0.0.1, verdict: allow }, { to: \"10.0.0.2:53\", verdict: allow }, { to: 10.0.0.3, protocol: icmp, verdict: allow }",
    );
    let verdict = |to: &str, protocol| explain(&table, "r", &Act::parse(to, Some(protocol)).unwrap()).verdict;
    assert_eq!(verdict("10.0.0.1:9", Protocol::Tcp), Verdict::Allow);
    assert_eq!(verdict("10.0.0.1:9", Protocol::Udp), Verdict::Allow);
    assert_eq!(verdict("10.0.0.1", Protocol::Icmp), Verdict::Allow);
    assert_eq!(verdict("10.0.0.2:53", Protocol::Udp), Verdict::Allow);
    assert_eq!(verdict("10.0.0.2", Protocol::Icmp), Verdict::Deny);
    assert_eq!(verdict("10.0.0.3", Protocol::Icmp), Verdict::Allow);
    assert_eq!(verdict("10.0.0.3:1", Protocol::Tcp), Verdict::Deny);
}

#[test]
fn both_spellings_of_an_ipv4_address_meet_the_same_rule() {
    let table = enforced("{ to: \"10.0.0.0/8:443\", verdict: allow }");
    assert_eq!(ask(&table, "[::ffff:10.1.2.3]:443").verdict, Verdict::Allow);
    assert_eq!(ask(&table, "[::10.1.2.3]:443").verdict, Verdict::Deny);
}

#[test]
fn the_unspecified_address_is_judged_as_this_host() {
    let table = enforced("{ to: \"127.0.0.0/8:80\", verdict: allow }, { to: \"[::1]:81\", verdict: allow }");
    let verdict = |address: &str, port| {
        let to = Endpoint { address: address.parse().unwrap(), port, protocol: Protocol::Tcp };
        explain(&table, "r", &Act::Endpoint(to)).verdict
    };
    for (address, port, expected) in [
        ("0.0.0.0", 80, Verdict::Allow),
        ("::ffff:0.0.0.0", 80, Verdict::Allow),
        ("::", 81, Verdict::Allow),
        ("::", 80, Verdict::Deny),
    ] {
        assert_eq!(verdict(address, port), expected, "{address}");
    }
}

#[test]
fn the_mode_softens_and_says_what_was_wanted() {
    for (mode, verdict) in
        [("observe", Verdict::Allow), ("alert", Verdict::Alert), ("enforce", Verdict::Deny)]
    {
        let table = table(&role("r", mode, "{ default: deny }"));
        let explanation = ask(&table, "10.0.0.1:1");
        assert_eq!((explanation.verdict, explanation.wanted), (verdict, Verdict::Deny), "{mode}");
    }
}

#[test]
fn the_built_in_role_allows_and_a_role_without_policy_refuses() {
    let table = enforced("");
    let act = Act::parse("10.0.0.1:1", None).unwrap();
    assert_eq!(explain(&table, "unregistered", &act).verdict, Verdict::Allow);
    let explanation = explain(&table, "nobody", &act);
    assert_eq!((explanation.verdict, explanation.source), (Verdict::Deny, Source::NoPolicy));
}

#[test]
fn only_one_thing_can_be_asked_about() {
    for to in [
        "10.0.0.0/8:1",
        "10.0.0.1",
        "10.0.0.1:1,2",
        "*:1",
        "unix:/run/*",
        "vsock:*:1",
        "raw:*",
        "*.a.example:1",
        "a.example",
    ] {
        assert!(Act::parse(to, None).is_err(), "{to}");
    }
    assert!(Act::parse("10.0.0.1:1", Some(Protocol::Icmp)).is_err());
    assert!(Act::parse("packet", Some(Protocol::Tcp)).is_err());
}

#[test]
fn an_explanation_for_machines_has_names_for_everything() {
    let table = enforced("{ to: \"10.0.0.0/8:443\", verdict: allow }, { to: 10.0.0.0/8, verdict: deny }");
    let json = serde_json::to_value(ask(&table, "10.1.2.3:443")).unwrap();
    let expected = serde_json::json!({
        "role": "r", "to": "10.1.2.3:443 tcp", "class": "endpoint", "mode": "enforce", "verdict": "allow",
        "wanted": "allow", "source": "rule",
        "rule": { "text": "10.0.0.0/8:443 allow", "file": "test.yaml", "line": 6, "column": 38 },
        "others": [ {
            "text": "10.0.0.0/8 deny", "file": "test.yaml", "line": 6, "column": 80,
            "why": "it names every port, the other this one",
        } ],
    });
    assert_eq!(json, expected);
}

#[test]
fn a_host_is_decided_by_its_whole_name_then_the_longest_wildcard_then_the_port() {
    let table = enforced(
        "{ to: \"*.example.com\", verdict: allow }, { to: \"*.erp.example.com:443\", verdict: alert }, \
         { to: \"NO.erp.example.com\", verdict: deny }, { to: \"no.erp.example.com:80\", verdict: allow }, \
         { to: \"10.0.0.0/8\", verdict: deny }",
    );
    for (to, verdict, rule, others) in [
        ("a.example.com:22", Verdict::Allow, Some("*.example.com allow"), 0),
        ("a.b.example.com.:22", Verdict::Allow, Some("*.example.com allow"), 0),
        ("a.erp.example.com:443", Verdict::Alert, Some("*.erp.example.com:443 alert"), 1),
        ("a.erp.example.com:22", Verdict::Allow, Some("*.example.com allow"), 0),
        ("no.erp.example.com:443", Verdict::Deny, Some("NO.erp.example.com deny"), 2),
        ("no.erp.example.com:80", Verdict::Allow, Some("no.erp.example.com:80 allow"), 2),
        ("example.com:443", Verdict::Deny, None, 0),
        ("aexample.com:443", Verdict::Deny, None, 0),
        ("a.example.com.evil.test:443", Verdict::Deny, None, 0),
    ] {
        let explanation = ask(&table, to);
        assert_eq!(explanation.verdict, verdict, "{to}");
        assert_eq!(explanation.rule.as_ref().map(|rule| &*rule.text), rule, "{to}");
        assert_eq!(explanation.others.len(), others, "{to}: {explanation:?}");
    }
    assert!(Act::parse("*.example.com:443", None).is_err());
    assert!(Act::parse("a.example.com", None).is_err());
}

#[test]
fn a_role_without_names_does_not_look_for_them() {
    use agent_common::{identity::name_id, rule::absent};
    let without = enforced("{ to: 10.0.0.0/8, verdict: allow }");
    assert_ne!(without.roles[&name_id("r")].absent & absent::NAMES, 0);
    let with = enforced("{ to: a.example.com, verdict: allow }");
    assert_eq!(with.roles[&name_id("r")].absent & absent::NAMES, 0);
    // TCP, UDP, ICMP, and asking for it.
    assert_eq!((with.hosts.len(), with.by_name.len()), (1, 4));
    assert!(!without.reads_names() && with.reads_names());
}

#[test]
fn what_may_be_reached_may_be_asked_for_and_names_says_what_else() {
    let rules = "{ to: 'a.example.com:443', verdict: allow }, { to: 'b.example.com', verdict: deny }, \
                 { to: '*.erp.example.com:443', verdict: allow }, { to: '*.erp.example.com:22', verdict: deny }";
    let names = "  names: { default: deny, rules: [ { name: '*.search.test', verdict: allow }, \
                 { name: no.erp.example.com, verdict: deny } ] }\n";
    let ask = |table: &Table, name: &str| {
        let act = Act::parse(&format!("name:{name}"), None).unwrap();
        explain(table, "r", &act)
    };
    let table = enforced_with(rules, names);
    for (name, verdict, rule) in [
        ("a.example.com", Verdict::Allow, Some("a.example.com:443 allow")),
        ("b.example.com", Verdict::Deny, Some("b.example.com deny")),
        ("x.erp.example.com", Verdict::Allow, Some("*.erp.example.com:443 allow")),
        ("no.erp.example.com", Verdict::Deny, Some("asking for no.erp.example.com deny")),
        ("x.y.search.test", Verdict::Allow, Some("asking for *.search.test allow")),
        ("search.test", Verdict::Deny, None),
    ] {
        let explanation = ask(&table, name);
        assert_eq!(explanation.verdict, verdict, "{name}");
        assert_eq!(explanation.rule.as_ref().map(|rule| &*rule.text), rule, "{name}");
    }
    // A rule on asking lets nothing be reached.
    let act = Act::parse("x.search.test:443", None).unwrap();
    assert_eq!(explain(&table, "r", &act).verdict, Verdict::Deny);
    // Without `names` everything may be asked for.
    let table = enforced(rules);
    for name in ["a.example.com", "b.example.com", "search.test"] {
        assert_eq!(ask(&table, name).verdict, Verdict::Allow, "{name}");
    }
    assert!(enforced_with("", "  names: { default: alert }\n").reads_names());
    assert!(Act::parse("name:*.example.com", None).is_err());
}
