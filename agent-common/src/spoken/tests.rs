//! ClientHellos and requests, good and odd, and what a random hand makes of them.

extern crate std;

use std::{vec, vec::Vec};

use super::*;

mod fuzz;

/// A ClientHello, with the extensions given, in records of at most `record` bytes.
fn client_hello(extensions: &[(u16, Vec<u8>)], record: usize) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.extend([4, 1, 2, 3, 4, 0, 2, 0x13, 1, 1, 0]);
    let mut all = Vec::new();
    for (kind, data) in extensions {
        all.extend(kind.to_be_bytes());
        all.extend((data.len() as u16).to_be_bytes());
        all.extend(data);
    }
    body.extend((all.len() as u16).to_be_bytes());
    body.extend(all);
    let mut message = vec![1];
    message.extend(&(body.len() as u32).to_be_bytes()[1..]);
    message.extend(body);
    let mut bytes = Vec::new();
    for part in message.chunks(record) {
        bytes.extend([0x16, 3, 1]);
        bytes.extend((part.len() as u16).to_be_bytes());
        bytes.extend(part);
    }
    bytes
}

fn sni(name: &str) -> (u16, Vec<u8>) {
    let mut data = ((name.len() + 3) as u16).to_be_bytes().to_vec();
    data.push(0);
    data.extend((name.len() as u16).to_be_bytes());
    data.extend(name.as_bytes());
    (0, data)
}

fn read(bytes: &[u8]) -> Reader {
    let mut reader = Reader::zeroed();
    for byte in bytes {
        if !reader.byte(*byte) {
            break;
        }
    }
    reader
}

fn name(reader: &Reader) -> &str {
    std::str::from_utf8(&reader.name[..reader.name_bytes as usize]).unwrap()
}

/// What is spoken, its name, and how it ended.
fn said(bytes: &[u8]) -> (Option<Protocol>, std::string::String, Outcome) {
    let reader = read(bytes);
    (Protocol::from_raw(reader.protocol as u8), name(&reader).into(), reader.outcome())
}

#[test]
fn a_server_name_is_read_however_it_is_cut() {
    let other = (43, vec![2, 3, 4]);
    for record in [1, 3, 50, 16_384] {
        let bytes = client_hello(&[other.clone(), sni("Api.Example.COM"), (16, vec![])], record);
        let reader = read(&bytes);
        assert_eq!(reader.outcome(), Outcome::Read, "records of {record}");
        assert_eq!(reader.read as usize, bytes.len());
        assert_eq!(
            (name(&reader), &reader.dots[..reader.dots_used as usize]),
            ("api.example.com", &[3, 11][..])
        );
        assert_eq!((reader.protocol, reader.ech), (Protocol::Tls as u32, 0));
        assert_eq!(read(&bytes[..bytes.len() - 1]).outcome(), Outcome::Reading);
    }
}

#[test]
fn no_name_two_names_and_an_encrypted_one_are_told_apart() {
    assert_eq!(said(&client_hello(&[(43, vec![1])], 999)), (Some(Protocol::Tls), "".into(), Outcome::Read));
    assert_eq!(said(&client_hello(&[], 999)).2, Outcome::Read);
    assert_eq!(said(&client_hello(&[sni("a.test"), sni("b.test")], 999)).2, Outcome::Unreadable);
    assert_eq!(said(&client_hello(&[sni("a..test")], 999)).2, Outcome::Unreadable);
    assert_eq!(said(&client_hello(&[sni("a\0.test")], 999)).2, Outcome::Unreadable);
    assert_eq!(said(&client_hello(&[sni("a.test.")], 999)).1, "a.test");
    let reader = read(&client_hello(&[sni("a.test"), (0xfe0d, vec![0; 40])], 999));
    assert_eq!((reader.ech, name(&reader), reader.outcome()), (1, "a.test", Outcome::Read));
}

#[test]
fn a_clienthello_that_is_not_whole_or_too_long_is_unreadable() {
    let whole = client_hello(&[sni("a.test")], 999);
    let mut cut = whole.clone();
    // The list of extensions is a byte shorter than what follows.
    let at = 5 + 4 + 34 + 5 + 4 + 2;
    cut[at + 1] -= 1;
    assert_eq!(said(&cut).2, Outcome::Unreadable);
    assert_eq!(said(&client_hello(&[(21, vec![0; 9_000]), sni("a.test")], 16_384)).2, Outcome::Unreadable);
    // An alert before it, and SSL 2's way.
    assert_eq!(said(&[0x15, 3, 1, 0, 2, 1, 0]), (Some(Protocol::Tls), "".into(), Outcome::Unreadable));
    assert_eq!(said(&[0x80, 0x2e, 1, 3, 1]), (Some(Protocol::Tls), "".into(), Outcome::Read));
}

#[test]
fn a_host_is_read_in_each_form() {
    let http = |text: &str| {
        let (protocol, name, outcome) = said(text.as_bytes());
        assert_eq!(protocol, Some(Protocol::Http), "{text}");
        (name, outcome)
    };
    let read = |name: &str| (name.into(), Outcome::Read);
    assert_eq!(http("GET / HTTP/1.1\r\nHost: api.test\r\n\r\n"), read("api.test"));
    assert_eq!(http("\r\nGET / HTTP/1.1\nuser-agent: x\nhOST:\t API.test.:8080 \n\n"), read("api.test"));
    assert_eq!(http("GET http://api.test:80/x HTTP/1.1\r\nHost: api.test\r\n\r\n"), read("api.test"));
    assert_eq!(http("CONNECT api.test:443 HTTP/1.1\r\n\r\n"), read("api.test"));
    assert_eq!(http("CONNECT api.test:443 HTTP/1.1\r\nhost: api.test:443\r\n\r\n"), read("api.test"));
    assert_eq!(http("GET / HTTP/1.0\r\nHosts: x\r\nGhost: y\r\n\r\n"), read(""));
    assert_eq!(http("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), read(""));
    let many = std::format!("GET / HTTP/1.1\r\nHost: a.test\r\nCookie: {}\r\n\r\n", "x".repeat(9_000));
    assert_eq!(http(&many), read("a.test"));
}

#[test]
fn what_servers_differ_about_is_unreadable() {
    for text in [
        "GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nHost: a.tes\r\n\r\n",
        "GET http://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "CONNECT b.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:\r\n a.test\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test, b.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test:80:90\r\n\r\n",
        "GET / HTTP/1.1\r\nX: y\rHost: b.test\r\nHost: a.test\r\n\r\n",
        "GET http://a.test@b.test/ HTTP/1.1\r\n\r\n",
        "GET / x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET /\r\n",
    ] {
        let (protocol, _, outcome) = said(text.as_bytes());
        assert_eq!((protocol, outcome), (Some(Protocol::Http), Outcome::Unreadable), "{text:?}");
    }
}

#[test]
fn other_protocols_are_told_early() {
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"EHLO mail.test\r\n",
        b"a1 LOGIN user pass\r\n",
        b"PING\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"\x16\0\0\x01",
        b"\x80\x01\x02",
    ] {
        assert_eq!(said(bytes), (Some(Protocol::Other), said(bytes).1, Outcome::Read), "{bytes:?}");
    }
}
