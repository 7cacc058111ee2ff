//! Learning within bounds, support, folding and forgetting.

use super::*;
use crate::{
    baseline::evidence::DAY_NS,
    event::{
        Kind,
        word::{ExecId, InstanceId},
    },
};

const DAY: u64 = DAY_NS / 1_000_000_000;

fn connect(second: u64, instance: u64, to: &str) -> Observation {
    let (name, address) = match to.parse() {
        Ok(address) => (None, address),
        Err(_) => (Some(to.into()), "192.0.2.1".parse().unwrap()),
    };
    Observation {
        time: Time(1_767_225_600_000_000_000 + second * 1_000_000_000),
        kind: Kind::NetConnect,
        host: "host-1".into(),
        boot: "boot-1".into(),
        seq: 0,
        role: Some("r".into()),
        instance: Some(InstanceId(instance)),
        exec: Some(ExecId(instance)),
        parent: None,
        uid: None,
        exe: Some("/usr/bin/node".into()),
        script: None,
        refused: false,
        act: Act::Endpoint { address, port: Some(443), protocol: "tcp".into(), name },
    }
}

fn small() -> Baselines {
    Baselines {
        bounds: Bounds { roles: 2, total: 1_000, of_role: 60, of_program: 40 },
        ..Baselines::default()
    }
}

fn texts(baselines: &Baselines) -> Vec<String> {
    let all = baselines.models["r"].behaviours().map(|(behaviour, _)| behaviour.to_string());
    all.filter_map(|text| text.strip_prefix("connect /usr/bin/node -> ").map(str::to_owned)).collect()
}

#[test]
fn one_instance_does_not_teach_three_on_two_days_do() {
    let mut baselines = Baselines::default();
    let usual = |baselines: &Baselines| {
        let model = &baselines.models["r"];
        model.behaviours().filter(|(_, evidence)| model.is_usual(evidence, &Support::default())).count()
    };
    for n in 0..100 {
        baselines.learn(&connect(n * DAY, 1, "api.example.com"));
    }
    assert_eq!(usual(&baselines), 0);
    baselines.learn(&connect(0, 2, "api.example.com"));
    assert_eq!(usual(&baselines), 0);
    baselines.learn(&connect(0, 3, "api.example.com"));
    assert_eq!(usual(&baselines), 1);
    assert_eq!(baselines.models["r"].instances(), 3);
}

#[test]
fn what_was_refused_teaches_nothing_and_is_counted() {
    let mut baselines = Baselines::default();
    baselines.learn(&Observation { refused: true, ..connect(0, 1, "evil.example.com") });
    assert_eq!((texts(&baselines).len(), baselines.models["r"].tally.refused), (0, 1));
    baselines.learn(&connect(0, 1, "evil.example.com"));
    assert_eq!(texts(&baselines), ["evil.example.com:443/tcp"]);
}

#[test]
fn at_the_bound_names_and_addresses_fold_and_nothing_is_lost() {
    let mut baselines = small();
    let mut shown = 0;
    for n in 0..10 {
        baselines.learn(&connect(n, n, &format!("n{n}.cdn.example.com")));
        baselines.learn(&connect(n, n, &format!("198.51.100.{n}")));
        baselines.learn(&connect(n, n, &format!("10.{n}.0.1")));
        baselines.learn(&connect(n, n, &format!("www.d{n}.net")));
        shown += 4;
    }
    assert_eq!(texts(&baselines).len(), 40);
    baselines.learn(&connect(20, 20, "n99.cdn.example.com"));
    baselines.learn(&connect(20, 21, "198.51.100.99"));
    shown += 2;
    let left = texts(&baselines);
    assert!(
        left.contains(&"*.example.com:443/tcp".into()) && left.contains(&"198.51.100.0/24:443/tcp".into())
    );
    assert!(left.contains(&"10.3.0.1:443/tcp".into()) && !left.iter().any(|text| text.starts_with("n9")));
    assert_eq!(left.len(), 22);
    let model = &baselines.models["r"];
    assert_eq!((model.tally.folded, model.tally.left_out), (20, 0));
    let connects = model.behaviours().filter(|(behaviour, _)| behaviour.by().is_some());
    let count: u64 = connects.map(|(_, evidence)| evidence.count()).sum();
    assert_eq!(count, shown);
    let (wide, evidence) =
        model.find(&"connect /usr/bin/node -> 198.51.100.77:443/tcp".parse().unwrap()).unwrap();
    assert_eq!(wide.to_string(), "connect /usr/bin/node -> 198.51.100.0/24:443/tcp");
    assert_eq!(evidence.breadth().instances, 11);
    // Another port was not folded in.
    assert!(model.find(&"connect /usr/bin/node -> 198.51.100.77:22/tcp".parse().unwrap()).is_none());
}

#[test]
fn networks_fold_into_wider_ones_only_where_the_narrower_gave_nothing_and_no_wider_than_16() {
    let mut baselines = small();
    for n in 0..40 {
        baselines.learn(&connect(n, n, &format!("203.0.{n}.1")));
    }
    baselines.learn(&connect(50, 50, "203.0.77.1"));
    assert_eq!(texts(&baselines), ["203.0.0.0/16:443/tcp"]);
    for n in 0..60 {
        baselines.learn(&connect(60 + n, n, &format!("{}.1.1.1", 11 + n)));
    }
    let model = &baselines.models["r"];
    assert_eq!((texts(&baselines).len(), model.tally.left_out), (40, 21));
}

#[test]
fn a_flood_of_one_instance_gives_way_to_the_others_and_leaves_what_is_shared() {
    let mut baselines = small();
    for instance in 1..4 {
        baselines.learn(&connect(instance * DAY, instance, "api.example.com"));
    }
    let flood = |baselines: &mut Baselines| {
        (0..500).for_each(|n| drop(baselines.learn(&connect(0, 9, &format!("d{n}.net")))));
    };
    flood(&mut baselines);
    assert_eq!(texts(&baselines).len(), 40);
    for n in 0..10 {
        for instance in 1..4 {
            baselines.learn(&connect((10 + instance) * DAY, instance, &format!("new{n}.org")));
        }
        flood(&mut baselines);
    }
    let model = &baselines.models["r"];
    let usual: Vec<String> = model
        .behaviours()
        .filter(|(_, evidence)| model.is_usual(evidence, &Support::default()))
        .map(|(behaviour, _)| behaviour.to_string())
        .collect();
    assert_eq!(
        usual.iter().filter(|text| text.contains("new") || text.contains("api")).count(),
        11,
        "{usual:?}"
    );
    assert_eq!((texts(&baselines).len(), model.instances_alone()), (40, 1));
    let (count, left_out): (u64, u64) = (
        model.behaviours().filter(|(b, _)| b.by().is_some()).map(|(_, e)| e.count()).sum(),
        model.tally.left_out,
    );
    assert_eq!(count + left_out, 3 + 30 + 11 * 500);
}

#[test]
fn whose_alone_behaviours_are_and_how_many_acts_there_are_is_followed_through_everything() {
    let mut baselines = small();
    let mut seed = 7_u64;
    for step in 0..4_000 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let (instance, host) = (seed % 11, seed / 11 % 90);
        let to = if seed.is_multiple_of(3) {
            format!("10.1.{}.{host}", host % 3)
        } else {
            format!("h{host}.d{}.net", host % 5)
        };
        baselines.learn(&connect(step * 3_600, instance, &to));
        if step % 500 == 499 {
            let model = baselines.models.get_mut("r").unwrap();
            model.forget(&Forget { instance: Some(InstanceId(instance)), ..Forget::default() });
            let copy = model.clone();
            model.merge(&copy, &Bounds::default());
        }
        let model = &baselines.models["r"];
        let alone: std::collections::BTreeSet<By> =
            model.behaviours().filter_map(|(_, e)| e.only()).collect();
        assert_eq!(model.instances_alone(), alone.len() as u64, "step {step}");
        let connects = model.behaviours().filter(|(behaviour, _)| behaviour.sort() == Sort::Connect);
        assert_eq!(
            model.acts_of(Sort::Connect),
            connects.map(|(_, e)| e.count()).sum::<u64>(),
            "step {step}"
        );
        assert!(model.len() <= 60);
    }
}

#[test]
fn all_roles_together_are_bounded_and_the_quiet_one_still_learns() {
    let mut baselines = small();
    baselines.bounds.total = 50;
    for n in 0..100 {
        baselines.learn(&connect(n, 1, &format!("d{n}.net")));
        baselines
            .learn(&Observation { role: Some("s".into()), ..connect(n, n, &format!("e{}.net", n / 20)) });
    }
    let lens: Vec<usize> = baselines.models.values().map(Model::len).collect();
    // One observation may bring more than one behaviour.
    assert!((50..53).contains(&lens.iter().sum::<usize>()) && lens.iter().all(|len| *len > 1), "{lens:?}");
    let again =
        Baselines { models: baselines.models.clone(), bounds: baselines.bounds, ..Baselines::default() };
    let next = |mut baselines: Baselines| {
        (0..9).for_each(|n| drop(baselines.learn(&connect(n, 7, &format!("f{n}.net")))));
        texts(&baselines)
    };
    assert_eq!(next(again), next(baselines));
}

#[test]
fn another_role_than_there_is_room_for_is_counted() {
    let mut baselines = small();
    for role in ["r", "s", "t", "t"] {
        baselines.learn(&Observation { role: Some(role.into()), ..connect(0, 1, "a.example.com") });
    }
    assert_eq!((baselines.models.len(), baselines.roles_left_out), (2, 2));
}

#[test]
fn forgetting_an_instance_leaves_what_would_be_without_it() {
    let events = |with: bool| {
        let mut baselines = Baselines::default();
        for n in 0..40_u64 {
            let instance = n % 5;
            if with || instance != 3 {
                baselines.learn(&connect(n * DAY / 4, instance, &format!("h{}.example.com", n % 7)));
            }
        }
        baselines
    };
    let mut all = events(true);
    let model = all.models.get_mut("r").unwrap();
    let done = model.forget(&Forget { instance: Some(InstanceId(3)), ..Forget::default() });
    assert!(done.lessened > 0 && done.counts_uncertain == 0 && done.instances == 1);
    let without = events(false);
    let of = |model: &Model| -> Vec<_> {
        model
            .behaviours()
            .map(|(behaviour, evidence)| (behaviour.to_string(), evidence.entries.clone()))
            .collect()
    };
    assert_eq!(of(&all.models["r"]), of(&without.models["r"]));
    assert_eq!(all.models["r"].roster, without.models["r"].roster);
}

#[test]
fn forgetting_days_and_forms() {
    let mut baselines = Baselines::default();
    for day in 0..10 {
        baselines.learn(&connect(day * DAY, 1, "a.example.com"));
        baselines.learn(&connect(day * DAY, 1, &format!("d{day}.example.com")));
    }
    let model = baselines.models.get_mut("r").unwrap();
    let window = Forget {
        since: Some(connect(2 * DAY, 1, "x").time),
        until: Some(connect(4 * DAY, 1, "x").time),
        ..Forget::default()
    };
    assert_eq!(
        model.forget(&window),
        Forgotten { behaviours: 3, lessened: 1, counts_uncertain: 0, instances: 0 }
    );
    let form = Forget { behaviour: Some("connect * -> d*:443/tcp".into()), ..Forget::default() };
    assert_eq!(model.forget(&form).behaviours, 7);
    assert_eq!(model.removed().len(), 10);
    model.settle();
    assert!(!model.is_changed() && model.changed().count() == 0);
    assert_eq!(model.len(), 2, "{:?}", model.behaviours().collect::<Vec<_>>());
}

#[test]
fn merging_twice_is_merging_once_and_hosts_add_up() {
    let host = |name: &str| {
        let mut baselines = Baselines::default();
        for n in 0..20 {
            let seen = connect(n, n % 4, &format!("h{}.example.com", n % 3));
            baselines.learn(&Observation { host: name.into(), boot: name.into(), ..seen });
        }
        baselines.models.remove("r").unwrap()
    };
    let (one, two) = (host("host-1"), host("host-2"));
    let mut merged = Model::default();
    for other in [&one, &two, &two, &one, &two] {
        merged.merge(other, &Bounds::default());
    }
    let (_, evidence) =
        merged.find(&"connect /usr/bin/node -> h0.example.com:443/tcp".parse().unwrap()).unwrap();
    assert_eq!((evidence.count(), evidence.breadth().instances, merged.hosts_of(evidence)), (14, 8, 2));
    assert!(merged.is_usual(evidence, &Support::default()));
    let (_, alone) = one.find(&"connect /usr/bin/node -> h0.example.com:443/tcp".parse().unwrap()).unwrap();
    assert!(!one.is_usual(alone, &Support::default()));
}

#[test]
fn globs() {
    for (pattern, text, matches) in [
        ("a*c", "abc", true),
        ("a*c", "ac", true),
        ("a*c", "abcd", false),
        ("*", "", true),
        ("abc", "abc", true),
        ("abc", "abcd", false),
        ("*b*", "abc", true),
        ("a*b*c", "acb", false),
        ("ab*ba", "aba", false),
    ] {
        assert_eq!(forget::glob(pattern, text), matches, "{pattern} {text}");
    }
}
