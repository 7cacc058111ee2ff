//! Strings as JSON, escaped where they must be.

/// A string with its quotes.
#[inline]
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    if all_plain(bytes) {
        between(out, b"\"", bytes, b"\"");
    } else {
        out.push(b'"');
        bytes.iter().for_each(|byte| escaped(out, *byte));
        out.push(b'"');
    }
}

/// Appends all three, with one look at the room there is.
#[inline]
pub(super) fn between<const A: usize, const B: usize>(
    out: &mut Vec<u8>,
    before: &[u8; A],
    bytes: &[u8],
    after: &[u8; B],
) {
    out.reserve(A + bytes.len() + B);
    let (room, end) = (out.spare_capacity_mut(), A + bytes.len());
    room[..A].write_copy_of_slice(before);
    room[A..end].write_copy_of_slice(bytes);
    room[end..end + B].write_copy_of_slice(after);
    let whole = out.len() + end + B;
    // SAFETY: as many bytes behind the last one were written above, within what was reserved.
    unsafe { out.set_len(whole) };
}

/// Nearly every string is plain: a look at eight bytes at a time says so without a look at each.
#[inline]
fn all_plain(bytes: &[u8]) -> bool {
    if let (Some(start), Some(end)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>())
        && bytes.len() <= 8
    {
        let (start, end) = (u32::from_le_bytes(*start), u32::from_le_bytes(*end));
        return is_plain(u64::from(start) << 32 | u64::from(end));
    }
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
