//! No text makes the reader panic, hang or accept without a document.

use super::{agent, build, role};

/// xorshift64*: the same sequence every time.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

const ALPHABET: &str = "{}[]:,-?&*!|>'\"%@`#\n \tab09é\u{85}\u{feff}\u{0}~<./\\$=";
const WORDS: &[&str] = &[
    "apiVersion: chaperone/v1\n",
    "kind: Role\n",
    "kind: Agent\n",
    "spec:\n",
    "---\n",
    "  network: ",
    "{ default: deny }",
    "to: ",
    "*:443",
    "10.0.0.0/8",
    "[::/0]:1-70000",
    "unix:@",
    "vsock:*:",
    "raw:",
    "match: [",
    "{ exe: /",
    "&a ",
    "*a",
    "!!str ",
    "? ",
    "|\n",
    "null",
    "18446744073709551616",
    "family:",
    "- ",
    "\u{202e}",
];

fn mutated(random: &mut Random, text: &str) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    let alphabet: Vec<char> = ALPHABET.chars().collect();
    for _ in 0..1 + random.below(6) {
        let at = random.below(chars.len().max(1));
        match random.below(5) {
            _ if chars.is_empty() => chars.push('a'),
            0 => chars[at] = *random.pick(&alphabet),
            1 => drop(chars.remove(at)),
            2 => chars.insert(at, *random.pick(&alphabet)),
            3 => drop(chars.splice(at..at, random.pick(WORDS).chars())),
            _ => chars.truncate(at),
        }
    }
    chars.into_iter().collect()
}

#[test]
fn mutated_documents() {
    let valid = agent(
        "a",
        "r",
        "[ { exe: /opt/a }, { unit: a.service }, { cgroup: /x/y }, { container: abcdef012345 } ]",
    ) + "---\n"
        + &role(
            "r",
            "enforce",
            "{ default: deny, defaults: { unix: allow }, rules: [ { to: \"10.0.0.0/8:80,443\", protocol: tcp, verdict: allow }, { to: \"unix:/x/*\", verdict: deny } ] }",
        );
    build(&valid).expect("the document to start from is good");
    let mut random = Random(1);
    for _ in 0..2000 {
        let text = mutated(&mut random, &valid);
        if let Err(problems) = build(&text) {
            for problem in &problems.0 {
                assert!(!problem.for_people(true).is_empty() && !problem.what.is_empty());
                let lines = text.lines().count() as u32 + 1;
                assert!(problem.place.line <= lines, "{problem} of {lines}\n{text:?}");
            }
        }
    }
}

#[test]
fn random_bytes_and_words() {
    let mut random = Random(2);
    for _ in 0..2000 {
        let bytes: Vec<u8> = (0..random.below(200)).map(|_| random.next() as u8).collect();
        let _ = build(&String::from_utf8_lossy(&bytes));
        let words: String = (0..random.below(30)).map(|_| *random.pick(WORDS)).collect();
        let _ = build(&words);
    }
}

#[test]
fn texts_that_cost_much_elsewhere() {
    let started = std::time::Instant::now();
    for unit in [
        "[",
        "{",
        "- ",
        "? ",
        "a: ",
        "{a: ",
        "&a ",
        "*a ",
        "\"",
        "---\n",
        "a: 1\n",
        "- {to: x, verdict: y}\n",
        "!x ",
    ] {
        let _ = build(&unit.repeat((1 << 17) / unit.len()));
    }
    let bomb: String =
        (1..30).map(|i| format!("a{i}: &a{i} [{}]\n", format!("*a{}, ", i - 1).repeat(9))).collect();
    assert!(build(&bomb).is_err());
    // A minute is far from what it takes, and far from what a daemon may wait.
    assert!(started.elapsed().as_secs() < 60, "{:?}", started.elapsed());
}
