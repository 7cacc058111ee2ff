//! Every mistake has its place, its words and its remedy.

use super::{agent, build, role};

const HEAD: &str = "apiVersion: chaperone/v1\nkind: Role\nmetadata: { name: r }\nspec:\n";

/// The only problem of a text, as `line:column what (remedy)`.
fn the_problem(text: &str) -> String {
    let problems = build(text).expect_err(text);
    assert_eq!(problems.0.len(), 1, "{text}\n{problems}");
    let problem = &problems.0[0];
    format!("{}:{} {} ({})", problem.place.line, problem.place.column, problem.what, problem.remedy)
}

#[test]
fn mistakes_in_the_form_of_a_document() {
    for (text, expected) in [
        (
            "apiVersion: chaperone/v2\nkind: Role\nmetadata: {name: r}\nspec: {mode: observe, network: {default: allow}}",
            "1:13 apiVersion cannot be `chaperone/v2` (did you mean `chaperone/v1`?)",
        ),
        (
            "apiVersion: chaperone/v1\nkind: Rule\nspec: {}\n",
            "2:7 kind cannot be `Rule` (did you mean `Role`?)",
        ),
        ("- a\n", "1:1 a document must be a mapping, this is a list (write a mapping)"),
        ("just text\n", "1:1 a document must be a mapping, this is a text (write a mapping)"),
        (
            "# nothing\n",
            "0:0 holds no document (write a document, or remove the file: an empty one is taken for half-written)",
        ),
        (
            "apiVersion: chaperone/v1\nkind: Role\nspec: {mode: observe, network: {default: allow}}\n",
            "1:1 a document lacks the field `metadata` (add `metadata: …`)",
        ),
        (
            "apiVersion: chaperone/v1\nkind: Role\nmetadata: {name: Big}\nspec: {mode: observe, network: {default: allow}}\n",
            "3:18 metadata.name cannot be `Big` (lower-case letters, digits, `-` and `.`, at most 63, a letter or digit first and last)",
        ),
        (
            "apiVersion: chaperone/v1\nkind: Role\nmetadata: {name: 12}\nspec: {mode: observe, network: {default: allow}}\n",
            "3:18 metadata.name must be a text, this is a number to YAML (quote it: \"12\")",
        ),
    ] {
        assert_eq!(the_problem(text), expected);
    }
}

#[test]
fn mistakes_in_a_role() {
    for (spec, expected) in [
        (
            "  mode: enforcing\n  network: {default: deny}\n",
            "5:9 mode cannot be `enforcing` (did you mean `enforce`?)",
        ),
        (
            "  mode: enforce\n  netwrok: {default: deny}\n",
            "6:3 a role's spec has no field `netwrok` (did you mean `network`?)",
        ),
        ("  mode: enforce\n", "5:3 a role's spec lacks the field `network` (add `network: …`)"),
        (
            "  mode: enforce\n  mode: alert\n  network: {default: deny}\n",
            "6:3 field `mode` stands here a second time (keep one; the first is on line 5)",
        ),
        (
            "  mode: enforce\n  network: {default: hold}\n",
            "6:22 default cannot be `hold` (`hold` needs approvals, which this version does not have; use deny or alert)",
        ),
        (
            "  mode: enforce\n  network: {default: dney}\n",
            "6:22 default cannot be `dney` (did you mean `deny`?)",
        ),
        (
            "  mode: enforce\n  network: {default: deny, defaults: {unxi: allow}}\n",
            "6:39 defaults has no field `unxi` (did you mean `unix`?)",
        ),
        (
            "  mode: enforce\n  network: {default: deny}\n  exec: {default: deny}\n",
            "7:3 a role's spec has no field `exec` (known: description, mode, network, names, baseline)",
        ),
        (
            "  mode: enforce\n  network: {default: deny}\n  names: {rules: []}\n",
            "7:10 names lacks the field `default` (add `default: …`)",
        ),
        (
            "  mode: enforce\n  network: {default: deny}\n  names: {default: deny, rules: [{name: \"*.a.*\", verdict: allow}]}\n",
            "7:41 `*.a.*` has a * that is not its first label (write *.example.com for all below example.com)",
        ),
        (
            "  mode: enforce\n  network: {default: deny}\n  names: {default: deny, rules: [{name: a.b, verdict: allow}, {name: A.b, verdict: deny}]}\n",
            "7:70 `A.b` is named twice (leave one of them out; the other is at test.yaml:7)",
        ),
        (
            "  mode: enforce\n  network: {default: deny}\n  baseline: {stop: hihg}\n",
            "7:20 stop cannot be `hihg` (did you mean `high`?)",
        ),
        (
            "  mode: enforce\n  network: {default: deny}\n  baseline: {stop: high, kill: high}\n",
            "7:13 `stop: high` never comes to pass beside `kill: high` (have `kill` from a higher severity on, or leave `stop` out)",
        ),
        (
            "  mode: enforce\n  network: {default: deny, rules: {to: x}}\n",
            "6:35 rules must be a list, this is a mapping (write a list)",
        ),
    ] {
        assert_eq!(the_problem(&format!("{HEAD}{spec}")), expected);
    }
}

#[test]
fn mistakes_in_a_rule() {
    for (rule, expected) in [
        (
            "{to: \"10.1.2.3/16\", verdict: allow}",
            "9:14 `10.1.2.3/16` has bits set behind its prefix (write 10.1.0.0/16 for the network, 10.1.2.3 for the one host)",
        ),
        (
            "{to: \"10.1.2.3:70000\", verdict: allow}",
            "9:14 `70000` is not a port from 1 to 65535 (write PORT, FIRST-LAST or a list, such as :443 or :80,8000-8010)",
        ),
        (
            "{to: \"localhost:443\", verdict: allow}",
            "9:14 `localhost` is not a whole name (write the name that resolvers are asked for, such as api.example.com; or an address)",
        ),
        (
            "{to: \"*:443\", verdict: hold}",
            "9:32 verdict cannot be `hold` (`hold` needs approvals, which this version does not have; use deny or alert)",
        ),
        ("{to: \"*:443\", verdict: true}", "9:32 verdict cannot be `true` (known: allow, alert, deny)"),
        (
            "{to: *:443, verdict: allow}",
            "9:14 this is a YAML alias (a text that begins with * needs quotes; YAML aliases are not read, write the value out)",
        ),
        ("{to: [::1]:443, verdict: allow}", "9:19 not YAML: "),
        ("{to: 443, verdict: allow}", "9:14 to must be a text, this is a number to YAML (quote it: \"443\")"),
        (
            "{to: \"*:443\", protocol: sctp, verdict: allow}",
            "9:33 protocol cannot be `sctp` (known: icmp, tcp, udp)",
        ),
        ("{to: \"*:443\", protocol: icmp, verdict: allow}", "9:14 icmp has no ports (leave the port out)"),
        (
            "{to: netlink, protocol: udp, verdict: allow}",
            "9:33 this rule names neither an address nor a host (remove `protocol`: it belongs to addresses and host names)",
        ),
        (
            "{to: netlink, verdict: allow, port: 5}",
            "9:39 a rule has no field `port` (known: to, protocol, verdict)",
        ),
        ("{verdict: allow}", "9:9 a rule lacks the field `to` (add `to: …`)"),
        ("nonsense", "9:9 a rule must be a mapping, this is a text (write a mapping)"),
        (
            "{to: 10.0.0.1, protocol: udp, verdict: deny}\n      - {to: \"10.0.0.1\", verdict: allow}",
            "10:9 this names the same as `10.0.0.1 udp deny`, with another verdict (keep one; the other is at test.yaml:9)",
        ),
        (
            "{to: \"[::ffff:10.0.0.0/104]:5\", verdict: deny}\n      - {to: \"10.0.0.0/8:5\", verdict: allow}",
            "10:9 this names the same as `[::ffff:10.0.0.0/104]:5 deny`, with another verdict (keep one; the other is at test.yaml:9)",
        ),
        (
            "{to: \"unix:/a\", verdict: deny}\n      - {to: \"unix:/a\", verdict: allow}",
            "10:9 this names the same as `unix:/a deny`, with another verdict (keep one; the other is at test.yaml:9)",
        ),
    ] {
        let text =
            format!("{HEAD}  mode: enforce\n  network:\n    default: deny\n    rules:\n      - {rule}\n");
        let problem = the_problem(&text);
        assert!(problem.starts_with(expected), "{problem}\nnot\n{expected}");
    }
}

#[test]
fn mistakes_in_an_agent() {
    let some = role("r", "observe", "{ default: allow }");
    for (matches, expected) in [
        ("[ {} ]", "a match entry names 0 of exe, unit, cgroup and container, it must name one"),
        (
            "[ { exe: /a, unit: b.service } ]",
            "a match entry names 2 of exe, unit, cgroup and container, it must name one",
        ),
        ("[ { exee: /a } ]", "a match entry has no field `exee`"),
        ("[ { exe: a } ]", "exe `a` is not an absolute path"),
        ("[ { exe: \"**/claude\" } ]", "exe `**/claude` names the file alone"),
        ("[ { exe: \"**/bin/bot-*\" } ]", "exe `**/bin/bot-*` has a `*` inside a component"),
        ("[ { exe: \"**/mine/*/*\" } ]", "exe `**/mine/*/*` leaves both the file and its directory open"),
        ("[ { exe: \"**/a/**/b\" } ]", "exe `**/a/**/b` has a component that is not plain"),
        ("[ { exe: \"**/1/2/3/4/5/6/7/8/b\" } ]", "exe `**/1/2/3/4/5/6/7/8/b` has too many components"),
        (
            "[ { exe: \"**/mine/bin/python3.11\" } ]",
            "`python3.11` runs every program of its kind, not only this agent",
        ),
        (
            "[ { exe: \"**/.local/bin/agent\" } ]",
            "exe `**/.local/bin/agent` holds only names that other programs have too",
        ),
        (
            "[ { exe: \"**/node_modules/*/dist/index.js\" } ]",
            "exe `**/node_modules/*/dist/index.js` holds only names that other programs have too",
        ),
        (
            "[ { exe: \"**/versions/*\" } ]",
            "exe `**/versions/*` holds only names that other programs have too",
        ),
        (
            "[ { exe: \"**/my/bot\" }, { exe: \"**/my/bot\" } ]",
            "exe `**/my/bot` stands in the agent `a` twice",
        ),
        ("[ { exe: /a/../b } ]", "exe `/a/../b` is not a plain path"),
        ("[ { exe: /a/ } ]", "exe `/a/` ends with /"),
        ("[ { exe: /nowhere/node } ]", "`/nowhere/node` runs every program of its kind, not only this agent"),
        (
            "[ { exe: /nowhere/python3.11 } ]",
            "`/nowhere/python3.11` runs every program of its kind, not only this agent",
        ),
        ("[ { unit: invoice } ]", "unit cannot be `invoice`"),
        ("[ { unit: user.slice } ]", "unit cannot be `user.slice`"),
        ("[ { cgroup: /system.slice } ]", "the cgroup `/system.slice` holds far more than an agent"),
        ("[ { cgroup: / } ]", "the cgroup `/` holds far more than an agent"),
        ("[ { cgroup: /sys/fs/cgroup/x } ]", "cgroup cannot be `/sys/fs/cgroup/x`"),
        ("[ { container: 0123456789A } ]", "container cannot be `0123456789A`"),
        ("[ { container: abc } ]", "container cannot be `abc`"),
        ("[ { exe: /nowhere/x }, { exe: /nowhere/x } ]", "exe `/nowhere/x` stands in the agent `a` twice"),
    ] {
        let problems = build(&format!("{some}---\n{}", agent("a", "r", matches))).expect_err(matches);
        assert_eq!(problems.0.len(), 1, "{matches}: {problems}");
        assert_eq!(problems.0[0].what, expected);
        assert_eq!(problems.0[0].place.line, 11, "{matches}");
        assert!(problems.0[0].place.column > 0 && !problems.0[0].remedy.is_empty());
    }
}

#[test]
fn documents_that_contradict_each_other() {
    let some = role("r", "observe", "{ default: allow }");
    for (more, expected) in [
        (agent("a", "rr", "[]"), "there is no role `rr`"),
        (agent("a", "r", "[]") + "---\n" + &agent("a", "r", "[]"), "a second agent is called `a`"),
        (some.clone(), "a second role is called `r`"),
        (role("unregistered", "observe", "{ default: allow }"), "the role `unregistered` is built in"),
        (
            agent("a", "r", "[ { unit: u.service } ]")
                + "---\n"
                + &agent("b", "r", "[ { unit: u.service } ]"),
            "the agents `b` and `a` both claim unit `u.service`",
        ),
        (
            agent("a", "r", "[ { container: abcdef012345 } ]")
                + "---\n"
                + &agent("b", "r", "[ { container: abcdef0123456789 } ]"),
            "the agents `b` and `a` both claim container `abcdef0123456789`",
        ),
    ] {
        let problems = build(&format!("{some}---\n{more}")).expect_err(expected);
        assert_eq!(problems.0.len(), 1, "{problems}");
        assert_eq!(problems.0[0].what, expected);
    }
}

#[test]
fn names_with_one_number_are_told_apart_from_equal_names() {
    // Found by search: FNV-1a folded to 32 bits is the same for both.
    let (one, two) = super::registry::names_with_one_id();
    let text =
        role(&one, "observe", "{ default: allow }") + "---\n" + &role(&two, "observe", "{ default: allow }");
    let problems = build(&text).expect_err("two roles with one number");
    assert!(problems.0[0].what.contains("have the same number in the kernel"), "{problems}");
    let text = agent(&one, "unregistered", "[]") + "---\n" + &agent(&two, "unregistered", "[]");
    let problems = build(&text).expect_err("two agents with one number");
    assert!(problems.0[0].what.contains("have the same number in the kernel"), "{problems}");
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = role(
        "r",
        "enforcing",
        "{ default: hold, rules: [ { to: \"10.1.2.3/8\", verdict: allow }, { to: x } ] }",
    ) + "---\nkind: [broken\n---\n"
        + &role(
            "s",
            "enforce",
            "{ default: deny, rules: [ { to: \"10.1.2.3/8\", verdict: allow }, { to: \"a..example\", verdict: deny } ] }",
        )
        + "---\n"
        + &agent("a", "t", "[ { exe: bin/x }, { exe: /usr/bin/env } ]");
    let problems = build(&text).expect_err("mistakes");
    let lines: Vec<u32> = problems.0.iter().map(|problem| problem.place.line).collect();
    assert_eq!(problems.0.len(), 11, "{problems}");
    assert!(lines.is_sorted(), "{problems}");
    assert!(problems.0.iter().all(|problem| problem.source.is_some()), "{problems:?}");
}
