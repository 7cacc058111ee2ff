//! What lies in the kernel's maps, and what changes between two tables.

use agent_common::{
    identity::name_id,
    rule::{ANY, Class, ExactKey, Mode, PrefixKey, Rule, SocketKey},
    verdict::Verdict,
};
use chaperone::policy::table::{Table, unix_bytes, unix_exact};

use super::{build, role, table};

const RULES: &str = "{ default: deny, rules: [
    { to: \"10.1.2.3:443\", protocol: tcp, verdict: allow },
    { to: \"10.0.0.0/8\", protocol: udp, verdict: alert },
    { to: 10.1.2.3, protocol: icmp, verdict: allow },
    { to: \"unix:/run/x\", verdict: allow },
    { to: \"unix:@p*\", verdict: allow },
    { to: \"vsock:2:*\", verdict: allow },
    { to: \"raw:*\", verdict: alert },
    { to: \"family:can\", verdict: allow } ] }";

fn v4(text: &str) -> [u8; 16] {
    text.parse::<std::net::Ipv4Addr>().expect(text).to_ipv6_mapped().octets()
}

#[test]
fn each_rule_lies_in_its_map_under_the_key_that_the_kernel_asks_for() {
    let table = table(&role("r", "enforce", RULES));
    let policy = table.roles[&name_id("r")];
    assert_eq!(policy.mode, Mode::Enforce as u8);
    let id = policy.id;
    let rule = |verdict: Verdict, prefix_len, index| Rule { verdict: verdict as u8, prefix_len, index };
    let exact = ExactKey { policy: id, port: 443, protocol: 6, _pad: 0, address: v4("10.1.2.3") };
    assert_eq!(table.exact.into_iter().collect::<Vec<_>>(), [(exact, rule(Verdict::Allow, 128, 0))]);
    let prefix =
        |protocol, address: &str| PrefixKey { policy: id, port: 0, protocol, _pad: 0, address: v4(address) };
    assert_eq!(
        table.prefixes.into_iter().collect::<Vec<_>>(),
        [
            ((64 + 104, prefix(17, "10.0.0.0")), rule(Verdict::Alert, 104, 1)),
            ((64 + 128, prefix(1, "10.1.2.3")), rule(Verdict::Allow, 128, 2)),
        ]
    );
    let unix: Vec<_> =
        table.unix.into_iter().map(|((bits, key), rule)| (bits, key.name, rule.index)).collect();
    assert_eq!(unix, [(32 + 16, unix_bytes(b"\0p"), 4), (32 + 8 * 112, unix_exact(b"/run/x"), 3)]);
    let socket = |class: Class, a, b| SocketKey { policy: id, class: class as u8, _pad: [0; 3], a, b };
    assert_eq!(
        table.sockets.into_iter().map(|(key, rule)| (key, rule.index)).collect::<Vec<_>>(),
        [
            (socket(Class::Raw, ANY, ANY), 6),
            (socket(Class::Vsock, 2, ANY), 5),
            (socket(Class::Family, 29, 0), 7),
        ]
    );
    assert_eq!(table.names.rules[&(id, 1)].text.as_ref(), "10.0.0.0/8 udp alert");
    assert_eq!(table.names.rules[&(id, 1)].place.to_string(), "test.yaml:8");
}

#[test]
fn the_same_content_has_the_same_policy_id_and_any_other_has_another() {
    let one = table(&role("r", "enforce", RULES));
    let id = |table: &Table| table.roles[&name_id("r")].id;
    // A comment, another file order, another role beside it: nothing in the kernel changes.
    let beside = role("q", "enforce", RULES) + "---\n# why\n" + &role("r", "enforce", RULES);
    assert_eq!(id(&one), id(&table(&beside)));
    for other in [
        role("r", "alert", RULES),
        role("r", "enforce", &RULES.replace("default: deny", "default: alert")),
        role("r", "enforce", &RULES.replace("10.0.0.0/8", "10.0.0.0/9")),
        role("r", "enforce", &RULES.replace("udp, verdict: alert", "udp, verdict: deny")),
    ] {
        assert_ne!(id(&one), id(&table(&other)));
    }
    // Two roles never share a policy, so a policy id names its role.
    let both = table(&beside);
    assert_eq!(both.names.policies.len(), both.roles.len());
}

#[test]
fn a_diff_holds_what_changed_and_nothing_else() {
    let text = role("r", "enforce", RULES) + "---\n" + &role("s", "enforce", RULES);
    let old = table(&text);
    assert!(table(&text).diff(&old).is_empty());
    let new = table(
        &(role("r", "enforce", &RULES.replace("10.0.0.0/8", "10.0.0.0/9"))
            + "---\n"
            + &role("s", "enforce", RULES)),
    );
    let diff = new.diff(&old);
    let id = new.roles[&name_id("r")].id;
    assert_eq!(diff.add.roles.keys().copied().collect::<Vec<_>>(), [name_id("r")]);
    assert!(diff.remove.roles.is_empty());
    assert!(diff.add.exact.keys().all(|key| key.policy == id) && diff.add.exact.len() == 1);
    assert_eq!((diff.add.prefixes.len(), diff.add.unix.len(), diff.add.sockets.len()), (2, 2, 3));
    let gone = old.roles[&name_id("r")].id;
    assert!(
        diff.remove.prefixes.iter().all(|(_, key)| key.policy == gone) && diff.remove.prefixes.len() == 2
    );
    let diff = table(&role("s", "enforce", RULES)).diff(&old);
    assert_eq!(diff.remove.roles, [name_id("r")]);
    assert!(diff.add.roles.is_empty() && diff.add.exact.is_empty());
}

#[test]
fn another_content_under_a_policy_id_that_is_in_force_is_noticed() {
    let (r, id) = (name_id("r"), |table: &Table| table.roles[&name_id("r")].id);
    let old = table(&role("r", "enforce", RULES));
    assert_eq!(old.collides(&old), None);
    assert_eq!(table(&role("r", "alert", RULES)).collides(&old), None);
    assert_eq!(Table::default().collides(&old), None);
    // Two contents with one number cannot be found in a test's time, so each kind of difference is laid by hand.
    type Change = fn(&mut Table);
    let changes: [(&str, Change); 7] = [
        ("the mode", |t| t.roles.values_mut().for_each(|p| p.mode ^= 1)),
        ("a verdict", |t| t.exact.values_mut().for_each(|rule| rule.verdict = Verdict::Deny as u8)),
        ("a rule less", |t| t.exact.clear()),
        ("a prefix less", |t| _ = t.prefixes.pop_first()),
        ("a unix name less", |t| _ = t.unix.pop_first()),
        ("a class less", |t| _ = t.sockets.pop_first()),
        ("another role", |t| {
            let policy = t.roles.pop_first().unwrap().1;
            t.roles.insert(7, policy);
            t.names.policies.insert(policy.id, 7);
            t.names.roles.insert(7, "r".to_owned());
        }),
    ];
    for (what, change) in changes {
        let mut new = old.clone();
        change(&mut new);
        assert_eq!(new.collides(&old), Some("r"), "{what}");
    }
    assert!(old.names.policies[&id(&old)] == r);
}

#[test]
fn a_bound_is_named_when_it_is_reached() {
    // Two protocols times 256 ports times this many addresses is just more than the bound.
    let rules: Vec<String> = (0..257)
        .map(|i| format!("{{ to: \"10.0.{}.{}:1-256\", verdict: allow }}", i / 256, i % 256))
        .collect();
    let problems =
        build(&role("r", "enforce", &format!("{{ default: deny, rules: [ {} ] }}", rules.join(", "))))
            .unwrap_err();
    assert_eq!(problems.0.len(), 1);
    assert_eq!(
        problems.0[0].what,
        "all roles together have 131584 rules with one address and port, at most 131072 (half of EXACT_RULES_MAX)"
    );
    // With the built-in one they are one more than old and new roles have room for.
    let roles: Vec<String> =
        (0..2048).map(|i| role(&format!("r{i}"), "observe", "{ default: allow }")).collect();
    let problems = build(&roles.join("---\n")).unwrap_err();
    assert!(problems.0[0].what.ends_with("2049 roles, at most 2048 (half of ROLES_MAX)"), "{problems}");
    assert!(build(&roles[1..].join("---\n")).is_ok());
}
