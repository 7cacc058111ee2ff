//! What is told of acts one after the other, and what is only counted.

use super::*;
use crate::{
    baseline::{observation::Act, support::Support},
    event::{
        Kind,
        word::{ExecId, InstanceId, Time},
    },
};

fn connect(time_ns: u64, instance: u64, name: &str) -> Observation {
    Observation {
        time: Time(time_ns),
        kind: Kind::NetConnect,
        host: "h".into(),
        boot: "b".into(),
        seq: time_ns,
        role: Some("r".into()),
        instance: Some(InstanceId(instance)),
        exec: Some(ExecId(instance)),
        parent: None,
        uid: None,
        exe: Some("/usr/bin/curl".into()),
        script: None,
        refused: false,
        act: Act::Endpoint {
            address: [192, 0, 2, 1].into(),
            port: Some(443),
            protocol: "tcp".into(),
            name: Some(name.into()),
        },
    }
}

/// Knows one endpoint.
fn watch() -> Watch {
    let mut watch = Watch::default();
    watch.rules.support = Support { instances: 2, days: 1, hosts: 1 };
    for instance in 1..=2 {
        assert_eq!(watch.take(&connect(instance, instance, "usual.example.com")), []);
    }
    watch
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn what_is_new_is_found_before_it_is_known_and_told_at_each_doubling() {
    let mut watch = watch();
    let told: Vec<u64> = (0..9)
        .flat_map(|n| watch.take(&connect(60 * SECOND + n, 3, "new.example.org")))
        .filter(|alert| alert.finding.what == What::NewEndpoint)
        .map(|alert| alert.count)
        .collect();
    assert_eq!(told, [1, 2, 4, 8]);
    assert_eq!(watch.take(&connect(120 * SECOND, 3, "usual.example.com")), []);
}

#[test]
fn a_flood_of_causes_is_one_alert_and_the_next_second_is_looked_at_again() {
    let mut watch = watch();
    let told: Vec<Alert> = (0..1000)
        .flat_map(|n| watch.take(&connect(60 * SECOND + n, 3, &format!("n{n}.example{n}.org"))))
        .collect();
    let of = |what| told.iter().filter(|alert| alert.finding.what == what).count();
    let flooded = watch.flooded;
    // Told at 1, 2, 4, … of them.
    assert_eq!(of(What::Flood) as u32, flooded.ilog2() + 1);
    assert!(of(What::NewEndpoint) <= NEW_CAUSES_PER_SECOND_MAX as usize && flooded > 900, "{flooded}");
    let after = watch.take(&connect(61 * SECOND, 3, "late.example.net"));
    assert!(after.iter().any(|alert| alert.finding.what == What::NewEndpoint));
}

#[test]
fn nothing_is_found_while_nothing_is_usual() {
    let mut watch = Watch::default();
    for n in 0..100 {
        assert_eq!(watch.take(&connect(n * SECOND, 1, &format!("n{n}.example.org"))), []);
    }
    assert_eq!((watch.found.len(), watch.flooded), (0, 0));
}
