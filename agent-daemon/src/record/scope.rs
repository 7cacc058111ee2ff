//! What is recorded of whom, decided on an event's header so that the rest need not even be read.

use agent_common::{
    event::{Header, Kind},
    identity::{Origin, evidence},
};

use crate::config::{Arguments, Record, Recorded};

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Decoded and recorded, with its arguments or without.
    Yes { argv: Arguments },
    /// Recorded only if it turns out to touch an agent.
    IfItTouchesAnAgent,
    /// Decoded for what it teaches, not recorded.
    ToLearn,
    /// Counted, nothing more.
    No,
}

/// What becomes of an event with this header.
#[must_use]
pub fn wanted(record: &Record, kind: Kind, header: &Header) -> Wanted {
    let subject = &header.subject;
    let of = recorded(record, subject.origin);
    let switched_on = match kind {
        Kind::Exec | Kind::Exit | Kind::Fork | Kind::Cgroup => of.processes,
        Kind::Net | Kind::Unix | Kind::Question | Kind::Answer | Kind::Spoken => of.network,
    };
    if switched_on {
        return Wanted::Yes { argv: of.argv };
    }
    if subject.evidence & evidence::ENTERED != 0 {
        return Wanted::Yes { argv: of.argv };
    }
    match kind {
        // Who is connected to may be an agent: that stands behind the header.
        Kind::Unix => Wanted::IfItTouchesAnAgent,
        Kind::Cgroup => Wanted::ToLearn,
        Kind::Answer if subject.instance != 0 => Wanted::ToLearn,
        Kind::Exec | Kind::Exit if subject.instance != 0 => Wanted::ToLearn,
        _ => Wanted::No,
    }
}

/// An origin that is not known yet is recorded like an agent: better too much than a hole.
fn recorded(record: &Record, origin: u8) -> &Recorded {
    match Origin::from_raw(origin) {
        Some(Origin::Human) => &record.human,
        Some(Origin::System) => &record.system,
        Some(Origin::Agent | Origin::Unknown) | None => &record.agent,
    }
}

#[cfg(test)]
mod tests {
    use agent_common::event::Subject;

    use super::*;

    fn header(origin: Origin, instance: u64, evidence: u16) -> Header {
        Header {
            subject: Subject { origin: origin as u8, instance, evidence, ..Subject::default() },
            ..Header::default()
        }
    }

    #[test]
    fn by_default_agents_everything_people_without_argv_system_what_touches_an_agent() {
        let record = Record::default();
        for (kind, header, expected) in [
            (
                Kind::Exec,
                header(Origin::Agent, 5, evidence::LINEAGE),
                Wanted::Yes { argv: Arguments::Masked },
            ),
            (Kind::Exec, header(Origin::Unknown, 0, 0), Wanted::Yes { argv: Arguments::Masked }),
            (Kind::Exec, header(Origin::Human, 0, 0), Wanted::Yes { argv: Arguments::None }),
            (Kind::Net, header(Origin::Human, 0, 0), Wanted::Yes { argv: Arguments::None }),
            (Kind::Exec, header(Origin::System, 0, 0), Wanted::No),
            (Kind::Exec, header(Origin::System, 0, evidence::ENTERED), Wanted::Yes { argv: Arguments::None }),
            (Kind::Unix, header(Origin::System, 0, 0), Wanted::IfItTouchesAnAgent),
            (Kind::Cgroup, header(Origin::System, 0, 0), Wanted::ToLearn),
        ] {
            assert_eq!(wanted(&record, kind, &header), expected, "{kind:?} {header:?}");
        }
    }

    #[test]
    fn instances_are_known_also_where_agents_are_not_recorded() {
        let off = Recorded { processes: false, network: false, argv: Arguments::None };
        let record = Record { agent: off, ..Record::default() };
        assert_eq!(wanted(&record, Kind::Exec, &header(Origin::Agent, 5, 0)), Wanted::ToLearn);
        assert_eq!(wanted(&record, Kind::Net, &header(Origin::Agent, 5, 0)), Wanted::No);
    }
}
