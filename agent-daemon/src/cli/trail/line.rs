//! One node of a trail, and one fold, in words.

use std::fmt::Write as _;

use anstream::adapter::strip_str;

use crate::{
    baseline::compare::grouped,
    cli::{
        events::compact,
        render::{BAD, BOLD, DIM, WARN, command, cut_painted, harmless, paint},
    },
    event::{Event, word::Time},
    trail::{Mark, NodeKind, Trail, view::Folded},
};

/// What a row tells, with styles.
pub(super) struct Words {
    /// May be cut.
    pub what: String,
    /// What makes it stand out, and how it went on: never cut.
    pub tags: String,
}

impl Words {
    /// Both, with at most so many characters.
    pub(super) fn within(&self, width: usize) -> String {
        let tags = strip_str(&self.tags).to_string().chars().count();
        cut_painted(&self.what, width.saturating_sub(tags).max(WHAT_MIN)) + &self.tags
    }

    /// Both, without styles.
    pub(super) fn plain(&self) -> String {
        strip_str(&self.within(usize::MAX)).to_string()
    }
}

/// What a node tells, and what was found of it.
pub(super) fn node(trail: &Trail, at: usize, findings: &[usize]) -> Words {
    let node = &trail.nodes[at];
    let event = &node.event;
    let mut what = match node.kind {
        NodeKind::Finding => format!("{} {}", paint(BAD, "!"), compact::deed(event)),
        NodeKind::Host => format!("{} {}", paint(WARN, "host:"), compact::deed(event)),
        NodeKind::Image => image(event),
        NodeKind::Act => compact::deed(event),
    };
    let mut tags = String::new();
    if let Some(code) = &node.code {
        let all: Vec<String> = node.answers.iter().take(4).map(|answer| answer.address.to_string()).collect();
        let answer = if all.is_empty() { code.to_string() } else { all.join(", ") };
        let _ = write!(tags, " = {}", harmless(&answer));
    }
    if event.dns.is_some() || event.network.is_some() || event.unix.is_some() {
        let reason = event.decision.as_ref().map(|decision| compact::reason(event, decision));
        what += &paint(DIM, reason.unwrap_or_default());
    }
    if node.count > 1 {
        let until = clock(node.last);
        let _ = write!(tags, " {}", paint(BOLD, format!("× {} until {until}", grouped(node.count))));
    }
    if let Some(broker) = &event.handed_off {
        let _ = write!(tags, " {}", paint(WARN, format!("→ handed off: {}", harmless(broker))));
    }
    if node.marks.contains(&Mark::Key) {
        let _ = write!(tags, " {}", paint(WARN, "← names a key"));
    }
    if event.unix.is_some() && node.marks.contains(&Mark::Entered) {
        let _ = write!(tags, " {}", paint(WARN, "← another agent"));
    }
    if let Some(exit) = node.exit {
        match (exit.signal, exit.code) {
            (Some(signal), _) => drop(write!(tags, " {}", paint(WARN, format!("signal {signal}")))),
            (_, Some(code)) if code != 0 => drop(write!(tags, " {}", paint(WARN, format!("exit {code}")))),
            _ => {}
        }
        if exit.instance_ended {
            let _ = write!(tags, " {}", paint(DIM, format!("agent ended {}", clock(node.last))));
        }
    }
    for finding in findings.iter().filter_map(|at| trail.nodes[*at].event.finding.as_ref()).take(3) {
        let text = format!("! {} {}", harmless(&finding.severity), harmless(&finding.what));
        let style = if matches!(&*finding.severity, "info" | "low") { DIM } else { BAD };
        let _ = write!(tags, " {}", paint(style, text));
    }
    Words { what, tags }
}

/// `dash[4170] sh -c '…'`; with the path of the program, where that is no place of programs.
fn image(event: &Event) -> String {
    let Some(exec) = &event.exec else {
        return compact::deed(event) + &paint(DIM, " (began before the record)");
    };
    let exe = event.subject.as_ref().and_then(|s| s.exe.as_deref()).unwrap_or_default();
    let mut out = paint(DIM, compact::actor(event));
    let folder = exe.rsplit_once('/').map_or("", |(folder, _)| folder);
    if exec.argv.is_empty() || !PROGRAM_FOLDERS.contains(&folder) {
        let _ = write!(out, " {}", harmless(exe));
    }
    if !exec.argv.is_empty() {
        let _ = write!(out, " {}", command(&exec.argv));
    }
    if let Some(how) = exec.recognised {
        let _ = write!(out, " {}", paint(BOLD, format!("agent started (by {how})")));
    }
    out
}

/// `… 40 more execs (37 of git, 3 of ls), 12 acts, all allowed; --all shows them`
pub(super) fn fold(folded: &Folded) -> String {
    let mut parts = Vec::new();
    let shown = folded.programs.iter().take(3);
    let of: Vec<String> =
        shown.map(|(name, count)| format!("{} of {}", grouped(*count), harmless(name))).collect();
    let direct: u64 = folded.programs.iter().map(|(_, count)| count).sum();
    match (folded.programs.as_slice(), folded.images > direct) {
        ([], _) if folded.images == 0 => {}
        ([(name, _)], false) => {
            parts.push(format!("{} of {}", plural(folded.images, "exec"), harmless(name)))
        }
        _ => parts.push(format!("{} ({})", plural(folded.images, "exec"), of.join(", "))),
    }
    if folded.acts > 0 {
        parts.push(plural(folded.acts, if parts.is_empty() { "more act" } else { "act" }));
    }
    if parts.is_empty() && folded.findings == 0 {
        parts.push(plural(folded.nodes.len() as u64, "more event"));
    }
    if folded.findings > 0 {
        parts.push(plural(folded.findings, "finding"));
    }
    let verdict = match folded.refused {
        0 if folded.acts > 0 => ", all allowed".to_owned(),
        0 => String::new(),
        refused => format!(", {} refused or alerted", grouped(refused)),
    };
    format!("… {}{verdict}; --all shows them", parts.join(", "))
}

/// What the trail is of, in lines.
pub(super) fn head(trail: &Trail) -> Vec<String> {
    let mut lines = vec![format!("{} {}", paint(DIM, "trail of"), paint(BOLD, &trail.wanted))];
    for instance in trail.instances.iter().take(INSTANCES) {
        let agent = harmless(instance.agent.as_deref().unwrap_or("unknown"));
        let role =
            instance.role.as_deref().map(|role| format!(", role {}", harmless(role))).unwrap_or_default();
        let parent = instance.parent.map(|id| format!(", started by {id}")).unwrap_or_default();
        let host = harmless(&instance.host);
        let state = match (instance.began, instance.ended) {
            (None, _) => ", began before the record",
            (_, Some(_)) => "",
            (_, None) => ", no end recorded",
        };
        lines.push(format!("{} {}{role}, on {host}{parent}{state}", instance.id, paint(BOLD, agent)));
    }
    let more = trail.instances.len().saturating_sub(INSTANCES);
    if more > 0 {
        lines.push(paint(DIM, format!("and {}", plural(more as u64, "more instance"))));
    }
    let counts = trail.counts;
    let mut figures =
        vec![paint(DIM, format!("{}, {}", plural(counts.events, "event"), plural(counts.images, "image")))];
    for (count, what, style) in [
        (counts.refused, "refused or alerted", BAD),
        (counts.findings, "findings", BAD),
        (counts.handed_off, "handed off", WARN),
    ] {
        if count > 0 {
            figures.push(paint(style, format!("{} {what}", grouped(count))));
        }
    }
    let (first, last) = (trail.first.to_string(), trail.last.to_string());
    let until = if first.get(..10) == last.get(..10) { last.get(11..19) } else { last.get(..19) };
    let span = format!(
        "{} → {} UTC ({})",
        first.get(..19).unwrap_or_default().replace('T', " "),
        until.unwrap_or_default().replace('T', " "),
        relative(trail.last.0.saturating_sub(trail.first.0)).trim_start_matches('+')
    );
    lines.push(format!("{span}: {}", figures.join(", ")));
    if counts.beyond > 0 {
        let beyond =
            format!("{} were counted and not kept: the tree is full", plural(counts.beyond, "event"));
        lines.push(paint(WARN, beyond + "; --since and --until narrow it"));
    }
    if counts.instances_beyond > 0 {
        let beyond = plural(counts.instances_beyond, "event");
        lines.push(paint(
            WARN,
            format!("{beyond} of further instances were not followed; --since and --until narrow it"),
        ));
    }
    lines
}

/// `12:31:07`
pub(super) fn clock(time: Time) -> String {
    time.to_string().get(11..19).unwrap_or_default().to_owned()
}

/// `+0.204`, `+3m12s`, `+2h03m`, `+3d04h`
pub(super) fn relative(ns: u64) -> String {
    let ms = ns / 1_000_000;
    let s = ms / 1000;
    match s {
        0..60 => format!("+{s}.{:03}s", ms % 1000),
        60..3600 => format!("+{}m{:02}s", s / 60, s % 60),
        3600..86_400 => format!("+{}h{:02}m", s / 3600, s / 60 % 60),
        _ => format!("+{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

fn plural(count: u64, word: &str) -> String {
    format!("{} {word}{}", grouped(count), if count == 1 { "" } else { "s" })
}

/// What is left of a line's words beside however many tags.
const WHAT_MIN: usize = 24;
/// Where programs are that come with the system: their path says nothing that their name does not.
const PROGRAM_FOLDERS: &[&str] = &["/usr/bin", "/bin", "/usr/sbin", "/sbin"];
/// Instances named at the head.
const INSTANCES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        for (ns, text) in [
            (0, "+0.000s"),
            (3_204_000_000, "+3.204s"),
            (192_000_000_000, "+3m12s"),
            (7_380_000_000_000, "+2h03m"),
            (273_600_000_000_000, "+3d04h"),
        ] {
            assert_eq!(relative(ns), text);
        }
        assert_eq!(
            (grouped(4_211), grouped(12), grouped(1_234_567)),
            ("4,211".into(), "12".into(), "1,234,567".into())
        );
    }
}
