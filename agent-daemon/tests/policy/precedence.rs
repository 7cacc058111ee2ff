//! The tables and look-ups decide as the documented precedence does, on random roles.

use std::{collections::BTreeMap, net::IpAddr};

use agent_common::verdict::Verdict;
use chaperone::{
    config::document::Protocol,
    policy::{
        address::{Prefix, address_bytes},
        explain::{Endpoint, endpoint},
    },
};

use super::{fuzz::Random, role, table};

/// A rule as docs/POLICY.md speaks of it.
#[derive(Clone)]
struct Written {
    text: String,
    prefix: Prefix,
    ports: Vec<u16>,
    protocols: Vec<Protocol>,
    verdict: Verdict,
}

const ADDRESSES: &[&str] = &[
    "10.0.0.0",
    "10.1.0.0",
    "10.1.2.0",
    "10.1.2.3",
    "10.1.2.4",
    "192.168.0.0",
    "2001:db8::",
    "2001:db8:1::",
    "2001:db8::1",
    "fd00::1",
];
const PORTS: &[u16] = &[22, 53, 80, 443, 8000];
const VERDICTS: &[Verdict] = &[Verdict::Allow, Verdict::Alert, Verdict::Deny];

fn written(random: &mut Random) -> Written {
    let address: IpAddr = random.pick(ADDRESSES).parse().expect("an address");
    let (width, lengths) =
        if address.is_ipv4() { (32, [8, 15, 16, 24, 31, 32]) } else { (128, [16, 32, 47, 48, 127, 128]) };
    let every = random.below(12) == 0;
    let length = *random.pick(&lengths);
    let prefix = if every {
        Prefix::of([0; 16], 0)
    } else {
        Prefix::of(address_bytes(address), length + (128 - width))
    };
    let ports: Vec<u16> = match random.below(4) {
        0 | 1 => vec![],
        2 => vec![*random.pick(PORTS)],
        _ => vec![53, 443],
    };
    let (protocols, protocol) = match random.below(4) {
        0 => (vec![Protocol::Tcp], ", protocol: tcp"),
        1 => (vec![Protocol::Udp], ", protocol: udp"),
        2 if ports.is_empty() => (vec![Protocol::Icmp], ", protocol: icmp"),
        _ if ports.is_empty() => (vec![Protocol::Tcp, Protocol::Udp, Protocol::Icmp], ""),
        _ => (vec![Protocol::Tcp, Protocol::Udp], ""),
    };
    let masked = std::net::Ipv6Addr::from(prefix.address);
    let host = match (every, masked.to_ipv4_mapped()) {
        (true, _) => "*".to_string(),
        (false, Some(v4)) => format!("{v4}/{length}"),
        (false, None) => format!("[{masked}/{length}]"),
    };
    let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
    let colon = if ports.is_empty() { "" } else { ":" };
    let verdict = *random.pick(VERDICTS);
    let text = format!("{{ to: \"{host}{colon}{list}\"{protocol}, verdict: {} }}", verdict.name());
    Written { text, prefix, ports, protocols, verdict }
}

/// Rules that do not contradict each other, which is an error of its own.
fn role_of(random: &mut Random) -> Vec<Written> {
    let mut said: BTreeMap<(Prefix, u16, Protocol), Verdict> = BTreeMap::new();
    let mut rules: Vec<Written> = Vec::new();
    for _ in 0..random.below(25) {
        let rule = written(random);
        let ports = if rule.ports.is_empty() { &[0][..] } else { &rule.ports };
        let keys: Vec<_> = ports
            .iter()
            .flat_map(|port| rule.protocols.iter().map(|protocol| (rule.prefix, *port, *protocol)))
            .collect();
        if keys.iter().all(|key| said.get(key).is_none_or(|verdict| *verdict == rule.verdict)) {
            said.extend(keys.into_iter().map(|key| (key, rule.verdict)));
            rules.push(rule);
        }
    }
    rules
}

/// Every rule looked at, one after the other.
fn naive(rules: &[Written], default: Verdict, to: &Endpoint) -> Verdict {
    let address = address_bytes(to.address);
    rules
        .iter()
        .filter(|rule| rule.protocols.contains(&to.protocol) && rule.prefix.contains(address))
        .filter(|rule| rule.ports.is_empty() || rule.ports.contains(&to.port))
        .max_by_key(|rule| (rule.prefix.bits, !rule.ports.is_empty()))
        .map_or(default, |rule| rule.verdict)
}

#[test]
fn look_ups_agree_with_reading_every_rule() {
    let mut random = Random(3);
    let (mut ruled, mut asked) = (0, 0);
    for _ in 0..120 {
        let rules = role_of(&mut random);
        let default = *random.pick(VERDICTS);
        let list = rules.iter().map(|rule| rule.text.as_str()).collect::<Vec<_>>().join(",\n    ");
        let network = format!("{{ default: {}, rules: [\n    {list} ] }}", default.name());
        let table = table(&role("r", "enforce", &network));
        for _ in 0..100 {
            let protocol = *random.pick(Protocol::ALL);
            let mut bytes = address_bytes(random.pick(ADDRESSES).parse().unwrap());
            bytes[15] ^= random.below(3) as u8;
            bytes[13] ^= random.below(2) as u8;
            let to = Endpoint {
                address: IpAddr::from(bytes).to_canonical(),
                port: if protocol == Protocol::Icmp { 0 } else { *random.pick(PORTS) },
                protocol,
            };
            let explanation = endpoint(&table, "r", &to);
            assert_eq!(
                explanation.verdict,
                naive(&rules, default, &to),
                "{to:?}\n{network}\n{explanation:?}"
            );
            asked += 1;
            ruled += usize::from(explanation.rule.is_some());
        }
    }
    // The comparison says something only if rules decide often.
    assert!(ruled * 4 > asked && ruled < asked, "{ruled} of {asked}");
}
