//! What was promoted is allowed where the role goes by it, and never what the role's own rules decide.

use agent_common::verdict::{Source, Verdict};
use chaperone::policy::{
    explain::{Act, Explanation, explain},
    table::Table,
};

use super::{build, fuzz::Random, table};

fn role(spec: &str) -> String {
    format!("apiVersion: chaperone/v1\nkind: Role\nmetadata: {{ name: r }}\nspec: {spec}\n---\n")
}

fn promotion(role: &str, spec: &str) -> String {
    format!("apiVersion: chaperone/v1\nkind: Promotion\nmetadata: {{ name: {role} }}\nspec: {spec}\n---\n")
}

fn ask(table: &Table, to: &str) -> Explanation {
    explain(table, "r", &Act::parse(to, None).expect("an act"))
}

const PROMOTED: &str = "{ rules: [ { to: 10.1.2.3:443, protocol: tcp, verdict: allow }, { to: \"api.example.com:443\", protocol: \
                        tcp, verdict: allow }, { to: unix:/run/x.sock, verdict: allow } ], names: [ { name: \
                        more.example.com, verdict: allow } ] }";

#[test]
fn what_was_promoted_is_allowed_and_the_rest_refused() {
    let spec = "{ mode: enforce, network: { default: baseline }, names: { default: baseline } }";
    let table = table(&(role(spec) + &promotion("r", PROMOTED)));
    for to in ["10.1.2.3:443", "api.example.com:443", "unix:/run/x.sock", "name:more.example.com"] {
        let answer = ask(&table, to);
        assert_eq!((answer.verdict, answer.source), (Verdict::Allow, Source::Baseline), "{to}");
        assert!(answer.rule.is_some_and(|rule| rule.place.line > 0), "{to}");
    }
    // What may be reached by name may be asked for.
    assert_eq!(ask(&table, "name:api.example.com").verdict, Verdict::Allow);
    let others =
        ["10.1.2.3:80", "10.1.2.4:443", "www.example.com:443", "unix:/run/y.sock", "vsock:3:1", "raw:icmp"];
    for to in others.into_iter().chain(["name:www.example.com"]) {
        let answer = ask(&table, to);
        assert_eq!((answer.verdict, answer.source), (Verdict::Deny, Source::Default), "{to}");
    }
}

#[test]
fn without_a_promotion_all_that_no_rule_names_is_refused() {
    let spec =
        "{ mode: enforce, network: { default: baseline, rules: [ { to: 10.0.0.1:80, verdict: allow } ] } }";
    let table = table(&(role(spec) + &promotion("another", PROMOTED)));
    assert_eq!(ask(&table, "10.1.2.3:443").verdict, Verdict::Deny);
    assert_eq!(ask(&table, "10.0.0.1:80").verdict, Verdict::Allow);
    assert_eq!(
        ask(&table, "name:any.example.com").verdict,
        Verdict::Allow,
        "the role says nothing of asking"
    );
}

#[test]
fn a_role_that_does_not_go_by_its_baseline_has_nothing_of_it() {
    for default in ["deny", "alert", "allow"] {
        let spec =
            format!("{{ mode: enforce, network: {{ default: {default} }}, names: {{ default: deny }} }}");
        let with = table(&(role(&spec) + &promotion("r", PROMOTED)));
        assert!(with.diff(&table(&role(&spec))).is_empty(), "{default}");
    }
    let spec = "{ mode: enforce, network: { default: deny }, names: { default: baseline } }";
    let names = table(&(role(spec) + &promotion("r", PROMOTED)));
    assert_eq!(ask(&names, "10.1.2.3:443").verdict, Verdict::Deny);
    assert_eq!(ask(&names, "name:more.example.com").verdict, Verdict::Allow);
}

#[test]
fn in_alert_mode_what_is_not_of_the_baseline_is_told() {
    let table = table(&(role("{ mode: alert, network: { default: baseline } }") + &promotion("r", PROMOTED)));
    assert_eq!(ask(&table, "10.1.2.3:443").verdict, Verdict::Allow);
    assert_eq!(ask(&table, "10.1.2.4:443").verdict, Verdict::Alert);
}

/// Whatever people wrote and whatever was promoted: an act that their rules decide is decided as they say.
#[test]
fn own_rules_go_before_whatever_was_promoted() {
    let mut random = Random(3);
    let targets = [
        "10.0.0.0/8",
        "10.1.0.0/16:443",
        "10.1.2.0/24",
        "10.1.2.3:443",
        "10.1.2.3",
        "10.1.2.0/24:80",
        "\"*:443\"",
        "\"*.example.com:443\"",
        "\"*.example.com\"",
        "api.example.com:443",
        "api.example.com",
        "unix:/run/*",
        "unix:/run/x.sock",
        "unix:/run/x*",
        "raw:icmp",
        "\"raw:*\"",
        "vsock:3:1",
        "\"vsock:3:*\"",
        "\"vsock:*:1\"",
    ];
    let acts = [
        "10.1.2.3:443",
        "10.1.2.3:80",
        "10.1.2.9:443",
        "10.9.9.9:443",
        "192.0.2.1:443",
        "api.example.com:443",
        "api.example.com:80",
        "b.example.com:443",
        "unix:/run/x.sock",
        "unix:/run/xy",
        "unix:/tmp/z",
        "raw:icmp",
        "raw:tcp",
        "vsock:3:1",
        "vsock:3:2",
        "vsock:4:1",
    ];
    /// From here on sockets of other kinds, which are not promoted.
    const SOCKETS: usize = 14;
    let mut kept = 0;
    for _ in 0..2_000 {
        let own: Vec<String> = (0..random.below(4))
            .map(|_| {
                format!(
                    "{{ to: {}, verdict: {} }}",
                    random.pick(&targets),
                    random.pick(&["allow", "alert", "deny"])
                )
            })
            .collect();
        let promoted: Vec<String> = (0..1 + random.below(4))
            .map(|_| format!("{{ to: {}, verdict: allow }}", random.pick(&targets[..SOCKETS])))
            .collect();
        let spec =
            format!("{{ mode: enforce, network: {{ default: baseline, rules: [ {} ] }} }}", own.join(", "));
        let Ok((_, without)) = build(&role(&spec)) else { continue };
        let text = role(&spec) + &promotion("r", &format!("{{ rules: [ {} ] }}", promoted.join(", ")));
        let with = table(&text);
        for to in acts {
            let (before, after) = (ask(&without, to), ask(&with, to));
            if before.source == Source::Rule {
                assert_eq!((before.verdict, before.source), (after.verdict, after.source), "{to}\n{text}");
                kept += 1;
            } else {
                assert!(after.verdict == Verdict::Deny || after.source == Source::Baseline, "{to}\n{text}");
            }
        }
    }
    assert!(kept > 1_000, "{kept}");
}

#[test]
fn mistakes_of_a_promotion_have_their_place() {
    let spec = role("{ mode: enforce, network: { default: baseline } }");
    for (promoted, what) in [
        ("{ rules: [ { to: 10.1.2.3:443, verdict: deny } ] }", "a promotion cannot say `deny`"),
        ("{ rules: [ { to: 10.1.2.3/8, verdict: allow } ] }", "bits set behind its prefix"),
        ("{ rules: [], mode: enforce }", "mode"),
        ("{ rules: [ { to: raw:icmp, verdict: allow } ] }", "a promotion cannot name `raw:icmp`"),
    ] {
        let problems = build(&(spec.clone() + &promotion("r", promoted))).unwrap_err();
        assert!(problems.to_string().contains(what), "{problems}");
    }
    let twice = spec + &promotion("r", PROMOTED) + &promotion("r", PROMOTED);
    assert!(build(&twice).unwrap_err().to_string().contains("a second promotion for the role `r`"));
}
