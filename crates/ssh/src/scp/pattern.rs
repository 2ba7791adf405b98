//! One part of a path as a shell's pattern: `*`, `?` and `[…]`.

/// A part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Letter(u8),
    /// `?`
    One,
    /// `*`
    Many,
    /// `[…]`: ranges, and whether it is those or all others.
    Among(Vec<(u8, u8)>, bool),
}

impl Pattern {
    /// Letters, each with whether it stands for itself.
    pub(super) fn new(letters: &[(u8, bool)]) -> Self {
        let mut pieces = Vec::with_capacity(letters.len());
        let mut rest = letters;
        while let [first, after @ ..] = rest {
            rest = after;
            pieces.push(match first {
                (b'*', false) => Piece::Many,
                (b'?', false) => Piece::One,
                (b'[', false) => match among(after) {
                    Some((piece, after)) => {
                        rest = after;
                        piece
                    }
                    None => Piece::Letter(b'['),
                },
                (letter, _) => Piece::Letter(*letter),
            });
        }
        Self(pieces)
    }

    /// The name, where it can be but one.
    pub(super) fn literal(&self) -> Option<Vec<u8>> {
        let letter = |piece: &Piece| match piece {
            Piece::Letter(letter) => Some(*letter),
            _ => None,
        };
        self.0.iter().map(letter).collect()
    }

    /// Whether a name fits. Hidden ones only fit where their dot is written.
    pub(super) fn fits(&self, name: &[u8]) -> bool {
        if name.starts_with(b".") && self.0.first() != Some(&Piece::Letter(b'.')) {
            return false;
        }
        let (mut piece, mut at) = (0, 0);
        // The last `*`, and up to where it stands for what is there.
        let mut star: Option<(usize, usize)> = None;
        while at < name.len() {
            let fits = match (self.0.get(piece), name.get(at)) {
                (Some(Piece::Many), _) => {
                    star = Some((piece, at));
                    piece += 1;
                    continue;
                }
                (Some(piece), Some(letter)) => piece.fits(*letter),
                _ => false,
            };
            match (fits, star) {
                (true, _) => (piece, at) = (piece + 1, at + 1),
                (false, Some((many, to))) => {
                    star = Some((many, to + 1));
                    (piece, at) = (many + 1, to + 1);
                }
                (false, None) => return false,
            }
        }
        self.0.iter().skip(piece).all(|piece| *piece == Piece::Many)
    }
}

impl Piece {
    fn fits(&self, letter: u8) -> bool {
        match self {
            Self::Letter(own) => *own == letter,
            Self::One | Self::Many => true,
            Self::Among(ranges, among) => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&letter)) == *among
            }
        }
    }
}

/// What is between brackets, and what comes behind them.
fn among(letters: &[(u8, bool)]) -> Option<(Piece, &[(u8, bool)])> {
    let (among, letters) = match letters {
        [(b'!' | b'^', false), rest @ ..] => (false, rest),
        _ => (true, letters),
    };
    // A bracket that comes first is one of those meant.
    let inner = letters.get(1..)?;
    let end = 1 + inner.iter().position(|(letter, quoted)| *letter == b']' && !quoted)?;
    let (set, rest) = (letters.get(..end)?, letters.get(end + 1..)?);
    let mut ranges = Vec::new();
    let mut set = set;
    while let [(from, _), after @ ..] = set {
        match after {
            [(b'-', false), (to, _), after @ ..] => {
                ranges.push((*from, *to));
                set = after;
            }
            _ => {
                ranges.push((*from, *from));
                set = after;
            }
        }
    }
    Some((Piece::Among(ranges, among), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, name: &str) -> bool {
        let letters: Vec<(u8, bool)> = pattern.bytes().map(|byte| (byte, false)).collect();
        Pattern::new(&letters).fits(name.as_bytes())
    }

    #[test]
    fn patterns_fit_as_in_a_shell() {
        for (pattern, name) in [
            ("*", "a"),
            ("*.txt", "a.txt"),
            ("a*b*c", "axxbyybc"),
            ("?", "x"),
            ("[abc]", "b"),
            ("[a-c]x", "bx"),
            ("[!a-c]", "d"),
            ("[]]", "]"),
            ("[", "["),
            (".*", ".hidden"),
            ("a**", "a"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("*", ".hidden"), ("?", ""), ("?", "ab"), ("[!a]", "a"), ("*.txt", "txt"), ("a", "")]
        {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_is_answered_in_time(pattern in "[*?a\\[\\]-]{0,40}", name in "a{0,200}") {
            let _ = fits(&pattern, &name);
        }
    }
}
