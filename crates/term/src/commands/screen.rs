//! As much of a terminal's screen as one has to know to tell text from what moves it, and whether a
//! program has taken all of it.

use crate::utf8::run;

/// The longest sequence that is looked at.
const LONGEST: usize = 32;

/// The longest title, or other string to the terminal; behind that, it is text again.
const LONGEST_STRING: usize = 4096;

const ESC: char = '\x1b';

/// What a terminal prints.
#[derive(Clone, Debug, Default)]
pub(super) struct Screen {
    state: State,
    /// Whether the other screen is shown, as editors and pagers do.
    full: bool,
}

#[derive(Clone, Debug, Default)]
enum State {
    #[default]
    Text,
    Escape,
    Sequence(String),
    String(usize),
    StringEscape(usize),
}

/// What one character came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Printed {
    /// It stands where the cursor was.
    Text(char),
    /// A line ended.
    NewLine,
    /// The cursor may be anywhere now.
    Moved,
    /// Nothing to be seen.
    Nothing,
}

impl Screen {
    /// Whether a program has the whole screen.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }

    /// The length of what `text` begins with that is text and nothing else.
    pub(super) fn plain(&self, text: &str) -> usize {
        // All controls beyond ASCII begin with C2, as some text does, which is looked at one by one.
        let is_plain = |byte| byte >= 0x20 && byte != 0x7f && byte != 0xc2;
        match self.state {
            State::Text => run(text.as_bytes(), is_plain),
            _ => 0,
        }
    }

    pub(super) fn print(&mut self, char: char) -> Printed {
        match (std::mem::take(&mut self.state), char) {
            (State::Text, ESC) => self.go(State::Escape),
            (State::Text, '\x07' | '\0') => Printed::Nothing,
            (State::Text, '\n') => Printed::NewLine,
            (State::Text, char) if char.is_control() => Printed::Moved,
            (State::Text, char) => Printed::Text(char),
            (State::Escape, '[') => self.go(State::Sequence(String::new())),
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => self.go(State::String(0)),
            (State::Escape, _) => Printed::Moved,
            (State::Sequence(sequence), '@'..='~') => self.sequence(&sequence, char),
            (State::Sequence(mut sequence), char) if sequence.len() < LONGEST => {
                sequence.push(char);
                self.go(State::Sequence(sequence))
            }
            (State::Sequence(_), _) => Printed::Moved,
            (State::String(_), '\x07') => Printed::Nothing,
            (State::String(seen), ESC) => self.go(State::StringEscape(seen)),
            (State::StringEscape(_), '\\') => Printed::Nothing,
            (State::String(seen) | State::StringEscape(seen), _) if seen < LONGEST_STRING => {
                self.go(State::String(seen + 1))
            }
            (State::String(_) | State::StringEscape(_), _) => Printed::Nothing,
        }
    }

    fn go(&mut self, state: State) -> Printed {
        self.state = state;
        Printed::Nothing
    }

    fn sequence(&mut self, sequence: &str, end: char) -> Printed {
        let other_screen = matches!(sequence, "?1049" | "?1047" | "?47");
        match end {
            'h' | 'l' if other_screen => {
                self.full = end == 'h';
                Printed::Moved
            }
            // Modes and colours move nothing.
            'h' | 'l' | 'm' => Printed::Nothing,
            _ => Printed::Moved,
        }
    }
}
