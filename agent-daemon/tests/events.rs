//! Events as machines read them: the line of each kind, the generated reference, and the way from bytes to a line.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

#[path = "common/current.rs"]
mod current;
#[path = "events/fuzz.rs"]
mod fuzz;
#[path = "decode/records.rs"]
mod records;

use std::collections::BTreeSet;

use agent_common::{
    identity::{Origin, Recognised},
    rule::Mode,
    verdict::Verdict,
};
use chaperone::{
    config::Record,
    event::{Event, Kind, mask::Masks, purpose, reference},
    identity::{
        channel::Channels,
        lineage::{Lineage, NamedRule, Names},
    },
    pipeline::{Host, Line},
    record::Recorder,
};
use current::current;
use records::{cgroup, dns, exec, exit, fork, net, texts, unix};

fn line() -> Line {
    let mut names = Names::default();
    names.add_agent(7, "invoice-bot", None);
    names.add_role(8, "invoice-review", Mode::Enforce);
    let rule = NamedRule {
        text: "192.0.2.0/24:443 deny".into(),
        source: "/etc/chaperone/roles/invoice-review.yaml:12".into(),
        ..NamedRule::default()
    };
    names.add_rule(7, 3, rule);
    Line {
        host: Host { name: "host-1".into(), boot_id: "00000000-0000-4000-8000-000000000000".into() },
        record: Record::default(),
        masks: Masks::default(),
        names: names.into(),
        lineage: Lineage::default(),
        channels: Channels::default(),
        due: Vec::new(),
        refused: Vec::new(),
        reactions: std::collections::BTreeMap::new(),
        recorder: Recorder::new(None),
        watch: None,
        identifier: None,
        own_addresses: vec!["192.0.2.50".parse().unwrap()],
    }
}

/// What an instance does from its first exec to its end, as the kernel side sends it.
fn session() -> Vec<Vec<u8>> {
    let mut start = exec();
    start.recognised = Recognised::Exe as u8;
    let id = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    let argv =
        "node\0/opt/invoice-bot/lib/main.js\0--model\0large\0--api-key\0sk-abcdef0123456789abcdef\0--once";
    let mut refused = net("192.0.2.7", 443);
    (refused.judgement.verdict, refused.judgement.wanted) = (Verdict::Deny as u8, Verdict::Deny as u8);
    refused.judgement.errno = 1;
    let mut end = exit();
    end.instance_ended = 1;
    vec![
        cgroup(&format!("/system.slice/docker-{id}.scope")),
        texts(start, ["/usr/bin/node", "/opt/invoice-bot/bin/run", argv, "/srv/invoices/2026"]),
        bytemuck::bytes_of(&fork()).to_vec(),
        dns("collector.example.net", &[]),
        dns("collector.example.net", &["192.0.2.7"]),
        bytemuck::bytes_of(&refused).to_vec(),
        bytemuck::bytes_of(&net("192.0.2.50", 22)).to_vec(),
        bytemuck::bytes_of(&unix(b"/run/docker.sock")).to_vec(),
        bytemuck::bytes_of(&end).to_vec(),
    ]
}

fn run(records: &[Vec<u8>]) -> Vec<String> {
    let mut line = line();
    let mut follower = line.recorder.followers.add(Default::default());
    for record in records {
        line.take(record, 1_767_225_600_000_000_000);
    }
    let mut lines = Vec::new();
    while let Ok(line) = follower.lines.try_recv() {
        lines.push(String::from_utf8(line.trim_ascii_end().to_vec()).unwrap());
    }
    lines
}

#[test]
fn a_session_reads_as_it_always_has() {
    let all = run(&session()).join("\n") + "\n";
    current("agent-daemon/tests/events/session.ndjson", &all);
}

#[test]
fn a_typical_exec_is_at_most_one_and_a_half_kilobytes() {
    let all = run(&session());
    let exec = all.iter().find(|line| line.contains("process_exec")).unwrap();
    // In the journal it gets a hash of 75 bytes.
    assert!(exec.len() <= 1_500, "{} bytes: {exec}", exec.len());
    assert!(!exec.contains("sk-abcdef"), "{exec}");
    assert!(all.iter().all(|line| line.len() <= 1_500));
}

#[test]
fn every_line_comes_back_as_the_same_event() {
    for line in run(&session()) {
        let event: Event = serde_json::from_str(&line).unwrap();
        assert_eq!(serde_json::to_string(&event).unwrap(), line);
    }
}

#[test]
fn every_field_that_is_written_is_in_the_schema() {
    let schema = reference::schema();
    for line in run(&session()) {
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        let unknown = unknown_fields(&event, &schema, &schema, "");
        assert!(unknown.is_empty(), "{unknown:?}");
    }
}

/// What nobody can say the purpose of is not recorded; and of the environment nothing is.
#[test]
fn every_field_has_a_purpose_and_every_purpose_a_field() {
    let schema = reference::schema();
    let definitions = schema["$defs"].as_object().unwrap().iter().map(|(name, of)| (name.as_str(), of));
    let mut fields = BTreeSet::new();
    for (name, of) in definitions.chain([("Event", &schema)]) {
        let members = of["properties"].as_object().into_iter().flatten();
        fields.extend(members.map(|(member, _)| format!("{name}.{member}")));
    }
    let told: BTreeSet<String> = purpose::PURPOSES
        .iter()
        .flat_map(|(name, of)| of.iter().map(move |(field, why)| (name, field, why)))
        .filter(|(.., why)| !why.is_empty())
        .map(|(name, field, _)| format!("{name}.{field}"))
        .collect();
    let differ: Vec<_> = fields.symmetric_difference(&told).collect();
    assert!(differ.is_empty(), "a field without a purpose, or a purpose without a field: {differ:#?}");
    assert!(!fields.iter().any(|field| field.contains("environ") || field.ends_with(".env")));
}

#[test]
fn tokens_in_paths_and_names_are_masked_too() {
    let token = ["ghp_", "aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xY"].concat();
    let records = [
        texts(exec(), [&format!("/srv/{token}/x"), "", "x", &format!("/srv/{token}")]),
        dns(&format!("{token}.example.net"), &[]),
        bytemuck::bytes_of(&unix(format!("/run/{token}.sock").as_bytes())).to_vec(),
    ];
    let lines = run(&records);
    assert_eq!(lines.len(), 3);
    for line in lines {
        assert!(!line.contains(&token[4..]) && line.contains("***"), "{line}");
    }
}

/// Paths of members that the schema does not name.
fn unknown_fields(
    value: &serde_json::Value,
    of: &serde_json::Value,
    schema: &serde_json::Value,
    path: &str,
) -> BTreeSet<String> {
    let mut unknown = BTreeSet::new();
    let Some(members) = value.as_object() else { return unknown };
    for (name, value) in members {
        let path = format!("{path}.{name}");
        let mut field = &of["properties"][name];
        if field.is_null() && of["additionalProperties"].is_object() {
            continue;
        }
        if let Some(any) = field["anyOf"].as_array() {
            field = any.iter().find(|one| one["$ref"].is_string()).unwrap_or(field);
        }
        if let Some(name) = field["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/")) {
            field = &schema["$defs"][name];
        }
        if field.is_null() {
            unknown.insert(path);
        } else {
            unknown.extend(unknown_fields(value, field, schema, &path));
        }
    }
    unknown
}

#[test]
fn the_reference_is_current() {
    let example = run(&session()).into_iter().find(|line| line.contains("net_connect")).unwrap();
    let schema = serde_json::to_string_pretty(&reference::schema()).unwrap() + "\n";
    current("docs/schema/event.schema.json", &schema);
    current("docs/EVENTS.md", &reference::page(&example));
}

#[test]
fn what_is_recorded_of_whom_is_followed_and_all_of_it_counted() {
    let mut line = line();
    let mut system = exec();
    let mut person = exec();
    for (raw, origin) in [(&mut system, Origin::System), (&mut person, Origin::Human)] {
        let subject = &mut raw.header.subject;
        (subject.origin, subject.instance, subject.agent, subject.role) = (origin as u8, 0, 0, 0);
    }
    let mut follower = line.recorder.followers.add(Default::default());
    line.take(&texts(system, ["/bin/a", "", "a\0b", "/"]), 0);
    line.take(&texts(person, ["/bin/b", "", "b\0c", "/"]), 0);
    let only: Event = serde_json::from_slice(&follower.lines.try_recv().unwrap()).unwrap();
    assert!(follower.lines.try_recv().is_err());
    assert_eq!((only.kind, only.seq), (Kind::ProcessExec, 1));
    assert!(only.exec.unwrap().argv.is_empty() && only.subject.unwrap().agent.is_none());
    assert_eq!(line.recorder.metrics.of_kind(Kind::ProcessExec), 2);
}

#[test]
fn what_cannot_be_decoded_is_counted_and_the_next_event_is_recorded() {
    let mut line = line();
    line.take(b"rubbish", 0);
    line.take(bytemuck::bytes_of(&exit()), 0);
    assert_eq!((line.recorder.metrics.undecodable[0], line.recorder.metrics.recorded), (1, 1));
}
