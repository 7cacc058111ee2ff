//! Any bytes in the ring buffer: an event or counted as undecodable, never a panic, never more than a little memory.

use std::collections::BTreeMap;

use agent_common::event::{Header, Text};
use chaperone::record::metrics::{Gauges, render};

use super::{
    line,
    records::{Random, cgroup, exec, exit, fork, net, texts, unix},
};

/// Where a debug build would take too long, fewer.
const RECORDS: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
/// A record is copied, escaped and joined by names: nothing makes more of it than this.
const GROWTH_MAX: usize = 16;
const NAMES_BYTES: usize = 4096;

#[test]
fn every_record_becomes_an_event_or_is_counted() {
    let good = [
        texts(
            exec(),
            ["/usr/bin/curl", "/opt/x", "curl\0-H\0Authorization: Bearer abcdefgh\0http://u:p@h/", "/srv"],
        ),
        texts(exec(), ["/é\u{1}\"\\", "", "\0\0\0\x1b[2J\0--password\0x", ""]),
        cgroup("/system.slice/bot.service"),
        bytemuck::bytes_of(&exit()).to_vec(),
        bytemuck::bytes_of(&fork()).to_vec(),
        bytemuck::bytes_of(&net("192.0.2.7", 443)).to_vec(),
        bytemuck::bytes_of(&net("2001:db8::1", 65_535)).to_vec(),
        bytemuck::bytes_of(&unix(b"/run/user/1000/bus")).to_vec(),
        bytemuck::bytes_of(&unix(b"\0abstract")).to_vec(),
    ];
    let mut line = line();
    let mut follower = line.recorder.followers.add(Default::default());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut bytes = Vec::new();
    for _ in 0..RECORDS {
        bytes.clone_from(&good[random.below(good.len())]);
        mutate(&mut bytes, &mut random);
        line.take(&bytes, random.next());
        while let Ok(json) = follower.lines.try_recv() {
            assert!(json.len() <= NAMES_BYTES + GROWTH_MAX * bytes.len(), "{} of {bytes:?}", json.len());
            assert_eq!(json.iter().filter(|byte| **byte == b'\n').count(), 1);
        }
    }
    let metrics = &line.recorder.metrics;
    let read: u64 = chaperone::event::Kind::ALL.iter().map(|(kind, _)| metrics.of_kind(*kind)).sum();
    let undecodable: u64 = metrics.undecodable.iter().sum();
    assert_eq!(read + undecodable, RECORDS);
    assert!(read > RECORDS / 4 && metrics.undecodable.iter().all(|count| *count > 0), "{metrics:?}");
    // What was learned from rubbish stays within its bounds, and so do the metrics.
    let gauges = Gauges { submitted: BTreeMap::new(), ..Gauges::default() };
    assert!(render(metrics, &gauges).len() < 1 << 20);
}

/// A few of: cut, extended, a byte or a length changed, parts of the record moved, all of it replaced.
fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..random.below(4) {
        let length = bytes.len().max(1);
        match random.below(8) {
            0 => bytes.truncate(random.below(length)),
            1 => (0..random.below(600)).for_each(|_| bytes.push(random.next() as u8)),
            2 => *bytes = (0..random.below(700)).map(|_| random.next() as u8).collect(),
            3 => put(bytes, std::mem::offset_of!(Header, bytes), &extreme(random).to_ne_bytes()),
            4 => {
                // The lengths of texts stand somewhere behind the header.
                let at = size_of::<Header>() + random.below(400) / 8 * 8;
                put(
                    bytes,
                    at + std::mem::offset_of!(Text, kept_bytes),
                    &(extreme(random) as u16).to_ne_bytes(),
                );
            }
            5 => {
                let (from, to) = (random.below(length), random.below(length));
                let part = bytes[from.min(to)..from.max(to).min(bytes.len())].to_vec();
                put(bytes, random.below(length), &part);
            }
            _ => put(bytes, random.below(length), &[random.next() as u8]),
        }
    }
}

fn put(bytes: &mut [u8], at: usize, part: &[u8]) {
    let end = (at + part.len()).min(bytes.len());
    if at < end {
        bytes[at..end].copy_from_slice(&part[..end - at]);
    }
}

/// Numbers at which lengths go wrong.
fn extreme(random: &mut Random) -> u32 {
    let numbers =
        [0, 1, 95, 96, 97, 255, 256, 0x7fff, 0x8000, 0xffff, 0x1_0000, u32::MAX >> 1, u32::MAX - 1, u32::MAX];
    numbers[random.below(numbers.len())]
}
