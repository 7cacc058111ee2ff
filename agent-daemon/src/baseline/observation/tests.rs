//! Live and recorded give the same; what is no event is told.

use super::*;

const SESSION: &str = include_str!("../../../tests/events/session.ndjson");

#[test]
fn an_event_and_its_line_give_the_same_observation_whatever_its_kind() {
    let mut acts = 0;
    for line in SESSION.lines() {
        let event: Event = serde_json::from_str(line).unwrap();
        for (kind, _) in Kind::ALL {
            let mut event = event.clone();
            event.kind = *kind;
            event.lost = Some(crate::event::local::Lost {
                ring: [("net_connect".into(), 3)].into(),
                unwritten: 1,
                ..Default::default()
            });
            event.truncated =
                vec![Truncated { field: "exe".into(), bytes: 5000, hash: Some("00ff".into()), tail: false }];
            let mut text = Vec::new();
            event.write_line(&mut text);
            let (live, recorded) = (Observation::from(&event), read(&text).unwrap());
            assert_eq!(live, recorded, "{}", String::from_utf8_lossy(&text));
            assert!(live.exe.is_none_or(|exe| &*exe == "/usr/bin/node…00ff"));
            acts += usize::from(live.act != Act::Other);
        }
    }
    assert!(acts > 20, "{acts}");
}

#[test]
fn what_is_no_event_says_so_and_a_newer_kind_is_told_apart() {
    for foreign in ["", "{", "[]", "{\"time\":\"noon\"}", "plain text", "{\"seq\":1}"] {
        assert!(matches!(read(foreign.as_bytes()), Err(Fault::Foreign(_))), "{foreign}");
    }
    let newer = SESSION.lines().next().unwrap().replace("cgroup_created", "mind_read");
    assert_eq!(read(newer.as_bytes()), Err(Fault::Newer("mind_read".into())));
    let more = SESSION.lines().nth(5).unwrap().replacen('{', "{\"later\":{\"a\":[1]},", 1);
    assert!(read(more.as_bytes()).is_ok());
}

#[test]
fn other_sockets_are_told_in_words() {
    let words = |network: Network| match super::network(&network) {
        Act::Socket(words) => words.to_string(),
        other => format!("{other:?}"),
    };
    let of = |class: Class, family: &str| Network {
        class: class.into(),
        family: family.into(),
        kind: "raw".into(),
        ..Network::default()
    };
    assert_eq!(words(Network { protocol: Some("icmp".into()), ..of(Class::Raw, "inet") }), "raw icmp");
    assert_eq!(
        words(Network { cid: Some(2), port: Some(1024), ..of(Class::Vsock, "vsock") }),
        "vsock 2:1024"
    );
    assert_eq!(words(Network { cid: Some(4711), ..of(Class::Netlink, "netlink") }), "netlink");
    assert_eq!(words(of(Class::Family, "can")), "can raw");
}
