//! The look-ups in the policy maps: what the kernel half of a verdict finds before `verdict::decide`.

use agent_common::{
    identity::Label,
    rule::{ANY, Class, ExactKey, PREFIX_KEY_HEAD_BITS, Policy, PrefixKey, Rule, SocketKey, UnixKey, absent},
    verdict::Hits,
};
use aya_ebpf::maps::lpm_trie::Key;

use crate::maps::{EXACT_RULES, INSTANCES, PREFIX_RULES, ROLES, SOCKET_RULES, UNIX_RULES};

/// What is in force for the label's instance.
#[inline(always)]
pub fn policy(label: &Label) -> Option<&'static Policy> {
    // SAFETY: entries of a map stay readable for the program's run.
    unsafe { ROLES.get(&role(label)) }
}

/// The role of the label's instance; its agent's where the instance table had no room for it.
#[inline(always)]
pub fn role(label: &Label) -> u32 {
    // SAFETY: entries of a map stay readable for the program's run.
    match unsafe { INSTANCES.get(&label.instance) } {
        Some(instance) => instance.role,
        None => label.role,
    }
}

/// The rules for an internet endpoint: the exact one, or the longest prefix for this port and for every port.
#[inline(always)]
pub fn endpoint(policy: &Policy, protocol: u8, port: u16, address: &[u64; 2]) -> Hits {
    // Both kinds of key, and the trie's length before them, word by word: their bytes have no alignment of their own.
    let mut words = [0, 0, address[0], address[1]];
    words[0] = u64::from(PREFIX_KEY_HEAD_BITS + 128) << 32;
    words[1] = u64::from(policy.id) | u64::from(port) << 32 | u64::from(protocol) << 48;
    if policy.absent & absent::EXACT == 0 {
        // SAFETY: the last three words are a key, whose bytes may have any value.
        let exact: &ExactKey = unsafe { &*words.as_ptr().add(1).cast() };
        // SAFETY: entries of a map stay readable for the program's run.
        if let Some(rule) = unsafe { EXACT_RULES.get(exact) } {
            return Hits { specific: *rule, general: Rule::NONE };
        }
    }
    let specific = if port == 0 || policy.absent & absent::PORTS != 0 { Rule::NONE } else { prefix(&words) };
    words[1] = u64::from(policy.id) | u64::from(protocol) << 48;
    let general = if policy.absent & absent::EVERY_PORT != 0 { Rule::NONE } else { prefix(&words) };
    Hits { specific, general }
}

#[inline(always)]
fn prefix(words: &[u64; 4]) -> Rule {
    const { assert!(size_of::<Key<PrefixKey>>() == 4 + 3 * 8) };
    // SAFETY: from the middle of the first word on they are a key, whose bytes may have any value.
    let key: &Key<PrefixKey> = unsafe { &*words.as_ptr().cast::<u32>().add(1).cast() };
    or_none(PREFIX_RULES.get(key))
}

#[inline(always)]
fn or_none(found: Option<&Rule>) -> Rule {
    match found {
        Some(rule) => *rule,
        None => Rule::NONE,
    }
}

/// The rules for what has no address of an internet endpoint.
#[inline(always)]
pub fn socket(policy: &Policy, class: Class, a: u32, b: u32) -> Hits {
    let found = |a, b| {
        let key = SocketKey { policy: policy.id, class: class as u8, _pad: [0; 3], a, b };
        // SAFETY: entries of a map stay readable for the program's run.
        or_none(unsafe { SOCKET_RULES.get(&key) })
    };
    if matches!(class, Class::Vsock) {
        let specific = found(a, b);
        let specific = if specific.is_none() { found(a, ANY) } else { specific };
        let general = found(ANY, b);
        let general = if general.is_none() { found(ANY, ANY) } else { general };
        return Hits { specific, general };
    }
    Hits { specific: found(a, b), general: found(ANY, ANY) }
}

/// The rule for a unix socket's name; `key` holds the policy and the name, NUL padded.
#[inline(always)]
pub fn unix(key: &Key<UnixKey>) -> Hits {
    Hits { specific: or_none(UNIX_RULES.get(key)), general: Rule::NONE }
}
