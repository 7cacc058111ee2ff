//! Behaviours of small sessions, and the same after being put away and back.

use super::*;
use crate::event::{
    Kind,
    word::{ExecId, Time},
};

pub fn seen(second: u64, exec: u64, exe: &str, act: Act) -> Observation {
    Observation {
        time: Time(1_767_225_600_000_000_000 + second * 1_000_000_000),
        kind: Kind::Unknown,
        host: "host-1".into(),
        boot: "boot-1".into(),
        seq: 0,
        role: Some("r".into()),
        instance: Some(InstanceId(1)),
        exec: Some(ExecId(exec)),
        parent: Some(ExecId(exec.saturating_sub(1))),
        uid: Some(1000),
        exe: Some(exe.into()),
        script: None,
        refused: false,
        act,
    }
}

fn exec(second: u64, parent: u64, id: u64, exe: &str) -> Observation {
    let act = Act::Exec { begins: parent == 0 };
    Observation { parent: Some(ExecId(parent)), ..seen(second, id, exe, act) }
}

fn connect(second: u64, id: u64, address: &str) -> Observation {
    let act = Act::Endpoint {
        address: address.parse().unwrap(),
        port: Some(443),
        protocol: "tcp".into(),
        name: None,
    };
    seen(second, id, "/usr/bin/node", act)
}

fn texts(context: &mut Context, seen: &Observation) -> Vec<String> {
    context.behaviours(seen).iter().map(ToString::to_string).collect()
}

#[test]
fn a_session_is_who_executed_what_and_who_reached_what() {
    let mut context = Context::default();
    assert_eq!(
        texts(&mut context, &exec(0, 0, 1, "/usr/bin/node")),
        ["exec outside -> /usr/bin/node", "user 1000"]
    );
    assert_eq!(
        texts(&mut context, &exec(1, 1, 2, "/bin/sh")),
        ["execs_per_minute 2", "exec /usr/bin/node -> /bin/sh"]
    );
    assert_eq!(
        texts(&mut context, &exec(2, 2, 3, "/usr/bin/git")),
        ["depth 2", "exec /bin/sh -> /usr/bin/git"]
    );
    assert_eq!(
        texts(&mut context, &connect(3, 1, "192.0.2.7")),
        ["connect /usr/bin/node -> 192.0.2.7:443/tcp"]
    );
    assert_eq!(texts(&mut context, &exec(3, 99, 4, "/bin/ls")), ["execs_per_minute 4", "exec ? -> /bin/ls"]);
    let mut root = connect(4, 1, "192.0.2.7");
    root.uid = Some(0);
    assert_eq!(texts(&mut context, &root), ["connect /usr/bin/node -> 192.0.2.7:443/tcp", "user 0"]);
    let nobody = Observation { instance: None, ..connect(4, 1, "192.0.2.7") };
    assert_eq!(texts(&mut context, &nobody), Vec::<String>::new());
}

#[test]
fn a_refused_act_is_itself_and_makes_no_size() {
    let mut context = Context::default();
    for n in 0..20 {
        let refused = Observation { refused: true, ..connect(5, 1, &format!("192.0.2.{n}")) };
        assert_eq!(texts(&mut context, &refused), [format!("connect /usr/bin/node -> 192.0.2.{n}:443/tcp")]);
    }
    let allowed = texts(&mut context, &connect(5, 1, "192.0.2.1"));
    assert_eq!(allowed, ["connect /usr/bin/node -> 192.0.2.1:443/tcp", "user 1000"]);
}

#[test]
fn sizes_are_told_once_per_power_of_two_and_a_clock_set_back_makes_no_rate() {
    let mut context = Context::default();
    let all: Vec<String> = (0..20_u64)
        .flat_map(|n| texts(&mut context, &connect(5, 1, &format!("192.0.2.{n}"))))
        .filter(|text| text.starts_with("endpoints"))
        .collect();
    assert_eq!(all, [2, 4, 8, 16].map(|n| format!("endpoints_per_minute {n}")));
    let back: Vec<String> = (0..200_u64)
        .flat_map(|n| {
            texts(&mut context, &connect(if n % 2 == 0 { 500 } else { 0 }, 1, &format!("198.51.100.{n}")))
        })
        .filter(|text| text.starts_with("endpoints"))
        .collect();
    assert_eq!(back, Vec::<String>::new());
}

#[test]
fn put_away_and_back_it_goes_on_as_if_nothing_had_been() {
    let events: Vec<Observation> = (1..400_u64)
        .flat_map(|n| {
            [
                exec(n / 7, (n * 7 + 3) % n, n, &format!("/bin/p{}", n % 9)),
                connect(n / 7, n, &format!("192.0.2.{}", n % 50)),
            ]
        })
        .collect();
    let mut straight = Context::default();
    let expected: Vec<_> = events.iter().map(|seen| straight.behaviours(seen)).collect();
    let (mut context, mut kept, mut got) = (Context::default(), BTreeMap::new(), Vec::new());
    for (at, seen) in events.iter().enumerate() {
        got.push(context.behaviours(seen));
        if at % 13 == 0 {
            for (key, state) in context.changed() {
                kept.insert(key.clone(), state.unwrap());
            }
            context = Context::default();
            for (key, state) in &kept {
                context.put(key.clone(), state).unwrap();
            }
        }
    }
    assert!(got == expected);
    context.behaviours(&seen(0, 1, "/x", Act::End));
    assert_eq!(context.changed().last().unwrap().1, None);
    context.settle();
    assert_eq!(context.changed().count(), 0);
}

#[test]
fn instances_that_run_are_bounded_and_what_does_nothing_takes_no_place() {
    let mut context = Context::default();
    let of = |instance, act| Observation { instance: Some(InstanceId(instance)), ..seen(0, 1, "/x", act) };
    for instance in 0..INSTANCES_MAX as u64 + 10 {
        context.behaviours(&of(1 << 40 | instance, Act::Other));
        context.behaviours(&of(instance, Act::Socket("raw icmp".into())));
    }
    assert_eq!((context.live.len(), context.evicted), (INSTANCES_MAX, 10));
    assert_eq!(context.changed().filter(|(_, state)| state.is_none()).count(), 10);
    // What a boot before has left goes first, wherever its name lies.
    for boot in ["another", "zz"] {
        let (mut context, mut old) = (Context::default(), of(1, Act::Socket("raw icmp".into())));
        old.boot = boot.into();
        context.behaviours(&old);
        for instance in 0..INSTANCES_MAX as u64 {
            context.behaviours(&of(instance, Act::Socket("raw icmp".into())));
        }
        assert!(context.live.len() == INSTANCES_MAX && context.live.keys().all(|(of, _)| **of != *boot));
    }
}

#[test]
fn whatever_texts_agents_choose_every_behaviour_comes_back_from_its_text() {
    const PARTS: [&str; 28] = [
        "/",
        ".",
        "a",
        "7",
        " ",
        "%",
        "*",
        "[",
        "]",
        ":",
        "->",
        " -> ",
        "\n",
        "\u{0}",
        "é",
        "…",
        "tmp",
        "-",
        "outside",
        "?",
        "\u{2028}",
        "192.0.2.7",
        "::1",
        "/24",
        "*.",
        "xn--",
        "\\",
        "%00",
    ];
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    for _ in 0..20_000 {
        let mut text =
            || -> Name { (0..next(6)).map(|_| PARTS[next(PARTS.len())]).collect::<String>().into() };
        let (exe, script, one) = (text(), Some(text()), text());
        let address = "192.0.2.1".parse().unwrap();
        let protocol = Name::from("tcp");
        for act in [
            Act::Exec { begins: false },
            Act::Endpoint { address, port: Some(443), protocol, name: Some(one.clone()) },
            Act::Unix(one.clone()),
            Act::Ask(one.clone()),
            Act::Socket(one.clone()),
        ] {
            let seen = Observation { script: script.clone(), ..seen(0, 1, &exe, act) };
            for behaviour in Context::default().behaviours(&seen) {
                let text = behaviour.to_string();
                assert_eq!(text.parse().as_ref(), Ok(&behaviour), "{text:?}");
            }
        }
    }
}
