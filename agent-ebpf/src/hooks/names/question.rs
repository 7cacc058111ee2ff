//! Questions: an agent's is judged, and what a configured resolver is asked is noted, so that only its answer counts.

use agent_common::{
    dns::{Expect, Outcome, gives_addresses},
    name::QuestionKey,
};
use aya_ebpf::bindings::{__sk_buff, BPF_ANY};

use super::{
    DROP, PASS, asker, configured, device, netns_of,
    told::{self, of},
    work::{self, Loaded, Work},
};
use crate::{kernel, maps::QUESTIONS};

/// A question that leaves: whether it is refused; what is not is noted.
#[inline(never)]
pub(super) fn leaves(skb: *mut __sk_buff, work: &mut Work) -> bool {
    let loaded = work.load(skb);
    if loaded == Loaded::Nothing {
        return false;
    }
    work.asked.netns = netns_of(skb, work);
    let configured = if configured(work, work.asked.resolver) == 0 { 0 } else { of::CONFIGURED };
    let asker = asker::of(skb);
    if configured == 0 && asker.is_none() {
        return false;
    }
    let read = loaded == Loaded::Message && work.read(Expect::Question) == Outcome::Read;
    let bit = |there: bool, bit: u32| if there { bit } else { 0 };
    let known = bit(read, of::READ) | configured | bit(work.packet.tcp != 0, of::TCP);
    if let Some(asker) = asker
        && told::question(skb, work, asker, known)
    {
        return true;
    }
    let kind = work.message.kind;
    if configured != 0 && read && gives_addresses(kind) {
        note(skb, work, kind);
    }
    false
}

#[inline(always)]
fn note(skb: *mut __sk_buff, work: &mut Work, kind: u32) {
    work.question_key = QuestionKey {
        netns: work.asked.netns,
        local: work.asked.local,
        resolver: work.asked.resolver,
        id: work.message.id as u16,
        port: work.packet.from,
        protocol: work.packet.protocol(),
    };
    let name = (&raw const work.message.name).cast();
    // SAFETY: both have the same length.
    if !unsafe { kernel::copy((&raw mut work.question.name).cast(), size_of_val(&work.question.name), name) }
    {
        return;
    }
    work.question.asked_ns = work.now_ns;
    work.question.kind = kind;
    work.question.device = device(skb);
    let _ = QUESTIONS.insert(&work.question_key, &work.question, u64::from(BPF_ANY));
}

/// A packet that cannot be read, on its way out: of a socket that asks it may be a question.
#[inline(always)]
pub(super) fn hidden(skb: *mut __sk_buff) -> i32 {
    let Some(asker) = asker::of(skb) else { return PASS };
    let Some(work) = work::acquire() else { return DROP };
    work.asked.resolver = [0; 16];
    let refused = told::question(skb, work, asker, 0);
    work::release(work);
    if refused { DROP } else { PASS }
}
