//! Findings of small baselines, and that the same observations give the same findings.

use super::*;
use crate::{
    baseline::{
        context::Context,
        evidence::DAY_NS,
        observation::{Act, Observation},
    },
    event::{Kind, word::ExecId},
};

fn seen(instance: u64, exec: u64, exe: &str, act: Act) -> Observation {
    Observation {
        time: Time(1_767_225_600_000_000_000 + instance * DAY_NS),
        kind: Kind::Unknown,
        host: "host-1".into(),
        boot: "boot-1".into(),
        seq: exec,
        role: Some("r".into()),
        instance: Some(InstanceId(instance)),
        exec: Some(ExecId(instance * 1000 + exec)),
        parent: Some(ExecId(instance * 1000)),
        uid: Some(1000),
        exe: Some(exe.into()),
        script: None,
        refused: false,
        act,
    }
}

fn exec(instance: u64, id: u64, exe: &str) -> Observation {
    seen(instance, id, exe, Act::Exec { begins: id == 0 })
}

fn connect(instance: u64, exe: &str, to: &str) -> Observation {
    let (host, port) = to.rsplit_once(':').unwrap();
    let (name, address) = match host.parse() {
        Ok(address) => (None, address),
        Err(_) => (Some(host.into()), "192.0.2.1".parse().unwrap()),
    };
    let act = Act::Endpoint { address, port: port.parse().ok(), protocol: "tcp".into(), name };
    seen(instance, if exe.ends_with("node") { 0 } else { 1 }, exe, act)
}

const NODE: &str = "/usr/bin/node";

/// Four instances on four days: node runs git and sh; node and git reach their hosts.
fn learned() -> Baselines {
    let mut baselines = Baselines::default();
    for n in 1..=4 {
        for seen in [
            exec(n, 0, NODE),
            exec(n, 1, "/usr/bin/git"),
            exec(n, 2, "/bin/sh"),
            connect(n, NODE, "api.example.com:443"),
            connect(n, NODE, "198.51.100.7:443"),
            connect(n, "/usr/bin/git", "git.example.org:443"),
        ] {
            baselines.learn(&seen);
        }
    }
    baselines.learn(&connect(1, NODE, "once.example.net:443"));
    baselines
}

fn findings(baselines: &Baselines, all: &[Observation]) -> Vec<Finding> {
    let (mut context, rules) = (Context::default(), Rules::default());
    all.iter().flat_map(|seen| compare(baselines, &rules, seen, &context.behaviours(seen))).collect()
}

#[test]
fn what_is_usual_is_no_finding_and_what_differs_says_what_and_how_near() {
    let baselines = learned();
    let usual = [exec(9, 0, NODE), exec(9, 1, "/usr/bin/git"), connect(9, NODE, "api.example.com:443")];
    assert_eq!(findings(&baselines, &usual), []);
    let of = |seen: Observation| {
        let all = findings(&baselines, &[exec(9, 0, NODE), exec(9, 1, "/usr/bin/git"), seen]);
        all.into_iter()
            .map(|found| (found.what.name(), found.nearness.name(), found.severity.name()))
            .collect::<Vec<_>>()
    };
    assert_eq!(of(connect(9, NODE, "eu.example.com:443")), [("new_endpoint", "same_domain", "low")]);
    assert_eq!(of(connect(9, NODE, "198.51.100.99:443")), [("new_endpoint", "same_network", "medium")]);
    assert_eq!(of(connect(9, NODE, "198.51.99.99:443")), [("new_endpoint", "none", "high")]);
    assert_eq!(
        of(connect(9, NODE, "api.example.com:22")),
        [("new_endpoint", "same_host_other_port", "medium")]
    );
    assert_eq!(of(connect(9, NODE, "git.example.org:443")), [("new_endpoint", "other_program", "medium")]);
    assert_eq!(of(connect(9, NODE, "once.example.net:443")), [("new_endpoint", "seen_before", "low")]);
    assert_eq!(of(exec(9, 3, "/usr/bin/nc")), [("new_program", "none", "high")]);
    assert_eq!(of(seen(9, 0, NODE, Act::Unix("/run/docker.sock".into()))), [("new_unix", "none", "high")]);
    assert_eq!(of(seen(9, 0, NODE, Act::Socket("raw icmp".into()))), [("new_socket", "none", "high")]);
    assert_eq!(of(seen(9, 0, NODE, Act::Ask("x.example.com".into()))), [("new_name", "none", "medium")]);
    let root = Observation { uid: Some(0), ..connect(9, NODE, "api.example.com:443") };
    assert_eq!(of(root), [("new_user", "none", "high")]);
    let from_git = Observation { parent: Some(ExecId(9001)), ..exec(9, 5, "/bin/sh") };
    assert_eq!(of(from_git), [("deeper", "none", "low"), ("new_child", "other_program", "medium")]);
}

#[test]
fn a_finding_explains_its_figures_and_ids() {
    let mut baselines = learned();
    let other = Observation { role: Some("s".into()), ..connect(7, NODE, "evil.example.net:443") };
    baselines.learn(&other);
    let found =
        findings(&baselines, &[exec(9, 0, NODE), connect(9, NODE, "evil.example.net:443")]).pop().unwrap();
    assert_eq!(found.how_unusual, "0 of 13 `connect` acts, by 0 of 4 instances in 4 days");
    assert_eq!(found.seen, Seen { by_role: 0, by_role_instances: 0, by_roles: 1, on_host: true });
    assert_eq!((found.technique, found.owasp), (None, None));
    let found = findings(&baselines, &[exec(9, 0, NODE), exec(9, 2, "/usr/bin/bash")]).pop().unwrap();
    assert_eq!((found.technique, found.owasp), (Some("T1059.004"), Some("ASI05")));
    let json = serde_json::to_value(&found).unwrap();
    assert_eq!(
        (&json["what"], &json["severity"], &json["behaviour"]),
        (&"new_program".into(), &"high".into(), &"exec /usr/bin/node -> /usr/bin/bash".into())
    );
    assert_eq!(grouped(1_234_567), "1,234,567");
}

#[test]
fn a_role_without_support_has_no_findings_and_an_unknown_parent_no_opinion() {
    let mut baselines = Baselines::default();
    baselines.learn(&exec(1, 0, NODE));
    assert_eq!(findings(&baselines, &[exec(2, 0, "/usr/bin/nc"), connect(2, NODE, "x.example.com:1")]), []);
    let orphan = |exe| Observation { parent: Some(ExecId(77)), ..exec(9, 3, exe) };
    assert_eq!(findings(&learned(), &[orphan("/bin/sh")]), []);
    assert_eq!(findings(&learned(), &[orphan("/bin/nc")]).len(), 1);
}

#[test]
fn sizes_are_usual_up_to_the_greatest_and_beyond_they_are_found() {
    let fast = |instance: u64, count: u64| -> Vec<Observation> {
        (0..count).map(|n| connect(instance, NODE, &format!("h{}.example.com:443", n))).collect()
    };
    let mut baselines = learned();
    for instance in 10..14 {
        fast(instance, 9).iter().for_each(|seen| drop(baselines.learn(seen)));
    }
    let faster = |count| -> Vec<Behaviour> {
        let all = findings(&baselines, &fast(20, count));
        all.into_iter().filter(|found| found.what == What::Faster).map(|found| found.behaviour).collect()
    };
    assert_eq!(faster(15), []);
    assert_eq!(faster(40), [Behaviour::EndpointsPerMinute(16), Behaviour::EndpointsPerMinute(32)]);
}

#[test]
fn an_upgrade_is_the_same_program_in_another_version() {
    let with = |instance, version: &str| {
        let content = crate::baseline::content::Content {
            package: Some("git".into()),
            version: Some(version.into()),
            sha256: Some(version.into()),
        };
        let act = Act::Identified { path: "/usr/bin/git".into(), content };
        seen(instance, 1, "/usr/bin/git", act)
    };
    let mut baselines = learned();
    (1..4).for_each(|n| drop(baselines.learn(&with(n, "2.39"))));
    assert_eq!(findings(&baselines, &[exec(9, 0, NODE), with(9, "2.39")]), []);
    let found = findings(&baselines, &[exec(9, 0, NODE), with(9, "2.47")]);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].what, found[0].severity), (What::NewVersion, Severity::Low));
    assert_eq!(found[0].how_unusual, "git 2.47, where it was git 2.39 before");
}

#[test]
fn refused_acts_are_found_too_and_the_same_again_gives_the_same() {
    let all: Vec<Observation> = (0..200)
        .map(|n| Observation {
            refused: n % 2 == 0,
            ..connect(30 + n % 7, NODE, &format!("198.51.{}.1:443", n % 9))
        })
        .collect();
    let baselines = learned();
    let (one, two) = (findings(&baselines, &all), findings(&learned(), &all));
    assert!(one.len() >= 200 && one.iter().any(|found| found.refused));
    assert_eq!(serde_json::to_string(&one).unwrap(), serde_json::to_string(&two).unwrap());
}
