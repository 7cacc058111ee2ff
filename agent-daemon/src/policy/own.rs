//! Whether a role's own rules decide what was promoted for it.

use agent_common::{name::ASKING, rule::PREFIX_KEY_HEAD_BITS};

use super::{
    address::Prefix,
    host::HostName,
    lookup,
    parse::Target,
    table::{Table, UNIX_KEY_HEAD_BITS},
};
use crate::config::document::Protocol;

/// Whether rules under policy id 0 name all of a target, for one of its protocols and ports at least.
pub fn decides(own: &Table, target: &Target, protocols: &[Protocol]) -> bool {
    match target {
        // What is shorter and names a port gives way to what is longer and names none: it must not.
        Target::Endpoint { prefix, ports } if ports.is_empty() => own.prefixes.keys().any(|(bits, key)| {
            let bits = (bits - PREFIX_KEY_HEAD_BITS) as u8;
            bits <= prefix.bits
                && protocols.iter().any(|protocol| *protocol as u8 == key.protocol)
                && Prefix::of(prefix.address, bits).address == key.address
        }),
        Target::Endpoint { prefix, ports } => each(protocols, ports).any(|(protocol, port)| {
            let found = lookup::endpoint(own, 0, protocol, port, &prefix.address);
            // One that is longer names a part of it, and counts there anyhow.
            found.iter().any(|found| found.rule.prefix_len <= prefix.bits)
        }),
        Target::Host { name, ports } if ports.is_empty() => {
            let patterns: Vec<u64> = name.patterns().iter().map(HostName::id).collect();
            let mut keys = own.by_name.keys();
            keys.any(|key| {
                patterns.contains(&key.pattern)
                    && protocols.iter().any(|protocol| *protocol as u8 == key.protocol)
            })
        }
        Target::Host { name, ports } => each(protocols, ports)
            .any(|(protocol, port)| !lookup::host(own, 0, protocol, port, name).is_empty()),
        Target::Unix { name, exact: true } => !lookup::unix(own, 0, name).is_empty(),
        Target::Unix { name, exact: false } => own.unix.keys().any(|(bits, key)| {
            let bytes = (bits - UNIX_KEY_HEAD_BITS) as usize / 8;
            bytes <= name.len() && key.name[..bytes] == name[..bytes]
        }),
        Target::Socket { .. } => true,
    }
}

/// Whether they say whether the name may be asked for.
pub fn decides_asking(own: &Table, name: &HostName) -> bool {
    !lookup::host(own, 0, ASKING, 0, name).is_empty()
}

fn each<'a>(protocols: &'a [Protocol], ports: &'a [u16]) -> impl Iterator<Item = (u8, u16)> + 'a {
    let ports = if ports.is_empty() { &[0][..] } else { ports };
    protocols.iter().flat_map(move |protocol| ports.iter().map(|port| (*protocol as u8, *port)))
}
