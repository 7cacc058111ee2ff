//! What is stored comes back; other files and newer ones are refused.

use super::*;
use crate::baseline::{
    document::Document,
    learn::Bounds,
    observation::{Act, Observation, read},
    support::Support,
};

fn observations() -> Vec<Observation> {
    const SESSION: &str = include_str!("../../../tests/events/session.ndjson");
    let mut all = Vec::new();
    for n in 0..30_u64 {
        for line in SESSION.lines() {
            let mut seen = read(line.as_bytes()).unwrap();
            seen.instance = Some(InstanceId(n % 7));
            seen.time = Time(seen.time.0 + n * 40_000_000_000_000);
            seen.refused &= n % 2 == 0;
            seen.uid = Some(u32::try_from(n).unwrap() / 3);
            all.push(seen);
        }
    }
    all
}

fn text(baselines: &Baselines) -> String {
    let all = baselines.models.iter().map(|(role, model)| Document::of(role, model));
    all.map(|document| serde_json::to_string(&document).unwrap() + "\n").collect()
}

#[test]
fn however_often_it_is_put_away_the_result_is_that_of_learning_straight_on() {
    let mut straight = Baselines::default();
    observations().iter().for_each(|seen| drop(straight.learn(seen)));
    for every in [1, 7, 100] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/baseline.db");
        for part in observations().chunks(every) {
            let mut store = Store::open(&path).unwrap();
            let mut baselines = store.load().unwrap();
            part.iter().for_each(|seen| drop(baselines.learn(seen)));
            let at = Position { file: "f".into(), role: "r".into(), bytes: 5, lines: 2 };
            store.flush(&mut baselines, std::slice::from_ref(&at)).unwrap();
            assert_eq!(store.position("f", "r").unwrap(), Some(at));
        }
        let store = Store::open_existing(&path).unwrap();
        assert_eq!(text(&store.load().unwrap()), text(&straight));
        assert_eq!(store.position("f", "other").unwrap(), None);
    }
    assert!(text(&straight).len() > 1_000);
}

#[test]
fn a_document_comes_back_and_a_newer_or_foreign_one_is_refused() {
    let mut straight = Baselines::default();
    observations().iter().for_each(|seen| drop(straight.learn(seen)));
    let all = text(&straight);
    let (role, model) = Document::parse(all.lines().next().unwrap()).unwrap();
    assert_eq!(serde_json::to_string(&Document::of(&role, &model)).unwrap() + "\n", all);
    assert_eq!(crate::baseline::diff::diff(&model, &straight.models[&role], &Support::default()), []);
    let newer = all.replace("\"version\":1,", "\"version\":2,\"more\":1,");
    assert!(Document::parse(&newer).unwrap_err().contains("upgrade Chaperone"));
    for foreign in ["", "{}", "[1]", "{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"spec\":{\"version\":1}}"] {
        assert!(Document::parse(foreign).unwrap_err().contains("not a baseline"), "{foreign}");
    }
}

#[test]
fn what_is_forgotten_is_gone_from_the_file_and_a_deleted_role_with_its_positions() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b.db");
    let mut store = Store::open(&path).unwrap();
    let mut baselines = store.load().unwrap();
    observations().iter().for_each(|seen| drop(baselines.learn(seen)));
    let at = Position { file: "f".into(), role: "invoice-review".into(), bytes: 5, lines: 2 };
    store.flush(&mut baselines, &[at]).unwrap();
    let model = baselines.models.get_mut("invoice-review").unwrap();
    let forget = crate::baseline::learn::Forget { instance: Some(InstanceId(3)), ..Default::default() };
    assert!(model.forget(&forget).instances == 1);
    store.flush(&mut baselines, &[]).unwrap();
    let again = Store::open_existing(&path).unwrap().load().unwrap();
    assert_eq!(text(&again), text(&baselines));
    assert!(!text(&again).contains("i-0000000000000003"));
    store.delete("invoice-review").unwrap();
    assert!(store.load().unwrap().models.is_empty());
    assert_eq!(store.position("f", "invoice-review").unwrap(), None);
}

#[test]
fn other_files_and_newer_ones_are_refused_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    assert!(matches!(Store::open_existing(&path("none")), Err(Error::Missing(_))));
    fs::write(
        path("text"),
        "this is no database, and longer than a header of one would be, to be sure of it. ".repeat(20),
    )
    .unwrap();
    assert!(matches!(Store::open_existing(&path("text")), Err(Error::Foreign(_))));
    assert!(matches!(Store::open(&path("text")), Err(Error::Foreign(_))));
    let other = Connection::open(path("other")).unwrap();
    other.execute_batch("CREATE TABLE a (b)").unwrap();
    assert!(matches!(Store::open(&path("other")), Err(Error::Foreign(_))));
    let store = Store::open(&path("newer")).unwrap();
    store.db.pragma_update(None, "user_version", 2).unwrap();
    drop(store);
    for error in [Store::open(&path("newer")).unwrap_err(), Store::open_existing(&path("newer")).unwrap_err()]
    {
        assert!(
            matches!(error, Error::Newer { found: 2, .. }) && error.to_string().contains("newer version")
        );
    }
}

#[test]
fn one_writes_at_a_time_and_others_can_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("b.db");
    let mut store = Store::open(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(Error::Busy(_))));
    let mut baselines = Baselines::default();
    observations().iter().for_each(|seen| drop(baselines.learn(seen)));
    store.flush(&mut baselines, &[]).unwrap();
    assert_eq!(text(&Store::open_existing(&path).unwrap().load().unwrap()), text(&baselines));
    drop(store);
    assert!(Store::open(&path).is_ok());
}

#[test]
fn at_the_bounds_too_the_result_does_not_depend_on_how_often_it_was_put_away() {
    let session = observations();
    let connect = session.iter().find(|seen| matches!(seen.act, Act::Endpoint { .. })).unwrap();
    let mut random = 88_172_645_463_325_252_u64;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut all = Vec::new();
    for step in 0..3_000 {
        let (host, domain) = (next(40), next(9));
        let name = (domain > 2).then(|| Name::from(format!("h{host}.d{domain}.net")));
        let address = format!("10.{domain}.{}.{host}", host % 3).parse().unwrap();
        let (port, protocol) = (Some(443), Name::from("tcp"));
        all.push(Observation {
            time: Time(connect.time.0 + step * 600_000_000_000),
            role: Some(format!("r{}", next(4)).into()),
            instance: Some(InstanceId(next(12))),
            refused: false,
            act: Act::Endpoint { address, port, protocol, name },
            ..connect.clone()
        });
    }
    let bounds = Bounds { roles: 3, total: 70, of_role: 40, of_program: 24 };
    let mut straight = Baselines::default();
    straight.bounds = bounds;
    all.iter().for_each(|seen| drop(straight.learn(seen)));
    let sum = |of: fn(&Model) -> u64| straight.models.values().map(of).sum::<u64>();
    assert!(sum(|model| model.tally.folded) > 0 && sum(|model| model.tally.left_out) > 0);
    let directory = tempfile::tempdir().unwrap();
    for part in all.chunks(37) {
        let mut store = Store::open(&directory.path().join("b.db")).unwrap();
        let mut baselines = store.load().unwrap();
        baselines.bounds = bounds;
        part.iter().for_each(|seen| drop(baselines.learn(seen)));
        store.flush(&mut baselines, &[]).unwrap();
    }
    let stored = Store::open_existing(&directory.path().join("b.db")).unwrap().load().unwrap();
    assert!(text(&stored) == text(&straight), "{}\n{}", text(&stored), text(&straight));
}
