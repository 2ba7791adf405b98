//! Lines out of bytes, none longer than it may be. What is longer is counted and left out, so that a
//! program that never ends a line takes no more memory than one that does.

/// The longest line, in bytes without its end.
pub(super) const MAX_LINE: usize = 8 << 20;

/// A line that has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Without its end.
    Whole(Vec<u8>),
    /// Too long, and left out: so many bytes.
    Long(u64),
}

/// Splits what is read, in whatever pieces it comes.
#[derive(Debug)]
pub(super) struct Splitter {
    most: usize,
    /// The line that has not ended.
    kept: Vec<u8>,
    /// The bytes of a line that is too long; zero while it is not.
    left_out: u64,
}

impl Splitter {
    pub(super) const fn new(most: usize) -> Self {
        Self { most, kept: Vec::new(), left_out: 0 }
    }

    /// The lines that ended in this piece. Empty ones are none.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut rest = piece;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at(end);
            self.keep(line);
            lines.extend(self.end());
            rest = after.get(1..).unwrap_or_default();
        }
        self.keep(rest);
        lines
    }

    /// What is left when nothing more comes: a line without an end.
    pub(super) fn end(&mut self) -> Option<Line> {
        let left_out = std::mem::take(&mut self.left_out);
        // Not `clear`: one long line must not hold its memory for ever.
        let kept = std::mem::take(&mut self.kept);
        match left_out {
            0 if kept.iter().all(u8::is_ascii_whitespace) => None,
            0 => Some(Line::Whole(kept)),
            bytes => Some(Line::Long(bytes)),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.left_out == 0 && self.kept.len() + bytes.len() <= self.most {
            self.kept.extend_from_slice(bytes);
            return;
        }
        let so_far = std::mem::take(&mut self.kept).len() as u64;
        self.left_out += so_far + bytes.len() as u64;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the splitter has to give, the plain way.
    fn expected(text: &[u8], most: usize) -> Vec<Line> {
        let lines = text.split(|byte| *byte == b'\n');
        lines
            .filter(|line| line.len() > most || !line.iter().all(u8::is_ascii_whitespace))
            .map(|line| match line.len() <= most {
                true => Line::Whole(line.to_vec()),
                false => Line::Long(line.len() as u64),
            })
            .collect()
    }

    proptest! {
        #[test]
        fn lines_are_the_same_in_whatever_pieces_they_come(
            text in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), Just(b' '), any::<u8>()], 0..400),
            cuts in prop::collection::vec(0usize..40, 0..40),
            most in 1usize..20,
        ) {
            let mut splitter = Splitter::new(most);
            let mut lines = Vec::new();
            let mut rest = text.as_slice();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                lines.extend(splitter.push(piece));
                prop_assert!(splitter.kept.len() <= most);
                rest = after;
            }
            lines.extend(splitter.push(rest));
            lines.extend(splitter.end());
            prop_assert_eq!(lines, expected(&text, most));
        }
    }

    #[test]
    fn flaw_24_a_line_without_an_end_takes_no_memory() {
        let mut splitter = Splitter::new(MAX_LINE);
        let piece = vec![b'x'; 64 << 10];
        for _ in 0..1024 {
            assert!(splitter.push(&piece).is_empty());
            assert!(splitter.kept.capacity() <= 2 * MAX_LINE, "{}", splitter.kept.capacity());
        }
        assert_eq!(splitter.push(b"\n{}\n"), [Line::Long(64 << 20), Line::Whole(b"{}".to_vec())]);
        assert_eq!(splitter.end(), None);
    }
}
