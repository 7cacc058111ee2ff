//! Which class of OCSF an event is of, and which of the class's activities it tells.

use crate::event::{Event, Kind};

/// The classes that events are written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Base,
    Process,
    Detection,
    Network,
    Dns,
    Application,
    Remediation,
}

impl Class {
    /// `class_uid` and its caption.
    pub(super) fn uid(self) -> (u32, &'static str) {
        match self {
            Self::Base => (0, "Base Event"),
            Self::Process => (1007, "Process Activity"),
            Self::Detection => (2004, "Detection Finding"),
            Self::Network => (4001, "Network Activity"),
            Self::Dns => (4003, "DNS Activity"),
            Self::Application => (6002, "Application Lifecycle"),
            Self::Remediation => (7003, "Process Remediation Activity"),
        }
    }

    /// `category_uid` and its caption.
    pub(super) fn category(self) -> (u32, &'static str) {
        let caption = match self {
            Self::Base => "Uncategorized",
            Self::Process => "System Activity",
            Self::Detection => "Findings",
            Self::Network | Self::Dns => "Network Activity",
            Self::Application => "Application Activity",
            Self::Remediation => "Remediation",
        };
        (self.uid().0 / 1000, caption)
    }
}

/// An activity of a class: its number, and its caption or, for [`OTHER`], a word of our own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Activity {
    pub(super) id: u8,
    pub(super) name: &'static str,
}

/// None of the class's own: the name says what.
const OTHER: u8 = 99;

/// Class and activity.
pub(super) fn of(event: &Event) -> (Class, Activity) {
    let is = |class, id, name| (class, Activity { id, name });
    let other = |class| is(class, OTHER, event.kind.name());
    match event.kind {
        Kind::ProcessExec | Kind::ProcessFork => is(Class::Process, 1, "Launch"),
        Kind::ProcessExit => is(Class::Process, 2, "Terminate"),
        Kind::NetConnect | Kind::UnixConnect => is(Class::Network, 1, "Open"),
        Kind::NetSend | Kind::UnixSend | Kind::Spoken => is(Class::Network, 6, "Traffic"),
        Kind::NetListen => is(Class::Network, 7, "Listen"),
        Kind::NetCreate | Kind::NetOption | Kind::NetOther => other(Class::Network),
        Kind::DnsQuery => is(Class::Dns, 1, "Query"),
        Kind::DnsAnswer => is(Class::Dns, 2, "Response"),
        // Told first at a bound, and again at each doubling: which it is is not in the event.
        Kind::DnsChannel => other(Class::Detection),
        Kind::Finding if event.finding.as_ref().is_some_and(|finding| finding.count > 1) => {
            is(Class::Detection, 2, "Update")
        }
        Kind::Finding => is(Class::Detection, 1, "Create"),
        Kind::Reaction => is(Class::Remediation, 2, "Evict"),
        Kind::DaemonStarted => is(Class::Application, 3, "Start"),
        Kind::DaemonStopped | Kind::AgentEnded => is(Class::Application, 4, "Stop"),
        Kind::AgentFound
        | Kind::PolicyChanged
        | Kind::PolicyRejected
        | Kind::EventsLost
        | Kind::GuaranteeChanged
        | Kind::BaselineChanged
        | Kind::JournalOpened
        | Kind::Checkpoint
        | Kind::SegmentsRemoved => other(Class::Application),
        Kind::CgroupCreated | Kind::ProgramIdentified | Kind::Unknown => other(Class::Base),
    }
}
