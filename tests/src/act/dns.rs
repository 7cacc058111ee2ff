//! A tiny name server, good or lying: what the cases' resolver is.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::ExitCode,
};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};

/// Answers questions for addresses over UDP and TCP until it is killed.
///
/// A name's first label says what comes: `N-a-b-c-d` is address a.b.c.d, `cN-a-b-c-d` the same by way of another name,
/// `sixN-a-b-c-d` fd78::a.b.c.d alone, `dualN-a-b-c-d` both. All else gets an address of 127.77.0.0/16 that follows from
/// the name. Other types get an empty answer. A label `ttlN` says how long the name lives.
#[derive(Debug, Args)]
pub struct Dns {
    /// Where it listens
    #[arg(long, default_value = "127.0.0.77:53")]
    listen: SocketAddr,
    /// Seconds to live; every other name lives one longer
    #[arg(long, default_value_t = 0)]
    ttl: u32,
    /// What is wrong with the answers
    #[arg(long, value_enum)]
    lie: Option<Lie>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Lie {
    /// Another id
    Id,
    /// A second answer, to no question, with another address
    Twice,
    /// Another name in the question
    Question,
    /// Cut behind the header
    Cut,
    /// None: the answer is said to be too long for a datagram, and comes over TCP
    Short,
}

impl Dns {
    pub fn run(&self) -> Result<ExitCode> {
        let socket = UdpSocket::bind(self.listen).with_context(|| format!("listen on {}", self.listen))?;
        let streams = TcpListener::bind(self.listen).with_context(|| format!("listen on {}", self.listen))?;
        println!("listening");
        std::thread::scope(|scope| {
            scope.spawn(|| self.serve_streams(&streams));
            self.serve(&socket)
        })
    }

    /// Each connection by itself: one whose question was dropped on its way is never closed.
    fn serve_streams(&self, streams: &TcpListener) {
        std::thread::scope(|scope| {
            for stream in streams.incoming().flatten() {
                scope.spawn(|| self.serve_stream(stream));
            }
        });
    }

    /// One question after the other, each with its length before it; an answer goes out in one piece.
    fn serve_stream(&self, mut stream: TcpStream) {
        let mut length = [0; 2];
        while stream.read_exact(&mut length).is_ok() {
            let mut asked = vec![0; usize::from(u16::from_be_bytes(length))];
            if stream.read_exact(&mut asked).is_err() {
                return;
            }
            for answer in self.answers(&asked, false) {
                let framed = [&(answer.len() as u16).to_be_bytes(), &answer[..]].concat();
                drop(stream.write_all(&framed));
            }
        }
    }

    fn serve(&self, socket: &UdpSocket) -> Result<ExitCode> {
        let mut buffer = [0; 2048];
        loop {
            let (bytes, from) = socket.recv_from(&mut buffer).context("receive a question")?;
            for answer in self.answers(&buffer[..bytes], true) {
                // Who asked may be gone.
                drop(socket.send_to(&answer, from));
            }
        }
    }

    fn answers(&self, asked: &[u8], datagram: bool) -> Vec<Vec<u8>> {
        let Some((name, end)) = name(asked) else { return Vec::new() };
        let kind = u16::from_be_bytes([asked[end], asked[end + 1]]);
        let has = Has::of(&name);
        let said = name.split('.').find_map(|label| label.strip_prefix("ttl")?.parse().ok());
        let ttl = said.unwrap_or(self.ttl + u32::from(sum(&name) & 1));
        let whole = |has: &Has| {
            let mut out = [&asked[..2], &[0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
            out.extend(&asked[12..end + 4]);
            let mut owner = vec![0xc0, 12];
            if let Some(address) = has.address(kind) {
                if has.chain {
                    let target = (out.len() + 12) as u16;
                    out.extend(record(&owner, 5, ttl, b"\x04edge\x03cdn\x04test\x00"));
                    owner = (0xc000 | target).to_be_bytes().to_vec();
                }
                out.extend(record(&owner, kind, ttl, &address));
                out[7] = 1 + u8::from(has.chain);
            }
            // Who speaks EDNS is answered so; resolvers take a server that does not for an old one.
            if asked[11] != 0 {
                out[11] = 1;
                out.extend(EDNS);
            }
            out
        };
        let mut answer = whole(&has);
        match self.lie {
            None => vec![answer],
            Some(Lie::Id) => {
                answer[1] ^= 1;
                vec![answer]
            }
            Some(Lie::Twice) => vec![answer, whole(&LIE)],
            Some(Lie::Question) => {
                answer[13] ^= 1;
                vec![answer]
            }
            Some(Lie::Short) if datagram => {
                answer[2] |= 2;
                answer[7] = 0;
                answer.truncate(end + 4);
                vec![answer]
            }
            Some(Lie::Short) => vec![answer],
            Some(Lie::Cut) => vec![answer[..answer.len() - 3].to_vec()],
        }
    }
}

/// The record of EDNS: no name, type OPT, 1,232 bytes at most, nothing else.
const EDNS: [u8; 11] = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];

/// What there is of a name.
struct Has {
    /// Another name stands between.
    chain: bool,
    v4: Option<Ipv4Addr>,
    v6: Option<Ipv6Addr>,
}

impl Has {
    fn of(name: &str) -> Self {
        let label = name.split('.').next().unwrap_or_default();
        let said = label.split_once('-').and_then(|(_, address)| address.replace('-', ".").parse().ok());
        let [high, low] = sum(name).to_be_bytes();
        let v4 = said.unwrap_or(Ipv4Addr::new(127, 77, high, low | 1));
        let (six, dual) = (label.starts_with("six"), label.starts_with("dual"));
        Self { chain: label.starts_with('c'), v4: (!six).then_some(v4), v6: (six || dual).then(|| v6(v4)) }
    }

    /// As a record of that type has it.
    fn address(&self, kind: u16) -> Option<Vec<u8>> {
        match kind {
            1 => self.v4.map(|address| address.octets().to_vec()),
            28 => self.v6.map(|address| address.octets().to_vec()),
            _ => None,
        }
    }
}

fn sum(name: &str) -> u16 {
    name.bytes().fold(7, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()))
}

/// The address of the other protocol that goes with one.
#[must_use]
pub fn v6(v4: Ipv4Addr) -> Ipv6Addr {
    Ipv6Addr::from(0xfd78_u128 << 112 | u128::from(v4.to_bits()))
}

/// The address of an answer that nobody asked for.
const LIE: Has = Has { chain: false, v4: Some(Ipv4Addr::new(127, 66, 6, 6)), v6: None };

/// The name that is asked for, and where it ends.
fn name(asked: &[u8]) -> Option<(String, usize)> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let bytes = usize::from(*asked.get(at)?);
        if bytes == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(asked.get(at + 1..at + 1 + bytes)?).to_lowercase());
        at += 1 + bytes;
    }
    asked.get(at + 4)?;
    Some((labels.join("."), at + 1))
}

fn record(owner: &[u8], kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let head = [owner, &kind.to_be_bytes(), &[0, 1], &ttl.to_be_bytes(), &(data.len() as u16).to_be_bytes()];
    [&head.concat()[..], data].concat()
}
