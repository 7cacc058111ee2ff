//! Recorded acts against a small role.

use super::*;
use crate::{
    config::{
        Documents,
        problem::{Problems, Texts},
    },
    event::{Kind, word::ExecId},
    policy,
};

const ROLE: &str = "apiVersion: chaperone/v1\nkind: Role\nmetadata: { name: r }\nspec:\n  mode: observe\n  network:\n    \
                    default: deny\n    rules:\n      - { to: \"api.example.com:443\", protocol: tcp, verdict: allow }\n      \
                    - { to: 192.0.2.0/24, verdict: allow }\n      - { to: 192.0.2.66, verdict: deny }\n      - { to: \
                    \"unix:/run/x\", verdict: allow }\n  names: { default: deny }\n";

fn table() -> Table {
    let texts = Texts([("roles/r.yaml".into(), ROLE.into())].into());
    let (documents, found) = Documents::from_texts(&texts);
    assert!(found.0.is_empty());
    policy::build(&documents, Problems::default()).unwrap().1
}

fn seen(instance: u64, act: observation::Act) -> Observation {
    Observation {
        time: Time(instance),
        kind: Kind::NetConnect,
        host: "host-1".into(),
        boot: "boot-1".into(),
        seq: instance,
        role: Some("r".into()),
        instance: Some(InstanceId(instance)),
        exec: Some(ExecId(1)),
        parent: None,
        uid: None,
        exe: Some("/usr/bin/node".into()),
        script: None,
        refused: false,
        act,
    }
}

fn endpoint(address: &str, port: u32, protocol: &str, name: Option<&str>) -> observation::Act {
    observation::Act::Endpoint {
        address: address.parse().unwrap(),
        port: Some(port),
        protocol: protocol.into(),
        name: name.map(Into::into),
    }
}

#[test]
fn what_no_rule_names_is_told_with_who_and_when_and_the_rest_passes() {
    let (table, mut run) = (table(), DryRun::default());
    let passes = [
        endpoint("198.51.100.1", 443, "tcp", Some("api.example.com")),
        endpoint("192.0.2.1", 5432, "tcp", None),
        endpoint("::ffff:192.0.2.1", 5432, "udp", None),
        observation::Act::Unix("/run/x".into()),
        observation::Act::Ask("api.example.com".into()),
    ];
    for act in passes {
        run.take(&table, "r", &seen(1, act));
    }
    assert_eq!((run.acts, run.refused, run.unjudged), (5, 0, 0), "{run:?}");
    let refused = [
        (endpoint("198.51.100.1", 80, "tcp", Some("api.example.com")), "api.example.com:80 tcp"),
        (endpoint("198.51.100.1", 443, "tcp", Some("other.example.com")), "other.example.com:443 tcp"),
        (endpoint("198.51.100.1", 443, "tcp", None), "198.51.100.1:443 tcp"),
        // An address rule goes before any name.
        (endpoint("192.0.2.66", 443, "tcp", Some("api.example.com")), "api.example.com:443 tcp"),
        (observation::Act::Unix("@abstract".into()), "unix:@abstract"),
        (observation::Act::Ask("other.example.com".into()), "name:other.example.com"),
    ];
    for (act, to) in refused {
        for instance in [3, 4, 4] {
            run.take(&table, "r", &seen(instance, act.clone()));
        }
        let refusal = &run.targets[to];
        assert_eq!((refusal.acts, refusal.instances.len(), refusal.first), (3, 2, Time(3)), "{to}");
    }
    assert_eq!((run.acts, run.refused, run.targets.len()), (5 + 18, 18, 6));
    assert!(run.targets["api.example.com:443 tcp"].why.contains("192.0.2.66"));
    assert_eq!(run.targets["198.51.100.1:443 tcp"].why, "no rule names it");
}

#[test]
fn what_cannot_be_judged_is_counted_and_what_is_no_network_act_is_not() {
    let (table, mut run) = (table(), DryRun::default());
    run.take(&table, "r", &seen(1, observation::Act::Exec { begins: true }));
    run.take(&table, "r", &seen(1, observation::Act::Socket("raw icmp".into())));
    run.take(&table, "r", &seen(1, endpoint("192.0.2.1", 1, "sctp", None)));
    assert_eq!((run.acts, run.unjudged, run.refused), (2, 2, 0));
}

#[test]
fn what_was_refused_already_is_said_and_targets_are_bounded() {
    let (table, mut run) = (table(), DryRun::default());
    for n in 0..TARGETS_MAX + 5 {
        let act = observation::Act::Ask(format!("n{n}.example.net").into());
        run.take(&table, "r", &Observation { refused: true, ..seen(1, act) });
    }
    assert_eq!((run.targets.len(), run.beyond), (TARGETS_MAX, 5));
    assert_eq!((run.refused, run.refused_before), ((TARGETS_MAX + 5) as u64, (TARGETS_MAX + 5) as u64));
}
