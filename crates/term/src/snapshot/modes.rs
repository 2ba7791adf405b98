//! The modes that programs set and the emulator does not keep, and where they clear the screen.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The longest parameters of a sequence that are looked at.
const LONGEST: usize = 64;

/// Private modes that the emulator knows nothing of: mouse, focus, paste, the cursor's blinking.
const TERMINALS: [u16; 12] = [9, 12, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 2004];

/// Private modes that it does know, for one that begins in the midst of a recording: cursor keys,
/// origin, wrapping, the cursor.
const EMULATORS: [u16; 4] = [1, 6, 7, 25];

/// Ways to say "the other screen".
const ALTERNATE: [u16; 3] = [47, 1047, 1049];

/// What is known of a terminal's modes.
#[derive(Clone, Debug, Default)]
pub(super) struct Modes {
    state: State,
    params: String,
    /// Modes that are not as they are at first.
    private: BTreeMap<u16, bool>,
    alternate: bool,
    margins: Option<String>,
    keypad: bool,
    shape: Option<String>,
    keys: Option<String>,
    /// The cursor is in the first place, and nothing was printed there yet.
    home: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    Control,
    /// A sequence too long to be one of ours.
    Other,
}

impl Modes {
    /// Looks at what is printed. Whether it cleared the whole screen.
    pub(super) fn feed(&mut self, text: &str) -> bool {
        let mut cleared = false;
        let mut rest = text;
        loop {
            if self.state == State::Ground {
                let Some(at) = rest.find('\x1b') else {
                    self.home &= rest.is_empty();
                    return cleared;
                };
                self.home &= at == 0;
                self.state = State::Escape;
                rest = rest.get(at + 1..).unwrap_or_default();
            }
            let mut chars = rest.chars();
            let Some(c) = chars.next() else { return cleared };
            rest = chars.as_str();
            cleared |= self.step(c);
        }
    }

    fn step(&mut self, c: char) -> bool {
        match (self.state, c) {
            (_, '\x1b') => self.state = State::Escape,
            (State::Escape, '[') => {
                self.state = State::Control;
                self.params.clear();
            }
            (State::Escape, _) => {
                self.state = State::Ground;
                self.home = false;
                return self.escape(c);
            }
            (State::Control, '\x40'..='\x7e') => {
                self.state = State::Ground;
                let params = std::mem::take(&mut self.params);
                let cleared = self.control(&params, c);
                self.params = params;
                return cleared;
            }
            (State::Control, ' '..='?') if self.params.len() < LONGEST => self.params.push(c),
            (State::Control, ' '..='?') => self.state = State::Other,
            (State::Other, '\x40'..='\x7e') => self.state = State::Ground,
            // A control character in the midst of a sequence acts, and the sequence goes on.
            _ => {}
        }
        false
    }

    fn escape(&mut self, c: char) -> bool {
        match c {
            '=' => self.keypad = true,
            '>' => self.keypad = false,
            'c' => {
                *self = Self::default();
                return true;
            }
            _ => {}
        }
        false
    }

    fn control(&mut self, params: &str, last: char) -> bool {
        let was_home = std::mem::take(&mut self.home);
        match (params, last) {
            ("", 'H') | ("1;1", 'H') | ("1", 'H') | (";", 'H') => self.home = true,
            ("2", 'J') => {
                self.home = was_home;
                return true;
            }
            ("" | "0", 'J') if was_home => return true,
            ("!", 'p') => {
                for mode in EMULATORS {
                    self.private.remove(&mode);
                }
                (self.keypad, self.margins) = (false, None);
            }
            (_, 'r') if params.chars().all(|c| c.is_ascii_digit() || c == ';') => {
                self.margins = (!params.is_empty()).then(|| params.to_owned());
            }
            (_, 'h' | 'l') => {
                if let Some(modes) = params.strip_prefix('?') {
                    return self.private(modes, last == 'h');
                }
            }
            (_, 'q') => {
                if let Some(shape) = params.strip_suffix(' ') {
                    self.shape = number(shape);
                }
            }
            (_, 'm') => {
                if let Some(level) = params.strip_prefix(">4") {
                    self.keys = level.strip_prefix(';').and_then(number);
                }
            }
            _ => {}
        }
        false
    }

    fn private(&mut self, modes: &str, set: bool) -> bool {
        let mut cleared = false;
        for mode in modes.split(';').filter_map(|mode| mode.parse::<u16>().ok()) {
            if ALTERNATE.contains(&mode) {
                self.alternate = set;
                cleared |= set && mode == 1049;
            } else if TERMINALS.contains(&mode) || EMULATORS.contains(&mode) {
                self.private.insert(mode, set);
            }
        }
        cleared
    }

    /// What sets up an emulator that begins here.
    pub(super) fn for_an_emulator(&self) -> String {
        let mut text = String::new();
        if self.alternate {
            text.push_str("\x1b[?1049h");
        }
        if let Some(margins) = &self.margins {
            let _written = write!(text, "\x1b[{margins}r");
        }
        self.write(&EMULATORS, &mut text);
        text
    }

    /// What sets up a terminal, besides what the emulator says.
    pub(super) fn for_a_terminal(&self) -> String {
        let mut text = String::new();
        self.write(&TERMINALS, &mut text);
        if self.keypad {
            text.push_str("\x1b=");
        }
        if let Some(shape) = &self.shape {
            let _written = write!(text, "\x1b[{shape} q");
        }
        if let Some(level) = &self.keys {
            let _written = write!(text, "\x1b[>4;{level}m");
        }
        text
    }

    fn write(&self, which: &[u16], text: &mut String) {
        for mode in which {
            if let Some(set) = self.private.get(mode) {
                let last = if *set { 'h' } else { 'l' };
                let _written = write!(text, "\x1b[?{mode}{last}");
            }
        }
    }
}

/// A short number as it was written.
fn number(text: &str) -> Option<String> {
    let is_one = (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_one.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(pieces: &[&str]) -> (Modes, bool) {
        let mut modes = Modes::default();
        let cleared = pieces.iter().fold(false, |cleared, piece| modes.feed(piece) | cleared);
        (modes, cleared)
    }

    #[test]
    fn modes_are_kept_wherever_they_are_cut() {
        let text = "\x1b[?1049h\x1b[?1;2004h\x1b[?1006;1000h\x1b=\x1b[2 q\x1b[>4;2m\x1b[?1000l";
        for at in 0..=text.len() {
            let (left, right) = text.split_at(at);
            let (modes, cleared) = after(&[left, right]);
            assert!(cleared, "at {at}");
            assert_eq!(
                modes.for_a_terminal(),
                "\x1b[?1000l\x1b[?1006h\x1b[?2004h\x1b=\x1b[2 q\x1b[>4;2m",
                "at {at}"
            );
            assert_eq!(modes.for_an_emulator(), "\x1b[?1049h\x1b[?1h", "at {at}");
        }
    }

    #[test]
    fn a_screen_is_cleared_in_more_than_one_way() {
        for clears in ["\x1b[2J", "a\x1b[H\x1b[J", "\x1b[1;1H\x1b[0J", "\x1bc", "\x1b[?25;1049h"] {
            assert!(after(&[clears]).1, "{clears:?}");
        }
        for other in ["\x1b[J", "\x1b[Ha\x1b[J", "\x1b[1J", "\x1b[?1049l", "\x1b[2;1H\x1b[J"] {
            assert!(!after(&[other]).1, "{other:?}");
        }
    }

    #[test]
    fn a_reset_forgets_and_hostile_sequences_do_nothing() {
        let (modes, _) = after(&["\x1b[?2004h\x1b=\x1bc"]);
        assert_eq!(modes.for_a_terminal(), "");
        let endless = format!("\x1b[?{}h\x1b[?2004h", "1;".repeat(1000));
        assert_eq!(after(&[&endless]).0.for_a_terminal(), "\x1b[?2004h");
        let (modes, _) =
            after(&["\x1b[\u{9b}5 q\x1b[999 q\x1b[>4;x\x07m\x1b[?99999h\x1b[1;\x1b[r"]);
        assert_eq!((modes.for_a_terminal(), modes.for_an_emulator()), Default::default());
    }
}
