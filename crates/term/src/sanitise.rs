//! Takes out of terminal output what acts on the viewer rather than on the screen.
//!
//! Dropped: control strings (titles, clipboard, colours of the terminal, device and private strings),
//! everything that a terminal answers by typing (device attributes, status and mode reports, window
//! reports, keyboard queries, answerback), printing, window operations, keyboard protocols, and the
//! switch to another encoding. All else, text and screen control, passes. 8-bit forms count as their
//! 7-bit ones.
//!
//! A sequence passes only when it is complete and known to be harmless, so no cut between two pieces
//! changes the result.

/// Longest sequence that is looked at; a longer one is dropped. Real ones are far shorter.
const MAX_SEQUENCE: usize = 256;

/// Longest control string, in characters. What follows is shown, so that a string that never ends
/// cannot hide the rest of a recording.
const MAX_STRING: usize = 1 << 20;

const ESC: char = '\x1b';
const BEL: char = '\x07';
const ENQ: char = '\x05';
const CAN: char = '\x18';
const SUB: char = '\x1a';

/// Filters one stream of output.
#[derive(Clone, Debug, Default)]
pub struct Sanitiser {
    state: State,
    /// The sequence so far, without its introducer.
    sequence: String,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Text.
    #[default]
    Ground,
    /// After ESC, and the intermediate characters in `sequence`.
    Escape,
    /// In a control sequence, its parameters in `sequence`.
    Control,
    /// In a control sequence that is too long to be true.
    Overlong,
    /// In a control string.
    String { bell_ends: bool, seen: usize },
    /// After ESC in a control string: perhaps its end.
    StringEscape,
}

impl Sanitiser {
    /// Appends to `out` what of `text` may be shown.
    pub fn push(&mut self, text: &str, out: &mut String) {
        for char in text.chars() {
            self.step(char, out);
        }
    }

    fn step(&mut self, char: char, out: &mut String) {
        if let State::String { bell_ends, seen } = self.state {
            self.state = match char {
                ESC => State::StringEscape,
                CAN | SUB | '\u{9c}' => State::Ground,
                BEL if bell_ends => State::Ground,
                _ if seen >= MAX_STRING => State::Ground,
                _ => State::String { bell_ends, seen: seen + 1 },
            };
            return;
        }
        match char {
            ESC => self.enter(State::Escape),
            '\u{80}'..='\u{9f}' => self.eight_bit(char, out),
            ENQ => {}
            _ => match self.state {
                State::Ground | State::String { .. } => out.push(char),
                State::Escape => self.escape(char, out),
                State::Control | State::Overlong => self.control(char, out),
                State::StringEscape if char == '\\' => self.state = State::Ground,
                State::StringEscape => {
                    self.enter(State::Escape);
                    self.escape(char, out);
                }
            },
        }
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.sequence.clear();
    }

    fn enter_string(&mut self, bell_ends: bool) {
        self.enter(State::String { bell_ends, seen: 0 });
    }

    fn eight_bit(&mut self, char: char, out: &mut String) {
        self.enter(State::Ground);
        match char {
            '\u{9b}' => self.enter(State::Control),
            '\u{9d}' => self.enter_string(true),
            '\u{90}' | '\u{98}' | '\u{9e}' | '\u{9f}' => self.enter_string(false),
            // DECID is a query; ST ends a string that is not there.
            '\u{9a}' | '\u{9c}' => {}
            _ => out.push(char),
        }
    }

    fn escape(&mut self, char: char, out: &mut String) {
        match char {
            CAN | SUB => self.enter(State::Ground),
            // A terminal obeys a control character in the midst of a sequence, and goes on with it.
            '\0'..='\x1f' => out.push(char),
            ' '..='/' if self.sequence.len() < MAX_SEQUENCE => self.sequence.push(char),
            '[' if self.sequence.is_empty() => self.enter(State::Control),
            // `ESC k` is how screen and tmux take a title.
            ']' | 'k' if self.sequence.is_empty() => self.enter_string(char == ']'),
            'P' | 'X' | '^' | '_' if self.sequence.is_empty() => self.enter_string(false),
            '0'..='~' => {
                // `ESC Z` asks who the terminal is. `ESC %` leaves UTF-8, after which the second
                // byte of a harmless character may be an 8-bit control.
                let query = char == 'Z' && self.sequence.is_empty();
                if !query && !self.sequence.starts_with('%') {
                    out.push(ESC);
                    out.push_str(&self.sequence);
                    out.push(char);
                }
                self.enter(State::Ground);
            }
            _ => self.enter(State::Ground),
        }
    }

    fn control(&mut self, char: char, out: &mut String) {
        match char {
            CAN | SUB => self.enter(State::Ground),
            '\0'..='\x1f' => out.push(char),
            ' '..='?' if self.sequence.len() < MAX_SEQUENCE => self.sequence.push(char),
            ' '..='?' => self.state = State::Overlong,
            '@'..='~' => {
                if matches!(self.state, State::Control) && is_harmless(&self.sequence, char) {
                    out.push_str("\x1b[");
                    out.push_str(&self.sequence);
                    out.push(char);
                }
                self.enter(State::Ground);
            }
            // Terminals ignore DEL here; anything else cannot be part of a sequence.
            '\x7f' => {}
            _ => self.enter(State::Ground),
        }
    }
}

/// Whether a control sequence, given its parameters and final character, acts on the screen alone.
fn is_harmless(parameters: &str, last: char) -> bool {
    let private = parameters.chars().next().filter(|char| ('<'..='?').contains(char));
    let intermediate = parameters.chars().last().filter(|char| (' '..='/').contains(char));
    match (private, intermediate, last) {
        // Who are you: DA1, DA2, DA3.
        (_, _, 'c') => false,
        // How are you, where is the cursor: DSR. With `>` it sets a keyboard resource.
        (_, _, 'n') => false,
        // Which mode is set: DECRQM.
        (_, Some('$'), 'p') => false,
        // Which version: XTVERSION.
        (Some('>'), _, 'q') => false,
        // Window operations and reports. With an intermediate it changes a rectangle.
        (_, None, 't') => false,
        // Keyboard protocols: kitty's, and modifyOtherKeys.
        (Some(_), _, 'u') | (Some('>' | '?'), _, 'm') => false,
        // Graphics attributes: XTSMGRAPHICS.
        (Some('?'), _, 'S') => false,
        // Terminal parameters: DECREQTPARM, and keys: DECRQPKFM.
        (_, None | Some('+'), 'x') => false,
        // State reports: DECRQTSR, DECRQUPSS, DECRQPSR, DECRQDE; checksums: DECRQCRA.
        (_, Some('$' | '&'), 'u') | (_, Some('$'), 'w') | (_, Some('"'), 'v') => false,
        (_, Some('*'), 'y') => false,
        // Locator, colour stack and attribute reports: DECRQLP, XTREPORTCOLORS, XTREPORTSGR.
        (_, Some('\'' | '#'), '|') | (_, Some('#'), 'R') => false,
        // Media copy: prints.
        (_, _, 'i') => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sanitise(text: &str) -> String {
        let mut out = String::new();
        Sanitiser::default().push(text, &mut out);
        out
    }

    #[test]
    fn screen_control_passes_unchanged() {
        for text in [
            "plain ünï 🦀\r\n\t\x08\x07",
            "\x1b[1;38;2;10;20;30mcolour\x1b[m",
            "\x1b[?1049h\x1b[2J\x1b[H\x1b[?25l\x1b[3;7r\x1b[10;20H",
            "\x1b(0lqk\x1b(B\x1b7\x1b8\x1bM\x1b=\x1b#8\x1bc",
            "\x1b[2 q\x1b[!p\x1b[1;2;3;4$r\x1b[1;1;2;2;1$t\x1b[s\x1b[u\x1b[4:3m",
        ] {
            assert_eq!(sanitise(text), text);
        }
    }

    #[test]
    fn what_acts_on_the_viewer_is_dropped() {
        for text in [
            "\x1b]0;title\x07",
            "\x1b]52;c;cm0gLXJmIH4=\x1b\\",
            "\u{9d}52;c;AAAA\u{9c}",
            "\x1bP$q m\x1b\\",
            "\x1bP+q544e\u{9c}",
            "\x1b_Gi=1;AAAA\x1b\\",
            "\x1b^private\x1b\\",
            "\x1bXstart\x1b\\",
            "\u{90}+q\x1b\\",
            "\x1bktitle\x1b\\",
            "\x1b[c",
            "\x1b[>c",
            "\x1b[=0c",
            "\u{9b}c",
            "\x1bZ",
            "\u{9a}",
            "\x05",
            "\x1b[5n",
            "\x1b[6n",
            "\x1b[?6n",
            "\x1b[?996n",
            "\x1b[?1004$p",
            "\x1b[20$p",
            "\x1b[>q",
            "\x1b[>0q",
            "\x1b[18t",
            "\x1b[21t",
            "\x1b[?u",
            "\x1b[>1u",
            "\x1b[?4m",
            "\x1b[>4;2m",
            "\x1b[?1;1;0S",
            "\x1b[x",
            "\x1b[1*y",
            "\x1b[1$w",
            "\x1b[5i",
            "\x1b%@",
            "\x1b[#R",
        ] {
            assert_eq!(sanitise(&format!("a{text}b")), "ab", "{text:?}");
        }
    }

    #[test]
    fn tricks_to_smuggle_a_sequence_do_not_work() {
        let cases = [
            // A dropped piece must not leave an ESC that the next character completes.
            ("\x1b\x1b]0;x\x07b", "b"),
            ("\x1b\x18]0;x", "]0;x"),
            ("\x1b\n]0;x\x07b", "\nb"),
            ("\x1b[\x1b]0;x\x07b", "b"),
            ("\x1b[6\nn", "\n"),
            ("\x1b[6\x05n", ""),
            ("\x1bPabc\x1b]0;x\x07b", "b"),
            ("\x1bPabc\x1b[31mb", "\x1b[31mb"),
            ("\x1b[6é]n", "]n"),
            // BEL ends a title, and nothing else.
            ("\x1bPabc\x07still\x1b\\b", "b"),
        ];
        for (from, to) in cases {
            assert_eq!(sanitise(from), to, "{from:?}");
        }
        let long = format!("\x1b[{}mb", "1;".repeat(MAX_SEQUENCE));
        assert_eq!(sanitise(&long), "b");
    }

    #[test]
    fn a_string_that_never_ends_hides_only_so_much() {
        let text = format!("\x1b]0;{}evidence", "x".repeat(MAX_STRING));
        assert!(sanitise(&text).ends_with("evidence"));
    }

    fn terminal_output() -> impl Strategy<Value = String> {
        let piece = prop_oneof![
            "[\x1b\u{90}\u{98}\u{9b}-\u{9f}\x05\x07\x18\x1a\\[\\]P_X^k\\\\?>;$% 0-9a-zé\n]{1,3}",
            Just("\x1b".to_owned()),
            Just("\x1b[".to_owned()),
            Just("\x1b]".to_owned()),
            Just("\x1b\\".to_owned()),
            "\\PC{0,3}",
        ];
        proptest::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn chunking_never_changes_the_result(text in terminal_output(), size in 1usize..5) {
            let mut sanitiser = Sanitiser::default();
            let mut out = String::new();
            let chars: Vec<char> = text.chars().collect();
            for chunk in chars.chunks(size) {
                sanitiser.push(&chunk.iter().collect::<String>(), &mut out);
            }
            prop_assert_eq!(out, sanitise(&text));
        }

        #[test]
        fn no_control_string_and_no_query_comes_out(text in terminal_output()) {
            let out = sanitise(&text);
            for bad in ["\x1b]", "\x1bP", "\x1b_", "\x1b^", "\x1bX", "\x1bZ", "\x1b[c", "\x05"] {
                prop_assert!(!out.contains(bad), "{:?} in {:?}", bad, out);
            }
            let introducers = ['\u{90}', '\u{98}', '\u{9b}', '\u{9d}', '\u{9e}', '\u{9f}'];
            prop_assert!(!out.contains(introducers), "8-bit introducer in {:?}", out);
        }

        #[test]
        fn what_came_out_once_comes_out_again(text in terminal_output()) {
            let out = sanitise(&text);
            prop_assert_eq!(sanitise(&out), out);
        }
    }
}
