//! Bent ClientHellos and requests beside second readers, which take them apart whole: what is read as a name must be the
//! name that they find, too.

extern crate std;

use std::{format, string::String, vec::Vec};

use super::{Outcome, Protocol, client_hello, name, read, sni};
use crate::random::Random;

const BENT: u32 = if cfg!(debug_assertions) { 200_000 } else { 3_000_000 };

impl Random {
    fn bend(&mut self, bytes: &mut Vec<u8>, alphabet: &[u8]) {
        for _ in 0..self.below(4) {
            let at = self.below(bytes.len());
            let byte =
                if self.below(3) == 0 { self.below(256) as u8 } else { alphabet[self.below(alphabet.len())] };
            match self.below(3) {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
    }
}

/// A length of `width` bytes and as many bytes, from the front.
fn part<'a>(rest: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(width)?;
    let bytes = head.iter().fold(0, |all, byte| all << 8 | usize::from(*byte));
    let (taken, left) = tail.split_at_checked(bytes)?;
    *rest = left;
    Some(taken)
}

/// The server names of a ClientHello, whole; `None` where it is none.
fn server_names(bytes: &[u8]) -> Option<Vec<String>> {
    let (mut rest, mut message) = (bytes, Vec::new());
    let hello = loop {
        if rest.first() != Some(&0x16) || rest.get(1) != Some(&3) {
            return None;
        }
        let bytes = usize::from(*rest.get(3)?) << 8 | usize::from(*rest.get(4)?);
        rest = &rest[5..];
        // The last one may go on behind the ClientHello.
        let (record, left) = rest.split_at(bytes.min(rest.len()));
        message.extend(record);
        rest = left;
        if let (Some(1), Some(hello)) = (message.first(), message.get(1..).and_then(|mut m| part(&mut m, 3)))
        {
            break hello.to_vec();
        }
    };
    let mut rest = hello.get(34..)?;
    part(&mut rest, 1)?;
    part(&mut rest, 2)?;
    part(&mut rest, 1)?;
    let mut names = Vec::new();
    let mut extensions = if rest.is_empty() { rest } else { part(&mut rest, 2)? };
    while !extensions.is_empty() {
        let kind = extensions.get(..2)?;
        extensions = &extensions[2..];
        let mut data = part(&mut extensions, 2)?;
        if kind == [0, 0] {
            let mut list = part(&mut data, 2)?;
            while !list.is_empty() {
                list = &list[1..];
                names.push(String::from_utf8_lossy(part(&mut list, 2)?).to_ascii_lowercase());
            }
        }
    }
    Some(names)
}

/// Every host that some server might find in a request: blanks and ends of lines are taken as loosely as any does.
fn hosts(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let text = text.trim_start_matches(['\r', '\n']);
    let head = text.split("\r\n\r\n").next().unwrap_or_default().split("\n\n").next().unwrap_or_default();
    let bare = |host: &str| {
        let host = host.trim_matches([' ', '\t']).split(':').next().unwrap_or_default();
        String::from(host.strip_suffix('.').unwrap_or(host))
    };
    let mut lines = head.split(['\r', '\n']).filter(|line| !line.is_empty());
    let mut found = Vec::new();
    let target = lines
        .next()
        .unwrap_or_default()
        .split(' ')
        .filter(|part| !part.is_empty())
        .nth(1)
        .unwrap_or_default();
    if let Some((_, rest)) = target.split_once("://").filter(|_| !target.starts_with('/')) {
        found.push(bare(rest.split(['/', '?']).next().unwrap_or_default()));
    }
    for line in lines {
        if let Some((field, value)) = line.split_once(':')
            && field.trim_matches([' ', '\t']) == "host"
        {
            found.push(bare(value));
        }
    }
    found
}

#[test]
fn bent_clienthellos_say_what_the_second_reader_finds_or_nothing() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut named = 0;
    for _ in 0..BENT {
        let mut extensions = Vec::new();
        for _ in 0..random.below(4) {
            extensions.push(match random.below(3) {
                0 => sni(["a.test", "WWW.b.test", "c"][random.below(3)]),
                1 => (0xfe0d, [7].repeat(random.below(9))),
                _ => (random.below(50) as u16 + 1, [0, 3].repeat(random.below(20))),
            });
        }
        let mut bytes = client_hello(&extensions, 1 + random.below(200));
        random.bend(&mut bytes, &[0, 0, 1, 3, 0x16, b'a', b'.']);
        let reader = read(&bytes);
        if reader.outcome() != Outcome::Read || reader.protocol != Protocol::Tls as u32 || bytes[0] >= 0x80 {
            continue;
        }
        let found = server_names(&bytes)
            .unwrap_or_else(|| panic!("no ClientHello, but {}: {bytes:x?}", name(&reader)));
        let found: Vec<&str> = found.iter().map(|name| name.strip_suffix('.').unwrap_or(name)).collect();
        let said: &[&str] = if reader.name_bytes == 0 { &[] } else { &[name(&reader)] };
        assert_eq!(found, said, "{bytes:x?}");
        named += u32::from(reader.name_bytes != 0);
    }
    assert!(named > BENT / 20, "{named} names of {BENT}");
}

#[test]
fn bent_requests_say_what_every_server_finds_or_nothing() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let mut named = 0;
    for _ in 0..BENT {
        let target = ["/", "/x?y", "http://a.test/", "http://b.test:80", "*"][random.below(5)];
        let mut text = format!("GET {target} HTTP/1.{}\r\n", random.below(2));
        for _ in 0..random.below(4) {
            let field = ["Host: a.test", "host:A.TEST:80 ", "Host: b.test", "X: host: b.test", "Accept: *"];
            text.push_str(field[random.below(5)]);
            text.push_str("\r\n");
        }
        text.push_str("\r\n");
        let mut bytes = text.into_bytes();
        random.bend(&mut bytes, b"\r\n\t :.hostHOST@/a");
        let reader = read(&bytes);
        if reader.outcome() != Outcome::Read
            || reader.protocol != Protocol::Http as u32
            || reader.name_bytes == 0
        {
            continue;
        }
        // What stands behind the end of the request's head is not its own.
        let whole = &bytes[..reader.read as usize];
        for host in hosts(whole) {
            assert_eq!(host, name(&reader), "{:?}", String::from_utf8_lossy(whole));
        }
        named += 1;
    }
    assert!(named > BENT / 20, "{named} names of {BENT}");
}
