//! How much an event matters to who watches: one table for all forms and transports, and its numbers in each.

use agent_common::verdict::Verdict;

pub use crate::config::reaction::Severity;
use crate::event::{Event, Kind};

impl Severity {
    /// A finding and a reaction have their own; an act has that of its verdict; of the daemon's events, those that tell
    /// of less being seen or enforced stand out.
    #[must_use]
    pub fn of(event: &Event) -> Self {
        let named =
            event.finding.as_ref().map(|f| &f.severity).or(event.reaction.as_ref().map(|r| &r.severity));
        if let Some(word) = named {
            return Self::ALL.iter().copied().find(|one| one.name() == &**word).unwrap_or(Self::Medium);
        }
        let by_verdict = match event.verdict.and_then(|word| word.known()) {
            None | Some(Verdict::Allow) => Self::Info,
            Some(Verdict::Alert | Verdict::Hold | Verdict::Deny) => Self::Medium,
            Some(Verdict::Kill) => Self::High,
        };
        let by_kind = match event.kind {
            Kind::EventsLost => Self::High,
            Kind::JournalOpened
                if event.journal.as_ref().is_some_and(|j| j.missing.is_some() || j.broken_at.is_some()) =>
            {
                Self::High
            }
            Kind::JournalOpened if event.journal.as_ref().is_some_and(|j| j.torn_bytes > 0) => Self::Medium,
            Kind::SegmentsRemoved if event.removed.as_ref().is_some_and(|removed| removed.early) => {
                Self::Medium
            }
            Kind::PolicyRejected | Kind::GuaranteeChanged | Kind::DnsChannel => Self::Medium,
            Kind::DaemonStopped | Kind::BaselineChanged => Self::Low,
            _ if event.handed_off.is_some() => Self::Low,
            _ => Self::Info,
        };
        by_verdict.max(by_kind)
    }

    /// From 0 to 10, as CEF counts; ECS leaves the scale to the source.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Info => 1,
            Self::Low => 3,
            Self::Medium => 5,
            Self::High => 8,
            Self::Critical => 10,
        }
    }

    /// As syslog counts (RFC 5424, table 2), and journald's priorities: informational, notice, warning, error, critical.
    #[must_use]
    pub fn syslog(self) -> u8 {
        match self {
            Self::Info => 6,
            Self::Low => 5,
            Self::Medium => 4,
            Self::High => 3,
            Self::Critical => 2,
        }
    }

    /// As OpenTelemetry counts: what its data model has for syslog's (appendix B).
    #[must_use]
    pub fn otlp(self) -> (u8, &'static str) {
        match self {
            Self::Info => (9, "INFO"),
            Self::Low => (10, "INFO2"),
            Self::Medium => (13, "WARN"),
            Self::High => (17, "ERROR"),
            Self::Critical => (18, "ERROR2"),
        }
    }
}
