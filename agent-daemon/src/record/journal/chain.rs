//! The chain: how a record is sealed to the one before it, and taken apart again. Pure.

use sha2::{Digest as _, Sha256};

/// A record's number and hash: all that the next one hangs on. Before the first record both are zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub seq: u64,
    pub hash: Hash,
}

/// SHA-256.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Hash(pub [u8; 32]);

impl Link {
    /// Ends a line (`{…}` and the line's end) with its hash; the link of this record.
    pub fn seal(self, line: &mut Vec<u8>) -> Self {
        debug_assert!(line.ends_with(b"}\n"));
        line.truncate(line.len() - END.len());
        let hash = self.hash_of(line);
        line.extend_from_slice(BEGIN);
        line.extend_from_slice(&hash.digits());
        line.extend_from_slice(b"\"}\n");
        Self { seq: self.seq + 1, hash }
    }

    /// The hash of a record that follows this one: of the bytes before its hash.
    #[must_use]
    pub fn hash_of(self, body: &[u8]) -> Hash {
        Hash(Sha256::new().chain_update(self.hash.0).chain_update(body).finalize().into())
    }
}

/// A line (without its end) as what was hashed, and the hash; `None` where it is not sealed.
#[must_use]
pub fn split(line: &[u8]) -> Option<(&[u8], Hash)> {
    let (body, seal) = line.split_at_checked(line.len().checked_sub(SEAL_BYTES)?)?;
    let digits = seal.strip_prefix(BEGIN)?.strip_suffix(b"\"}")?;
    Some((body, Hash::from_digits(digits)?))
}

impl Hash {
    /// 64 digits.
    #[must_use]
    pub fn digits(&self) -> [u8; 64] {
        let mut digits = [0; 64];
        for (byte, pair) in self.0.iter().zip(digits.chunks_exact_mut(2)) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        digits
    }

    /// From 64 digits, lower case.
    #[must_use]
    pub fn from_digits(digits: &[u8]) -> Option<Self> {
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        if digits.len() != 64 {
            return None;
        }
        let mut hash = Self::default();
        for (byte, pair) in hash.0.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(hash)
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(std::str::from_utf8(&self.digits()).unwrap_or_default())
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";
const BEGIN: &[u8] = b",\"hash\":\"";
const END: &[u8] = b"}\n";
const SEAL_BYTES: usize = BEGIN.len() + 64 + 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_line_is_json_and_comes_apart_again() {
        let mut line = b"{\"seq\":1}\n".to_vec();
        let first = Link::default().seal(&mut line);
        let of: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!((first.seq, of["hash"].as_str()), (1, Some(first.hash.to_string().as_str())));
        let (body, hash) = split(line.trim_ascii_end()).unwrap();
        assert_eq!((body, hash), (&b"{\"seq\":1"[..], first.hash));
        // As anybody can compute it: `printf '%064d{"seq":1' 0 | xxd -r -p …`.
        let by_hand = Sha256::new().chain_update([0; 32]).chain_update(b"{\"seq\":1").finalize();
        assert_eq!(by_hand.as_slice(), hash.0);
        let mut second = b"{\"seq\":1}\n".to_vec();
        assert_ne!(first.seal(&mut second).hash, first.hash);
    }

    #[test]
    fn what_is_not_sealed_is_not_taken_apart() {
        let mut line = b"{\"seq\":1}\n".to_vec();
        Link::default().seal(&mut line);
        let line = line.trim_ascii_end();
        assert!(split(line).is_some());
        for text in [&b""[..], b"{}", &line[1..line.len() - 1], &line.to_ascii_uppercase()] {
            assert_eq!(split(text), None);
        }
    }
}
