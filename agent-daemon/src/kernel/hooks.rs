//! What the kernel programs sent, as events: decoding is total, and nothing that comes in can make it panic.

mod names;
mod net;
mod process;

use std::mem::offset_of;

use agent_common::event::{self, Header, Text, net::Net, net::Op, net::Unix, text_flags};
use bytemuck::AnyBitPattern;

use crate::config::Arguments;
use crate::event::{
    Event, Ids, Kind, Name, Subject, Truncated,
    mask::Masks,
    word::{Evidence, ExecId, InstanceId, Time, Word, hex},
};

/// A record that this build cannot read; counted by reason, never guessed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("undecodable event: {reason}")]
pub struct Undecodable {
    /// One of [`crate::event::local::UNDECODABLE`].
    pub reason: &'static str,
}

/// The checked beginning of a record: what is needed to decide whether the rest is worth reading.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// The layout of the record.
    pub layout: event::Kind,
    /// What it will be as an event.
    pub kind: Kind,
    pub header: Header,
}

impl Head {
    /// Reads and checks a record's header.
    pub fn read(bytes: &[u8]) -> Result<Self, Undecodable> {
        let header: Header = fixed(bytes)?;
        if header.version != event::VERSION {
            return Err(Undecodable { reason: "version" });
        }
        let layout = event::Kind::from_raw(header.kind).ok_or(Undecodable { reason: "kind" })?;
        let whole = usize::try_from(header.bytes).unwrap_or(usize::MAX);
        // The ring buffer may hand over padding behind an event, but never less than the event.
        if whole < size_of::<Header>() || whole > bytes.len() {
            return Err(Undecodable { reason: "length" });
        }
        Ok(Self { layout, kind: kind_of(layout, bytes), header })
    }
}

/// What decoding needs to know beside the bytes.
#[derive(Clone, Copy, Debug)]
pub struct Reading<'a> {
    /// What has to be added to CLOCK_BOOTTIME to get the time of day.
    pub boot_offset_ns: u64,
    /// How much of the arguments is wanted.
    pub argv: Arguments,
    /// What counts as a secret in arguments.
    pub masks: &'a Masks,
}

/// Turns a record into an event.
///
/// Names of agents and roles, cgroup paths and rule texts are left to the attribution; secrets are masked here.
pub fn decode(head: &Head, bytes: &[u8], reading: &Reading) -> Result<Event, Undecodable> {
    let whole = bytes.get(..head.header.bytes as usize).ok_or(Undecodable { reason: "length" })?;
    let mut event = Event {
        kind: head.kind,
        time: Time(head.header.time_ns.saturating_add(reading.boot_offset_ns)),
        subject: Some(subject(&head.header)),
        ..Event::default()
    };
    match head.layout {
        event::Kind::Exec => process::exec(whole, reading, &mut event),
        event::Kind::Exit => process::exit(whole, &mut event),
        event::Kind::Fork => process::fork(whole, &mut event),
        event::Kind::Cgroup => process::cgroup(whole, &mut event),
        event::Kind::Net => net::net(whole, &mut event),
        event::Kind::Unix => net::unix(whole, &mut event),
        event::Kind::Question => names::question(whole, &mut event),
        event::Kind::Answer => names::answer(whole, &mut event),
        event::Kind::Spoken => net::spoken(whole, &mut event),
    }?;
    Ok(event)
}

fn kind_of(layout: event::Kind, bytes: &[u8]) -> Kind {
    let op = |at: usize| bytes.get(at).copied().and_then(Op::from_raw);
    match layout {
        event::Kind::Exec => Kind::ProcessExec,
        event::Kind::Exit => Kind::ProcessExit,
        event::Kind::Fork => Kind::ProcessFork,
        event::Kind::Cgroup => Kind::CgroupCreated,
        event::Kind::Net => match op(offset_of!(Net, op)) {
            Some(Op::Connect) => Kind::NetConnect,
            Some(Op::Send) => Kind::NetSend,
            Some(Op::Create) => Kind::NetCreate,
            Some(Op::Option) => Kind::NetOption,
            Some(Op::Listen | Op::Bind) => Kind::NetListen,
            None => Kind::NetOther,
        },
        event::Kind::Unix if op(offset_of!(Unix, op)) == Some(Op::Send) => Kind::UnixSend,
        event::Kind::Unix => Kind::UnixConnect,
        event::Kind::Question => Kind::DnsQuery,
        event::Kind::Answer => Kind::DnsAnswer,
        event::Kind::Spoken => Kind::Spoken,
    }
}

fn subject(header: &Header) -> Subject {
    let s = &header.subject;
    let comm = s.comm.split(|b| *b == 0).next().unwrap_or_default();
    Subject {
        origin: Word::from_raw(s.origin),
        evidence: Evidence(s.evidence),
        instance: InstanceId::some(s.instance),
        exec_id: ExecId::some(s.exec_id),
        parent_exec_id: ExecId::some(s.parent_exec_id),
        pid: s.pid,
        tid: (s.tid != s.pid).then_some(s.tid),
        uid: Some(s.uid),
        loginuid: some_unless_max(s.loginuid),
        comm: readable(comm),
        ids: Ids { agent: s.agent, role: s.role, cgroup: s.cgroup_id },
        ..Subject::default()
    }
}

/// The fixed part of a record, copied out: the bytes need not be aligned.
fn fixed<T: AnyBitPattern>(bytes: &[u8]) -> Result<T, Undecodable> {
    let bytes = bytes.get(..size_of::<T>()).ok_or(Undecodable { reason: "short" })?;
    bytemuck::try_pod_read_unaligned(bytes).map_err(|_| Undecodable { reason: "short" })
}

/// The texts behind a record's fixed part, in order.
struct Texts<'a> {
    rest: &'a [u8],
}

impl<'a> Texts<'a> {
    fn after<T>(whole: &'a [u8]) -> Self {
        Self { rest: whole.get(size_of::<T>()..).unwrap_or_default() }
    }

    /// The next text's bytes; what is missing of it is noted in the event under `field`.
    fn next(&mut self, field: &str, text: &Text, event: &mut Event) -> Result<&'a [u8], Undecodable> {
        let (kept, rest) =
            self.rest.split_at_checked(usize::from(text.kept_bytes)).ok_or(Undecodable { reason: "text" })?;
        self.rest = rest;
        if text.flags & text_flags::TRUNCATED != 0 {
            let hash = (text.flags & text_flags::UNHASHED == 0).then(|| {
                let mut digits = [0; 16];
                hex(text.hash, &mut digits);
                std::str::from_utf8(&digits).unwrap_or_default().into()
            });
            let tail = text.flags & text_flags::TAIL != 0;
            event.truncated.push(Truncated { field: Name::from(field), bytes: text.full_bytes, hash, tail });
        }
        if text.flags & text_flags::UNREADABLE != 0 {
            event.unreadable.push(Name::from(field));
        }
        Ok(kept)
    }
}

/// Bytes as text: what is not UTF-8 is written `\xNN`, so that two different names never read the same.
fn readable(bytes: &[u8]) -> Box<str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return text.into();
    }
    let mut text = String::with_capacity(bytes.len() + 8);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let mut digits = *b"\\x00";
            hex(u64::from(*byte), &mut digits[2..]);
            text.push_str(std::str::from_utf8(&digits).unwrap_or_default());
        }
    }
    text.into()
}

/// The kernel's "none" for ids.
fn some_unless_max(id: u32) -> Option<u32> {
    (id != u32::MAX).then_some(id)
}
