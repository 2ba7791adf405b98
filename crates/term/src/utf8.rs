//! Bytes to text, whatever the boundaries they arrive at: a character cut in two stays one character.
//!
//! The result is that of `String::from_utf8_lossy` over all of the bytes at once.

/// Longest incomplete character: a four-byte one that lacks its last byte.
const MAX_HELD: usize = 3;

/// Bytes looked at together.
const BLOCK: usize = 16;

const REPLACEMENT: &str = "\u{fffd}";

/// Decodes one stream, holding back a character that is not complete yet.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    held: [u8; MAX_HELD + 1],
    len: usize,
}

impl Decoder {
    /// Hands the text in `bytes` to `emit`, piece by piece; what is not UTF-8 becomes U+FFFD.
    pub fn decode(&mut self, bytes: &[u8], emit: &mut impl FnMut(&str)) {
        let rest = self.complete_held(bytes, emit);
        // Nearly always it is all text, and looking at it as a whole is many times as quick.
        if let Ok(text) = std::str::from_utf8(rest) {
            if !text.is_empty() {
                emit(text);
            }
            return;
        }
        let mut seen = 0;
        for chunk in rest.utf8_chunks() {
            if !chunk.valid().is_empty() {
                emit(chunk.valid());
            }
            seen += chunk.valid().len() + chunk.invalid().len();
            if chunk.invalid().is_empty() {
                continue;
            }
            if seen == rest.len() && is_incomplete(chunk.invalid()) {
                self.hold(chunk.invalid());
            } else {
                emit(REPLACEMENT);
            }
        }
    }

    /// Ends the stream: an incomplete character becomes U+FFFD.
    pub fn finish(&mut self, emit: &mut impl FnMut(&str)) {
        if self.len > 0 {
            self.len = 0;
            emit(REPLACEMENT);
        }
    }

    /// The bytes held back.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        self.held.get(..self.len).unwrap_or_default()
    }

    /// Number of bytes held back.
    #[must_use]
    pub fn held(&self) -> usize {
        self.len
    }

    /// Feeds the held character until it is whole or broken; returns the bytes it did not take.
    fn complete_held<'a>(&mut self, bytes: &'a [u8], emit: &mut impl FnMut(&str)) -> &'a [u8] {
        let mut rest = bytes;
        while self.len > 0 {
            let Some((&byte, after)) = rest.split_first() else { break };
            self.held[self.len] = byte;
            match std::str::from_utf8(&self.held[..=self.len]) {
                Ok(whole) => emit(whole),
                Err(error) if error.error_len().is_none() => {
                    self.len += 1;
                    rest = after;
                    continue;
                }
                // The byte does not continue the character, so it begins something of its own.
                Err(_) => {
                    self.len = 0;
                    emit(REPLACEMENT);
                    break;
                }
            }
            self.len = 0;
            rest = after;
        }
        rest
    }

    fn hold(&mut self, bytes: &[u8]) {
        self.held[..bytes.len()].copy_from_slice(bytes);
        self.len = bytes.len();
    }
}

/// How many bytes at the beginning are all such. Looked at in blocks without a way out of them, which
/// the compiler makes a few instructions of.
pub(crate) fn run(bytes: &[u8], is_such: impl Fn(u8) -> bool) -> usize {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let whole =
        blocks.iter().take_while(|block| block.iter().fold(true, |all, b| all & is_such(*b)));
    let begin = whole.count() * BLOCK;
    let rest = bytes.get(begin..).unwrap_or_default();
    begin + rest.iter().take_while(|byte| is_such(**byte)).count()
}

fn is_incomplete(bytes: &[u8]) -> bool {
    bytes.len() <= MAX_HELD
        && std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> String {
        let mut decoder = Decoder::default();
        let mut text = String::new();
        for chunk in chunks {
            decoder.decode(chunk, &mut |piece| text.push_str(piece));
        }
        decoder.finish(&mut |piece| text.push_str(piece));
        text
    }

    #[test]
    fn a_character_cut_anywhere_stays_whole() {
        for text in ["é", "€", "🦀", "a🦀b€"] {
            for cut in 0..=text.len() {
                let (left, right) = text.as_bytes().split_at(cut);
                assert_eq!(decode([left, right]), text, "cut at {cut}");
            }
        }
    }

    #[test]
    fn a_broken_character_does_not_swallow_its_successor() {
        assert_eq!(decode([&b"\xf0\x9f"[..], b"ok"]), "\u{fffd}ok");
        assert_eq!(decode([&b"\xf0\x9f"[..], "é".as_bytes()]), "\u{fffd}é");
        assert_eq!(decode([&b"\xe2\x82"[..]]), "\u{fffd}");
    }

    #[test]
    fn a_run_ends_where_the_first_other_byte_is() {
        for length in [0, 1, 15, 16, 17, 40] {
            for at in 0..length {
                let mut bytes = vec![b'a'; length];
                bytes[at] = b'\n';
                assert_eq!(run(&bytes, |byte| byte != b'\n'), at, "of {length}");
            }
            assert_eq!(run(&vec![b'a'; length], |byte| byte != b'\n'), length);
        }
    }

    fn mostly_text() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            "\\PC{0,4}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..4),
            proptest::collection::vec(0x80..=0xffu8, 0..4),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn chunking_never_changes_the_text(bytes in mostly_text(), size in 1usize..6) {
            prop_assert_eq!(decode(bytes.chunks(size)), String::from_utf8_lossy(&bytes));
        }
    }
}
