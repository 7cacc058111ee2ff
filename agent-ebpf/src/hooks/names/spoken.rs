//! What connections say first: a connect that a rule allows by name is noted on its socket, and the segments that leave
//! it are read until the server name of TLS or the host of HTTP is known, and compared with the role's rules.
//!
//! Read is what goes onto the wire, below the socket's lock and behind the copy from the process's memory. A socket stays
//! noted for good: connects on one socket may overtake each other between their verdict and their SYN, and the SYN alone
//! says that a connection begins.

use core::ffi::c_void;

use agent_common::{
    event::{
        Counter, Kind,
        net::{Judgement, Place, Target},
        record,
        spoken::{Conversation, Finding, Spoken, phase},
    },
    identity::Label,
    limits::{DNS_MESSAGE_BYTES, HOST_NAME_BYTES, NAME_SUFFIXES_MAX, PATTERNS_PER_NAME},
    name::NameRuleKey,
    rule::{Class, Policy, Rule, spoken},
    spoken::{Outcome, Protocol},
    verdict::{self, Decision, Hits, Source, Verdict},
};
use aya_ebpf::{
    bindings::{__sk_buff, BPF_LOCAL_STORAGE_GET_F_CREATE},
    helpers::generated::{bpf_get_socket_cookie, bpf_sk_storage_get, bpf_skb_load_bytes},
};

use super::{
    answer,
    work::{self, Work},
};
use crate::{
    emit,
    hooks::net::{address, family, kind, protocol},
    kernel,
    maps::{NAME_RULES, SPOKEN},
    path::opaque,
    rules, subject,
};

/// Whether what a connection says first is to be compared with the rules: its address was allowed by name.
#[inline(always)]
pub fn awaited(protocol: u8, hits: &Hits, decision: Decision) -> bool {
    protocol == protocol::TCP as u8
        && !hits.name.is_none()
        && decision.source as u8 == Source::Rule as u8
        && decision.wanted as u8 != Verdict::Deny as u8
}

/// Notes the connection on its socket; false where there is no room for that.
#[inline(never)]
pub fn note(sk: *mut c_void, label: &Label, uid: u32, port: u32) -> bool {
    let flags = u64::from(BPF_LOCAL_STORAGE_GET_F_CREATE);
    // SAFETY: `sk` has the kernel's type and is not null; without memory the helper gives null.
    let said = unsafe { bpf_sk_storage_get(SPOKEN.as_ptr(), sk.cast(), core::ptr::null_mut(), flags) };
    let said: *mut Conversation = said.cast();
    if said.is_null() {
        emit::count(Counter::SpokenUnnoted);
        return false;
    }
    // SAFETY: null-checked; lives as long as the socket, which the caller holds.
    let said = unsafe { &mut *said };
    said.port = port;
    subject::describe_with(&mut said.subject, label, uid);
    true
}

/// Whether a packet may leave that is not UDP.
#[inline(always)]
pub(super) fn may_leave(skb: *mut __sk_buff) -> bool {
    // SAFETY: the context of a cgroup skb hook; the socket is not null.
    let said: *mut Conversation = unsafe {
        let sk = (*skb).__bindgen_anon_2.sk;
        if sk.is_null() {
            return true;
        }
        bpf_sk_storage_get(SPOKEN.as_ptr(), sk.cast(), core::ptr::null_mut(), 0).cast()
    };
    if said.is_null() {
        return true;
    }
    // SAFETY: null-checked; lives as long as the socket, which the packet holds, and whose lock whoever sends has.
    said_on(skb, unsafe { &mut *said })
}

/// Whether a packet of a noted socket may leave. A function of its own, for its part of the stack.
#[inline(never)]
fn said_on(skb: *mut __sk_buff, said: &mut Conversation) -> bool {
    let Some(mut segment) = Segment::read(skb) else { return false };
    if segment.begins {
        // A SYN that is sent again has the same number.
        segment.sequence = segment.sequence.wrapping_add(1);
        if said.phase == phase::BEGINS || said.first != segment.sequence {
            (said.first, said.phase) = (segment.sequence, phase::READING);
            said.reader.begin();
        }
    }
    if segment.bytes == 0 || said.phase == phase::PASSES {
        return true;
    }
    if said.phase == phase::BEGINS {
        // Without a SYN (TCP_REPAIR): whatever came before has left without us.
        (said.first, said.phase) = (segment.sequence.wrapping_sub(1), phase::READING);
    }
    if said.phase == phase::READING && read(skb, segment, said) {
        return true;
    }
    emit::count(Counter::SpokenDropped);
    false
}

/// A TCP segment.
#[derive(Clone, Copy)]
struct Segment {
    sequence: u32,
    /// A SYN that opens a connection.
    begins: bool,
    /// Where it comes from.
    source_port: u16,
    /// Where its bytes stand in the packet.
    at: u32,
    bytes: u32,
    /// Where it goes.
    target: Target,
}

impl Segment {
    /// `None` for what is not TCP right behind the address header: nothing else leaves such a socket.
    #[inline(always)]
    fn read(skb: *mut __sk_buff) -> Option<Self> {
        let head: [u8; 20] = load(skb, 0)?;
        let (ip_bytes, inner) = match head[0] >> 4 {
            4 => (u32::from(head[0] & 0xf) * 4, head[9]),
            _ => (40, head[6]),
        };
        if inner != protocol::TCP as u8 {
            return None;
        }
        let tcp: [u8; 20] = load(skb, ip_bytes)?;
        let v4 = head[0] >> 4 == 4;
        let address = if v4 {
            bytemuck::cast(address::mapped(u32::from_ne_bytes([head[16], head[17], head[18], head[19]])))
        } else {
            load(skb, 24)?
        };
        let target = Target {
            address,
            port: u32::from(u16::from_be_bytes([tcp[2], tcp[3]])),
            cid: 0,
            family: if v4 { family::INET } else { family::INET6 },
            protocol: protocol::TCP,
            kind: kind::STREAM,
            class: Class::Endpoint as u8,
            _pad: 0,
        };
        let at = ip_bytes + u32::from(tcp[12] >> 4) * 4;
        // SAFETY: the context of a cgroup skb hook.
        let bytes = unsafe { (*skb).len }.wrapping_sub(at);
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let begins = tcp[13] & (SYN | ACK) == SYN;
        let source_port = u16::from_be_bytes([tcp[0], tcp[1]]);
        Some(Self { sequence, begins, source_port, at, bytes, target })
    }
}

/// The address that the segment comes from.
#[inline(always)]
fn source(skb: *mut __sk_buff, segment: &Segment, to: &mut [u8; 16]) {
    let to = to.as_mut_ptr();
    // SAFETY: the context of a cgroup skb hook, and 16 bytes of a map value.
    unsafe {
        if segment.target.family == family::INET {
            core::ptr::write_unaligned(to.cast(), address::mapped(0));
            bpf_skb_load_bytes(skb.cast(), 12, to.add(12).cast(), 4);
        } else {
            bpf_skb_load_bytes(skb.cast(), 8, to.cast(), 16);
        }
    }
}

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

#[inline(always)]
fn load<const BYTES: usize>(skb: *mut __sk_buff, at: u32) -> Option<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    // SAFETY: as many bytes as there is room for.
    let status = unsafe { bpf_skb_load_bytes(skb.cast(), at, bytes.as_mut_ptr().cast(), BYTES as u32) };
    (status == 0).then_some(bytes)
}

/// Goes on reading; whether the segment may leave.
#[inline(always)]
fn read(skb: *mut __sk_buff, mut segment: Segment, said: &mut Conversation) -> bool {
    let Some(work) = work::acquire() else {
        // It will be sent again.
        emit::count(Counter::NamesBusy);
        return false;
    };
    // What was read before is only sent again.
    let known = said.reader.read.wrapping_sub(segment.sequence.wrapping_sub(said.first));
    let may = if known as i32 >= 0 {
        if known >= segment.bytes {
            true
        } else {
            segment.at += known;
            segment.bytes -= known;
            for _ in 0..CHUNKS {
                if !chunk(skb, &mut segment, said, work) {
                    break;
                }
            }
            settle(skb, &segment, said, work)
        }
    } else {
        // What came between has left without us.
        let policy = rules::policy(&subject::noted(&said.subject));
        tell(skb, &segment, said, work, policy, Rule::NONE, Some(Finding::Unreadable))
    };
    work::release(work);
    may
}

/// As many as the bytes take in which a name is looked for.
const CHUNKS: u32 = 2;
const _: () = assert!(CHUNKS as usize * DNS_MESSAGE_BYTES >= agent_common::limits::SPOKEN_BYTES_MAX as usize);

/// What is carried from byte to byte.
struct Feed {
    work: *mut Work,
    said: *mut Conversation,
}

/// Reads a part of the segment; whether there is more to be read in it.
#[inline(always)]
fn chunk(skb: *mut __sk_buff, segment: &mut Segment, said: &mut Conversation, work: &mut Work) -> bool {
    if segment.bytes == 0 {
        return false;
    }
    let most = DNS_MESSAGE_BYTES as u32;
    let bytes = if segment.bytes < most { segment.bytes } else { most };
    // The verifier of 6.1 learns nothing from a test for 0, but from this that it is one at least.
    let bytes = (opaque(bytes as usize - 1) & (DNS_MESSAGE_BYTES - 1)) + 1;
    let to = (&raw mut work.message.bytes).cast();
    // SAFETY: the context of a cgroup skb hook; at most as many bytes as the buffer has.
    if unsafe { bpf_skb_load_bytes(skb.cast(), segment.at, to, bytes as u32) } != 0 {
        return false;
    }
    segment.at += bytes as u32;
    segment.bytes -= bytes as u32;
    let mut feed = Feed { work, said };
    kernel::repeat(bytes as u32, byte, &mut feed);
    said.reader.outcome() == Outcome::Reading && segment.bytes != 0
}

extern "C" fn byte(at: u64, feed: *mut Feed) -> u64 {
    // SAFETY: `chunk` hands over its own, with pointers to a live work area and to the socket's storage.
    unsafe {
        let byte = (*(*feed).work).message.bytes[opaque(at as usize) & (DNS_MESSAGE_BYTES - 1)];
        u64::from(!(*(*feed).said).reader.byte(byte))
    }
}

/// What becomes of the connection, as far as that can be said yet: whether the segment may leave.
#[inline(always)]
fn settle(skb: *mut __sk_buff, segment: &Segment, said: &mut Conversation, work: &mut Work) -> bool {
    let label = subject::noted(&said.subject);
    let policy = rules::policy(&label);
    let mut rule = Rule::NONE;
    let mut finding = match said.reader.outcome() {
        Outcome::Reading => return true,
        Outcome::Unreadable => Some(Finding::Unreadable),
        Outcome::Read if said.reader.protocol == Protocol::Other as u32 => {
            said.reader.begin();
            said.reader.protocol = Protocol::Other as u32;
            Some(Finding::Other)
        }
        Outcome::Read if said.reader.name_bytes == 0 => Some(Finding::Unnamed),
        Outcome::Read => {
            if let Some(policy) = policy {
                rule = ruled(policy, said, work);
            }
            let allowed = !rule.is_none() && rule.verdict != Verdict::Deny as u8;
            if allowed { None } else { Some(Finding::Mismatch) }
        }
    };
    if let (Some(policy), true) = (policy, said.reader.ech != 0) {
        let by_name = match finding {
            Some(finding) => spoken::verdict(policy.spoken, finding),
            None => Verdict::Allow,
        };
        if finding.is_none() || spoken::verdict(policy.spoken, Finding::Ech) as u8 > by_name as u8 {
            finding = Some(Finding::Ech);
        }
    }
    tell(skb, segment, said, work, policy, rule, finding)
}

/// The rule for the name, the most specific one as where an answer is read.
#[inline(always)]
fn ruled(policy: &Policy, said: &Conversation, work: &mut Work) -> Rule {
    // SAFETY: names have the same length, and so have the dots.
    unsafe {
        let name = (&raw const said.reader.name).cast();
        let dots = (&raw const said.reader.dots).cast();
        if !kernel::copy((&raw mut work.message.name).cast(), HOST_NAME_BYTES, name)
            || !kernel::copy((&raw mut work.message.dots).cast(), 2 * NAME_SUFFIXES_MAX, dots)
        {
            return Rule::NONE;
        }
    }
    work.message.dots_used = said.reader.dots_used;
    answer::meet_all(work);
    let protocol = protocol::TCP as u8;
    for slot in 0..PATTERNS_PER_NAME {
        let pattern = work.patterns[slot];
        for port in [said.port as u16, 0] {
            let key = NameRuleKey { pattern, policy: policy.id, port, protocol, _pad: 0 };
            // SAFETY: entries of a map stay readable for the program's run.
            if let Some(rule) = unsafe { NAME_RULES.get(&key) } {
                return *rule;
            }
        }
    }
    Rule::NONE
}

/// Settles the connection and tells it, where it is not simply as the role has it.
#[inline(always)]
fn tell(
    skb: *mut __sk_buff,
    segment: &Segment,
    said: &mut Conversation,
    work: &mut Work,
    policy: Option<&Policy>,
    rule: Rule,
    finding: Option<Finding>,
) -> bool {
    let decision = verdict::decide_spoken(policy, rule, finding);
    let may = matches!(decision.verdict, Verdict::Allow | Verdict::Alert);
    said.phase = if may { phase::PASSES } else { phase::REFUSED };
    let Some(finding) = finding else {
        emit::count(Counter::SpokenMet);
        return true;
    };
    emit::count(match finding {
        Finding::Mismatch | Finding::Unnamed | Finding::Unreadable => Counter::SpokenUnmet,
        Finding::Ech => Counter::SpokenEch,
        Finding::Other => Counter::SpokenOther,
    });
    if !emit::recorded(said.subject.origin, record::NET) {
        return may;
    }
    let id = match policy {
        Some(policy) => policy.id,
        None => 0,
    };
    let event = &mut work.spoken;
    emit::head(&mut event.header, Kind::Spoken, size_of::<Spoken>());
    event.header.subject = said.subject;
    event.target = segment.target;
    event.judgement = Judgement::new(decision, id, Place::Packet, 0);
    // SAFETY: the context of a cgroup skb hook.
    event.socket = unsafe { bpf_get_socket_cookie(skb.cast()) };
    source(skb, segment, &mut event.source);
    event.source_port = segment.source_port;
    event.finding = finding as u8;
    event.protocol = said.reader.protocol as u8;
    event.ech = said.reader.ech as u8;
    event.name_bytes = said.reader.name_bytes as u8;
    event._pad = 0;
    let name = (&raw const said.reader.name).cast();
    // SAFETY: both have the same length.
    unsafe { kernel::copy((&raw mut event.name).cast(), HOST_NAME_BYTES, name) };
    emit::submit_fixed(&*event, Kind::Spoken, &subject::noted(&said.subject));
    may
}
