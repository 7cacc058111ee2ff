//! Answers: which are believed, and what is then known of the addresses in them.

use agent_common::{
    dns::{Expect, Outcome},
    event::Counter,
    limits::{
        DNS_ANSWERS_MAX, GROUPS_PER_ADDRESS, HOST_NAME_BYTES, NAME_KEPT_S, NAME_SUFFIXES_MAX, NAME_TTL_MAX_S,
        PATTERNS_PER_NAME, QUESTION_MAX_S,
    },
    name::{CLAIMED, Group, Known, QuestionKey},
};
use aya_ebpf::bindings::{__sk_buff, BPF_NOEXIST};

use super::{
    LOOPBACK, asker, configured, device, netns_of,
    packet::DOMAIN,
    server, socket_of, told,
    work::{self, Loaded, Work},
};
use crate::{
    emit,
    hooks::net::{kind, protocol},
    kernel::{self, offset},
    maps::{ADDRESSES, NAME_IDS, QUESTIONS},
    path::opaque,
};

/// An answer that has come: believed where it is from outside, told where an agent has asked. Refuses nothing.
#[inline(never)]
pub(super) fn came_in(skb: *mut __sk_buff, work: &mut Work) -> bool {
    let loaded = work.load(skb);
    if loaded == Loaded::Nothing {
        return false;
    }
    if device(skb) != LOOPBACK {
        let counter = judge(skb, work, loaded, false);
        emit::count(counter);
    }
    if let Some(asker) = asker::of(skb) {
        told::answer(skb, work, asker, loaded);
    }
    false
}

/// An answer of a server on this host, on its way out to an asker on this host.
#[inline(never)]
pub(super) fn sent_here(skb: *mut __sk_buff, work: &mut Work) -> bool {
    let loaded = work.load(skb);
    if loaded != Loaded::Nothing {
        let counter = judge(skb, work, loaded, true);
        emit::count(counter);
    }
    false
}

/// What becomes of an answer; what it teaches is kept.
#[inline(always)]
fn judge(skb: *mut __sk_buff, work: &mut Work, loaded: Loaded, here: bool) -> Counter {
    let packet = work.packet;
    // The question went the other way.
    let (asker, server) = (work.asked.resolver, work.asked.local);
    work.asked.netns = netns_of(skb, work);
    if configured(work, server) == 0 {
        return Counter::NamesUnconfigured;
    }
    if here {
        if server::sent_by_agent(skb) {
            return Counter::NamesByAgent;
        }
        let sk = socket_of(skb, work);
        let read = |at: usize| kernel::read::<u16>(sk, at).unwrap_or(0);
        let (wanted, of) =
            if packet.tcp != 0 { (kind::STREAM, protocol::TCP) } else { (kind::DGRAM, protocol::UDP) };
        if read(offset!(sock_type)) != wanted
            || read(offset!(sock_protocol)) != of
            || read(offset!(sock_num)) != DOMAIN
        {
            return Counter::NamesForged;
        }
        // Its hooks do not see what an agent sends on a connection that it has accepted.
        if packet.tcp != 0 && kernel::cgroup_mode() {
            return Counter::NamesUnattested;
        }
    } else if packet.tcp != 0
        && kernel::peek::<u32>(socket_of(skb, work), offset!(tcp_rcv_nxt)) != packet.sequence
    {
        // Not the next part of the stream: nobody has looked yet whether it belongs to it at all.
        return Counter::NamesForged;
    }
    if loaded != Loaded::Message {
        return Counter::NamesMalformed;
    }
    match work.read(Expect::Answer) {
        Outcome::Read => {}
        Outcome::Failed => return Counter::NamesFailed,
        Outcome::Truncated => return Counter::NamesTruncated,
        Outcome::Malformed => return Counter::NamesMalformed,
    }
    work.question_key = QuestionKey {
        netns: work.asked.netns,
        local: asker,
        resolver: server,
        id: work.message.id as u16,
        port: packet.to,
        protocol: packet.protocol(),
    };
    // SAFETY: entries of a map stay readable for the program's run.
    let Some(question) = (unsafe { QUESTIONS.get(&work.question_key) }) else { return Counter::NamesUnasked };
    if work.now_ns.wrapping_sub(question.asked_ns) > QUESTION_MAX_S * SECOND_NS {
        return Counter::NamesUnasked;
    }
    if question.device != device(skb) {
        return Counter::NamesOtherDevice;
    }
    if question.kind != work.message.kind || !same(&question.name, &work.message.name) {
        return Counter::NamesOtherQuestion;
    }
    let _ = QUESTIONS.remove(&work.question_key);
    learn(work);
    Counter::NamesBelieved
}

/// Compared whole, word by word.
#[inline(always)]
fn same(one: &[u8; HOST_NAME_BYTES], other: &[u8; HOST_NAME_BYTES]) -> bool {
    let (one, other) = (one.as_ptr().cast::<u64>(), other.as_ptr().cast::<u64>());
    let mut differ = 0;
    for word in 0..HOST_NAME_BYTES / 8 {
        // SAFETY: inside both. Both lie on a multiple of 8 bytes: at the start of a map value, and as below.
        differ |= unsafe { *one.add(word) ^ *other.add(word) };
    }
    differ == 0
}
const _: () = assert!(
    (core::mem::offset_of!(Work, message) + core::mem::offset_of!(agent_common::dns::Message, name))
        .is_multiple_of(8)
);

/// Finds the patterns that the message's name meets, the most specific first.
#[inline(always)]
pub(super) fn meet_all(work: &mut Work) {
    work.patterns = [0; PATTERNS_PER_NAME];
    work.patterns_used = 0;
    let name = (&raw const work.message.name).cast();
    // SAFETY: both have the same length.
    if unsafe { kernel::copy((&raw mut work.key.text).cast(), HOST_NAME_BYTES, name) } {
        meet(work);
    }
    work::repeat(NAME_SUFFIXES_MAX as u32, suffix, work);
}

/// Keeps the addresses of the answer under the patterns that its name meets.
#[inline(always)]
fn learn(work: &mut Work) {
    if work.message.answers_used == 0 {
        return;
    }
    meet_all(work);
    if work.patterns_used == 0 {
        return;
    }
    if work.message.answers_cut != 0 {
        emit::count(Counter::NamesAddressesCut);
    }
    work::repeat(DNS_ANSWERS_MAX as u32, keep, work);
}

/// `*` and the name from one of its dots on.
extern "C" fn suffix(at: u64, context: *mut *mut Work) -> u64 {
    // SAFETY: `repeat` hands over a pointer to a live work area.
    let work = unsafe { &mut **context };
    if at >= u64::from(work.message.dots_used) {
        return 1;
    }
    let dot = work.message.dots[opaque(at as usize) & (NAME_SUFFIXES_MAX - 1)] as usize;
    work.key.text[0] = b'*';
    // SAFETY: masked to the name, behind which as many bytes of NUL stand; one byte of the key is taken.
    unsafe {
        let from = (&raw const work.message.name).cast::<u8>().add(opaque(dot) & (HOST_NAME_BYTES - 1));
        let to = (&raw mut work.key.text).cast::<u8>().add(1);
        if kernel::copy(to, HOST_NAME_BYTES - 1, from) {
            meet(work);
        }
    }
    0
}

/// Adds the pattern that `key` is, if it is one.
#[inline(always)]
fn meet(work: &mut Work) {
    // SAFETY: entries of a map stay readable for the program's run.
    let Some(pattern) = (unsafe { NAME_IDS.get(&work.key) }) else { return };
    let used = opaque(work.patterns_used as usize);
    if used >= PATTERNS_PER_NAME {
        emit::count(Counter::NamesPatternsCut);
        return;
    }
    work.patterns[used] = *pattern;
    work.patterns_used = used as u64 + 1;
}

/// Keeps one address.
extern "C" fn keep(at: u64, context: *mut *mut Work) -> u64 {
    // SAFETY: `repeat` hands over a pointer to a live work area.
    let work = unsafe { &mut **context };
    if at >= u64::from(work.message.answers_used) {
        return 1;
    }
    let slot = opaque(at as usize) & (DNS_ANSWERS_MAX - 1);
    work.address.address = work.message.answers[slot].address;
    let ttl_s = u64::from(work.message.answers[slot].ttl_s) + NAME_KEPT_S;
    let ttl_s = if ttl_s > NAME_TTL_MAX_S { NAME_TTL_MAX_S } else { ttl_s };
    let expires_ns = work.now_ns + ttl_s * SECOND_NS;
    if let Some(known) = ADDRESSES.get_ptr_mut(&work.address) {
        join(known, work, expires_ns);
        return 0;
    }
    begin(work, expires_ns);
    if ADDRESSES.insert(&work.address, &work.known, u64::from(BPF_NOEXIST)).is_ok() {
        return 0;
    }
    // Another answer may have been the first meanwhile.
    match ADDRESSES.get_ptr_mut(&work.address) {
        Some(known) => join(known, work, expires_ns),
        None => emit::count(Counter::NamesAddressesFull),
    }
    0
}

/// What is known of an address of which nothing was.
#[inline(always)]
fn begin(work: &mut Work, expires_ns: u64) {
    let words: *mut u64 = (&raw mut work.known.groups).cast();
    for word in 0..size_of::<[Group; GROUPS_PER_ADDRESS]>() / 8 {
        // SAFETY: inside the groups, which are words.
        unsafe { core::ptr::write_volatile(words.add(word), 0) };
    }
    let group = &mut work.known.groups[0];
    for (to, from) in group.patterns.iter_mut().zip(&work.patterns) {
        *to = *from;
    }
    (group.expires_ns, group.since_ns) = (expires_ns, work.now_ns);
    let known = &raw mut work.known;
    tell(known, work);
}

/// Adds the answer's patterns to what is known already. Others may do so at the same time, and verdicts read along: a
/// group is taken by one, and counts when all of it is written.
#[inline(always)]
fn join(known: *mut Known, work: &Work, expires_ns: u64) {
    for at in 0..GROUPS_PER_ADDRESS {
        // SAFETY: inside a map value, whose words are read and written one by one.
        unsafe {
            let group = (&raw mut (*known).groups[at]).cast::<u64>();
            let expires = &raw mut (*known).groups[at].expires_ns;
            let mut differ = 0;
            for pattern in 0..PATTERNS_PER_NAME {
                differ |= core::ptr::read_volatile(group.add(pattern)) ^ work.patterns[pattern];
            }
            let before = core::ptr::read_volatile(expires);
            if differ == 0 && before != CLAIMED {
                if before < expires_ns {
                    core::ptr::write_volatile(expires, expires_ns);
                }
                tell(known, work);
                return;
            }
        }
    }
    for at in 0..GROUPS_PER_ADDRESS {
        // SAFETY: as above.
        unsafe {
            let group = (&raw mut (*known).groups[at]).cast::<u64>();
            let expires = &raw mut (*known).groups[at].expires_ns;
            let before = core::ptr::read_volatile(expires);
            if before <= work.now_ns && emit::atomic_replace(expires, before, CLAIMED) {
                for pattern in 0..PATTERNS_PER_NAME {
                    core::ptr::write_volatile(group.add(pattern), work.patterns[pattern]);
                }
                core::ptr::write_volatile(&raw mut (*known).groups[at].since_ns, work.now_ns);
                core::ptr::write_volatile(expires, expires_ns);
                tell(known, work);
                return;
            }
        }
    }
    emit::count(Counter::NamesGroupsFull);
}

/// Notes the name and who gave it, for those who ask.
#[inline(always)]
fn tell(known: *mut Known, work: &Work) {
    // SAFETY: inside a map value; both names have the same length.
    unsafe {
        (*known).resolver = work.question_key.resolver;
        kernel::copy((&raw mut (*known).name).cast(), HOST_NAME_BYTES, (&raw const work.message.name).cast());
    }
}

const SECOND_NS: u64 = 1_000_000_000;
