//! What a line must hold to be worth parsing: a kind, or one of some texts; found many times faster than JSON is read.

use std::net::IpAddr;

use memchr::{memchr, memmem};

use super::wanted::within;

/// Kinds and needles; without any, every line counts.
#[derive(Clone, Debug, Default)]
pub struct Needles {
    kinds: &'static [&'static str],
    needles: Vec<Needle>,
    /// One for each text, while they are few.
    finders: Vec<memmem::Finder<'static>>,
    /// All at once, when they are many and all of them ids.
    ids: Option<Ids>,
    /// What stands before an address.
    before: Option<memmem::Finder<'static>>,
}

/// What one thing in a line may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Needle {
    /// This text, anywhere.
    Text(String),
    /// An address of this prefix.
    Within(IpAddr, u8),
}

impl Needles {
    /// Lines of these kinds, and lines with one of these needles.
    #[must_use]
    pub fn of(kinds: &'static [&'static str], needles: Vec<Needle>) -> Self {
        let texts = || {
            needles.iter().filter_map(|needle| match needle {
                Needle::Text(text) => Some(text.as_str()),
                Needle::Within(..) => None,
            })
        };
        let ids = if texts().count() > FEW { Ids::of(texts()) } else { None };
        let alone = texts().filter(|_| ids.is_none());
        let finders = alone.map(|text| memmem::Finder::new(text).into_owned()).collect();
        let within = needles.iter().any(|needle| matches!(needle, Needle::Within(..)));
        let before = within.then(|| memmem::Finder::new(ADDRESS));
        Self { kinds, needles, finders, ids, before }
    }

    /// Adds a text.
    pub fn add(&mut self, text: String) {
        let needle = Needle::Text(text);
        if !self.needles.contains(&needle) {
            self.needles.push(needle);
            *self = Self::of(self.kinds, std::mem::take(&mut self.needles));
        }
    }

    /// Where the first line stands that counts.
    #[must_use]
    pub fn next(&self, block: &[u8]) -> Option<usize> {
        let mut begin = 0;
        while begin < block.len() {
            let end = memchr(b'\n', &block[begin..]).map_or(block.len(), |length| begin + length);
            if self.counts(&block[begin..end]) {
                return Some(begin);
            }
            begin = end + 1;
        }
        None
    }

    fn counts(&self, line: &[u8]) -> bool {
        if self.kinds.is_empty() && self.needles.is_empty() {
            return true;
        }
        let kind = || kind(line).is_some_and(|kind| self.kinds.iter().any(|k| k.as_bytes() == kind));
        !self.kinds.is_empty() && kind()
            || self.finders.iter().any(|finder| finder.find(line).is_some())
            || self.ids.as_ref().is_some_and(|ids| ids.any(line))
            || self.before.as_ref().is_some_and(|before| self.reaches(line, before))
    }

    /// Whether an address of the line is within a prefix.
    fn reaches(&self, line: &[u8], before: &memmem::Finder<'static>) -> bool {
        let address = |at: usize| -> Option<IpAddr> {
            let rest = &line[at + ADDRESS.len()..];
            std::str::from_utf8(&rest[..memchr(b'"', rest)?]).ok()?.parse().ok()
        };
        before.find_iter(line).filter_map(address).any(|address| {
            self.needles.iter().any(|needle| match needle {
                Needle::Within(network, bits) => within(address, *network, *bits),
                Needle::Text(_) => false,
            })
        })
    }
}

/// Ids of instances and of images: where such a one stands, it is looked up. So many of them cost as much as one.
#[derive(Clone, Debug)]
struct Ids {
    /// By what stands before an id in a line: the numbers that are looked for, in their order.
    all: Vec<(memmem::Finder<'static>, usize, Vec<u64>)>,
}

impl Ids {
    /// `None` where one of them is no id.
    fn of<'a>(texts: impl Iterator<Item = &'a str> + Clone) -> Option<Self> {
        let mut all = Vec::new();
        let mut found = 0;
        for (begin, before) in [("i-", &b"instance\":\"i-"[..]), ("x-", &b"exec_id\":\"x-"[..])] {
            let digits = texts.clone().filter_map(|text| text.strip_prefix(begin));
            let mut numbers: Vec<u64> = digits.filter_map(|digits| number(digits.as_bytes())).collect();
            found += numbers.len();
            numbers.sort_unstable();
            if !numbers.is_empty() {
                all.push((memmem::Finder::new(before), before.len(), numbers));
            }
        }
        (found == texts.count()).then_some(Self { all })
    }

    fn any(&self, line: &[u8]) -> bool {
        self.all.iter().any(|(finder, length, numbers)| {
            let id = |at| line.get(at + length..at + length + DIGITS).and_then(number);
            finder.find_iter(line).filter_map(id).any(|id| numbers.binary_search(&id).is_ok())
        })
    }
}

/// The number of an id, as ids are written.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.len() != DIGITS {
        return None;
    }
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number << 4 | u64::from(digit - b'0')),
        b'a'..=b'f' => Some(number << 4 | u64::from(digit - b'a' + 10)),
        _ => None,
    })
}

/// The kind that a line says, which it does near its begin.
fn kind(line: &[u8]) -> Option<&[u8]> {
    let begin = usual(line).or_else(|| Some(memmem::find(&line[..line.len().min(HEAD_BYTES)], KIND)? + 8))?;
    let head = &line[begin..line.len().min(begin + HEAD_BYTES)];
    Some(&head[..memchr(b'"', head)?])
}

/// Where the kind of a line of ours begins: time, number and kind stand first, and all but the number's length is known.
fn usual(line: &[u8]) -> Option<usize> {
    let rest = line.get(39..)?.strip_prefix(b"\",\"seq\":")?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    rest[digits..].strip_prefix(b",")?.starts_with(KIND).then_some(39 + 8 + digits + 1 + KIND.len())
}

const KIND: &[u8] = b"\"kind\":\"";
/// What stands before every address.
const ADDRESS: &[u8] = b"\"address\":\"";
/// So many texts are looked for one by one.
const FEW: usize = 6;
/// Hexadecimal digits of an id.
const DIGITS: usize = 16;
/// Time, number and kind are within so much.
const HEAD_BYTES: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Needle {
        Needle::Text(text.to_owned())
    }

    #[test]
    fn a_line_without_any_of_them_is_passed_over() {
        let mut needles = Needles::of(&[], vec![text("i-01")]);
        let block = b"{\"i\":\"i-02\"}\n{\"i\":\"i-01\"}\n";
        assert_eq!(needles.next(block), Some(13));
        needles.add("i-02".to_owned());
        assert_eq!(needles.next(block), Some(0));
        assert_eq!(needles.next(b"{}\n"), None);
        assert_eq!(Needles::default().next(b"{}\n"), Some(0));
        for n in 0..10 {
            needles.add(format!("x-{n}"));
        }
        assert_eq!(needles.next(b"{}\n{\"x\":\"x-7\"}"), Some(3));
    }

    #[test]
    fn many_ids_are_found_wherever_one_stands() {
        let mut needles = Needles::of(&[], Vec::new());
        for n in 0..20 {
            needles.add(format!("i-{n:016x}"));
        }
        needles.add("x-00000000000000ff".to_owned());
        assert!(needles.ids.is_some() && needles.finders.is_empty());
        for (line, counts) in [
            (r#"{"instance":"i-0000000000000013","exec_id":"x-0000000000000001"}"#, true),
            (r#"{"instance":"i-0000000000000014","exec_id":"x-0000000000000001"}"#, false),
            (r#"{"instance":"i-0000000000000014","parent_exec_id":"x-00000000000000ff"}"#, true),
            (r#"{"instance":"i-0000000000000014","parent_instance":"i-0000000000000000"}"#, true),
            (r#"{"unix":{"peer":{"exec_id":"x-0000000000000000","instance":"i-0000000000000001"}}}"#, true),
            (r#"{"instance":"i-00"#, false),
        ] {
            assert_eq!(needles.next(line.as_bytes()).is_some(), counts, "{line}");
        }
    }

    #[test]
    fn an_address_counts_within_the_prefix_alone() {
        let of = |network: &str, bits| Needles::of(&[], vec![Needle::Within(network.parse().unwrap(), bits)]);
        let line = br#"{"dns":{"answers":[{"address":"203.0.114.1"},{"address":"2001:db8::7"}]},"argv":["203.0.113.1"]}"#;
        for (network, bits, counts) in
            [("203.0.114.0", 24, true), ("203.0.113.0", 24, false), ("2001:db8::", 32, true), ("::", 0, true)]
        {
            assert_eq!(of(network, bits).next(line).is_some(), counts, "{network}/{bits}");
        }
        assert_eq!(of("0.0.0.0", 0).next(br#"{"address":"no such"}"#), None);
    }

    #[test]
    fn kinds_are_those_that_a_line_says_and_no_text_in_it() {
        let needles = Needles::of(&["events_lost"], vec![text("i-01")]);
        let said = b"{\"time\":\"\",\"seq\":1,\"kind\":\"events_lost\"}";
        assert_eq!(needles.next(said), Some(0));
        let quoted = b"{\"time\":\"\",\"seq\":1,\"kind\":\"process_exec\",\"argv\":[\"events_lost\"]}";
        assert_eq!(needles.next(quoted), None);
        let ours = b"{\"time\":\"2026-01-31T08:59:12.000000000Z\",\"seq\":17,\"kind\":\"events_lost\",\"host\":\"a\"}";
        assert!(usual(ours).is_some() && needles.next(ours).is_some());
    }
}
