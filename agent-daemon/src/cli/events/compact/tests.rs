//! Lines as people see them, without colours.

use agent_common::{
    event::net::{Op, Place},
    identity::{Origin, Recognised},
    rule::Class,
    verdict::{Source, Verdict},
};

use super::*;
use crate::event::{
    local::{Daemon, Lost},
    net::{Peer, Rule},
    process::{Exec, Exit},
    word::{InstanceId, Time},
};

fn event(kind: Kind) -> Event {
    let subject = Subject {
        origin: Origin::Agent.into(),
        instance: InstanceId::some(0x42),
        agent: Some("invoice-bot".into()),
        role: Some("review".into()),
        pid: 123,
        uid: Some(1000),
        comm: "curl".into(),
        exe: Some("/usr/bin/curl".into()),
        ..Subject::default()
    };
    Event { kind, time: Time(1_767_225_599_123_456_789), subject: Some(subject), ..Event::default() }
}

fn plain(event: &Event) -> String {
    anstream::adapter::strip_str(&line(event)).to_string()
}

#[test]
fn an_exec_shows_its_command_and_what_began() {
    let mut event = event(Kind::ProcessExec);
    event.exec = Some(Box::new(Exec {
        argv: ["curl", "-H", "a b\x1b[2J"].map(Into::into).to_vec(),
        recognised: Some(Recognised::Exe.into()),
        ..Exec::default()
    }));
    assert_eq!(
        plain(&event),
        "23:59:59.123 agent  invoice-bot/review       exec        curl[123] curl -H 'a b\\u{1b}[2J' agent \
         started i-0000000000000042 (by exe)"
    );
}

#[test]
fn a_refusal_names_endpoint_rule_and_place() {
    let mut event = event(Kind::NetConnect);
    event.verdict = Some(Verdict::Deny.into());
    event.network = Some(Network {
        op: Op::Connect.into(),
        class: Class::Endpoint.into(),
        family: "inet".into(),
        protocol: Some("tcp".into()),
        address: Some("192.0.2.7".parse().unwrap()),
        port: Some(443),
        ..Network::default()
    });
    event.decision = Some(Decision {
        wanted: Verdict::Deny.into(),
        source: Source::Rule.into(),
        rule: Some(Rule {
            index: 2,
            text: "192.0.2.0/24 deny".into(),
            source: Some("roles/review.yaml:9".into()),
        }),
        place: Place::Lsm.into(),
        errno: Some("EPERM".into()),
        ..Decision::default()
    });
    assert_eq!(
        plain(&event),
        "23:59:59.123 agent  invoice-bot/review       connect     DENY  tcp 192.0.2.7:443 curl[123] rule 2: \
         192.0.2.0/24 deny, roles/review.yaml:9, EPERM (lsm) i-0000000000000042"
    );
}

#[test]
fn unix_sockets_exits_and_the_daemons_own_events_have_their_lines() {
    let mut unix = event(Kind::UnixConnect);
    unix.handed_off = Some("docker".into());
    unix.unix = Some(Unix {
        path: "/run/docker.sock".into(),
        peer: Some(Peer { origin: Origin::System.into(), pid: Some(9), ..Peer::default() }),
        ..Unix::default()
    });
    assert!(
        plain(&unix).ends_with("connect     unix /run/docker.sock of system[9] curl[123] handed off: docker")
    );

    let mut exit = event(Kind::ProcessExit);
    exit.exit = Some(Exit { code: None, signal: Some(9), instance_ended: true });
    assert!(plain(&exit).ends_with("exit        curl[123] signal 9 agent ended i-0000000000000042"));

    let daemon =
        Daemon { version: "0.1.0".into(), mode: "lsm".into(), kernel: "6.12".into(), ..Daemon::default() };
    let started = Event { kind: Kind::DaemonStarted, daemon: Some(daemon), ..Event::default() };
    assert_eq!(
        plain(&started),
        "00:00:00.000 daemon -                        started     chaperone 0.1.0, lsm mode, kernel 6.12, 0 agents, 0 \
         roles"
    );
    let lost = Lost { ring: [("process_exec".into(), 3)].into(), ..Lost::default() };
    let lost = Event { kind: Kind::EventsLost, lost: Some(lost), ..Event::default() };
    assert!(plain(&lost).ends_with("lost        3 process_exec (ring buffer full)"));
}
