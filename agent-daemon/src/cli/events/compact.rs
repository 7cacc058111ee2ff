//! An event as one line for people.

use std::{collections::BTreeMap, fmt::Write as _};

use agent_common::verdict::Verdict;
use anstyle::Style;

use crate::{
    cli::render::{self, BAD, BOLD, DIM, WARN, harmless, paint},
    event::{
        Event, Kind, Subject,
        finding::{BaselineChange, Finding, Reaction},
        journal::{Opened, Range, Removed},
        local::Policy,
        names::{Channel, Dns},
        net::{Decision, Network, Unix},
        process::Program,
    },
};

/// The line, with styles; aligned as far as the words it holds are short.
pub(in crate::cli) fn line(event: &Event) -> String {
    let time = event.time.to_string();
    let mut out = paint(DIM, time.get(11..23).unwrap_or_default());
    let (origin, style) = event
        .subject
        .as_ref()
        .map_or(("daemon", BOLD), |subject| (subject.origin.name(), render::origin(subject.origin)));
    let _ = write!(out, " {} {} ", pad(style, origin, 6), pad(style, &who(event.subject.as_ref()), 24));
    let _ = write!(out, "{} {}", pad(Style::new(), word(event), 11), what(event));
    if let Some(id) = leads_on(event) {
        let _ = write!(out, " {}", paint(DIM, id));
    }
    if let Some(broker) = &event.handed_off {
        let _ = write!(out, " {}", paint(WARN, format!("handed off: {broker}")));
    }
    for cut in &event.truncated {
        let _ = write!(out, " {}", paint(DIM, format!("({} cut, {} bytes)", cut.field, cut.bytes)));
    }
    out
}

/// What `trail` is asked with, of what somebody will want to know more of.
fn leads_on(event: &Event) -> Option<String> {
    let refused = event.verdict.is_some_and(|verdict| verdict.known() != Some(Verdict::Allow));
    match event.kind {
        Kind::Finding => Some(format!("finding:{}", event.seq)),
        _ if refused => event.subject.as_ref()?.instance.map(|id| id.to_string()),
        _ => None,
    }
}

/// What happened, without who did it and why it was decided so: for a place where that is told too.
pub(in crate::cli) fn deed(event: &Event) -> String {
    let act = event.network.is_some() || event.unix.is_some() || event.dns.is_some();
    match event.kind {
        Kind::ProcessExec | Kind::DnsChannel | Kind::Finding => what(event),
        _ if act => said(event, false),
        Kind::Unknown | Kind::AgentFound => actor(event),
        _ => format!("{} {}", word(event), what(event)),
    }
}

fn pad(style: Style, text: &str, width: usize) -> String {
    let text = render::cut(text, width);
    let fill = width.saturating_sub(text.chars().count());
    format!("{}{}", paint(style, &text), " ".repeat(fill))
}

fn who(subject: Option<&Subject>) -> String {
    let Some(subject) = subject else { return "-".to_owned() };
    match (&subject.agent, &subject.role) {
        (Some(agent), Some(role)) if agent == role => agent.to_string(),
        (Some(agent), Some(role)) => format!("{agent}/{role}"),
        (Some(agent), None) => agent.to_string(),
        _ => subject.loginuid.or(subject.uid).map_or_else(|| "-".to_owned(), |uid| format!("uid {uid}")),
    }
}

/// The act, in a word.
fn word(event: &Event) -> &'static str {
    match event.kind {
        Kind::ProcessExec => "exec",
        Kind::ProcessExit => "exit",
        Kind::ProcessFork => "fork",
        Kind::CgroupCreated => "cgroup",
        Kind::NetConnect | Kind::UnixConnect => "connect",
        Kind::NetSend | Kind::UnixSend => "send",
        Kind::NetCreate => "socket",
        Kind::NetOption => "setsockopt",
        Kind::NetListen => "listen",
        Kind::NetOther => "net",
        Kind::DnsQuery => "dns query",
        Kind::DnsAnswer => "dns answer",
        Kind::DnsChannel => "dns channel",
        Kind::Spoken => "spoken",
        Kind::AgentFound => "found",
        Kind::AgentEnded => "ended",
        Kind::DaemonStarted => "started",
        Kind::DaemonStopped => "stopped",
        Kind::PolicyChanged => "policy",
        Kind::PolicyRejected => "policy",
        Kind::EventsLost => "lost",
        Kind::GuaranteeChanged => "guarantee",
        Kind::ProgramIdentified => "program",
        Kind::Finding => "finding",
        Kind::Reaction => "reaction",
        Kind::BaselineChanged => "baseline",
        Kind::JournalOpened | Kind::SegmentsRemoved => "journal",
        Kind::Checkpoint => "checkpoint",
        Kind::Unknown => "unknown",
    }
}

fn what(event: &Event) -> String {
    match event.kind {
        Kind::ProcessExec => exec(event),
        Kind::ProcessExit => format!("{}{}", actor(event), exit(event)),
        Kind::ProcessFork => format!("{} → {}", actor(event), event.fork.map_or(0, |fork| fork.child_pid)),
        Kind::CgroupCreated => event.new_cgroup.as_ref().map(|c| harmless(&c.path)).unwrap_or_default(),
        Kind::DaemonStarted | Kind::DaemonStopped => daemon(event),
        Kind::PolicyChanged | Kind::PolicyRejected => policy(event),
        Kind::EventsLost => lost(event),
        Kind::GuaranteeChanged => guarantees(event),
        Kind::DnsChannel => channel(event),
        Kind::ProgramIdentified => {
            event.program.as_ref().map(|program| self::program(program)).unwrap_or_default()
        }
        Kind::Finding => event.finding.as_ref().map(|found| finding(found)).unwrap_or_default(),
        Kind::Reaction => event.reaction.as_ref().map(|done| reaction(event, done)).unwrap_or_default(),
        Kind::BaselineChanged => event.baseline.as_ref().map(|change| baseline(change)).unwrap_or_default(),
        Kind::JournalOpened => event.journal.as_ref().map(|of| opened(of)).unwrap_or_default(),
        Kind::Checkpoint => {
            event.checkpoint.as_ref().map(|of| format!("up to {}", of.seq)).unwrap_or_default()
        }
        Kind::SegmentsRemoved => event.removed.as_ref().map(|of| removed(of)).unwrap_or_default(),
        Kind::AgentFound | Kind::AgentEnded | Kind::Unknown => format!("{}{}", actor(event), instance(event)),
        _ => said(event, true),
    }
}

/// `segment 3 after 1041; 118 bytes torn off; 3 records missing (1042 to 1044)`
fn opened(of: &Opened) -> String {
    let mut out = format!("segment {}", of.segment);
    if let Some(before) = &of.continues {
        let _ = write!(out, " after {}", before.seq);
    }
    let mut wrong = String::new();
    if of.torn_bytes > 0 {
        let _ = write!(wrong, "; {} bytes torn off", of.torn_bytes);
    }
    if let Some(Range { from, to }) = of.missing {
        let _ = write!(wrong, "; {} records missing ({from} to {to})", to.saturating_sub(from) + 1);
    }
    if let Some(seq) = of.broken_at {
        let _ = write!(wrong, "; the segment before does not hold from {seq} on");
    }
    if !of.set_aside.is_empty() {
        let _ = write!(wrong, "; {} was set aside", harmless(&of.set_aside));
    }
    format!("{out}{}", paint(WARN, wrong))
}

fn removed(of: &Removed) -> String {
    let early = if of.early { paint(WARN, ", earlier than they are to be kept") } else { String::new() };
    format!(
        "removed {} segments ({} to {}), for their {}{early}",
        of.segments,
        of.from,
        of.to,
        harmless(&of.why)
    )
}

/// `lsm → cgroup mode: refused_in_the_call → not_seen: unix, vsock; …`
fn guarantees(event: &Event) -> String {
    let Some(changed) = &event.guarantees else { return String::new() };
    let mut by_change: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for change in &changed.changes {
        by_change.entry((&change.before, &change.now)).or_default().push(&change.way);
    }
    let changes: Vec<String> = by_change
        .iter()
        .map(|((before, now), ways)| format!("{before} → {now}: {}", ways.join(", ")))
        .collect();
    let modes = format!("{} → {} mode:", changed.mode_before, changed.mode);
    format!("{} {}", paint(WARN, harmless(&modes)), harmless(&changes.join("; ")))
}

/// `high new_endpoint: connect /usr/bin/curl -> paste.example.org:443/tcp (0 of 12 …; nearest …) ×4`
fn finding(found: &Finding) -> String {
    let style = match &*found.severity {
        "critical" | "high" => BAD,
        "medium" => WARN,
        _ => DIM,
    };
    let mut out = format!("{} {}", paint(style, &found.severity), paint(BOLD, harmless(&found.what)));
    let _ = write!(out, ": {}", harmless(&found.behaviour));
    let _ = write!(out, " {}", paint(DIM, format!("({}", harmless(&found.how_unusual))));
    if let Some(nearest) = &found.nearest {
        let _ = write!(out, "{}", paint(DIM, format!("; {}: {}", found.nearness, harmless(nearest))));
    }
    out.push_str(&paint(DIM, ")"));
    if found.count > 1 {
        let _ = write!(out, " ×{}", found.count);
    }
    out
}

fn program(program: &Program) -> String {
    let mut out = harmless(&program.path);
    if let Some(package) = &program.package {
        let _ = write!(
            out,
            " {} {}",
            harmless(package),
            harmless(program.version.as_deref().unwrap_or_default())
        );
    }
    let _ =
        write!(out, " {}", paint(DIM, format!("sha256 {}", program.sha256.get(..12).unwrap_or_default())));
    out
}

fn reaction(event: &Event, done: &Reaction) -> String {
    let ms = done.after_ns as f64 / 1e6;
    let mut out = format!(
        "{}{}: {} processes, {ms:.1} ms after the act",
        paint(BAD, &done.effect),
        instance(event),
        done.processes
    );
    if let Some(why) = &done.incomplete {
        let _ = write!(out, " {}", paint(BAD, format!("(not all of it: {})", harmless(why))));
    }
    out
}

fn baseline(change: &BaselineChange) -> String {
    let mut out = paint(BOLD, &change.action);
    if let Some(role) = &change.role {
        let _ = write!(out, " {}", harmless(role));
    }
    if let Some(version) = change.version {
        let _ = write!(out, " version {version}");
    }
    if let Some(by) = &change.by {
        let _ = write!(out, " by uid {}", by.uid);
    }
    format!("{out}: {}", harmless(&change.what))
}

/// `curl[123]`
pub(in crate::cli) fn actor(event: &Event) -> String {
    let Some(subject) = &event.subject else { return String::new() };
    let name = subject
        .script
        .as_deref()
        .or(subject.exe.as_deref())
        .map(|path| path.rsplit('/').next().unwrap_or(path));
    format!("{}[{}]", harmless(name.unwrap_or(&subject.comm)), subject.pid)
}

fn instance(event: &Event) -> String {
    event.subject.as_ref().and_then(|s| s.instance).map(|id| format!(" {id}")).unwrap_or_default()
}

fn exec(event: &Event) -> String {
    let Some(exec) = &event.exec else { return actor(event) };
    let exe = event.subject.as_ref().and_then(|s| s.exe.as_deref()).unwrap_or_default();
    let mut out = format!("{} ", paint(DIM, actor(event)));
    let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
    match exec.argv.first() {
        // A program may call itself anything: where it does, what was executed comes first.
        Some(name) if base(name.trim_start_matches('-')) != base(exe) => {
            let _ = write!(out, "{} ({})", harmless(exe), render::command(&exec.argv));
        }
        Some(_) => out.push_str(&render::command(&exec.argv)),
        None => out.push_str(&harmless(exe)),
    }
    if let Some(how) = exec.recognised {
        let _ = write!(out, " {}", paint(BOLD, format!("agent started{} (by {how})", instance(event))));
    }
    out
}

fn exit(event: &Event) -> String {
    let Some(exit) = event.exit else { return String::new() };
    let how = match (exit.code, exit.signal) {
        (_, Some(signal)) => format!(" signal {signal}"),
        (Some(code), None) => format!(" {code}"),
        (None, None) => String::new(),
    };
    let ended = if exit.instance_ended {
        paint(BOLD, format!(" agent ended{}", instance(event)))
    } else {
        String::new()
    };
    how + &ended
}

fn said(event: &Event, whole: bool) -> String {
    let mut out = String::new();
    if let Some(verdict) = event.verdict {
        let _ = write!(out, "{} ", pad(render::verdict(verdict), &verdict.name().to_uppercase(), 5));
    }
    let target = match (&event.network, &event.unix, &event.dns) {
        (Some(network), ..) => endpoint(network),
        (_, Some(unix), _) => socket(unix),
        (_, _, Some(dns)) => resolution(dns),
        _ => String::new(),
    };
    out.push_str(&target);
    if !whole {
        return out;
    }
    let _ = write!(out, " {}", paint(DIM, actor(event)));
    if let Some(decision) = &event.decision {
        out.push_str(&paint(DIM, reason(event, decision)));
    }
    out
}

/// `A api.example.com of 192.0.2.53`, `A api.example.com = 192.0.2.1, 192.0.2.2`
fn resolution(dns: &Dns) -> String {
    let kind = dns.kind.as_deref().unwrap_or("?");
    let name = if dns.name.is_empty() { "(unreadable)".to_owned() } else { harmless(&dns.name) };
    match (&dns.code, dns.answers.as_slice()) {
        (None, _) => {
            let resolver = dns.resolver.map(|address| format!(" of {address}")).unwrap_or_default();
            let odd =
                if dns.configured == Some(false) { paint(WARN, " (not configured)") } else { String::new() };
            format!("{kind} {name}{resolver}{odd}")
        }
        (Some(code), []) => format!("{kind} {name} = {code}"),
        (Some(_), answers) => {
            let all: Vec<String> = answers.iter().map(|answer| answer.address.to_string()).collect();
            format!("{kind} {name} = {}", all.join(", "))
        }
    }
}

/// `120 names below example.com in 34 s, 5000 bytes; 130 questions, 0 of free form`
fn channel(event: &Event) -> String {
    let Some(channel) = &event.channel else { return actor(event) };
    let Channel { domain, seconds, questions, names, bytes, longest: _, free_form } = &**channel;
    let what = format!(
        "{names} names below {} in {seconds} s, {bytes} bytes; {questions} questions, {free_form} of free form",
        harmless(domain)
    );
    format!("{} {}", paint(WARN, what), paint(DIM, actor(event)))
}

/// `tcp 10.0.0.5:443 (api.example.com)`
fn endpoint(network: &Network) -> String {
    let name = network.name.as_ref().map(|name| format!(" ({})", harmless(name))).unwrap_or_default();
    numbers(network) + &name
}

fn numbers(network: &Network) -> String {
    let protocol = network.protocol.as_deref().unwrap_or(&network.family);
    match (network.address, network.port, network.cid) {
        (Some(address), Some(port), _) => {
            format!("{protocol} {}", std::net::SocketAddr::new(address, port as u16))
        }
        (Some(address), None, _) => format!("{protocol} {address}"),
        (None, port, Some(cid)) => format!("{} {cid}:{}", network.family, port.unwrap_or_default()),
        (None, ..) => format!("{} {protocol} {}", network.family, network.kind),
    }
}

fn socket(unix: &Unix) -> String {
    let path = if unix.path.is_empty() { "(unnamed)".to_owned() } else { harmless(&unix.path) };
    let peer = unix.peer.as_ref().map(|peer| {
        let name = peer.agent.as_deref().or(peer.exe.as_deref()).unwrap_or(peer.origin.name());
        format!(" of {}[{}]", harmless(name), peer.pid.unwrap_or_default())
    });
    format!("unix {path}{}", peer.unwrap_or_default())
}

/// ` default (lsm)`, ` rule 3: 10.0.0.0/8 tcp allow, roles/a.yaml:12`
pub(in crate::cli) fn reason(event: &Event, decision: &Decision) -> String {
    let mut out = match &decision.rule {
        Some(rule) => {
            let source = rule.source.as_deref().map(|s| format!(", {s}")).unwrap_or_default();
            format!(" rule {}: {}{source}", rule.index, rule.text)
        }
        None => format!(" {}", decision.source),
    };
    if Some(decision.wanted) != event.verdict {
        let _ = write!(out, ", would be {}", decision.wanted);
    }
    if let Some(errno) = &decision.errno {
        let _ = write!(out, ", {errno}");
    }
    let _ = write!(out, " ({})", decision.place);
    out
}

fn daemon(event: &Event) -> String {
    let Some(daemon) = &event.daemon else { return String::new() };
    let mut out = format!(
        "chaperone {}, {} mode, kernel {}, {} agents, {} roles",
        daemon.version, daemon.mode, daemon.kernel, daemon.agents, daemon.roles
    );
    if !daemon.mode_reason.is_empty() {
        let _ = write!(out, " {}", paint(WARN, format!("({})", daemon.mode_reason)));
    }
    out
}

fn policy(event: &Event) -> String {
    let Some(policy) = &event.policy else { return String::new() };
    if event.kind == Kind::PolicyRejected {
        let first = policy.problems.first().map(|p| harmless(p)).unwrap_or_default();
        return format!("{} {} problems; {first}", paint(BAD, "refused:"), policy.problems.len());
    }
    let Policy { generation, agents, roles, trigger, .. } = policy;
    format!("generation {generation} in force: {agents} agents, {roles} roles ({trigger})")
}

fn lost(event: &Event) -> String {
    let Some(lost) = &event.lost else { return String::new() };
    let ring = lost.ring.iter().map(|(kind, count)| format!("{count} {kind} (ring buffer full)"));
    let undecodable =
        lost.undecodable.iter().map(|(reason, count)| format!("{count} undecodable ({reason})"));
    let mut all: Vec<String> = ring.chain(undecodable).collect();
    if lost.unwritten > 0 {
        all.push(format!("{} lines not written", lost.unwritten));
    }
    if lost.follower > 0 {
        all.push("this follower was too slow and was cut off; start again".to_owned());
    }
    paint(BAD, all.join(", "))
}

#[cfg(test)]
mod tests;
