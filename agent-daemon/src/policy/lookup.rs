//! The kernel's look-ups, done on the table: what agent-ebpf's `rules` finds, and everything it passes over.

use std::iter;

use agent_common::{
    limits::{PATTERNS_PER_NAME, UNIX_PATH_BYTES},
    name::{NameKey, NameRuleKey},
    rule::{
        ANY, Class, ExactKey, PREFIX_KEY_HEAD_BITS, PrefixKey, Rule, SocketKey, UNIX_NAME_BYTES, UnixKey,
    },
    verdict::{Hits, stricter},
};

use super::{
    address::Prefix,
    host::HostName,
    table::{Table, UNIX_KEY_HEAD_BITS, unix_bytes, unix_exact},
};

/// A rule that names an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub rule: Rule,
    /// It names this very port or socket, not every one.
    pub specific: bool,
}

/// What the kernel would hand to `decide`: the first specific and the first general rule.
#[must_use]
pub fn hits(found: &[Found]) -> Hits {
    let first = |specific| {
        found.iter().find(|found| found.specific == specific).map_or(Rule::NONE, |found| found.rule)
    };
    Hits { specific: first(true), general: first(false), name: Rule::NONE }
}

/// As [`hits`], of the rules for a host name: the kernel takes the first.
#[must_use]
pub fn hits_by_name(found: &[Found]) -> Hits {
    Hits { name: found.first().map_or(Rule::NONE, |found| found.rule), ..Hits::default() }
}

/// Every rule for a host name, the most specific first: the whole name, then the longest wildcard, this port before
/// every port.
#[must_use]
pub fn host(table: &Table, policy: u32, protocol: u8, port: u16, name: &HostName) -> Vec<Found> {
    let mut found = Vec::new();
    let known = name.patterns().into_iter().filter_map(|pattern| table.hosts.get(&pattern.key()).copied());
    for pattern in known.take(PATTERNS_PER_NAME) {
        for (port, specific) in [(port, true), (0, false)] {
            let key = NameRuleKey { pattern, policy, port, protocol, _pad: 0 };
            let rule = table.by_name.get(&key);
            found.extend(rule.map(|rule| Found { rule: *rule, specific }));
            if port == 0 {
                break;
            }
        }
    }
    found
}

/// Of each set of patterns that an address carries, the most specific first, the rule that counts; the one that decides
/// comes first.
#[must_use]
pub fn carried(table: &Table, policy: u32, protocol: u8, port: u16, sets: &[Vec<NameKey>]) -> Vec<Found> {
    let rule = |pattern: &NameKey| {
        let pattern = *table.hosts.get(pattern)?;
        [(port, true), (0, false)].into_iter().find_map(|(port, specific)| {
            let key = NameRuleKey { pattern, policy, port, protocol, _pad: 0 };
            table.by_name.get(&key).map(|rule| Found { rule: *rule, specific })
        })
    };
    let mut found: Vec<Found> = sets.iter().filter_map(|set| set.iter().find_map(rule)).collect();
    let decides = found.iter().fold(Rule::NONE, |best, found| stricter(best, found.rule));
    found.sort_by_key(|found| found.rule != decides);
    found.dedup();
    found
}

/// Every rule for an internet endpoint: the exact one, then the longest prefix first, this port before every port.
#[must_use]
pub fn endpoint(table: &Table, policy: u32, protocol: u8, port: u16, address: &[u8; 16]) -> Vec<Found> {
    let exact = ExactKey { policy, port, protocol, _pad: 0, address: *address };
    let mut found: Vec<Found> =
        table.exact.get(&exact).map(|rule| Found { rule: *rule, specific: true }).into_iter().collect();
    // The kernel asks a trie for the longest; asking for each length from the longest down is the same.
    for bits in (0..=128u8).rev() {
        let address = Prefix::of(*address, bits).address;
        let mut probe = |port, specific| {
            let key = PrefixKey { policy, port, protocol, _pad: 0, address };
            let rule = table.prefixes.get(&(PREFIX_KEY_HEAD_BITS + u32::from(bits), key));
            found.extend(rule.map(|rule| Found { rule: *rule, specific }));
        };
        probe(port, true);
        if port != 0 {
            probe(0, false);
        }
    }
    found
}

/// Every rule for a unix socket's name, the longest first.
#[must_use]
pub fn unix(table: &Table, policy: u32, name: &[u8]) -> Vec<Found> {
    // What no socket can be called, no rule names.
    if name.len() > UNIX_PATH_BYTES {
        return Vec::new();
    }
    let probe = |bytes: usize| {
        let whole = bytes == UNIX_NAME_BYTES;
        let key_name = if whole { unix_exact(name) } else { unix_bytes(&name[..bytes.min(name.len())]) };
        let key = UnixKey { policy, name: key_name };
        let rule = table.unix.get(&(UNIX_KEY_HEAD_BITS + 8 * bytes as u32, key))?;
        Some(Found { rule: *rule, specific: true })
    };
    iter::once(UNIX_NAME_BYTES).chain((0..=name.len()).rev()).filter_map(probe).collect()
}

/// Every rule for what has a key of its own, the most specific first.
#[must_use]
pub fn socket(table: &Table, policy: u32, class: Class, a: u32, b: u32) -> Vec<Found> {
    let probes: &[(u32, u32, bool)] = if class == Class::Vsock {
        &[(a, b, true), (a, ANY, true), (ANY, b, false), (ANY, ANY, false)]
    } else {
        &[(a, b, true), (ANY, ANY, false)]
    };
    let probe = |(a, b, specific): &(u32, u32, bool)| {
        let key = SocketKey { policy, class: class as u8, _pad: [0; 3], a: *a, b: *b };
        Some(Found { rule: *table.sockets.get(&key)?, specific: *specific })
    };
    probes.iter().filter_map(probe).collect()
}
