//! Random messages beside a second reader, which is written another way: names are taken apart whole, and compared whole.

extern crate std;

use std::{format, string::String, vec::Vec};

use super::{Outcome, addresses, head, name, question, read, record};
use crate::{
    dns::Expect,
    limits::{DNS_ANSWERS_MAX, DNS_MESSAGE_BYTES},
    random::Random,
};

/// What is made of a good message, and how many good ones.
const BENT: u32 = if cfg!(debug_assertions) { 150_000 } else { 3_000_000 };
const GOOD: u32 = if cfg!(debug_assertions) { 20_000 } else { 400_000 };

/// A good answer to a question of type A, with what it says of the name that was asked.
fn good(random: &mut Random) -> (Vec<u8>, Vec<(String, u32)>) {
    let asked = ["api.example.com", "a.b.c.d.e.example.org", "x", "WWW.Example.COM"][random.below(4)];
    let mut bytes = head(0x8180, 0);
    bytes.extend(question(asked, 1));
    // The names that there are, with the places where they stand.
    let mut current = String::from(asked);
    let mut places = Vec::from([(String::from(asked), 12)]);
    let (mut says, mut ttl, records) = (Vec::new(), u32::MAX, random.below(12));
    for n in 0..records {
        let place = |of: &str, places: &[(String, usize)]| {
            places.iter().find(|(name, at)| name == of && *at < 0x3fff).map(|(_, at)| *at as u16)
        };
        let written = |of: &str, random: &mut Random, places: &[(String, usize)]| match place(of, places) {
            Some(at) if random.below(3) > 0 => (0xc000 | at).to_be_bytes().to_vec(),
            _ if random.below(2) == 0 => name(&of.to_ascii_uppercase()),
            _ => name(of),
        };
        let other = format!("n{}.{}.net", random.below(3), random.below(2));
        let owner = if random.below(4) > 0 { current.clone() } else { other.clone() };
        let (of_current, its_ttl) = (owner.eq_ignore_ascii_case(&current), random.below(1_000) as u32);
        let owner = written(&owner, random, &places);
        match random.below(4) {
            0 => {
                let target = written(&other, random, &places);
                bytes.extend(record(&owner, 5, its_ttl, &target));
                places.push((other.clone(), bytes.len() - target.len()));
                if of_current {
                    (current, ttl) = (other, ttl.min(its_ttl));
                }
            }
            1 => bytes.extend(record(&owner, 16, its_ttl, b"\x01x")),
            _ => {
                bytes.extend(record(&owner, 1, its_ttl, &[198, 51, 100, n as u8]));
                if of_current {
                    says.push((format!("198.51.100.{n}"), ttl.min(its_ttl)));
                }
            }
        }
    }
    bytes[7] = records as u8;
    (bytes, says)
}

/// A good answer to a question of type HTTPS, with the hints in it.
fn binding(random: &mut Random) -> (Vec<u8>, Vec<(String, u32)>) {
    let mut bytes = head(0x8180, 0);
    bytes.extend(question("api.example.com", 65));
    let (mut says, records) = (Vec::new(), random.below(4));
    for n in 0..records {
        let (priority, ttl) = (random.below(3) as u16, random.below(1_000) as u32);
        let mut data = priority.to_be_bytes().to_vec();
        data.extend(name(["", "edge.cdn.net", "x"][random.below(3)]));
        let mut parameter = |key: u16, value: &[u8]| {
            data.extend([key.to_be_bytes(), (value.len() as u16).to_be_bytes()].concat());
            data.extend(value);
        };
        if random.below(2) == 0 {
            parameter(1, b"\x02h2\x02h3");
        }
        let (v4, v6) = (random.below(3) as u8, random.below(3) as u8);
        let v4: Vec<[u8; 4]> = (0..v4).map(|at| [198, 51, n as u8, at]).collect();
        let v6: Vec<[u8; 16]> =
            (0..v6).map(|at| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, n as u8, at]).collect();
        if !v4.is_empty() {
            parameter(4, &v4.concat());
        }
        if random.below(2) == 0 {
            parameter(5, b"anything at all");
        }
        if !v6.is_empty() {
            parameter(6, &v6.concat());
        }
        if priority != 0 {
            says.extend(v4.iter().map(|a| (format!("{}", core::net::Ipv4Addr::from(*a)), ttl)));
            says.extend(v6.iter().map(|a| (format!("{}", core::net::Ipv6Addr::from(*a)), ttl)));
        }
        bytes.extend(record(&[0xc0, 12], 65, ttl, &data));
    }
    bytes[7] = records as u8;
    (bytes, says)
}

/// The hints of a service binding; `None` when it breaks off.
fn hints(mut data: &[u8]) -> Option<Vec<String>> {
    let take = |data: &mut &[u8], bytes: usize| {
        let (taken, rest) = data.split_at_checked(bytes)?;
        *data = rest;
        Some(taken.to_vec())
    };
    let word = |data: &mut &[u8]| take(data, 2).map(|w| usize::from(w[0]) << 8 | usize::from(w[1]));
    let priority = word(&mut data)?;
    if priority == 0 {
        return (!data.is_empty()).then(Vec::new);
    }
    loop {
        match usize::from(take(&mut data, 1)?[0]) {
            0 => break,
            length @ 1..=63 => drop(take(&mut data, length)?),
            _ => return None,
        }
    }
    let mut all = Vec::new();
    while !data.is_empty() {
        let (key, length) = (word(&mut data)?, word(&mut data)?);
        let value = take(&mut data, length)?;
        let size = match key {
            4 => 4,
            6 => 16,
            _ => continue,
        };
        if !value.len().is_multiple_of(size) {
            return None;
        }
        for address in value.chunks(size) {
            all.push(match <[u8; 4]>::try_from(address) {
                Ok(v4) => format!("{}", core::net::Ipv4Addr::from(v4)),
                Err(_) => format!(
                    "{}",
                    core::net::Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?).to_canonical()
                ),
            });
        }
    }
    Some(all)
}

/// The labels of the name at `at`, and where it breaks off or goes round, if it does not end. A name that never
/// ends is none; but two that come to the same place are one.
fn labels(bytes: &[u8], mut at: usize) -> (Vec<Vec<u8>>, Option<usize>) {
    let (mut all, mut seen) = (Vec::new(), Vec::new());
    while !seen.contains(&at) {
        seen.push(at);
        match bytes.get(at).copied() {
            Some(0) => return (all, None),
            Some(length @ 1..=63) if at + 1 + usize::from(length) <= bytes.len() => {
                all.push(bytes[at + 1..at + 1 + usize::from(length)].to_ascii_lowercase());
                at += 1 + usize::from(length);
            }
            Some(length @ 0xc0..) if at + 1 < bytes.len() => {
                at = usize::from(length & 0x3f) << 8 | usize::from(bytes[at + 1]);
            }
            _ => return (all, Some(at)),
        }
    }
    // It goes round: whoever comes into the round has the same one, wherever that is.
    let round = seen.iter().position(|place| *place == at).unwrap_or_default();
    (all, seen[round..].iter().min().copied())
}

/// What an answer says of the name that was asked, as the second reader has it; `None` when it breaks off.
fn says(bytes: &[u8]) -> Option<Vec<(String, u32)>> {
    let word = |at: usize| Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
    let end = |mut at: usize| loop {
        match *bytes.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    };
    let (mut at, mut current, mut ttl, mut all) = (end(12)? + 4, 12, u32::MAX, Vec::new());
    let asked = word(at - 4)?;
    for _ in 0..word(6)? {
        let owner = at;
        at = end(at)?;
        let (kind, class) = (word(at)?, word(at + 2)?);
        let time = u32::from(word(at + 4)?) << 16 | u32::from(word(at + 6)?);
        let (time, length) = (if time >> 31 == 0 { time } else { 0 }, usize::from(word(at + 8)?));
        let data = at + 10;
        at = data + length;
        bytes.get(..at)?;
        if class != 1 || labels(bytes, owner) != labels(bytes, current) {
            continue;
        }
        if kind == 5 {
            (current, ttl) = (data, ttl.min(time));
        } else if kind == asked && kind == 1 {
            let address: [u8; 4] = bytes[data..at].try_into().ok()?;
            all.push((format!("{}", core::net::Ipv4Addr::from(address)), ttl.min(time)));
        } else if kind == asked && matches!(kind, 64 | 65) {
            all.extend(hints(&bytes[data..at])?.into_iter().map(|hint| (hint, ttl.min(time))));
        } else if kind == asked && kind == 28 {
            let address: [u8; 16] = bytes[data..at].try_into().ok()?;
            all.push((format!("{}", core::net::Ipv6Addr::from(address).to_canonical()), ttl.min(time)));
        }
    }
    Some(all)
}

#[test]
fn good_messages_say_what_was_put_into_them() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 0..GOOD {
        let (bytes, expected) = if round % 4 == 0 { binding(&mut random) } else { good(&mut random) };
        let (outcome, message) = read(&bytes, Expect::Answer);
        assert_eq!((outcome, addresses(&message)), (Outcome::Read, expected), "{bytes:02x?}");
    }
}

#[test]
fn bent_messages_say_what_the_second_reader_finds_or_nothing() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut given, mut refused) = (0, 0);
    for round in 0..BENT {
        let (mut bytes, _) = if round % 4 == 0 { binding(&mut random) } else { good(&mut random) };
        for _ in 0..=random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = match random.below(4) {
                // What steers a reader: pointers, lengths of labels, and bytes that were right elsewhere.
                0 => 0xc0,
                1 => random.below(80) as u8,
                2 => bytes[random.below(bytes.len())],
                _ => random.below(256) as u8,
            };
        }
        if random.below(8) == 0 {
            bytes.truncate(random.below(bytes.len() + 1));
        }
        let (outcome, message) = read(&bytes, Expect::Answer);
        assert!(message.answers_used as usize <= DNS_ANSWERS_MAX);
        if outcome != Outcome::Read {
            refused += 1;
            continue;
        }
        if !matches!(message.kind, 1 | 28 | 64 | 65) {
            assert_eq!(message.answers_used, 0);
            continue;
        }
        given += 1;
        let found = says(&bytes).unwrap_or_default();
        assert_eq!(addresses(&message), found, "{bytes:02x?}");
    }
    assert!(given > BENT / 20 && refused > BENT / 20, "{given} were read and {refused} refused");
}

/// What keeps a reader busy for longer than there are steps is given up, and gives nothing.
#[test]
fn a_message_that_takes_more_steps_than_there_are_is_malformed() {
    let long = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(50)].join(".");
    // The name is written out once more, and all further owners lead there: each is compared letter by letter.
    let of = |records: usize| {
        let mut bytes = head(0x8180, records as u16);
        bytes.extend(question(&long, 1));
        let copy = (0xc000 | bytes.len() as u16).to_be_bytes();
        for n in 0..records {
            let owner = if n == 0 { name(&long) } else { copy.to_vec() };
            bytes.extend(record(&owner, 1, 5, &[192, 0, 2, 1]));
        }
        bytes
    };
    for (records, outcome) in [(14, Outcome::Read), (30, Outcome::Malformed)] {
        let bytes = of(records);
        assert!(bytes.len() < DNS_MESSAGE_BYTES);
        assert_eq!(says(&bytes).map(|all| all.len()), Some(records));
        assert_eq!(read(&bytes, Expect::Answer).0, outcome, "{records}");
    }
}
