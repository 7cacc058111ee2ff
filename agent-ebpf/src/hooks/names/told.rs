//! What is told of agents' questions and of what they are answered, and what becomes of a question.

use agent_common::{
    dns::{Expect, Outcome},
    event::{
        Kind, Subject,
        names::{DNS_HEAD_BYTES, Dns, flags},
    },
    limits::{DNS_ANSWERS_MAX, HOST_NAME_BYTES, PATTERNS_PER_NAME},
    name::{ASKING, NameRuleKey},
    rule::{Class, Rule},
    verdict::{self, Hits},
};
use aya_ebpf::bindings::__sk_buff;

use super::{
    answer,
    work::{Loaded, Work},
};
use crate::{
    emit, enforce,
    hooks::net::protocol,
    kernel::{self, offset},
    maps::NAME_RULES,
    path::opaque,
    rules, subject,
};

/// What is known of a question before it is judged.
pub(super) mod of {
    /// The work area holds its name.
    pub const READ: u32 = 1 << 0;
    /// It goes to a server that the network namespace is configured for.
    pub const CONFIGURED: u32 = 1 << 1;
    pub const TCP: u32 = 1 << 2;
}

/// Judges a question of an agent and tells it; whether it is refused. `known` are bits of [`of`].
#[inline(never)]
pub(super) fn question(skb: *mut __sk_buff, work: &mut Work, asker: &Subject, known: u32) -> bool {
    let read = known & of::READ != 0;
    let tcp = known & of::TCP != 0;
    let label = subject::noted(asker);
    let policy = rules::policy(&label);
    let mut name = Rule::NONE;
    if let (true, Some(policy)) = (read, policy) {
        answer::meet_all(work);
        name = named(work, policy.id);
    }
    begin(skb, tcp, work, asker);
    work.told.resolver = work.asked.resolver;
    let mut bits = if known & of::CONFIGURED != 0 { flags::CONFIGURED } else { 0 };
    if read {
        tell_name(work);
    } else {
        bits |= flags::UNREADABLE;
    }
    work.told.flags = bits;
    let decision = verdict::decide(policy, Class::Name, &Hits { name, ..Hits::default() });
    enforce::question(&label, policy, &mut work.told, decision, tcp)
}

/// The rule for the most specific pattern that the name meets.
#[inline(always)]
fn named(work: &Work, policy: u32) -> Rule {
    let mut key = NameRuleKey { pattern: 0, policy, port: 0, protocol: ASKING, _pad: 0 };
    for at in 0..PATTERNS_PER_NAME {
        key.pattern = work.patterns[at];
        if at as u64 >= work.patterns_used {
            break;
        }
        // SAFETY: entries of a map stay readable for the program's run.
        if let Some(rule) = unsafe { NAME_RULES.get(&key) } {
            return *rule;
        }
    }
    Rule::NONE
}

/// Tells an answer that has come to an agent's socket.
#[inline(always)]
pub(super) fn answer(skb: *mut __sk_buff, work: &mut Work, asker: &Subject, loaded: Loaded) {
    let label = subject::noted(asker);
    if !emit::recorded(label.origin, agent_common::event::record::NET) {
        return;
    }
    let outcome = if loaded == Loaded::Message { work.read(Expect::Answer) } else { Outcome::Malformed };
    begin(skb, work.packet.tcp != 0, work, asker);
    work.told.resolver = work.asked.local;
    let mut bits = 0;
    match outcome {
        Outcome::Read | Outcome::Failed => tell_name(work),
        Outcome::Truncated => bits |= flags::CUT,
        Outcome::Malformed => bits |= flags::UNREADABLE,
    }
    work.told.code = work.message.code as u8;
    let mut used = 0;
    if outcome == Outcome::Read {
        if work.message.answers_cut != 0 {
            bits |= flags::MORE;
        }
        used = opaque(work.message.answers_used as usize);
        if used > DNS_ANSWERS_MAX {
            used = DNS_ANSWERS_MAX;
        }
        // SAFETY: both have the same length.
        unsafe {
            kernel::copy(
                (&raw mut work.told.answers).cast(),
                size_of_val(&work.told.answers),
                (&raw const work.message.answers).cast(),
            );
        }
    }
    work.told.flags = bits;
    work.told.answers_used = used as u8;
    let bytes = DNS_HEAD_BYTES + used * size_of::<agent_common::dns::Answer>();
    emit::head(&mut work.told.header, Kind::Answer, bytes);
    emit::submit((&raw const work.told).cast(), bytes, Kind::Answer, &label);
}

/// What every such event begins with.
#[inline(always)]
fn begin(skb: *mut __sk_buff, tcp: bool, work: &mut Work, asker: &Subject) {
    let sk = super::socket_of(skb, work);
    let told: &mut Dns = &mut work.told;
    // SAFETY: both have the same length; words of a map value.
    unsafe {
        kernel::copy((&raw mut told.header.subject).cast(), size_of::<Subject>(), (&raw const *asker).cast());
        emit::zero::<u64>((&raw mut told.judgement).cast(), size_of_val(&told.judgement));
        emit::zero::<u64>((&raw mut told.name).cast(), HOST_NAME_BYTES);
    }
    told.socket = kernel::peek(sk, offset!(sock_cookie));
    (told.kind, told.id) = (0, 0);
    told.protocol = if tcp { protocol::TCP as u8 } else { protocol::UDP as u8 };
    (told.flags, told.code, told.answers_used) = (0, 0, 0);
}

#[inline(always)]
fn tell_name(work: &mut Work) {
    (work.told.kind, work.told.id) = (work.message.kind as u16, work.message.id as u16);
    // SAFETY: both have the same length.
    unsafe {
        kernel::copy(
            (&raw mut work.told.name).cast(),
            HOST_NAME_BYTES,
            (&raw const work.message.name).cast(),
        );
    }
}
