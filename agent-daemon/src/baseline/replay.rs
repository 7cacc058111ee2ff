//! Recorded events, line by line, each with its place in the file; what is no event is counted, and the rest goes on.

use std::io::{self, BufRead, Read as _};

use agent_common::identity::hash_bytes;
use serde::Serialize;

use super::observation::{Fault, Observation, read};

/// Reads a recorded file from some place in it.
pub struct Replay<R> {
    from: R,
    file: String,
    /// Bytes before the next line.
    pub bytes: u64,
    /// Lines before it.
    pub lines: u64,
    pub faults: Faults,
    line: Vec<u8>,
}

/// What was passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Faults {
    /// Lines that are no events.
    pub foreign: u64,
    /// Events of kinds that this version does not know.
    pub newer: u64,
    /// The last line has no end: it is still being written, or was cut off.
    pub unfinished: bool,
    /// The first few, with place and remedy.
    pub told: Vec<String>,
}

impl<R: BufRead> Replay<R> {
    /// Reads on from where so many bytes and lines lie before.
    pub fn new(from: R, file: &str, bytes: u64, lines: u64) -> Self {
        Self { from, file: file.to_owned(), bytes, lines, faults: Faults::default(), line: Vec::new() }
    }

    /// The next observation, with the place where its line begins; `None` at the end.
    pub fn step(&mut self) -> io::Result<Option<(u64, Observation)>> {
        loop {
            self.line.clear();
            let got = self.from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut self.line)?;
            if got == 0 {
                return Ok(None);
            }
            let begins = self.bytes;
            let mut bytes = got as u64;
            if self.line.last() != Some(&b'\n') {
                let rest = if bytes == LINE_BYTES_MAX { self.skip_line()? } else { 0 };
                if rest == 0 {
                    // Not passed: the next time it may have its end.
                    self.faults.unfinished = true;
                    return Ok(None);
                }
                bytes += rest;
                self.line.clear();
            }
            self.bytes += bytes;
            self.lines += 1;
            match read(self.line.trim_ascii_end()) {
                Ok(observation) => return Ok(Some((begins, observation))),
                Err(fault) => self.fault(&fault),
            }
        }
    }

    /// Passes over the rest of a line; 0 where it has no end.
    fn skip_line(&mut self) -> io::Result<u64> {
        let mut passed = 0;
        loop {
            let buffer = self.from.fill_buf()?;
            if buffer.is_empty() {
                return Ok(0);
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(buffer.len(), |at| at + 1);
            self.from.consume(used);
            passed += used as u64;
            if end.is_some() {
                return Ok(passed);
            }
        }
    }

    fn fault(&mut self, fault: &Fault) {
        match fault {
            Fault::Foreign(_) => self.faults.foreign += 1,
            Fault::Newer(_) => self.faults.newer += 1,
        }
        if self.faults.told.len() < FAULTS_TOLD_MAX {
            self.faults.told.push(format!("{}:{}: {fault} ({})", self.file, self.lines, fault.remedy()));
        }
    }
}

/// What tells an event file from others wherever it is moved: a hash of its first line, which has its time, boot and
/// number. `None` where there is no whole line yet.
pub fn fingerprint(mut from: impl BufRead) -> io::Result<Option<String>> {
    let mut line = Vec::new();
    from.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    Ok(line.ends_with(b"\n").then(|| format!("{:016x}", hash_bytes(&line))))
}

/// Longer lines are no events.
const LINE_BYTES_MAX: u64 = 1 << 20;
const FAULTS_TOLD_MAX: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = include_str!("../../tests/events/session.ndjson");

    fn seqs(text: &[u8], from: usize) -> (Vec<u64>, Faults, u64) {
        let mut replay = Replay::new(&text[from..], "f", from as u64, 0);
        let mut seqs = Vec::new();
        while let Some((begins, seen)) = replay.step().unwrap() {
            assert!(text[begins as usize..].starts_with(b"{\"time\""));
            seqs.push(seen.seq);
        }
        (seqs, replay.faults, replay.bytes)
    }

    #[test]
    fn foreign_lines_are_told_with_their_place_and_the_rest_goes_on() {
        let newer = SESSION.lines().next().unwrap().replace("cgroup_created", "mind_read");
        let long = "x".repeat(3 << 20);
        let text = format!("rubbish\n{long}\n{SESSION}\n{newer}\n{{\"half\n");
        let (seqs, faults, bytes) = seqs(text.as_bytes(), 0);
        assert_eq!((seqs, bytes), ((1..=9).collect(), text.len() as u64));
        assert_eq!((faults.foreign, faults.newer, faults.unfinished, faults.told.len()), (4, 1, false, 3));
        assert!(faults.told[0].starts_with("f:1: not an event"), "{:?}", faults.told);
    }

    #[test]
    fn a_line_without_its_end_is_left_for_the_next_time() {
        let text = SESSION.as_bytes();
        for cut in [1, 10, text.len() / 2, text.len() - 1] {
            let (first, faults, bytes) = seqs(&text[..cut], 0);
            let (second, ..) = seqs(text, bytes as usize);
            assert!(faults.unfinished);
            assert_eq!([first, second].concat(), (1..=9).collect::<Vec<u64>>());
        }
    }

    #[test]
    fn a_file_is_known_by_its_first_line() {
        let of = |text: &str| fingerprint(text.as_bytes()).unwrap();
        assert_eq!(of(SESSION), of(&SESSION.lines().next().map(|line| format!("{line}\nmore")).unwrap()));
        assert_ne!(of(SESSION), of("other\n"));
        assert_eq!((of(""), of("half")), (None, None));
    }
}
