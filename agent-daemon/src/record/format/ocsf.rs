//! Open Cybersecurity Schema Framework: which class an event is of, and what all classes share.

mod class;
mod detection;
mod network;
mod process;

use agent_common::verdict::Verdict;
use serde_json::{Value, json};

use self::class::{Activity, Class};
use super::{
    OCSF_VERSION, PRODUCT, PRODUCT_VERSION, Severity, base_name,
    fields::{Fields, Millis, Row, Same, Text, Tree, place},
    rule_id, uid, words,
};
use crate::event::{Event, Kind};

/// The event as an OCSF event.
pub(super) fn value(event: &Event) -> Value {
    let (class, activity) = class::of(event);
    let mut from = Fields::of(event);
    let mut to = Tree::default();
    to.put("metadata.original_time", event.time.to_string());
    place(EVERY, &mut from, &mut to);
    head(event, class, activity, &mut to);
    subject(event, &mut from, &mut to);
    match class {
        Class::Process => process::place_process(event, &mut from, &mut to),
        Class::Remediation => process::place_remediation(event, &mut from, &mut to),
        Class::Network | Class::Dns => network::place_network(event, &mut from, &mut to),
        Class::Detection => detection::place_detection(event, &mut from, &mut to),
        Class::Application => application(event, &mut from, &mut to),
        Class::Base => {}
    }
    control(event, &mut from, &mut to);
    profiles(&mut to);
    to.put_some("unmapped", from.rest());
    to.value()
}

const EVERY: &[Row] = &[
    ("time", "time", Millis),
    ("kind", "metadata.event_code", Same),
    ("seq", "metadata.sequence", Same),
    ("host", "device.hostname", Same),
    ("boot_id", "device.boot_uid", Same),
    ("daemon.kernel", "device.os.kernel_release", Same),
];

fn head(event: &Event, class: Class, activity: Activity, to: &mut Tree) {
    let (uid_of_class, caption) = class.uid();
    to.put("class_uid", uid_of_class);
    to.put("class_name", caption);
    let (category, category_caption) = class.category();
    to.put("category_uid", category);
    to.put("category_name", category_caption);
    to.put("activity_id", activity.id);
    to.put("activity_name", activity.name);
    to.put("type_uid", uid_of_class * 100 + u32::from(activity.id));
    to.put("type_name", format!("{caption}: {}", activity.name));
    let (severity, severity_caption) = match Severity::of(event) {
        Severity::Info => (1, "Informational"),
        Severity::Low => (2, "Low"),
        Severity::Medium => (3, "Medium"),
        Severity::High => (4, "High"),
        Severity::Critical => (5, "Critical"),
    };
    to.put("severity_id", severity);
    to.put("severity", severity_caption);
    if class != Class::Detection {
        let (status, status_caption) = status(event);
        to.put("status_id", status);
        to.put("status", status_caption);
    }
    to.put("message", words::sentence(event));
    to.put("metadata.uid", uid(&event.boot_id, event.time, event.seq));
    to.put("metadata.version", OCSF_VERSION);
    to.put(
        "metadata.product",
        json!({ "name": PRODUCT, "vendor_name": PRODUCT, "version": PRODUCT_VERSION }),
    );
    to.put("metadata.log_name", "events");
    if !event.truncated.is_empty() {
        to.put("metadata.is_truncated", true);
    }
    to.put("device.type_id", 0);
    to.put("device.type", "Unknown");
    to.put("device.os.name", "Linux");
    to.put("device.os.type_id", 200);
    to.put("device.os.type", "Linux");
}

/// Whether the act succeeded. What was let pass may still fail: nobody has seen how a call ended that was not refused.
fn status(event: &Event) -> (u8, &'static str) {
    match (event.verdict.and_then(|word| word.known()), event.kind) {
        (Some(Verdict::Deny | Verdict::Kill), _) | (None, Kind::PolicyRejected) => (2, "Failure"),
        (_, Kind::Reaction) if event.reaction.as_ref().is_some_and(|r| r.incomplete.is_some()) => {
            (4, "Partial")
        }
        (Some(_), _) | (None, Kind::Unknown | Kind::NetListen) => (0, "Unknown"),
        (None, _) => (1, "Success"),
    }
}

/// Who acted. Class by class the fields of a program image are moved on from here.
fn subject(event: &Event, from: &mut Fields, to: &mut Tree) {
    let Some(subject) = &event.subject else { return };
    if event.kind != Kind::Reaction {
        place(WHO, from, to);
        to.put_some("actor.user.uid", subject.uid.map(|uid| uid.to_string()));
    }
    place(IMAGE, from, to);
    if let Some(Value::String(exe)) = from.take("exe") {
        to.put("actor.process.file", file(&exe));
    }
}

const WHO: &[Row] = &[("agent", "actor.app_name", Same), ("instance", "actor.app_uid", Same)];

const IMAGE: &[Row] = &[
    ("pid", "actor.process.pid", Same),
    ("tid", "actor.process.ptid", Same),
    ("exec_id", "actor.process.uid", Same),
    ("parent_exec_id", "actor.process.parent_process.uid", Same),
    ("comm", "actor.process.name", Same),
    ("uid", "actor.process.user.uid", Text),
    ("loginuid", "actor.process.auid", Same),
    ("container", "actor.process.container.uid", Same),
];

fn file(path: &str) -> Value {
    json!({ "name": base_name(path), "path": path, "type_id": 1, "type": "Regular File" })
}

/// What was decided, and by what. The words of the event stay where they are: OCSF's tell less.
fn control(event: &Event, from: &mut Fields, to: &mut Tree) {
    let refused = event.finding.as_ref().is_some_and(|finding| finding.refused);
    let verdict = match event.verdict {
        Some(word) => word.known(),
        None if refused => Some(Verdict::Deny),
        None => return,
    };
    let (action, disposition) = match verdict {
        None => ((0, "Unknown"), (0, "Unknown")),
        Some(Verdict::Allow) => ((1, "Allowed"), (1, "Allowed")),
        Some(Verdict::Alert) => ((3, "Observed"), (19, "Alert")),
        Some(Verdict::Hold) => ((4, "Modified"), (14, "Delayed")),
        Some(Verdict::Deny | Verdict::Kill) => ((2, "Denied"), (2, "Blocked")),
    };
    to.put("action_id", action.0);
    to.put("action", action.1);
    to.put("disposition_id", disposition.0);
    to.put("disposition", disposition.1);
    if to.get("is_alert").is_none() {
        to.put("is_alert", Severity::of(event) >= Severity::Medium);
    }
    place(
        &[("decision.rule.text", "firewall_rule.name", Same), ("decision.errno", "status_code", Same)],
        from,
        to,
    );
    if let Some(id) = rule_id(event) {
        to.put("firewall_rule.uid", id);
        from.take("decision.rule.index");
    }
    if let Some(role) = event.subject.as_ref().and_then(|subject| subject.role.as_deref()) {
        to.put("policy.name", role);
        from.take("role");
    }
}

/// The daemon's own events, and instances older than it.
fn application(event: &Event, from: &mut Fields, to: &mut Tree) {
    match &event.subject {
        Some(subject) => {
            to.put_some("app.name", subject.agent.as_deref());
            to.put_some("app.uid", subject.instance.map(|id| id.to_string()));
        }
        None => {
            to.put("app.vendor_name", PRODUCT);
            place(&[("daemon.version", "app.version", Same)], from, to);
        }
    }
    if to.get("app.name").is_none() {
        to.put("app.name", PRODUCT);
    }
    place(BY, from, to);
}

/// Who asked for a change.
const BY: &[Row] = &[
    ("baseline.by.uid", "actor.user.uid", Text),
    ("baseline.by.pid", "actor.process.pid", Same),
    ("baseline.by.loginuid", "actor.process.auid", Same),
];

/// Names the profiles whose attributes are there.
fn profiles(to: &mut Tree) {
    let of_linux = ["auid", "euid", "egid", "group"];
    let has = |to: &Tree, process: &str, names: &[&str]| {
        names.iter().any(|name| to.get(&format!("{process}.{name}")).is_some())
    };
    let linux = has(to, "process", &of_linux) || has(to, "actor.process", &of_linux);
    let container = has(to, "process", &["container"]) || has(to, "actor.process", &["container"]);
    let all = [
        ("host", true),
        ("security_control", to.get("action_id").is_some()),
        ("container", container),
        ("linux/linux_users", linux),
    ];
    let names: Vec<&str> = all.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    to.put("metadata.profiles", json!(names));
    if linux {
        to.put("metadata.extensions", json!([{ "name": "linux", "uid": "1", "version": OCSF_VERSION }]));
    }
}
