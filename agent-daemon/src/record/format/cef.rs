//! Common Event Format (ArcSight, revision 25): one line of text.

use std::{fmt::Write as _, net::IpAddr};

use super::{PRODUCT, PRODUCT_VERSION, Severity, base_name, fields::millis, technique, words};
use crate::event::{Event, Subject};

/// The line, without its end.
pub(super) fn line(event: &Event) -> String {
    let mut out = format!("CEF:0|{PRODUCT}|{PRODUCT}|");
    let name = event.kind.name().replace('_', " ");
    let severity = Severity::of(event).number();
    for part in [PRODUCT_VERSION, event.kind.name(), &name] {
        header(&mut out, part);
    }
    let _ = write!(out, "{severity}|");
    let mut keys = Keys { out, first: true };
    keys.number("rt", Some(millis(event.time)));
    keys.text("dvchost", &event.host);
    // The end of the id that other forms have: the key takes no more than 40 characters.
    keys.text("externalId", &format!("{}-{}", event.time.0, event.seq));
    keys.some("act", event.verdict.map(|verdict| verdict.name()));
    keys.some("reason", event.decision.as_ref().map(|decision| decision.source.name()));
    what(event, &mut keys);
    if let Some(subject) = &event.subject {
        who(subject, &mut keys);
    }
    labelled(event, &mut keys);
    keys.text("msg", &words::sentence(event));
    keys.out
}

fn who(subject: &Subject, keys: &mut Keys) {
    keys.text("sproc", subject.exe.as_deref().unwrap_or(&subject.comm));
    keys.number("spid", Some(subject.pid.into()));
    keys.some("suid", subject.uid.map(|uid| uid.to_string()).as_deref());
}

fn what(event: &Event, keys: &mut Keys) {
    if let Some(network) = &event.network {
        keys.address("dst", network.address);
        // Ports of vsock are larger than the key takes; they stand in `msg`.
        keys.number("dpt", network.port.filter(|port| *port <= u16::MAX.into()).map(u64::from));
        keys.some("dhost", network.name.as_deref());
        keys.some("proto", network.protocol.as_deref());
    }
    if let Some(spoken) = &event.spoken {
        keys.address("src", spoken.source_address);
        keys.number("spt", Some(spoken.source_port.into()));
        keys.some("app", spoken.protocol.map(|protocol| protocol.name()));
        let said = event.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        keys.some("requestContext", said.or(event.http.as_ref().and_then(|http| http.host.as_deref())));
    }
    if let Some(unix) = &event.unix {
        keys.text("filePath", &unix.path);
        keys.number("dpid", unix.peer.as_ref().and_then(|peer| peer.pid).map(u64::from));
    }
    if let Some(dns) = &event.dns {
        keys.address("dst", dns.resolver);
        keys.number("dpt", dns.resolver.map(|_| 53));
        keys.text("proto", &dns.protocol);
        keys.text("app", "dns");
        keys.text("request", &dns.name);
        keys.some("requestMethod", dns.kind.as_deref());
        keys.some("outcome", dns.code.as_deref());
    }
    if let Some(fork) = &event.fork {
        keys.number("dpid", Some(fork.child_pid.into()));
    }
    if let Some(exit) = &event.exit {
        let outcome = exit.code.map(|code| format!("exit {code}"));
        keys.some("outcome", outcome.or(exit.signal.map(|signal| format!("signal {signal}"))).as_deref());
    }
    if let Some(program) = &event.program {
        keys.text("fname", base_name(&program.path));
        keys.text("filePath", &program.path);
        keys.text("fileHash", &program.sha256);
        keys.number("fsize", Some(program.bytes));
    }
    if let Some(finding) = &event.finding {
        keys.number("cnt", Some(finding.count));
        keys.number("start", Some(millis(finding.first)));
        keys.number("end", Some(millis(finding.last)));
    }
}

/// The six strings that a product may name itself, the same in every event.
fn labelled(event: &Event, keys: &mut Keys) {
    let subject = event.subject.as_ref();
    let instance = subject.and_then(|s| s.instance).map(|id| id.to_string());
    let role = subject.and_then(|s| s.role.as_deref());
    let rule = event.decision.as_ref().and_then(|d| d.rule.as_ref()).map(|rule| rule.text.as_ref());
    let behaviour = event.finding.as_ref().map(|finding| finding.behaviour.to_string());
    let detail = match &event.exec {
        Some(exec) => ("command line", Some(words::command_line(&exec.argv))),
        None => ("behaviour", behaviour),
    };
    let attack = technique(event).map(|(id, sub)| sub.unwrap_or(id));
    let all = [
        (1, "agent", subject.and_then(|s| s.agent.as_deref())),
        (2, "role", role.or(event.baseline.as_ref().and_then(|b| b.role.as_deref()))),
        (3, "instance", instance.as_deref()),
        (4, "rule", rule),
        (5, detail.0, detail.1.as_deref()),
        (6, "ATT&CK technique", attack.as_deref()),
    ];
    for (at, label, value) in all {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            keys.text(&format!("cs{at}"), value);
            keys.text(&format!("cs{at}Label"), label);
        }
    }
}

struct Keys {
    out: String,
    first: bool,
}

impl Keys {
    fn some(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn number(&mut self, key: &str, value: Option<u64>) {
        self.some(key, value.map(|number| number.to_string()).as_deref());
    }

    /// `src` and `dst` hold IPv4 alone: the format has other keys, with labels, for IPv6.
    fn address(&mut self, key: &str, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        let (of_v6, label) = match key {
            "src" => ("c6a2", "Source IPv6 Address"),
            _ => ("c6a3", "Destination IPv6 Address"),
        };
        if address.is_ipv4() {
            return self.text(key, &address.to_string());
        }
        self.text(of_v6, &address.to_string());
        self.text(&format!("{of_v6}Label"), label);
    }

    /// Nothing to say is not said: an empty value would be read as a part of what follows by some.
    fn text(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(' ');
        }
        let _ = write!(self.out, "{key}=");
        let limit = LIMITS.iter().find(|(of, _)| *of == key).map_or(LIMIT_OF_STRINGS, |(_, limit)| *limit);
        for c in value.chars().take(limit) {
            match c {
                '\\' => self.out.push_str(r"\\"),
                '=' => self.out.push_str(r"\="),
                '\n' => self.out.push_str(r"\n"),
                '\r' => self.out.push_str(r"\r"),
                c => visible(&mut self.out, c),
            }
        }
    }
}

/// A field of the header, and the bar after it. It cannot hold an end of line.
fn header(out: &mut String, part: &str) {
    for c in part.chars() {
        match c {
            '\\' => out.push_str(r"\\"),
            '|' => out.push_str(r"\|"),
            c => visible(out, c),
        }
    }
    out.push('|');
}

/// The format has no way to write control characters: they come as text, so that none reaches a terminal or ends a line.
fn visible(out: &mut String, c: char) {
    if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
        let _ = write!(out, r"\\u{{{:x}}}", u32::from(c));
    } else {
        out.push(c);
    }
}

/// Characters that a key takes, by the format's dictionary.
const LIMITS: &[(&str, usize)] = &[
    ("act", 63),
    ("app", 31),
    ("dhost", 1023),
    ("dvchost", 100),
    ("externalId", 40),
    ("fileHash", 255),
    ("filePath", 1023),
    ("fname", 1023),
    ("msg", 1023),
    ("outcome", 63),
    ("proto", 31),
    ("reason", 1023),
    ("request", 1023),
    ("requestContext", 2048),
    ("requestMethod", 1023),
    ("sproc", 1023),
    ("suid", 1023),
];
/// Of `cs1` to `cs6`.
const LIMIT_OF_STRINGS: usize = 4000;
