//! From verdict to errno: the only file that can refuse.
//!
//! What fails here fails closed: a role without a policy, an unreadable target and an unknown number are refusals.
//! A task without a label is not an agent's (labels are inherited at birth, and taken from the parent when they are
//! missing), so it passes, counted.

use crate::{emit, hooks::net::address::To, subject};
use agent_common::{
    event::{
        Counter, Kind,
        names::{DNS_HEAD_BYTES, Dns},
        net::{Judgement, Net, Op, Place, Unix},
        record,
    },
    identity::Label,
    rule::Policy,
    verdict::{Decision, Source, Verdict},
};

const EPERM: i32 = 1;

/// What is recorded of someone whom no role governs.
pub const UNGOVERNED: Decision =
    Decision { verdict: Verdict::Allow, wanted: Verdict::Allow, source: Source::Ungoverned, rule: 0 };

/// The answer of an LSM hook that has no objection: what the module before it said.
#[inline(always)]
pub fn pass(previous: i32) -> i32 {
    previous
}

/// Carries a decision out and tells it: the answer of the hook.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "inlined; a struct would be built on a stack of 512 bytes")]
pub fn net(
    label: &Label,
    policy: Option<&Policy>,
    target: &To,
    op: Op,
    place: Place,
    decision: Decision,
    uid: u32,
    tell: bool,
) -> i32 {
    let answer = carry_out(decision);
    let told = tell || answer != 0 || decision.verdict != Verdict::Allow;
    if told
        && emit::recorded(label.origin, record::NET)
        && let Some(room) = emit::reserve(Kind::Net, label)
    {
        room.write(Net {
            header: emit::header(Kind::Net, size_of::<Net>(), subject::described(label, uid)),
            target: target.told(),
            judgement: judgement(decision, policy, place, answer),
            socket: target.cookie,
            op: op as u8,
            _pad: [0; 7],
        });
        emit::commit(room, Kind::Net);
    }
    answer
}

/// As [`net`], for a unix socket; the event's name and peer are filled by the caller.
#[inline(always)]
pub fn unix(label: &Label, policy: Option<&Policy>, event: &mut Unix, decision: Decision, tell: bool) -> i32 {
    let answer = carry_out(decision);
    if tell || answer != 0 || decision.verdict != Verdict::Allow {
        event.judgement = judgement(decision, policy, Place::Lsm, answer);
        emit::head(&mut event.header, Kind::Unix, size_of::<Unix>());
        subject::describe(&mut event.header.subject, label);
        if emit::recorded(label.origin, record::NET) {
            emit::submit_fixed(event, Kind::Unix, label);
        }
    }
    answer
}

/// As [`net`], for a question to a resolver, which is told in any case; whether it is refused. Over UDP the caller gets
/// the error, over TCP the segment is gone.
#[inline(always)]
pub fn question(
    label: &Label,
    policy: Option<&Policy>,
    event: &mut Dns,
    decision: Decision,
    tcp: bool,
) -> bool {
    let answer = carry_out(decision);
    if emit::recorded(label.origin, record::NET) {
        event.judgement = judgement(decision, policy, Place::Cgroup, if tcp { 0 } else { answer });
        emit::head(&mut event.header, Kind::Question, DNS_HEAD_BYTES);
        emit::submit((&raw const *event).cast(), DNS_HEAD_BYTES, Kind::Question, label);
    }
    answer != 0
}

#[inline(always)]
fn judgement(decision: Decision, policy: Option<&Policy>, place: Place, answer: i32) -> Judgement {
    let id = match policy {
        Some(policy) => policy.id,
        None => 0,
    };
    Judgement::new(decision, id, place, (-answer) as u16)
}

/// 0, or the negative errno.
#[inline(always)]
fn carry_out(decision: Decision) -> i32 {
    if decision.source == Source::Ungoverned {
        return 0;
    }
    emit::count(Counter::Verdicts);
    if decision.source == Source::NoPolicy {
        emit::count_seldom(Counter::NoPolicy);
    }
    match decision.verdict {
        Verdict::Allow | Verdict::Alert => return 0,
        // Nothing is held or killed yet, and no role can say so: such a number is a refusal.
        Verdict::Deny | Verdict::Hold | Verdict::Kill => {}
    }
    emit::count_seldom(Counter::Refused);
    -EPERM
}
