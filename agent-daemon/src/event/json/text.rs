//! Strings as JSON, escaped where they must be.

/// A string with its quotes.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    if all_plain(bytes) {
        out.extend_from_slice(bytes);
    } else {
        bytes.iter().for_each(|byte| escaped(out, *byte));
    }
    out.push(b'"');
}

/// Nearly every string is plain: a look at eight bytes at a time says so without a look at each.
fn all_plain(bytes: &[u8]) -> bool {
    let (words, _) = bytes.as_chunks::<8>();
    if !words.iter().all(|word| is_plain(u64::from_le_bytes(*word))) {
        return false;
    }
    match bytes.last_chunk::<8>() {
        // The rest once more with what stands before it.
        Some(end) => is_plain(u64::from_le_bytes(*end)),
        None => bytes.iter().all(|byte| !must_be_escaped(*byte)),
    }
}

/// Whether none of eight bytes is a quote, a backslash or a control character.
fn is_plain(word: u64) -> bool {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let zero_in = |word: u64| word.wrapping_sub(ONES) & !word & HIGH;
    let control = word.wrapping_sub(ONES * 0x20) & !word & HIGH;
    control | zero_in(word ^ (ONES * u64::from(b'"'))) | zero_in(word ^ (ONES * u64::from(b'\\'))) == 0
}

fn must_be_escaped(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

pub(super) fn escaped(out: &mut Vec<u8>, byte: u8) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        8 => out.extend_from_slice(b"\\b"),
        12 => out.extend_from_slice(b"\\f"),
        0..=0x1f => {
            let mut code = *b"\\u0000";
            crate::event::word::hex(u64::from(byte), &mut code[2..]);
            out.extend_from_slice(&code);
        }
        _ => out.push(byte),
    }
}
