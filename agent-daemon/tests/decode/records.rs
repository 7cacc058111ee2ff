//! Records as the kernel programs would send them.

#![allow(dead_code, reason = "shared by several test binaries, none of which needs all of it")]

use std::net::{IpAddr, Ipv6Addr};

use agent_common::{
    event::{
        Header, Kind, Subject, Text, VERSION,
        names::{DNS_HEAD_BYTES, Dns, flags},
        net::{Judgement, Net, Op, Place, Target, Unix},
        process::{CgroupCreated, Exec, Exit, Fork, Namespaces},
    },
    identity::{FileKey, Origin, evidence, hash_bytes},
    rule::Class,
    verdict::{Source, Verdict},
};

/// Of agent 7 in role 8, instance 0x42.
pub fn header(kind: Kind, bytes: usize) -> Header {
    let mut comm = [0; 16];
    comm[..4].copy_from_slice(b"bash");
    let subject = Subject {
        instance: 0x42,
        exec_id: 0x0001_0000_0000_0007,
        parent_exec_id: 0x0001_0000_0000_0006,
        cgroup_id: 3,
        pid: 100,
        tid: 101,
        uid: 1000,
        loginuid: u32::MAX,
        agent: 7,
        role: 8,
        evidence: evidence::LINEAGE | evidence::TERMINAL,
        origin: Origin::Agent as u8,
        comm,
        ..Subject::default()
    };
    Header {
        kind: kind as u8,
        version: VERSION,
        bytes: bytes as u32,
        time_ns: 5_000,
        subject,
        ..Header::default()
    }
}

pub fn exec() -> Exec {
    Exec {
        header: header(Kind::Exec, 0),
        file: FileKey { ino: 77, dev: 8 << 20 | 1, generation: 0 },
        namespaces: Namespaces {
            mnt: 4_026_531_841,
            pid: 4_026_531_836,
            net: 4_026_531_840,
            user: 4_026_531_837,
            uts: 4_026_531_838,
            ipc: 4_026_531_839,
            cgroup: 4_026_531_835,
            time: 4_026_531_834,
        },
        ppid: 99,
        session_id: u32::MAX,
        gid: 1000,
        euid: 1000,
        egid: 1000,
        ..Exec::default()
    }
}

/// An exec with its texts; what a text's mark already says of its hash and whole length is kept.
pub fn texts<T: AsRef<[u8]>>(mut raw: Exec, texts: [T; 4]) -> Vec<u8> {
    let mut behind = Vec::new();
    for (text, bytes) in [&mut raw.exe, &mut raw.script, &mut raw.argv, &mut raw.cwd].into_iter().zip(&texts)
    {
        let bytes = bytes.as_ref();
        fill(text, bytes);
        behind.extend_from_slice(bytes);
    }
    if raw.header.bytes == 0 {
        raw.header.bytes = (size_of::<Exec>() + behind.len()) as u32;
    }
    let mut all = bytemuck::bytes_of(&raw).to_vec();
    all.extend_from_slice(&behind);
    all
}

fn fill(text: &mut Text, bytes: &[u8]) {
    text.kept_bytes = bytes.len() as u16;
    if text.full_bytes == 0 {
        text.full_bytes = bytes.len() as u32;
        text.hash = hash_bytes(bytes);
    }
}

pub fn exit() -> Exit {
    Exit { header: header(Kind::Exit, size_of::<Exit>()), status: 3 << 8, instance_ended: 0 }
}

pub fn fork() -> Fork {
    Fork { header: header(Kind::Fork, size_of::<Fork>()), child_pid: 200, ..Fork::default() }
}

pub fn cgroup(path: &str) -> Vec<u8> {
    let mut text = Text::default();
    fill(&mut text, path.as_bytes());
    let bytes = size_of::<CgroupCreated>() + path.len();
    let raw = CgroupCreated { header: header(Kind::Cgroup, bytes), cgroup_id: 3, path: text };
    let mut all = bytemuck::bytes_of(&raw).to_vec();
    all.extend_from_slice(path.as_bytes());
    all
}

pub fn net(address: &str, port: u32) -> Net {
    let (address, family) = match address.parse().unwrap() {
        IpAddr::V4(v4) => (v4.to_ipv6_mapped(), 2),
        IpAddr::V6(v6) => (v6, 10),
    };
    Net {
        header: header(Kind::Net, size_of::<Net>()),
        target: Target {
            address: Ipv6Addr::octets(&address),
            port,
            family,
            protocol: 6,
            kind: 1,
            class: Class::Endpoint as u8,
            ..Target::default()
        },
        judgement: judgement(),
        socket: 12,
        op: Op::Connect as u8,
        ..Net::default()
    }
}

/// A question, or with addresses an answer.
pub fn dns(name: &str, answers: &[&str]) -> Vec<u8> {
    let mut raw: Dns = bytemuck::Zeroable::zeroed();
    let kind = if answers.is_empty() { Kind::Question } else { Kind::Answer };
    let bytes = DNS_HEAD_BYTES + size_of_val(&raw.answers[..answers.len()]);
    raw.header = header(kind, bytes);
    if answers.is_empty() {
        raw.judgement = judgement();
        raw.flags = flags::CONFIGURED;
    }
    raw.resolver = "127.0.0.53".parse::<std::net::Ipv4Addr>().unwrap().to_ipv6_mapped().octets();
    (raw.kind, raw.id, raw.protocol, raw.socket) = (1, 0x1234, 17, 12);
    raw.name[..name.len()].copy_from_slice(name.as_bytes());
    raw.answers_used = answers.len() as u8;
    for (answer, address) in raw.answers.iter_mut().zip(answers) {
        let address = match address.parse().unwrap() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        (answer.address, answer.ttl_s) = (address.octets(), 300);
    }
    bytemuck::bytes_of(&raw)[..bytes].to_vec()
}

pub fn unix(name: &[u8]) -> Unix {
    let mut raw: Unix = bytemuck::Zeroable::zeroed();
    raw.header = header(Kind::Unix, size_of::<Unix>());
    raw.judgement = judgement();
    (raw.peer_pid, raw.peer_origin, raw.op) = (55, Origin::System as u8, Op::Connect as u8);
    raw.name[..name.len()].copy_from_slice(name);
    raw.name_bytes = name.len() as u16;
    raw
}

fn judgement() -> Judgement {
    Judgement {
        policy: 7,
        rule: 3,
        verdict: Verdict::Allow as u8,
        wanted: Verdict::Allow as u8,
        source: Source::Rule as u8,
        place: Place::Lsm as u8,
        ..Judgement::default()
    }
}

/// xorshift64: the same numbers in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}
