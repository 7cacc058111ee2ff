//! Good and poisoned messages, and what a random hand makes of good ones.

extern crate std;

use std::{boxed::Box, format, string::String, vec, vec::Vec};

use bytemuck::Zeroable as _;

use super::*;

mod fuzz;

/// A name without compression.
fn name(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for label in text.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out
}

fn head(flags: u16, records: u16) -> Vec<u8> {
    let words = [0x1234, flags, 1, records, 0, 0u16];
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn question(text: &str, kind: u16) -> Vec<u8> {
    let mut out = name(text);
    out.extend(kind.to_be_bytes());
    out.extend(1u16.to_be_bytes());
    out
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let mut out = owner.to_vec();
    out.extend(kind.to_be_bytes());
    out.extend(1u16.to_be_bytes());
    out.extend(ttl.to_be_bytes());
    out.extend((data.len() as u16).to_be_bytes());
    out.extend(data);
    out
}

/// An answer to `api.example.com`, whose name stands at 12.
fn answer(records: &[Vec<u8>]) -> Vec<u8> {
    let mut out = head(0x8180, records.len() as u16);
    out.extend(question("api.example.com", 1));
    out.extend(records.concat());
    out
}

const ASKED: &[u8] = &[0xc0, 12];

fn read(bytes: &[u8], expect: Expect) -> (Outcome, Box<Message>) {
    let mut message = Box::new(Message::zeroed());
    let kept = bytes.len().min(DNS_MESSAGE_BYTES - 1);
    message.bytes[..kept].copy_from_slice(&bytes[..kept]);
    if let Err(outcome) = message.begin(bytes.len() as u32, expect) {
        return (outcome, message);
    }
    for _ in 0..STEPS_MAX {
        if !message.step() {
            break;
        }
    }
    (message.outcome(), message)
}

fn addresses(message: &Message) -> Vec<(String, u32)> {
    let used = &message.answers[..message.answers_used as usize];
    let text = |a: &Answer| format!("{}", core::net::Ipv6Addr::from(a.address).to_canonical());
    used.iter().map(|a| (text(a), a.ttl_s)).collect()
}

fn text(message: &Message) -> &str {
    core::str::from_utf8(&message.name[..message.name_bytes as usize]).expect("names are ASCII")
}

#[test]
fn a_question_is_its_name_in_lower_case_and_its_type() {
    let mut bytes = head(0x0100, 0);
    bytes.extend(question("Api.EXAMPLE.com", 28));
    // What stands behind (EDNS) is of no interest.
    bytes.extend([0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
    let (outcome, message) = read(&bytes, Expect::Question);
    assert_eq!((outcome, text(&message), message.kind), (Outcome::Read, "api.example.com", 28));
    assert_eq!(&message.dots[..message.dots_used as usize], &[3, 11]);
    assert!(message.name[15..].iter().all(|byte| *byte == 0));
}

#[test]
fn addresses_belong_to_the_name_that_was_asked() {
    let bytes = answer(&[
        record(ASKED, 1, 300, &[192, 0, 2, 1]),
        record(&name("API.example.COM"), 1, 60, &[192, 0, 2, 2]),
        record(&name("other.example.com"), 1, 60, &[192, 0, 2, 3]),
        record(ASKED, 16, 60, b"\x03txt"),
        record(ASKED, 28, 60, &[0; 16]),
    ]);
    let (outcome, message) = read(&bytes, Expect::Answer);
    assert_eq!(outcome, Outcome::Read);
    assert_eq!(addresses(&message), [("192.0.2.1".into(), 300), ("192.0.2.2".into(), 60)]);
}

#[test]
fn a_chain_is_followed_in_its_order_and_its_least_time_counts() {
    let mut chain = answer(&[record(ASKED, 5, 20, &name("edge.cdn.net"))]);
    chain[7] = 3;
    let target = (chain.len() - name("edge.cdn.net").len()) as u16;
    // `x.` and a pointer to `cdn.net`, inside the first target.
    let second = [&[1, b'x', 0xc0 | (target >> 8) as u8][..], &[(target + 5) as u8]].concat();
    chain.extend(record(&[0xc0, target as u8], 5, 900, &second));
    chain.extend(record(&name("x.cdn.net"), 1, 900, &[192, 0, 2, 7]));
    let (outcome, message) = read(&chain, Expect::Answer);
    assert_eq!((outcome, addresses(&message)), (Outcome::Read, vec![("192.0.2.7".into(), 20)]));
    assert_eq!(text(&message), "api.example.com");
}

#[test]
fn hints_of_a_service_binding_are_addresses_of_the_name() {
    let data = |priority: u8| {
        let mut data = vec![0, priority];
        data.extend(name("edge.cdn.net"));
        data.extend([0, 1, 0, 3, 2, b'h', b'2', 0, 4, 0, 8, 192, 0, 2, 1, 192, 0, 2, 2]);
        data
    };
    let bytes = |data: &[u8]| {
        let mut bytes = head(0x8180, 1);
        bytes.extend(question("api.example.com", 65));
        bytes.extend(record(ASKED, 65, 30, data));
        bytes
    };
    let (outcome, message) = read(&bytes(&data(1)), Expect::Answer);
    let expected = vec![("192.0.2.1".into(), 30), ("192.0.2.2".into(), 30)];
    assert_eq!((outcome, addresses(&message)), (Outcome::Read, expected));
    // An alias has no parameters.
    assert_eq!(addresses(&read(&bytes(&data(0)), Expect::Answer).1), vec![]);
    for (what, cut) in [("a hint cut", 1), ("no room for a hint's length", 9), ("no target", 30)] {
        let whole = data(1);
        let (outcome, _) = read(&bytes(&whole[..whole.len() - cut]), Expect::Answer);
        assert_eq!(outcome, Outcome::Malformed, "{what}");
    }
}

#[test]
fn what_no_chain_leads_to_is_not_taken() {
    let bytes = answer(&[
        record(&name("edge.cdn.net"), 1, 900, &[192, 0, 2, 7]),
        record(ASKED, 5, 20, &name("edge.cdn.net")),
        record(ASKED, 1, 900, &[192, 0, 2, 8]),
        record(&name("edge.cdn.ne"), 1, 900, &[192, 0, 2, 9]),
    ]);
    let (outcome, message) = read(&bytes, Expect::Answer);
    assert_eq!((outcome, addresses(&message)), (Outcome::Read, vec![]));
}

#[test]
fn more_addresses_than_there_is_room_for_are_counted() {
    let records: Vec<Vec<u8>> = (0..40).map(|n| record(ASKED, 1, 5, &[192, 0, 2, n])).collect();
    let (outcome, message) = read(&answer(&records), Expect::Answer);
    assert_eq!((outcome, message.answers_used, message.answers_cut), (Outcome::Read, 32, 8));
}

#[test]
fn what_the_server_says_of_itself_ends_it() {
    for (flags, outcome) in [
        (0x8380, Outcome::Truncated),
        (0x8183, Outcome::Failed),
        (0x8182, Outcome::Failed),
        (0x0180, Outcome::Malformed),
        (0xa980, Outcome::Malformed),
    ] {
        let mut bytes = head(flags, 1);
        bytes.extend(question("api.example.com", 1));
        bytes.extend(record(ASKED, 1, 5, &[192, 0, 2, 1]));
        assert_eq!(read(&bytes, Expect::Answer).0, outcome, "{flags:#x}");
    }
}

#[test]
fn poisoned_messages_give_nothing() {
    let good = answer(&[record(ASKED, 1, 5, &[192, 0, 2, 1])]);
    let record_at = good.len() - 16;
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let forward = answer(&[record(&[0xc0, 0xff], 1, 5, &[192, 0, 2, 1])]);
    let itself = answer(&[record(&[0xc0, record_at as u8], 1, 5, &[192, 0, 2, 1])]);
    let dotted = {
        let mut bytes = head(0x8180, 0);
        bytes.extend([7, b'a', b'p', b'i', b'.', b'e', b'x', b'a', 3, b'c', b'o', b'm', 0, 0, 1, 0, 1]);
        bytes
    };
    let long = {
        let mut bytes = head(0x8180, 0);
        bytes.extend(question(&[&"a".repeat(63)[..]; 4].join("."), 1));
        bytes
    };
    for (what, bytes) in [
        ("two questions", with(5, 2)),
        ("no question", with(5, 0)),
        ("a label too long", with(12, 64)),
        ("a pointer in the question", with(12, 0xc0)),
        ("an address of 5 bytes", with(record_at + 11, 5)),
        ("an address of 3 bytes", with(record_at + 11, 3)),
        ("records that are not there", with(7, 9)),
        ("a pointer forwards", forward),
        ("a pointer to itself", itself),
        ("a dot inside a label", dotted),
        ("a name too long", long),
        ("the class of chaos", with(record_at - 1, 3)),
        ("cut", good[..good.len() - 1].to_vec()),
        ("a header alone", good[..12].to_vec()),
        ("less than a header", good[..11].to_vec()),
    ] {
        let (outcome, message) = read(&bytes, Expect::Answer);
        assert_eq!(outcome, Outcome::Malformed, "{what}: {:?}", addresses(&message));
    }
    assert_eq!(read(&good, Expect::Answer).0, Outcome::Read);
}

#[test]
fn pointers_upon_pointers_end() {
    // Each record's owner points at the owner before it.
    let mut bytes = head(0x8180, 40);
    bytes.extend(question("api.example.com", 1));
    let mut before = 12u16;
    for _ in 0..40 {
        let here = bytes.len() as u16;
        bytes.extend(record(&(0xc000 | before).to_be_bytes(), 1, 5, &[192, 0, 2, 1]));
        before = here;
    }
    assert_eq!(read(&bytes, Expect::Answer).0, Outcome::Malformed);
}
