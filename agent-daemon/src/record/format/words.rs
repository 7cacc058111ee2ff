//! An event in one plain sentence, and command lines: the text that all forms share.

use std::fmt::Write as _;

use crate::event::{
    Event, Kind,
    names::{self, Dns},
    net::Network,
    process,
};

/// Who did what, and what became of it.
pub(super) fn sentence(event: &Event) -> String {
    let subject = event.subject.as_ref();
    let who = subject.map_or("chaperone", |s| s.agent.as_deref().unwrap_or(s.origin.name()));
    let mut out = format!("{who}: {}", act(event));
    if let Some(verdict) = event.verdict {
        let _ = write!(out, ": {verdict}");
        if let Some(decision) = &event.decision {
            match &decision.rule {
                Some(rule) => drop(write!(out, " by rule `{}`", rule.text)),
                None => drop(write!(out, " by {}", decision.source)),
            }
        }
    }
    if let Some(broker) = &event.handed_off {
        let _ = write!(out, "; work handed to {broker}");
    }
    out
}

fn act(event: &Event) -> String {
    let name = event.kind.name().replace('_', " ");
    let of_processes = || {
        let subject = event.subject.as_ref()?;
        if event.exec.is_some() {
            return Some(format!("executed {}", subject.script.as_deref().or(subject.exe.as_deref())?));
        }
        if let Some(exit) = &event.exit {
            return Some(match (exit.code, exit.signal) {
                (_, Some(signal)) => format!("ended by signal {signal}"),
                (code, _) => format!("ended with {}", code.unwrap_or_default()),
            });
        }
        let born = |fork: &process::Fork| format!("process {} born", fork.child_pid);
        let found = |program: &process::Program| format!("{name} {} as {}", program.path, program.sha256);
        let made = |cgroup: &process::NewCgroup| format!("{name} {}", cgroup.path);
        event
            .fork
            .as_ref()
            .map(born)
            .or(event.program.as_deref().map(found))
            .or(event.new_cgroup.as_ref().map(made))
    };
    of_processes()
        .or_else(|| on_a_socket(event))
        .or_else(|| of_behaviour(event, &name))
        .or_else(|| of_the_journal(event, &name))
        .or_else(|| of_the_daemon(event, &name))
        .unwrap_or(name)
}

fn on_a_socket(event: &Event) -> Option<String> {
    if let Some(network) = &event.network {
        let to = endpoint(network);
        let tls = event.tls.as_ref().and_then(|tls| tls.server_name.as_deref());
        let said = tls.or(event.http.as_ref().and_then(|http| http.host.as_deref())).unwrap_or("no name");
        return Some(match &event.spoken {
            Some(spoken) => format!("said {said} to {to}: {}", spoken.finding),
            None => format!("{} {to}", network.op),
        });
    }
    if let Some(unix) = &event.unix {
        let path = if unix.path.is_empty() { "a socket without a name" } else { &unix.path };
        return Some(format!("{} to {path}", unix.op));
    }
    let channel = |channel: &names::Channel| {
        format!("{} questions for {} names below {}", channel.questions, channel.names, channel.domain)
    };
    let dns = event.dns.as_ref().map(|dns| question(event.kind, dns));
    dns.or_else(|| event.channel.as_deref().map(channel))
}

fn of_behaviour(event: &Event, name: &str) -> Option<String> {
    if let Some(finding) = &event.finding {
        return Some(format!("{}: {} ({})", finding.what, finding.behaviour, finding.how_unusual));
    }
    if let Some(reaction) = &event.reaction {
        let but = reaction.incomplete.as_deref().map(|why| format!(", not all: {why}")).unwrap_or_default();
        return Some(format!("{} of {} processes{but}", reaction.effect, reaction.processes));
    }
    let change = event.baseline.as_deref()?;
    Some(format!("{name}: {}, {}", change.action, change.what))
}

fn of_the_journal(event: &Event, name: &str) -> Option<String> {
    if let Some(opened) = &event.journal {
        let missing =
            opened.missing.map(|range| format!(", records {} to {} are missing", range.from, range.to));
        let broken =
            opened.broken_at.map(|seq| format!(", the segment before does not hold from record {seq} on"));
        let torn = (opened.torn_bytes > 0)
            .then(|| format!(", {} bytes at the end were no record", opened.torn_bytes));
        let wrong: String = [missing, broken, torn].into_iter().flatten().collect();
        return Some(format!("{name}: segment {}{wrong}", opened.segment));
    }
    if let Some(checkpoint) = &event.checkpoint {
        return Some(format!("{name}: signed up to record {} with key {}", checkpoint.seq, checkpoint.key));
    }
    let removed = event.removed.as_deref()?;
    let early = if removed.early { ", earlier than wanted" } else { "" };
    Some(format!(
        "{name}: {} with records {} to {} for {}{early}",
        removed.segments, removed.from, removed.to, removed.why
    ))
}

fn of_the_daemon(event: &Event, name: &str) -> Option<String> {
    if let Some(daemon) = &event.daemon {
        let why =
            if daemon.mode_reason.is_empty() { String::new() } else { format!(" ({})", daemon.mode_reason) };
        let (mode, agents, roles) = (&daemon.mode, daemon.agents, daemon.roles);
        return Some(format!("{name}: mode {mode}{why}, {agents} agents, {roles} roles"));
    }
    if let Some(policy) = &event.policy {
        let what = match &*policy.problems {
            [] => format!("{} agents, {} roles", policy.agents, policy.roles),
            problems => problems.join("; "),
        };
        return Some(format!("{name} by {}: generation {}, {what}", policy.trigger, policy.generation));
    }
    if let Some(lost) = &event.lost {
        let counted = |(what, count): (&str, u64)| (count > 0).then(|| format!("{count} {what}"));
        let maps = lost.ring.iter().chain(&lost.undecodable).map(|(what, count)| (&**what, *count));
        let rest = [("unwritten", lost.unwritten), ("to a follower", lost.follower)];
        return Some(format!(
            "{name}: {}",
            maps.chain(rest).filter_map(counted).collect::<Vec<_>>().join(", ")
        ));
    }
    let guarantees = event.guarantees.as_deref()?;
    let changes =
        guarantees.changes.iter().map(|c| format!("{} {}: {} -> {}", c.rule, c.way, c.before, c.now));
    let changes: Vec<String> = changes.collect();
    Some(format!("{name}: mode {} -> {}; {}", guarantees.mode_before, guarantees.mode, changes.join("; ")))
}

fn endpoint(network: &Network) -> String {
    let mut out = match (network.address, network.port) {
        (Some(address), Some(port)) => {
            std::net::SocketAddr::new(address, u16::try_from(port).unwrap_or_default()).to_string()
        }
        (Some(address), None) => address.to_string(),
        (None, _) => format!("{} {}", network.family, network.kind),
    };
    if let Some(protocol) = &network.protocol {
        let _ = write!(out, "/{protocol}");
    }
    if let Some(name) = &network.name {
        let _ = write!(out, " ({name})");
    }
    out
}

fn question(kind: Kind, dns: &Dns) -> String {
    let name = if dns.name.is_empty() { "an unreadable name" } else { &dns.name };
    let record = dns.kind.as_deref().unwrap_or_default();
    match (kind, &dns.code) {
        (Kind::DnsAnswer, Some(code)) => {
            let addresses = dns.answers.iter().map(|answer| format!(" {}", answer.address));
            format!("was answered {name} {record} {code}{}", addresses.collect::<String>())
        }
        (Kind::DnsAnswer, None) => format!("was answered {name} {record}"),
        _ => format!("asked for {name} {record}"),
    }
}

/// Arguments as one text that a shell would split into the same; what is plain stays as it is.
pub(super) fn command_line(argv: &[Box<str>]) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,@%+*".contains(c);
    let quoted = |arg: &str| {
        if !arg.is_empty() && arg.chars().all(plain) {
            arg.to_owned()
        } else {
            format!("'{}'", arg.replace('\'', r"'\''"))
        }
    };
    argv.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_where_they_have_to_be() {
        let argv = ["git", "commit", "-m", "it's done", "", "--key=***"].map(Into::into);
        assert_eq!(command_line(&argv), r"git commit -m 'it'\''s done' '' --key=***");
    }
}
