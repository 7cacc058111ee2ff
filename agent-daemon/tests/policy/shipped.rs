//! What is shipped and documented is what the program reads: examples, POLICY.md, schemas.

use std::{collections::BTreeSet, fs, path::PathBuf};

use agent_common::verdict::Verdict;
use chaperone::{
    config::{Config, Documents, problem::Problems, schema::schemas},
    policy::{
        self,
        explain::{Act, explain},
    },
};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_example_configuration_is_in_order() {
    let dir = root().join("deploy/etc/chaperone");
    let (documents, found) = Documents::read_paths(std::slice::from_ref(&dir));
    let (registry, table) = policy::build(&documents, found).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(registry.agent_named("invoice-bot").is_some() && registry.agent_named("coding-agent").is_some());
    for (role, to, verdict) in [
        ("invoice-review", "10.20.7.7:5432", Verdict::Allow),
        ("invoice-review", "10.20.7.7:5433", Verdict::Deny),
        ("invoice-review", "203.0.113.10:443", Verdict::Allow),
        ("invoice-review", "198.51.100.1:443", Verdict::Deny),
        ("invoice-review", "10.50.0.7:443", Verdict::Alert),
        ("invoice-review", "unix:/run/systemd/journal/stdout", Verdict::Allow),
        ("invoice-review", "unix:/run/docker.sock", Verdict::Deny),
        ("invoice-review", "packet", Verdict::Deny),
        ("coding", "203.0.113.10:443", Verdict::Allow),
        ("coding", "169.254.169.254:80", Verdict::Alert),
        ("coding", "unix:/tmp/x", Verdict::Allow),
    ] {
        let act = Act::parse(to, None).unwrap();
        assert_eq!(explain(&table, role, &act).verdict, verdict, "{role} {to}");
    }
}

#[test]
fn the_example_settings_are_the_defaults() {
    let config = Config::load(&root().join("deploy/etc/chaperone/chaperone.yaml"));
    assert_eq!(config, Ok(Config::default()));
}

#[test]
fn every_example_of_the_policy_page_is_in_order() {
    let page = fs::read_to_string(root().join("docs/POLICY.md")).unwrap();
    let (mut documents, mut problems) = (Documents::default(), Problems::default());
    let blocks: Vec<&str> =
        page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(blocks.len() >= 3);
    for block in blocks {
        let line = page[..block.as_ptr() as usize - page.as_ptr() as usize].lines().count();
        documents.add(&format!("POLICY.md, block at line {line}"), block, &mut problems);
    }
    policy::build(&documents, problems).unwrap_or_else(|problems| panic!("{problems}"));
}

/// The rows of the page's table of what a rule may name: (`to`, is it good).
#[test]
fn every_target_of_the_policy_page_compiles_or_is_refused_as_it_says() {
    let page = fs::read_to_string(root().join("docs/POLICY.md")).unwrap();
    let (mut good, mut bad) = (0, 0);
    let section = page.split("\n## ").find(|section| section.starts_with("What a rule may name")).unwrap();
    for line in section.lines().filter(|line| line.starts_with("| `") && !line.starts_with("| `to`")) {
        let Some(to) = line.split('`').nth(1) else { continue };
        let refused = line.contains("| refused:");
        let result = chaperone::policy::parse::target(to);
        assert_eq!(result.is_err(), refused, "{line}: {result:?}");
        if refused { bad += 1 } else { good += 1 }
    }
    assert!(good >= 20 && bad >= 4, "{good} {bad}");
}

#[test]
fn the_schemas_are_current() {
    let dir = root().join("docs/schema");
    for (name, text) in schemas() {
        let path = dir.join(name);
        if std::env::var_os("UPDATE").is_some() {
            fs::create_dir_all(&dir).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let shipped = fs::read_to_string(&path).unwrap_or_default();
        assert!(shipped == text, "{} is not current: run `UPDATE=1 cargo test`", path.display());
    }
}

/// A document of each kind in which every field stands.
const FULL: &str = r#"
apiVersion: chaperone/v1
kind: Agent
metadata: { name: a, labels: { l: "1" } }
spec:
  description: d
  owner: o
  version: "1"
  role: r
  match: [ { exe: /nowhere/a }, { unit: a.service }, { cgroup: /x/a }, { container: abcdef012345 } ]
---
apiVersion: chaperone/v1
kind: Role
metadata: { name: r, labels: { l: x } }
spec:
  description: d
  mode: enforce
  network:
    default: deny
    spoken: { mismatch: alert, ech: allow, other: deny }
    defaults:
      { unix: deny, netlink: deny, vsock: deny, raw: deny, packet: deny, protocol: deny, family: deny, routing: deny }
    rules: [ { to: "*", protocol: tcp, verdict: allow } ]
  names: { default: deny, rules: [ { name: a.example.com, verdict: allow } ] }
  baseline: { stop: high, kill: critical }
---
apiVersion: chaperone/v1
kind: Promotion
metadata: { name: r, labels: { l: x } }
spec:
  rules: [ { to: 192.0.2.1:443, protocol: tcp, verdict: allow } ]
  names: [ { name: a.example.com, verdict: allow } ]
---
apiVersion: chaperone/v1
kind: Daemon
spec:
  config_dir: /c
  state_dir: /s
  pin_dir: off
  events_file: /e
  events_file_bytes_max: 1048576
  journal: { keep_days: 30, keep_days_min: 7, bytes_max: 1073741824 }
  control_socket: /r
  control_group: g
  record:
    agent: { processes: false, network: false, argv: false }
    human: { processes: true, network: true, argv: true }
    system: { processes: true, network: true, argv: true }
  login_programs: [ /l ]
  catalogue: off
  resolvers: [ 192.0.2.53 ]
  baselines: { support: { instances: 4, days: 3, hosts: 5 }, severities: /v }
  sinks:
    l: { to: "nats://n", form: ocsf, ca: /a, secret_file: /k, subject: s.t, kinds: [ net ], verdicts: [ deny ], severity_min: low }
  mask_words: [ pin ]
"#;

#[test]
fn the_schemas_have_the_fields_that_are_read_and_no_others() {
    let (mut documents, mut problems) = (Documents::default(), Problems::default());
    documents.add("full.yaml", FULL, &mut problems);
    assert!(problems.is_empty(), "{problems}");
    let (config, _) = documents.daemon.as_ref().unwrap();
    let read = [
        serde_json::to_value(&documents.agents[0]).unwrap(),
        serde_json::to_value(&documents.roles[0]).unwrap(),
        serde_json::to_value(&documents.promotions[0]).unwrap(),
        serde_json::json!({ "apiVersion": "", "kind": "", "spec": config }),
    ];
    for (value, (name, schema)) in read.iter().zip(schemas()) {
        let (mut of_values, mut of_schema) = (BTreeSet::new(), BTreeSet::new());
        keys(value, &mut of_values);
        properties(&serde_json::from_str(&schema).unwrap(), &mut of_schema);
        of_values.remove("l");
        assert_eq!(of_values, of_schema, "{name}");
    }
    // What was written is not what is there by default: each setting was read.
    let (ours, default) =
        (serde_json::to_value(config).unwrap(), serde_json::to_value(Config::default()).unwrap());
    for (name, value) in ours.as_object().unwrap() {
        assert_ne!(Some(value), default.get(name), "{name}");
    }
}

fn keys(value: &serde_json::Value, into: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            into.insert(name.clone());
            keys(value, into);
        }),
        serde_json::Value::Array(items) => items.iter().for_each(|item| keys(item, into)),
        _ => {}
    }
}

fn properties(schema: &serde_json::Value, into: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(fields) => {
            if let Some(serde_json::Value::Object(names)) = fields.get("properties") {
                into.extend(names.keys().cloned());
            }
            fields
                .iter()
                .filter(|(name, _)| *name != "default")
                .for_each(|(_, value)| properties(value, into));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| properties(item, into)),
        _ => {}
    }
}
