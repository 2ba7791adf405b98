//! Command lines, recognised in what is typed at a terminal: best effort, for a first look.
//!
//! A model of a line editor is fed with what was typed and what was printed, and gives a line at each
//! Enter: typed, corrected, pasted, completed, taken from this terminal's own history. It knows nothing
//! of what reads the line: answers to a program's questions count as commands, and what an editor
//! searched for, or a line from a history file, is not seen. Programs that fill the screen are left out.
//!
//! Whoever types can mislead it. What was really typed and printed is in the recording.

use std::collections::VecDeque;
use std::io::BufRead;

use crate::cast::Code;
use crate::cast::HIDDEN;
use crate::cast::ReadError;
use crate::cast::Reader;
use crate::utf8::Decoder;

mod screen;

use screen::Printed;
use screen::Screen;

/// The longest command line, in characters; what is longer is cut.
pub const LONGEST: usize = 1024;

/// Lines of a terminal that the arrow keys find again.
const HISTORY: usize = 32;

/// Typed characters whose echo is looked for.
const ECHO: usize = 256;

/// Lines entered whose end has not been printed yet.
const OWED: u32 = 100;

/// The longest sequence of a key.
const LONGEST_KEY: usize = 16;

/// Collects the command lines of one terminal, or of a shell without one.
#[derive(Clone, Debug, Default)]
pub struct Commands {
    typed: Decoder,
    printed: Decoder,
    screen: Screen,
    key: Key,
    /// What stands in the line, and where the cursor is in it.
    line: Vec<char>,
    cursor: usize,
    /// Whether the line may be more than is known: then it is not told.
    unsure: bool,
    pasting: bool,
    /// What was cut last, to be put back.
    killed: Vec<char>,
    history: VecDeque<String>,
    /// How far back the arrow keys have gone.
    back: usize,
    /// After a Tab, what is printed beyond the echo completes the line.
    completing: bool,
    /// What was typed since something else was done to the line, and how much of it was printed.
    echo: VecDeque<char>,
    echoed: usize,
    /// Entered lines whose end is still to be printed: until then nothing printed is this line's.
    owed: u32,
    found: Vec<String>,
}

/// Where in a key's sequence typing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Key {
    #[default]
    Plain,
    /// After ESC.
    Escape,
    /// After ESC O.
    Application,
    /// After ESC [, with what came since.
    Control(String),
}

/// Tells `found` of the command lines in a recording: the one it was begun with, and where there was a
/// terminal or a shell, what was typed.
///
/// # Errors
/// When it cannot be read to its end; what was found until then has been told.
pub fn recorded(source: impl BufRead, found: &mut impl FnMut(&str)) -> Result<(), ReadError> {
    let reader = Reader::open(source)?;
    let header = reader.header();
    if let Some(command) = &header.command {
        found(command);
        if !header.env.contains_key("TERM") {
            return Ok(());
        }
    }
    let mut commands = Commands::default();
    for event in reader {
        let event = event?;
        match event.code {
            Code::Input => commands.input(event.data.as_bytes()),
            Code::Output => commands.output(event.data.as_bytes()),
            Code::Marker if event.data.starts_with(HIDDEN) => commands.hidden(),
            _ => {}
        }
        commands.take().iter().for_each(|line| found(line));
    }
    Ok(())
}

impl Commands {
    /// Something was typed.
    pub fn input(&mut self, bytes: &[u8]) {
        self.completing = false;
        if self.screen.is_full() {
            self.clear();
            return;
        }
        let mut typed = std::mem::take(&mut self.typed);
        typed.decode(bytes, &mut |text| text.chars().for_each(|char| self.key(char)));
        self.typed = typed;
    }

    /// Something was typed that is not to be known.
    pub fn hidden(&mut self) {
        self.clear();
    }

    /// Something was printed.
    pub fn output(&mut self, bytes: &[u8]) {
        let mut printed = std::mem::take(&mut self.printed);
        printed.decode(bytes, &mut |text| self.print_all(text));
        self.printed = printed;
    }

    fn print_all(&mut self, text: &str) {
        let mut rest = text;
        loop {
            // Of what is printed, nearly all is such text as nobody waits for.
            if !self.waits_for_text() {
                rest = rest.get(self.screen.plain(rest)..).unwrap_or_default();
            }
            let mut chars = rest.chars();
            let Some(char) = chars.next() else { return };
            self.print(char);
            rest = chars.as_str();
        }
    }

    /// Whether a character that is only text may mean something.
    fn waits_for_text(&self) -> bool {
        let is_echoed = self.echoed == self.echo.len();
        self.owed == 0 && (!is_echoed || self.completing)
    }

    /// The lines that were entered since this was last asked.
    pub fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.found)
    }

    fn print(&mut self, char: char) {
        let is_echoed = self.echoed == self.echo.len();
        match self.screen.print(char) {
            Printed::Nothing => {}
            Printed::NewLine if self.owed > 0 => {
                self.owed -= 1;
                self.echoed = 0;
            }
            Printed::Text(_) if self.owed > 0 => {}
            Printed::Text(char) if !is_echoed => {
                let expected = self.echo.get(self.echoed) == Some(&char);
                // A prompt may begin like the line does.
                let anew = usize::from(self.echo.front() == Some(&char));
                self.echoed = if expected { self.echoed + 1 } else { anew };
            }
            Printed::Text(char) if self.completing && self.cursor == self.line.len() => {
                self.insert(char);
            }
            Printed::Text(_) => {}
            // A list of what it might be, or the line drawn anew.
            Printed::NewLine | Printed::Moved if is_echoed => self.completing = false,
            Printed::NewLine | Printed::Moved => self.echoed = 0,
        }
    }

    fn key(&mut self, char: char) {
        match (std::mem::take(&mut self.key), char) {
            (Key::Plain, '\x1b') | (Key::Escape, '\x1b') => self.key = Key::Escape,
            (Key::Plain, char) if self.pasting => self.paste(char),
            (Key::Plain, char) => self.plain(char),
            (Key::Escape, '[') => self.key = Key::Control(String::new()),
            (Key::Escape, 'O') => self.key = Key::Application,
            (Key::Escape, char) => self.meta(char),
            (Key::Application, char) => self.control("", char),
            (Key::Control(sequence), char @ '@'..='~') => self.control(&sequence, char),
            (Key::Control(mut sequence), char) if sequence.len() < LONGEST_KEY => {
                sequence.push(char);
                self.key = Key::Control(sequence);
            }
            (Key::Control(_), _) => {}
        }
    }

    fn paste(&mut self, char: char) {
        match char {
            '\r' | '\n' => self.insert('\n'),
            '\t' => self.insert('\t'),
            char if char.is_control() => {}
            char => self.type_in(char),
        }
    }

    fn plain(&mut self, char: char) {
        match char {
            '\r' | '\n' => self.enter(),
            '\x7f' | '\x08' => self.rub_out(self.cursor.saturating_sub(1), self.cursor),
            '\t' => {
                self.completing = true;
            }
            '\x01' => self.cursor = 0,
            '\x02' => self.cursor = self.cursor.saturating_sub(1),
            // Also the end of input, where nothing stands.
            '\x04' => self.rub_out(self.cursor, self.cursor + 1),
            '\x05' => self.cursor = self.line.len(),
            '\x06' => self.cursor = (self.cursor + 1).min(self.line.len()),
            '\x0b' => self.kill(self.cursor, self.line.len()),
            '\x0e' => self.recall(self.back.saturating_sub(1)),
            '\x10' => self.recall(self.back + 1),
            '\x15' => self.kill(0, self.cursor),
            '\x17' => self.kill(self.word_before(char::is_whitespace), self.cursor),
            '\x19' => self.killed.clone().into_iter().for_each(|char| self.insert(char)),
            // What a search finds is not known here.
            '\x12' | '\x13' => self.unsure = true,
            // Given up, or stopped: nothing stands there any more.
            '\x03' | '\x07' | '\x1a' | '\x1c' => self.clear(),
            char if char.is_control() => {}
            char => self.type_in(char),
        }
    }

    /// A key with Alt, or after Escape.
    fn meta(&mut self, char: char) {
        let no_letter = |char: char| !char.is_alphanumeric();
        match char {
            'b' => self.cursor = self.word_before(no_letter),
            'f' => self.cursor = self.word_after(no_letter),
            'd' => self.kill(self.cursor, self.word_after(no_letter)),
            '\x7f' | '\x08' => self.kill(self.word_before(no_letter), self.cursor),
            // The last word of another line.
            '.' | '_' => self.unsure = true,
            _ => {}
        }
    }

    /// A key that sends a sequence.
    fn control(&mut self, sequence: &str, end: char) {
        match (sequence, end) {
            ("200", '~') => self.pasting = true,
            ("201", '~') => self.pasting = false,
            _ if self.pasting => {}
            (_, 'A') => self.recall(self.back + 1),
            (_, 'B') => self.recall(self.back.saturating_sub(1)),
            ("", 'C') => self.cursor = (self.cursor + 1).min(self.line.len()),
            ("", 'D') => self.cursor = self.cursor.saturating_sub(1),
            (_, 'C') => self.cursor = self.word_after(|char| !char.is_alphanumeric()),
            (_, 'D') => self.cursor = self.word_before(|char| !char.is_alphanumeric()),
            (_, 'H') | ("1" | "7", '~') => self.cursor = 0,
            (_, 'F') | ("4" | "8", '~') => self.cursor = self.line.len(),
            ("3", '~') => self.rub_out(self.cursor, self.cursor + 1),
            _ => {}
        }
    }

    fn type_in(&mut self, char: char) {
        if self.echo.len() == ECHO {
            self.echo.pop_front();
            self.echoed = self.echoed.saturating_sub(1);
        }
        self.echo.push_back(char);
        self.insert(char);
    }

    fn insert(&mut self, char: char) {
        if self.line.len() < LONGEST {
            self.line.insert(self.cursor.min(self.line.len()), char);
            self.cursor += 1;
        }
    }

    fn rub_out(&mut self, from: usize, to: usize) {
        let _gone = self.cut(from, to);
    }

    fn cut(&mut self, from: usize, to: usize) -> Vec<char> {
        let to = to.min(self.line.len());
        let from = from.min(to);
        self.cursor = from;
        self.echo_anew();
        self.line.drain(from..to).collect()
    }

    fn kill(&mut self, from: usize, to: usize) {
        let killed = self.cut(from, to);
        if !killed.is_empty() {
            self.killed = killed;
        }
    }

    /// Where the word before the cursor begins.
    fn word_before(&self, is_gap: impl Fn(char) -> bool) -> usize {
        let before = self.line.iter().take(self.cursor).rev();
        let gap = before.clone().take_while(|char| is_gap(**char)).count();
        let word = before.skip(gap).take_while(|char| !is_gap(**char)).count();
        self.cursor.saturating_sub(gap + word)
    }

    /// Where the word after the cursor ends.
    fn word_after(&self, is_gap: impl Fn(char) -> bool) -> usize {
        let after = self.line.iter().skip(self.cursor);
        let gap = after.clone().take_while(|char| is_gap(**char)).count();
        let word = after.skip(gap).take_while(|char| !is_gap(**char)).count();
        (self.cursor + gap + word).min(self.line.len())
    }

    /// Puts a line in place that was entered so many lines ago.
    fn recall(&mut self, back: usize) {
        let recalled = match back.checked_sub(1) {
            None => Some(Vec::new()),
            Some(index) => self.history.get(index).map(|line| line.chars().collect()),
        };
        match recalled {
            Some(line) => {
                self.unsure = false;
                self.line = line;
                self.cursor = self.line.len();
                self.back = back;
                self.echo_anew();
            }
            // A line of somebody's before, perhaps.
            None => self.unsure = true,
        }
    }

    fn enter(&mut self) {
        let line: String = self.line.iter().collect();
        let line = line.trim();
        if !line.is_empty() && !self.unsure {
            if self.history.front().is_none_or(|last| last != line) {
                self.history.truncate(HISTORY - 1);
                self.history.push_front(line.to_owned());
            }
            self.found.push(line.to_owned());
        }
        self.owed = (self.owed + 1).min(OWED);
        self.clear();
    }

    /// What was printed so far, and what comes of it still, is not looked at.
    fn echo_anew(&mut self) {
        self.echo.clear();
        self.echoed = 0;
    }

    fn clear(&mut self) {
        self.echo_anew();
        self.line.clear();
        self.cursor = 0;
        self.back = 0;
        self.unsure = false;
        self.pasting = false;
        self.key = Key::Plain;
    }
}

#[cfg(test)]
mod tests;
