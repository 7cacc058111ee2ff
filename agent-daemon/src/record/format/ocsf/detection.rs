//! Detection Finding: acts that are not usual for a role, and names that carry data.

use serde_json::{Value, json};

use super::{
    super::{
        fields::{Fields, Millis, Row, Same, Tree, place},
        technique,
    },
    Severity, uid,
};
use crate::event::Event;

/// What was found, and the act that showed it.
pub(super) fn place_detection(event: &Event, from: &mut Fields, to: &mut Tree) {
    let role = event.subject.as_ref().and_then(|subject| subject.role.as_deref()).unwrap_or_default();
    let mut evidence = json!({});
    if let Some(finding) = &event.finding {
        // The same for every telling of one cause: that is how the later ones update the first.
        to.put("finding_info.uid", format!("{}/{role}/{}/{}", event.host, finding.what, finding.behaviour));
        to.put("finding_info.title", format!("{}: {}", finding.what, finding.behaviour));
        to.put(
            "finding_info.analytic",
            json!({ "name": &*finding.what, "type_id": 2, "type": "Behavioral" }),
        );
        let of = uid(&event.boot_id, finding.of.time, finding.of.seq);
        to.put("finding_info.related_events", json!([{ "uid": of }]));
        if let Some(owasp) = &finding.owasp {
            to.put("finding_info.tags", json!([{ "name": "owasp_agentic", "value": &**owasp }]));
        }
        if finding.count == 1 {
            to.put("status_id", 1);
            to.put("status", "New");
        }
        place(FINDING, from, to);
        for placed in ["what", "behaviour", "severity", "technique", "owasp", "of.time", "of.seq"] {
            from.take(&format!("finding.{placed}"));
        }
    }
    if let Some(channel) = &event.channel {
        let instance = event.subject.as_ref().and_then(|subject| subject.instance);
        let instance = instance.map(|id| id.to_string()).unwrap_or_default();
        to.put("finding_info.uid", format!("{}/{instance}/dns_channel/{}", event.boot_id, channel.domain));
        to.put("finding_info.title", format!("dns_channel: {}", channel.domain));
        to.put(
            "finding_info.analytic",
            json!({ "name": "dns_channel", "type_id": 3, "type": "Statistical" }),
        );
        to.put("count", channel.questions);
        evidence["query"] = json!({ "hostname": &*channel.domain });
        from.take("channel.questions");
        from.take("channel.domain");
    }
    if let Some((id, sub)) = technique(event) {
        let mut attack = json!({ "technique": { "uid": id } });
        if let Some(sub) = sub {
            attack["sub_technique"] = json!({ "uid": sub });
        }
        to.put("finding_info.attacks", json!([attack]));
    }
    if let Some(actor) = to.get("actor") {
        evidence["actor"] = actor.clone();
    }
    to.put("evidences", Value::Array(vec![evidence]));
    to.put("is_alert", Severity::of(event) >= Severity::Medium);
}

const FINDING: &[Row] = &[
    ("finding.how_unusual", "finding_info.desc", Same),
    ("finding.first", "finding_info.first_seen_time", Millis),
    ("finding.last", "finding_info.last_seen_time", Millis),
    ("finding.count", "count", Same),
];
