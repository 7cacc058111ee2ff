//! ECS's categorisation fields: `event.kind`, `event.category`, `event.type`.

use agent_common::verdict::Verdict;

use crate::event::{Event, Kind};

/// `event.kind`, and `event.category`; no category where none is meant for it.
pub(super) fn of(kind: Kind) -> (&'static str, &'static [&'static str]) {
    match kind {
        Kind::ProcessExec | Kind::ProcessExit | Kind::ProcessFork | Kind::AgentFound | Kind::AgentEnded => {
            ("event", &["process"])
        }
        Kind::NetConnect
        | Kind::NetSend
        | Kind::NetListen
        | Kind::NetCreate
        | Kind::NetOption
        | Kind::NetOther
        | Kind::UnixConnect
        | Kind::UnixSend
        | Kind::DnsQuery
        | Kind::DnsAnswer
        | Kind::Spoken => ("event", &["network"]),
        Kind::DnsChannel => ("alert", &["intrusion_detection", "network"]),
        Kind::Finding => ("alert", &["intrusion_detection"]),
        Kind::Reaction | Kind::DaemonStarted | Kind::DaemonStopped => ("event", &["process"]),
        Kind::PolicyChanged | Kind::PolicyRejected | Kind::GuaranteeChanged | Kind::BaselineChanged => {
            ("event", &["configuration"])
        }
        Kind::CgroupCreated
        | Kind::EventsLost
        | Kind::JournalOpened
        | Kind::Checkpoint
        | Kind::SegmentsRemoved => ("event", &["host"]),
        Kind::ProgramIdentified => ("event", &["file"]),
        Kind::Unknown => ("event", &[]),
    }
}

/// `event.type`: what the act is, and what was decided where the category knows that.
pub(super) fn types(event: &Event) -> Vec<&'static str> {
    let act: &[&str] = match event.kind {
        Kind::ProcessExec | Kind::ProcessFork | Kind::DaemonStarted => &["start"],
        Kind::ProcessExit | Kind::AgentEnded | Kind::DaemonStopped => &["end"],
        Kind::NetConnect | Kind::UnixConnect => &["connection", "start"],
        Kind::NetSend | Kind::UnixSend => &["connection"],
        Kind::NetCreate | Kind::NetOption | Kind::NetOther => &["access"],
        Kind::DnsQuery | Kind::DnsAnswer | Kind::Spoken => &["protocol"],
        Kind::Reaction if event.reaction.as_ref().is_some_and(|reaction| &*reaction.effect == "kill") => {
            &["end"]
        }
        Kind::Reaction | Kind::PolicyChanged | Kind::GuaranteeChanged | Kind::BaselineChanged => &["change"],
        _ => &["info"],
    };
    let refused = event.finding.as_ref().is_some_and(|finding| finding.refused);
    let decided = match event.verdict.and_then(|word| word.known()) {
        Some(Verdict::Allow | Verdict::Alert) => Some("allowed"),
        Some(Verdict::Deny | Verdict::Kill) => Some("denied"),
        Some(Verdict::Hold) => None,
        None => refused.then_some("denied"),
    };
    act.iter().copied().chain(decided).collect()
}
