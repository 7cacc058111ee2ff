//! The look-ups in the policy maps: what the kernel half of a verdict finds before `verdict::decide`.

use agent_common::{
    identity::Label,
    limits::{GROUPS_PER_ADDRESS, PATTERNS_PER_NAME},
    name::{AddressKey, Group, Known, NameRuleKey},
    rule::{ANY, Class, ExactKey, PREFIX_KEY_HEAD_BITS, Policy, PrefixKey, Rule, SocketKey, UnixKey, absent},
    verdict::{Hits, stricter},
};
use aya_ebpf::{helpers::generated::bpf_ktime_get_boot_ns, maps::lpm_trie::Key};

use crate::{
    kernel,
    maps::{ADDRESSES, EXACT_RULES, INSTANCES, NAME_RULES, PREFIX_RULES, ROLES, SOCKET_RULES, UNIX_RULES},
    path::opaque,
};

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

/// The rules for an internet endpoint: those for its address, and where there are none, the one for the names that it has
/// in the network namespace which `netns` tells.
#[inline(always)]
pub fn endpoint(
    policy: &Policy,
    protocol: u8,
    port: u16,
    address: &[u64; 2],
    netns: impl FnOnce() -> u64,
) -> Hits {
    let mut hits = addressed(policy, protocol, port, address);
    if policy.absent & absent::NAMES == 0 && hits.specific.is_none() && hits.general.is_none() {
        let which = u64::from(policy.id) | u64::from(port) << 32 | u64::from(protocol) << 48;
        hits.name = named(which, netns(), address[0], address[1]);
    }
    hits
}

/// What is carried from group to group.
struct Walk {
    known: *const Known,
    key: NameRuleKey,
    port: u16,
    best: Rule,
}

/// Of the names that the address has now, each counts by its most specific rule, and of those the strictest. `which` is
/// the policy, the port and the protocol, and the address two words: a key made by the caller would stand on its stack,
/// and with the callback below all have 512 bytes together.
#[inline(never)]
fn named(which: u64, netns: u64, first: u64, second: u64) -> Rule {
    let known: *const Known = {
        let key = [netns, first, second];
        const { assert!(size_of::<AddressKey>() == 24) };
        // SAFETY: three words are a key, whose bytes may have any value; entries of a map stay readable for the
        // program's run.
        let Some(known) = (unsafe { ADDRESSES.get(&*key.as_ptr().cast::<AddressKey>()) }) else {
            return Rule::NONE;
        };
        known
    };
    let port = (which >> 32) as u16;
    let mut walk = Walk {
        known,
        key: NameRuleKey { pattern: 0, policy: which as u32, port, protocol: (which >> 48) as u8, _pad: 0 },
        port,
        best: Rule::NONE,
    };
    kernel::repeat(GROUPS_PER_ADDRESS as u32, group, &mut walk);
    walk.best
}

extern "C" fn group(at: u64, walk: *mut Walk) -> u64 {
    // SAFETY: `named` hands over a pointer to its own; the group is inside the map value, whose words are read one by
    // one while others may write them.
    unsafe {
        let walk = &mut *walk;
        let group = (&raw const (*walk.known).groups).cast::<Group>();
        let group = group.add(opaque(at as usize) & (GROUPS_PER_ADDRESS - 1));
        let expires_ns = core::ptr::read_volatile(&raw const (*group).expires_ns);
        if expires_ns == 0 {
            return 1;
        }
        // The clock is read here and not once before: there is no room for it on the stack, and most addresses have one
        // group.
        if !Group::in_force(expires_ns, bpf_ktime_get_boot_ns()) {
            return 0;
        }
        for pattern in 0..PATTERNS_PER_NAME {
            walk.key.pattern = core::ptr::read_volatile(&raw const (*group).patterns[pattern]);
            if walk.key.pattern == 0 {
                return 0;
            }
            for port in [walk.port, 0] {
                walk.key.port = port;
                if let Some(rule) = NAME_RULES.get(&walk.key) {
                    walk.best = stricter(walk.best, *rule);
                    return 0;
                }
            }
        }
    }
    0
}

/// The exact rule for an address, or the longest prefix for this port and for every port.
#[inline(always)]
fn addressed(policy: &Policy, protocol: u8, port: u16, address: &[u64; 2]) -> Hits {
    // Both kinds of key, and the trie's length before them, word by word: their bytes have no alignment of their own.
    let mut words = [0, 0, address[0], address[1]];
    words[0] = u64::from(PREFIX_KEY_HEAD_BITS + 128) << 32;
    words[1] = u64::from(policy.id) | u64::from(port) << 32 | u64::from(protocol) << 48;
    if policy.absent & absent::EXACT == 0 {
        // SAFETY: the last three words are a key, whose bytes may have any value.
        let exact: &ExactKey = unsafe { &*words.as_ptr().add(1).cast() };
        // SAFETY: entries of a map stay readable for the program's run.
        if let Some(rule) = unsafe { EXACT_RULES.get(exact) } {
            return Hits { specific: *rule, general: Rule::NONE, name: Rule::NONE };
        }
    }
    let specific = if port == 0 || policy.absent & absent::PORTS != 0 { Rule::NONE } else { prefix(&words) };
    words[1] = u64::from(policy.id) | u64::from(protocol) << 48;
    let general = if policy.absent & absent::EVERY_PORT != 0 { Rule::NONE } else { prefix(&words) };
    Hits { specific, general, name: Rule::NONE }
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
        return Hits { specific, general, name: Rule::NONE };
    }
    Hits { specific: found(a, b), general: found(ANY, ANY), name: Rule::NONE }
}

/// The rule for a unix socket's name; `key` holds the policy and the name, NUL padded.
#[inline(always)]
pub fn unix(key: &Key<UnixKey>) -> Hits {
    Hits { specific: or_none(UNIX_RULES.get(key)), general: Rule::NONE, name: Rule::NONE }
}
