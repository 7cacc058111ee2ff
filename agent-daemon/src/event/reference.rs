//! The reference of events, made from the types: the JSON Schema, and the tables of docs/EVENTS.md.

use std::fmt::Write as _;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::{Event, Kind, handed_off, purpose::purpose};

/// The JSON Schema of one event.
#[must_use]
pub fn schema() -> Value {
    let generator = SchemaSettings::draft2020_12().into_generator();
    let mut schema = generator.into_root_schema_for::<Event>().to_value();
    schema["title"] = "Chaperone event".into();
    schema
}

/// docs/EVENTS.md.
#[must_use]
pub fn page(example: &str) -> String {
    let schema = schema();
    let mut out = String::from(HEAD);
    out.push_str("\n## Kinds\n\n| kind | what happened |\n|---|---|\n");
    let docs = &schema["$defs"]["Kind"]["oneOf"];
    for (_, name) in Kind::ALL.iter().filter(|(kind, _)| *kind != Kind::Unknown) {
        let doc = docs.as_array().into_iter().flatten().find(|d| d["const"] == **name);
        let _ = writeln!(out, "| `{name}` | {} |", cell(doc.map_or("", description)));
    }
    out.push_str("\n## Fields\n\nA field that has nothing to say is absent. `?` marks those.\n");
    section(&mut out, "Every event", "Event", &schema, &schema);
    for (name, title) in SECTIONS {
        section(&mut out, title, name, &schema["$defs"][*name], &schema);
    }
    out.push_str("\n## Work that is handed to somebody outside the tree\n\n");
    out.push_str("`handed_off` names the broker: by the socket that is connected to, the program that is executed by a\n");
    out.push_str("process of an instance, or a connect to port 22 of this host itself (`ssh`).\n\n");
    out.push_str("| broker | sockets | programs |\n|---|---|---|\n");
    for (broker, sockets, programs) in handed_off::brokers() {
        let list = |names: &[&str]| names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" ");
        let _ = writeln!(out, "| `{broker}` | {} | {} |", list(&sockets), list(&programs));
    }
    let _ = write!(out, "\n## An example\n\n    {example}\n");
    out
}

fn section(out: &mut String, title: &str, name: &str, of: &Value, schema: &Value) {
    let _ =
        write!(out, "\n### {title}\n\n| field | type | meaning | why it is recorded |\n|---|---|---|---|\n");
    let required: Vec<&str> =
        of["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (member, field) in of["properties"].as_object().into_iter().flatten() {
        let mark = if required.contains(&member.as_str()) { "" } else { "?" };
        let doc = match description(field) {
            "" => description(resolved(field, schema)),
            doc => doc,
        };
        let (kind, why) = (kind_of(field, schema), purpose(name, member));
        let _ = writeln!(out, "| `{member}`{mark} | {kind} | {} | {why} |", cell(doc));
    }
}

/// A type in a few words: the values of an enumeration, otherwise what JSON calls it.
fn kind_of(field: &Value, schema: &Value) -> String {
    let field = resolved(field, schema);
    if let Some(words) = field["enum"].as_array() {
        let words: Vec<String> = words.iter().filter_map(Value::as_str).map(|w| format!("`{w}`")).collect();
        return words.join(" ");
    }
    if field["oneOf"].is_array() {
        return "a word".to_owned();
    }
    if let Some(pattern) = field["pattern"].as_str() {
        return format!("text `{}`", pattern.trim_matches(['^', '$']));
    }
    let kind = |value: &Value| match value.as_str() {
        Some("integer" | "number") => "number",
        Some("string") => "text",
        Some("boolean") => "`true`",
        Some("array") => "list",
        Some("object") => "object",
        _ => "",
    };
    match &field["type"] {
        Value::Array(kinds) => kinds.iter().map(kind).find(|k| !k.is_empty()).unwrap_or_default().to_owned(),
        one => kind(one).to_owned(),
    }
}

/// The definition behind a reference, also behind one that may be null.
fn resolved<'a>(field: &'a Value, schema: &'a Value) -> &'a Value {
    let through = field["anyOf"].as_array().and_then(|any| any.iter().find(|one| one["$ref"].is_string()));
    let target = through.unwrap_or(field)["$ref"].as_str();
    match target.and_then(|path| path.strip_prefix("#/$defs/")) {
        Some(name) => &schema["$defs"][name],
        None => field,
    }
}

fn description(of: &Value) -> &str {
    of["description"].as_str().unwrap_or_default()
}

fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

/// Definitions that have a table of their own, by name.
const SECTIONS: &[(&str, &str)] = &[
    ("Namespaces", "`namespaces`"),
    ("File", "`file`"),
    ("Exit", "`exit`"),
    ("Fork", "`fork`"),
    ("NewCgroup", "`new_cgroup`"),
    ("Network", "`network`"),
    ("Unix", "`unix`"),
    ("Spoken", "`spoken`"),
    ("Tls", "`tls`"),
    ("Http", "`http`"),
    ("Peer", "`unix.peer`"),
    ("Decision", "`decision`"),
    ("Rule", "`decision.rule`"),
    ("Truncated", "`truncated[]`"),
    ("Daemon", "`daemon`"),
    ("Previous", "`daemon.previous`"),
    ("Policy", "`policy`"),
    ("Lost", "`lost`"),
    ("Guarantees", "`guarantees`"),
    ("GuaranteeChange", "`guarantees.changes[]`"),
    ("Dns", "`dns`"),
    ("DnsAnswer", "`dns.answers[]`"),
    ("Channel", "`channel`"),
    ("Program", "`program`"),
    ("Finding2", "`finding`"),
    ("Seen", "`finding.seen`"),
    ("Reference", "`finding.of`, `program.of`, `reaction.of`"),
    ("Reaction", "`reaction`"),
    ("BaselineChange", "`baseline`"),
    ("By", "`baseline.by`"),
    ("Opened", "`journal`"),
    ("Place2", "`journal.continues`"),
    ("Range", "`journal.missing`"),
    ("Checkpoint", "`checkpoint`"),
    ("Removed", "`removed`"),
];

const HEAD: &str = "\
# Events

Generated from the types (`agent-daemon/src/event`); `UPDATE=1 cargo test -p agent-daemon --test events` rewrites this page
and [event.schema.json](schema/event.schema.json).

Every event is one JSON object on a line of its own: in the event file (`/var/log/chaperone/events.ndjson`), and from
`GET /v1/events` of the control socket. `chaperone events` shows both, with filters, in a short form for people, or as OCSF,
ECS or CEF ([FORMATS.md](FORMATS.md)).

- Times are the kernel's, taken at the act. Ids are unique within one boot.
- Who acted is the kernel's label at the time of the act: `origin`, `instance`, `exec_id` are inherited at birth and never
  computed from parent pids. Container and unit come from the cgroup at the time of the event.
- What is not known says `unknown`, and matches nothing.
- `exec_id` joins the events of one program image: arguments, working directory and namespaces stand in its `process_exec`.
- An agent starts with the `process_exec` that has `recognised`, and ends with the `process_exit` that has
  `exit.instance_ended`; those that ran before the daemon have `agent_found` and `agent_ended` instead.
- Values that look like secrets read `***` in `argv`, wherever events go, and so do tokens of a known shape in paths and names.
  The environment of a process is never read, and no event has it. What masking does not find is in [THREATS](THREATS.md).
- What is recorded of whom is set in chaperone.yaml (`record`); by default agents: everything, people: execs and connects
  without arguments, the system: what touches an agent. All of it is labelled and counted.
- Losses are events too: `events_lost` counts, per kind, what found the ring buffer full.
- The event file is a journal: numbered, chained by `hash` and signed (`checkpoint`); `chaperone journal verify` checks it
  ([OPERATING](OPERATING.md#the-journal)).
";
