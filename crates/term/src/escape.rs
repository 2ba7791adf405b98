//! Strings that came from elsewhere, made safe to print: nothing in them moves a cursor, hides text
//! or turns its direction.

use std::fmt::Write;

/// `text` with what is dangerous or invisible escaped, at most `max_chars` characters long.
///
/// A text that does not fit ends in `…`, and never in half an escape.
#[must_use]
pub fn escape(text: &str, max_chars: usize) -> String {
    escape_bytes(text.as_bytes(), max_chars)
}

/// As [`escape`], for bytes that may not be UTF-8: those that are not show as `\xff`.
#[must_use]
pub fn escape_bytes(bytes: &[u8], max_chars: usize) -> String {
    let mut line = Line { text: String::new(), width: 0, fits_ellipsis: 0, max: max_chars };
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid().chars().try_for_each(|char| line.push_char(char));
        let all = valid.and_then(|()| {
            chunk.invalid().iter().try_for_each(|byte| line.push(&format!("\\x{byte:02x}")))
        });
        if all.is_err() {
            return line.cut();
        }
    }
    line.text
}

/// The escaped text so far, bounded in width.
struct Line {
    text: String,
    width: usize,
    /// Length in bytes of the part that leaves room for an ellipsis.
    fits_ellipsis: usize,
    max: usize,
}

/// The next piece does not fit.
struct Full;

impl Line {
    fn push_char(&mut self, char: char) -> Result<(), Full> {
        let mut shown = String::new();
        // Writing to a String cannot fail.
        let _ = match char {
            '\n' => shown.write_str("\\n"),
            '\r' => shown.write_str("\\r"),
            '\t' => shown.write_str("\\t"),
            '\0'..='\x1f' | '\x7f' => write!(shown, "\\x{:02x}", u32::from(char)),
            _ if is_unsafe(char) => write!(shown, "\\u{{{:x}}}", u32::from(char)),
            _ => shown.write_char(char),
        };
        self.push(&shown)
    }

    fn push(&mut self, piece: &str) -> Result<(), Full> {
        let width = self.width + piece.chars().count();
        if width > self.max {
            return Err(Full);
        }
        self.width = width;
        self.text.push_str(piece);
        if width < self.max {
            self.fits_ellipsis = self.text.len();
        }
        Ok(())
    }

    fn cut(mut self) -> String {
        self.text.truncate(self.fits_ellipsis);
        if self.max > 0 {
            self.text.push('…');
        }
        self.text
    }
}

/// C1 controls, direction controls, line separators, and characters that show nothing but carry text.
fn is_unsafe(char: char) -> bool {
    matches!(char,
        '\u{80}'..='\u{9f}'
        | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        | '\u{2028}' | '\u{2029}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_acts_on_a_terminal_is_shown_as_text() {
        let cases = [
            ("plain – ünï 🦀", "plain – ünï 🦀"),
            ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
            ("a\r\n\tb\x7f", "a\\r\\n\\tb\\x7f"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("abc\u{202e}txt.exe", "abc\\u{202e}txt.exe"),
            ("one\u{2028}two", "one\\u{2028}two"),
        ];
        for (from, to) in cases {
            assert_eq!(escape(from, 80), to);
        }
        assert_eq!(escape_bytes(b"a\xff\xfeb", 80), "a\\xff\\xfeb");
    }

    #[test]
    fn long_text_ends_in_an_ellipsis_and_never_in_half_an_escape() {
        assert_eq!(escape("12345", 5), "12345");
        assert_eq!(escape("123456", 5), "1234…");
        assert_eq!(escape("12\x1b6", 5), "12…");
        assert_eq!(escape("1\x1b\x1b", 5), "1…");
        assert_eq!(escape("anything", 0), "");
    }

    proptest! {
        #[test]
        fn nothing_dangerous_is_left_and_the_bound_holds(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
            max in 0usize..40,
        ) {
            let shown = escape_bytes(&bytes, max);
            prop_assert!(shown.chars().count() <= max);
            prop_assert!(!shown.chars().any(|char| char.is_control() || is_unsafe(char)));
        }
    }
}
