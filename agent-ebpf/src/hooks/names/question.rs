//! Questions to a configured resolver: noted, so that only their answers count.

use agent_common::dns::{A, AAAA, Expect, Outcome};
use aya_ebpf::bindings::{__sk_buff, BPF_ANY};

use super::{Packet, netns_of, work::Work};
use crate::{
    kernel,
    maps::{QUESTIONS, RESOLVERS},
};

/// Notes a question that leaves.
#[inline(always)]
pub(super) fn note(skb: *mut __sk_buff, packet: Packet, work: &mut Work) {
    work.asked.netns = netns_of(skb, work);
    work.address.netns = work.asked.netns;
    work.address.address = work.asked.resolver;
    // SAFETY: entries of a map stay readable for the program's run.
    if unsafe { RESOLVERS.get(&work.address) }.is_none() || work.read(Expect::Question) != Outcome::Read {
        return;
    }
    let kind = work.message.kind;
    if kind != A && kind != AAAA {
        return;
    }
    (work.asked.id, work.asked.port, work.asked._pad) = (work.message.id as u16, packet.from, 0);
    let name = (&raw const work.message.name).cast();
    // SAFETY: both have the same length.
    if !unsafe { kernel::copy((&raw mut work.question.name).cast(), size_of_val(&work.question.name), name) }
    {
        return;
    }
    work.question.asked_ns = work.now_ns;
    work.question.kind = kind;
    // SAFETY: the context of a cgroup skb hook.
    work.question.device = unsafe { (*skb).ifindex };
    let _ = QUESTIONS.insert(&work.asked, &work.question, u64::from(BPF_ANY));
}
