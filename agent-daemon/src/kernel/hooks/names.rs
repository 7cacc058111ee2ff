//! The names family: bytes → event.

use agent_common::{
    dns::Answer,
    event::names::{DNS_HEAD_BYTES, Dns, flags},
};

use super::{Undecodable, fixed, net, readable};
use crate::event::{
    Event, Name, Truncated,
    names::{self, DnsAnswer},
    net as shown,
};

pub(super) fn question(whole: &[u8], event: &mut Event) -> Result<(), Undecodable> {
    let raw = head(whole)?;
    net::judged(&raw.judgement, event);
    let dns = names::Dns { configured: Some(raw.flags & flags::CONFIGURED != 0), ..dns(&raw, event) };
    event.dns = Some(Box::new(dns));
    Ok(())
}

pub(super) fn answer(whole: &[u8], event: &mut Event) -> Result<(), Undecodable> {
    let raw = head(whole)?;
    let mut answers = Vec::new();
    let mut rest = whole.get(DNS_HEAD_BYTES..).unwrap_or_default();
    for _ in 0..raw.answers_used {
        let answer: Answer = fixed(rest)?;
        rest = rest.get(size_of::<Answer>()..).unwrap_or_default();
        answers.push(DnsAnswer { address: net::address(answer.address), ttl_s: answer.ttl_s });
    }
    let code = (raw.flags & flags::UNREADABLE == 0).then(|| names::code_name(raw.code));
    let dns = names::Dns { code, answers, ..dns(&raw, event) };
    if raw.flags & (flags::CUT | flags::MORE) != 0 {
        let bytes = whole.len() as u32;
        event.truncated.push(Truncated { field: Name::from("dns.answers"), bytes, hash: None, tail: false });
    }
    event.dns = Some(Box::new(dns));
    Ok(())
}

/// The fixed part of a record, whose answers are fewer than the type has room for.
fn head(whole: &[u8]) -> Result<Dns, Undecodable> {
    let bytes = whole.get(..DNS_HEAD_BYTES).ok_or(Undecodable { reason: "short" })?;
    let mut room = [0; size_of::<Dns>()];
    room[..DNS_HEAD_BYTES].copy_from_slice(bytes);
    fixed(&room)
}

/// What questions and answers have both.
fn dns(raw: &Dns, event: &mut Event) -> names::Dns {
    let name = raw.name.split(|byte| *byte == 0).next().unwrap_or_default();
    if raw.flags & flags::UNREADABLE != 0 {
        event.unreadable.push(Name::from("dns.name"));
    }
    names::Dns {
        name: readable(name).into(),
        kind: (!name.is_empty()).then(|| names::type_name(raw.kind)),
        id: raw.id,
        resolver: (raw.resolver != [0; 16]).then(|| net::address(raw.resolver)),
        protocol: shown::protocol_name(u16::from(raw.protocol)),
        socket: net::cookie(raw.socket),
        ..names::Dns::default()
    }
}
