//! Elastic Common Schema: its fields, and below `chaperone` what it has no field for.

mod category;

use agent_common::{spoken::Protocol, verdict::Verdict};
use serde_json::{Value, json};

use super::{
    ECS_VERSION, PRODUCT, PRODUCT_VERSION, Severity, base_name,
    fields::{Fields, Row, Same, Text, Tree, place},
    rule_id, technique, uid, words,
};
use crate::event::{Event, Kind, names::Dns, net::Network};

/// The event as an ECS document.
pub(super) fn value(event: &Event) -> Value {
    let mut from = Fields::of(event);
    let mut to = Tree::default();
    head(event, &mut to);
    process(event, &mut from, &mut to);
    if let Some(network) = &event.network {
        place_network(event, network, &mut from, &mut to);
    }
    if let Some(unix) = event.unix.as_ref().filter(|unix| !unix.path.is_empty()) {
        to.put("destination.address", &*unix.path);
        from.take("unix.path");
    }
    if let Some(dns) = &event.dns {
        place_dns(event, dns, &mut from, &mut to);
    }
    rule(event, &mut from, &mut to);
    place(ROWS, &mut from, &mut to);
    to.put_some("chaperone", from.rest());
    to.value()
}

/// Fields whose value needs no thought.
const ROWS: &[Row] = &[
    ("time", "@timestamp", Same),
    ("seq", "event.sequence", Same),
    ("kind", "event.action", Same),
    ("hash", "event.hash", Same),
    ("host", "host.hostname", Same),
    ("boot_id", "host.boot.id", Same),
    ("uid", "user.id", Text),
    ("gid", "user.group.id", Text),
    ("euid", "user.effective.id", Text),
    ("container", "container.id", Same),
    ("daemon.kernel", "host.os.kernel", Same),
    ("program.path", "file.path", Same),
    ("program.sha256", "file.hash.sha256", Same),
    ("program.bytes", "file.size", Same),
    ("program.package", "package.name", Same),
    ("program.version", "package.version", Same),
    ("finding.first", "event.start", Same),
    ("finding.last", "event.end", Same),
    ("finding.how_unusual", "event.reason", Same),
    ("decision.source", "event.reason", Same),
    ("decision.errno", "error.code", Same),
    ("baseline.by.uid", "user.id", Text),
];

fn head(event: &Event, to: &mut Tree) {
    to.put("ecs.version", ECS_VERSION);
    to.put("event.id", uid(&event.boot_id, event.time, event.seq));
    to.put("event.module", "chaperone");
    to.put("event.dataset", "chaperone.events");
    to.put("event.severity", Severity::of(event).number());
    let (kind, categories) = category::of(event.kind);
    to.put("event.kind", kind);
    let types = category::types(event);
    if !categories.is_empty() {
        to.put("event.category", json!(categories));
        to.put("event.type", json!(types));
    }
    to.put_some("event.outcome", outcome(event));
    to.put("message", words::sentence(event));
    to.put("host.name", &*event.host);
    to.put("host.os.type", "linux");
    to.put("observer.vendor", PRODUCT);
    to.put("observer.product", PRODUCT);
    to.put("observer.version", PRODUCT_VERSION);
    to.put("observer.type", "sensor");
    if let Some(agent) = event.subject.as_ref().and_then(|subject| subject.agent.as_deref()) {
        to.put("gen_ai.agent.name", agent);
    }
}

/// What was let pass may still fail: nobody has seen how a call ended that was not refused.
fn outcome(event: &Event) -> Option<&'static str> {
    match (event.verdict.and_then(|word| word.known()), event.kind) {
        (Some(Verdict::Deny | Verdict::Kill), _) | (None, Kind::PolicyRejected) => Some("failure"),
        (Some(_), _) => Some("unknown"),
        (None, Kind::ProcessExec | Kind::ProcessFork | Kind::PolicyChanged | Kind::Reaction) => {
            Some("success")
        }
        _ => None,
    }
}

fn process(event: &Event, from: &mut Fields, to: &mut Tree) {
    let Some(subject) = &event.subject else { return };
    let name = subject.exe.as_deref().map_or(&*subject.comm, base_name);
    to.put("process.name", name);
    if event.fork.is_some() {
        // The child is what the event is about; it runs its parent's image.
        to.put_some("process.executable", from.take("exe"));
        place(FORK, from, to);
        return;
    }
    place(PROCESS, from, to);
    if let Some(exec) = event.exec.as_ref().filter(|exec| !exec.argv.is_empty()) {
        to.put("process.args_count", exec.argv.len());
        to.put("process.command_line", words::command_line(&exec.argv));
    } else {
        from.take("argv");
    }
    place(&[("argv", "process.args", Same)], from, to);
    if event.exit.is_some() {
        to.put("process.end", event.time.to_string());
    }
}

const PROCESS: &[Row] = &[
    ("pid", "process.pid", Same),
    ("tid", "process.thread.id", Same),
    ("comm", "process.thread.name", Same),
    ("exe", "process.executable", Same),
    ("exec_id", "process.entity_id", Same),
    ("parent_exec_id", "process.parent.entity_id", Same),
    ("ppid", "process.parent.pid", Same),
    ("cwd", "process.working_directory", Same),
    ("exit.code", "process.exit_code", Same),
];

const FORK: &[Row] = &[
    ("fork.child_pid", "process.pid", Same),
    ("pid", "process.parent.pid", Same),
    ("tid", "process.parent.thread.id", Same),
    ("comm", "process.parent.thread.name", Same),
    ("exec_id", "process.parent.entity_id", Same),
];

fn place_network(event: &Event, network: &Network, from: &mut Fields, to: &mut Tree) {
    if let Some(address) = network.address {
        to.put("destination.address", address.to_string());
        to.put("network.type", if address.is_ipv4() { "ipv4" } else { "ipv6" });
    }
    to.put("network.direction", if event.kind == Kind::NetListen { "ingress" } else { "egress" });
    let transport = network.protocol.as_deref();
    // The name that IANA gives it.
    to.put_some("network.transport", transport.map(|name| if name == "icmpv6" { "ipv6-icmp" } else { name }));
    from.take("network.protocol");
    place(NETWORK, from, to);
    if let Some(spoken) = &event.spoken {
        let protocol = spoken.protocol.and_then(|word| word.known());
        if matches!(protocol, Some(Protocol::Tls | Protocol::Http)) {
            place(&[("spoken.protocol", "network.protocol", Same)], from, to);
        }
        place(SPOKEN, from, to);
    }
}

const NETWORK: &[Row] = &[
    ("network.address", "destination.ip", Same),
    ("network.port", "destination.port", Same),
    ("network.name", "destination.domain", Same),
];

const SPOKEN: &[Row] = &[
    ("spoken.source_address", "source.ip", Same),
    ("spoken.source_port", "source.port", Same),
    ("tls.server_name", "tls.client.server_name", Same),
    ("http.host", "url.domain", Same),
];

fn place_dns(event: &Event, dns: &Dns, from: &mut Fields, to: &mut Tree) {
    to.put("dns.type", if event.kind == Kind::DnsAnswer { "answer" } else { "query" });
    to.put("network.protocol", "dns");
    to.put("network.direction", if event.kind == Kind::DnsAnswer { "ingress" } else { "egress" });
    if let Some(resolver) = dns.resolver {
        to.put("destination.address", resolver.to_string());
        to.put("destination.port", 53);
        to.put("network.type", if resolver.is_ipv4() { "ipv4" } else { "ipv6" });
    }
    if dns.name.is_empty() {
        from.take("dns.name");
    }
    place(DNS, from, to);
    if !dns.answers.is_empty() {
        let answers: Vec<Value> = dns
            .answers
            .iter()
            .map(|answer| {
                let kind = if answer.address.is_ipv4() { "A" } else { "AAAA" };
                json!({ "data": answer.address, "ttl": answer.ttl_s, "type": kind })
            })
            .collect();
        to.put(
            "dns.resolved_ip",
            dns.answers.iter().map(|answer| answer.address.to_string()).collect::<Vec<_>>(),
        );
        to.put("dns.answers", answers);
        from.take("dns.answers");
    }
}

const DNS: &[Row] = &[
    ("dns.name", "dns.question.name", Same),
    ("dns.type", "dns.question.type", Same),
    ("dns.id", "dns.id", Text),
    ("dns.code", "dns.response_code", Same),
    ("dns.protocol", "network.transport", Same),
    ("dns.resolver", "destination.ip", Same),
];

/// The rule of a decision, or what a finding is one of.
fn rule(event: &Event, from: &mut Fields, to: &mut Tree) {
    if let Some(id) = rule_id(event) {
        to.put("rule.id", id);
        to.put_some("rule.ruleset", event.subject.as_ref().and_then(|subject| subject.role.as_deref()));
        from.take("decision.rule.index");
    }
    place(&[("decision.rule.text", "rule.name", Same), ("finding.what", "rule.name", Same)], from, to);
    if let Some((id, sub)) = technique(event) {
        to.put("threat.framework", "MITRE ATT&CK");
        to.put("threat.technique.id", json!([id]));
        to.put_some("threat.technique.subtechnique.id", sub.map(|sub| json!([sub])));
        from.take("finding.technique");
    }
}
