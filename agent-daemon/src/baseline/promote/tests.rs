//! What becomes a rule, and what does not.

use super::*;
use crate::{
    baseline::{Baselines, evidence::DAY_NS},
    event::word::{InstanceId, Time},
};

fn learned(texts: &[&str], instances: u64) -> Baselines {
    let mut baselines = Baselines::default();
    for instance in 1..=instances {
        let behaviours: Vec<Behaviour> = texts.iter().map(|text| text.parse().unwrap()).collect();
        let model = baselines.models.entry("r".into()).or_default();
        for behaviour in behaviours {
            let mut evidence = model.find(&behaviour).map(|(_, known)| known.clone()).unwrap_or_default();
            let by = crate::baseline::evidence::By { source: 0, instance: InstanceId(instance) };
            evidence.add(Time(instance * DAY_NS), by);
            model.put(behaviour, evidence);
        }
    }
    baselines
}

const SHOWN: &[&str] = &[
    "connect /usr/bin/node -> api.example.com:443/tcp",
    "connect /usr/bin/git -> api.example.com:443/tcp",
    "connect /usr/bin/node -> 192.0.2.7:53/udp",
    "connect /usr/bin/node -> [2001:db8::1]:443/tcp",
    "connect /usr/bin/ping -> 192.0.2.7:-/icmp",
    "connect /usr/bin/ping -> 192.0.2.7:1025/icmp",
    "connect /usr/bin/ping -> [2001:db8::1]:0/icmpv6",
    "connect /usr/bin/node -> *.example.org:443/tcp",
    "connect /usr/bin/node -> 198.51.100.0/24:443/tcp",
    "connect /usr/bin/node -> 127.0.0.1:ephemeral/tcp",
    "connect /usr/bin/node -> 192.0.2.7:9/sctp",
    "unix /usr/bin/node -> /run/nscd/socket",
    "unix /usr/bin/node -> /tmp/*/s",
    "name /usr/bin/node -> other.example.com",
    "socket /usr/bin/node -> raw%20icmp",
    "exec /usr/bin/node -> /usr/bin/git",
    "user 1000",
];

fn tos(rules: &[Proposed]) -> Vec<String> {
    let one = |rule: &Proposed| format!("{} {}", rule.to, rule.protocol.as_deref().unwrap_or("-"));
    rules.iter().map(one).collect()
}

#[test]
fn each_endpoint_that_is_usual_is_one_rule_for_all_programs() {
    let baselines = learned(SHOWN, 3);
    let all = promote(&baselines.models["r"], &Support::default(), false);
    assert_eq!(
        tos(&all.rules),
        [
            "192.0.2.7 icmp",
            "192.0.2.7:53 udp",
            "2001:db8::1 icmp",
            "[2001:db8::1]:443 tcp",
            "api.example.com:443 tcp",
            "unix:/run/nscd/socket -",
        ]
    );
    assert_eq!(tos(&all.names), ["other.example.com -"]);
    let api = &all.rules[4];
    assert_eq!((api.acts, api.instances, api.days, api.by.len()), (6, 3, 3, 2));
    assert_eq!((all.left.len(), all.unusual), (6, 0));
}

#[test]
fn what_was_folded_is_taken_where_it_is_asked_for() {
    let baselines = learned(SHOWN, 3);
    let all = promote(&baselines.models["r"], &Support::default(), true);
    let rules = tos(&all.rules);
    for wide in ["*.example.org:443 tcp", "198.51.100.0/24:443 tcp"] {
        assert!(rules.contains(&wide.to_owned()), "{rules:?}");
    }
    assert_eq!(all.left.len(), 4);
}

#[test]
fn what_has_no_support_is_no_rule() {
    let baselines = learned(SHOWN, 2);
    let all = promote(&baselines.models["r"], &Support::default(), true);
    assert!(all.rules.is_empty() && all.names.is_empty() && all.left.is_empty());
    assert_eq!(all.unusual, SHOWN.len() - 2);
}
