//! Finds the guest's marks in its output: NUL, the run's word, a space, what is told, newline.

/// A piece of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    Data(Vec<u8>),
    Mark(String),
}

/// Splits one stream; holds back only what may yet become a mark.
pub struct Marks {
    opening: Vec<u8>,
    held: Vec<u8>,
}

impl Marks {
    pub fn new(word: &str) -> Self {
        Self { opening: format!("\0{word} ").into_bytes(), held: Vec::new() }
    }

    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Piece> {
        self.held.extend_from_slice(bytes);
        let mut pieces = Vec::new();
        let mut from = 0;
        while let Some(at) = self.held[from..].iter().position(|byte| *byte == 0).map(|at| from + at) {
            let rest = &self.held[at..];
            if rest.len() < self.opening.len() && self.opening.starts_with(rest) {
                self.give(at, &mut pieces);
                return pieces;
            }
            if !rest.starts_with(&self.opening) {
                from = at + 1;
                continue;
            }
            let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
                self.give(at, &mut pieces);
                return pieces;
            };
            let told = String::from_utf8_lossy(&rest[self.opening.len()..end]).into_owned();
            self.give(at, &mut pieces);
            self.held.drain(..=end);
            pieces.push(Piece::Mark(told));
            from = 0;
        }
        self.give(self.held.len(), &mut pieces);
        pieces
    }

    fn give(&mut self, count: usize, pieces: &mut Vec<Piece>) {
        if count > 0 {
            pieces.push(Piece::Data(self.held.drain(..count).collect()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]]) -> (Vec<u8>, Vec<String>) {
        let mut marks = Marks::new("w1");
        let (mut data, mut told) = (Vec::new(), Vec::new());
        for piece in chunks.iter().flat_map(|chunk| marks.feed(chunk)) {
            match piece {
                Piece::Data(bytes) => data.extend(bytes),
                Piece::Mark(text) => told.push(text),
            }
        }
        (data, told)
    }

    #[test]
    fn marks_are_found_wherever_the_stream_is_cut() {
        let stream = b"\0w1 start\nabc\0def\0w2 no\n\0w1 7\n";
        for cut in 0..stream.len() {
            let (data, told) = split(&[&stream[..cut], &stream[cut..]]);
            assert_eq!(data, b"abc\0def\0w2 no\n", "cut at {cut}");
            assert_eq!(told, ["start", "7"], "cut at {cut}");
        }
    }

    #[test]
    fn data_without_a_mark_passes_at_once() {
        assert_eq!(Marks::new("w1").feed(b"no newline"), [Piece::Data(b"no newline".to_vec())]);
    }
}
