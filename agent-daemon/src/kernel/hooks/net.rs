//! The net family: bytes → event.

use std::net::{IpAddr, Ipv6Addr};

use agent_common::{
    event::{
        net::{Judgement, Net, Op, Target, Unix},
        spoken::Spoken,
    },
    rule::Class,
    spoken::Protocol,
    verdict::{Source, Verdict},
};

use super::{Undecodable, fixed, readable};
use crate::event::{
    Event, Kind, Name, Truncated, handed_off,
    net::{self, AF_INET, AF_INET6, Decision, Network, Peer, Rule, RuleIds},
    word::{ExecId, InstanceId, Word, hex},
};

pub(super) fn net(whole: &[u8], event: &mut Event) -> Result<(), Undecodable> {
    let raw: Net = fixed(whole)?;
    if event.kind != Kind::NetListen {
        judged(&raw.judgement, event);
    }
    event.network = Some(network(&raw.target, raw.op, raw.socket));
    Ok(())
}

pub(super) fn unix(whole: &[u8], event: &mut Event) -> Result<(), Undecodable> {
    let raw: Unix = fixed(whole)?;
    judged(&raw.judgement, event);
    let name = kept_name(&raw, event);
    let path = socket_name(name);
    // A broker inside the instance itself (a tmux server that the agent started) is not outside its tree.
    let instance = raw.header.subject.instance;
    let whole = event.truncated.is_empty();
    if instance != 0 && raw.peer_instance != instance && whole {
        event.handed_off = handed_off::by_socket(&path).map(Name::from);
    }
    let known = raw.peer_pid != 0 || raw.peer_instance != 0 || raw.peer_exec_id != 0;
    let peer = known.then(|| Peer {
        origin: Word::from_raw(raw.peer_origin),
        instance: InstanceId::some(raw.peer_instance),
        pid: (raw.peer_pid != 0).then_some(raw.peer_pid),
        exec_id: ExecId::some(raw.peer_exec_id),
        ..Peer::default()
    });
    event.unix = Some(net::Unix { op: Word::from_raw(raw.op), path, peer });
    Ok(())
}

pub(super) fn spoken(whole: &[u8], event: &mut Event) -> Result<(), Undecodable> {
    let raw: Spoken = fixed(whole)?;
    judged(&raw.judgement, event);
    event.network = Some(network(&raw.target, Op::Connect as u8, raw.socket));
    let name = raw.name.get(..usize::from(raw.name_bytes)).unwrap_or_default();
    let name = (!name.is_empty()).then(|| readable(name));
    let protocol = (raw.protocol != 0).then(|| Word::<Protocol>::from_raw(raw.protocol));
    match protocol.and_then(|protocol| protocol.known()) {
        Some(Protocol::Tls) => event.tls = Some(net::Tls { server_name: name, ech: raw.ech != 0 }),
        Some(Protocol::Http) => event.http = Some(net::Http { host: name }),
        Some(Protocol::Other) | None => {}
    }
    event.spoken = Some(net::Spoken {
        finding: Word::from_raw(raw.finding),
        protocol,
        source_address: Some(address(raw.source)),
        source_port: raw.source_port,
    });
    Ok(())
}

/// What came of the name. A file's path may be longer than a name that can be bound; one that could not be walked has
/// a length that none has.
fn kept_name<'a>(raw: &'a Unix, event: &mut Event) -> &'a [u8] {
    let field = || Name::from("unix.path");
    if raw.name_bytes == u16::MAX {
        event.unreadable.push(field());
        return &[];
    }
    if let Some(name) = raw.name.get(..usize::from(raw.name_bytes)) {
        return name;
    }
    let bytes = u32::from(raw.name_bytes);
    event.truncated.push(Truncated { field: field(), bytes, hash: None, tail: false });
    &raw.name
}

pub(super) fn judged(raw: &Judgement, event: &mut Event) {
    let source = Word::<Source>::from_raw(raw.source);
    event.verdict = Some(Word::<Verdict>::from_raw(raw.verdict));
    event.decision = Some(Decision {
        wanted: Word::from_raw(raw.wanted),
        source,
        rule: (source.known() == Some(Source::Rule)).then(|| Rule { index: raw.rule, ..Rule::default() }),
        mode: None,
        place: Word::from_raw(raw.place),
        errno: (raw.errno != 0).then(|| net::errno_name(raw.errno)),
        ids: RuleIds { policy: raw.policy, rule: raw.rule },
    });
}

fn network(target: &Target, op: u8, socket: u64) -> Network {
    let class = Word::<Class>::from_raw(target.class);
    let internet = target.family == AF_INET || target.family == AF_INET6;
    // socket(2) is decided before there is an address; of setsockopt(2) it is the first hop, where that was read.
    let addressed = internet
        && match Op::from_raw(op) {
            Some(Op::Connect | Op::Send | Op::Listen | Op::Bind) => true,
            Some(Op::Option) => target.address != [0; 16],
            Some(Op::Create) | None => false,
        };
    let port = target.port != 0 || class.known() == Some(Class::Endpoint);
    Network {
        op: Word::from_raw(op),
        class,
        family: net::family_name(target.family),
        protocol: (target.protocol != 0 || internet).then(|| net::protocol_name(target.protocol)),
        kind: net::type_name(target.kind),
        address: addressed.then(|| address(target.address)),
        port: port.then_some(target.port),
        cid: (target.cid != 0).then_some(target.cid),
        name: None,
        socket: cookie(socket),
        unread: false,
    }
}

/// A socket's cookie as text.
pub(super) fn cookie(socket: u64) -> Option<Box<str>> {
    (socket != 0).then(|| {
        let mut digits = [0; 16];
        hex(socket, &mut digits);
        std::str::from_utf8(&digits).unwrap_or_default().into()
    })
}

/// The address as it goes over the wire: v4-mapped is IPv4.
pub(super) fn address(bytes: [u8; 16]) -> IpAddr {
    Ipv6Addr::from(bytes).to_canonical()
}

/// A path, or `@` and an abstract name.
fn socket_name(name: &[u8]) -> Box<str> {
    match name {
        [] => "".into(),
        [0, abstract_name @ ..] => {
            let end = abstract_name.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
            format!("@{}", readable(&abstract_name[..end])).into()
        }
        path => readable(path.split(|b| *b == 0).next().unwrap_or_default()),
    }
}
