//! The terminal of whoever runs a command: its width, passwords, single keys.

use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::io::Write;
use std::time::Duration;
use std::time::Instant;

use rustix::event::PollFd;
use rustix::event::PollFlags;
use rustix::event::Timespec;
use rustix::event::poll;
use rustix::termios;
use rustix::termios::LocalModes;
use rustix::termios::OptionalActions;
use rustix::termios::OutputModes;
use rustix::termios::SpecialCodeIndex;
use rustix::termios::Termios;

use crate::failure::Failure;

/// What a terminal of unknown width is taken for.
const USUAL_WIDTH: usize = 80;

/// The longest password line, in bytes.
const LONGEST_LINE: u64 = 4096;

/// Control-C, which comes as a key while we take keys.
pub(crate) const INTERRUPT: u8 = 3;
/// Control-D.
const END: u8 = 4;
/// Control-H.
const BACKSPACE: u8 = 8;
/// Control-U.
const KILL: u8 = 21;
/// What most keyboards send for backspace.
const DELETE: u8 = 127;

/// Columns of the terminal on standard output.
pub(crate) fn width() -> usize {
    let size = termios::tcgetwinsize(io::stdout()).map(|size| usize::from(size.ws_col));
    size.ok().filter(|columns| *columns > 0).unwrap_or(USUAL_WIDTH)
}

/// Asks for a new password, twice, without showing it.
pub(crate) fn ask_new_password(name: &str) -> Result<String, Failure> {
    let mut keys = Keys::take().ok_or_else(|| {
        Failure::Usage(
            "there is no terminal to ask for a password; use --password-stdin or --no-password"
                .to_owned(),
        )
    })?;
    let first = keys.ask(&format!("Password for {name}: "))?;
    let second = keys.ask("Again: ")?;
    if first == second { Ok(first) } else { Err(Failure::refused("the two are not the same")) }
}

/// One line, without its end, as a password comes on standard input.
pub(crate) fn read_line(source: impl Read) -> Result<String, Failure> {
    let mut line = String::new();
    BufReader::new(source.take(LONGEST_LINE))
        .read_line(&mut line)
        .map_err(|error| Failure::refused(format!("the password cannot be read: {error}")))?;
    let whole = line.ends_with('\n');
    if !whole && line.len() as u64 >= LONGEST_LINE {
        return Err(Failure::refused("the password is longer than 4096 bytes"));
    }
    line.truncate(line.trim_end_matches(['\r', '\n']).len());
    Ok(line)
}

/// Single keys of the person at the terminal, without them being shown.
pub(crate) struct Keys {
    tty: File,
    before: Termios,
}

impl Keys {
    /// Takes the keyboard; none when there is no terminal.
    pub(crate) fn take() -> Option<Self> {
        let tty = OpenOptions::new().read(true).write(true).open("/dev/tty").ok()?;
        let before = termios::tcgetattr(&tty).ok()?;
        let mut after = before.clone();
        // Signals come as keys, so that nothing ends us while the terminal is like this.
        after.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
        after.output_modes.remove(OutputModes::OPOST);
        after.special_codes[SpecialCodeIndex::VMIN] = 1;
        after.special_codes[SpecialCodeIndex::VTIME] = 0;
        termios::tcsetattr(&tty, OptionalActions::Flush, &after).ok()?;
        Some(Self { tty, before })
    }

    /// The next key within `patience`; none when there was none. Without a patience it waits.
    pub(crate) fn next(&mut self, patience: Option<Duration>) -> io::Result<Option<u8>> {
        let end = patience.and_then(|patience| Instant::now().checked_add(patience));
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let mut wait = [PollFd::new(&self.tty, PollFlags::IN)];
            match poll(&mut wait, timeout.as_ref()) {
                Ok(0) => return Ok(None),
                Ok(_) => {
                    let mut key = [0];
                    let read = self.tty.read(&mut key)?;
                    return if read == 0 {
                        Err(io::ErrorKind::UnexpectedEof.into())
                    } else {
                        Ok(Some(key[0]))
                    };
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A line that is typed and not shown.
    fn ask(&mut self, prompt: &str) -> Result<String, Failure> {
        write!(self.tty, "{prompt}")?;
        let mut line = Vec::new();
        loop {
            match self.next(None)?.unwrap_or_default() {
                b'\r' | b'\n' => break,
                key @ (INTERRUPT | END) if key == INTERRUPT || line.is_empty() => {
                    write!(self.tty, "\r\n")?;
                    return Err(Failure::refused("nothing was changed"));
                }
                BACKSPACE | DELETE => drop_char(&mut line),
                KILL => line.clear(),
                key if line.len() as u64 <= LONGEST_LINE => line.push(key),
                _ => {}
            }
        }
        write!(self.tty, "\r\n")?;
        String::from_utf8(line).map_err(|_| Failure::refused("the password is not UTF-8 text"))
    }
}

/// The terminal on standard input, as it is when every key goes elsewhere; as before once this is
/// dropped.
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Takes it; none when there is no terminal.
    pub(crate) fn take() -> Option<Self> {
        let before = termios::tcgetattr(io::stdin()).ok()?;
        let mut after = before.clone();
        after.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Drain, &after).ok()?;
        Some(Self { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no order.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Takes the last character off a line of UTF-8.
fn drop_char(line: &mut Vec<u8>) {
    while let Some(byte) = line.pop() {
        if byte & 0b1100_0000 != 0b1000_0000 {
            return;
        }
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // A terminal that is gone needs no order.
        let _ = termios::tcsetattr(&self.tty, OptionalActions::Flush, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_one_line_without_its_end() {
        assert_eq!(read_line(&b"correct horse\r\nmore"[..]).unwrap(), "correct horse");
        assert_eq!(read_line(&b" kept as is "[..]).unwrap(), " kept as is ");
        assert_eq!(read_line(&b""[..]).unwrap(), "");
        assert!(read_line(vec![b'x'; 5000].as_slice()).is_err());
    }

    #[test]
    fn a_whole_character_is_taken_back() {
        let mut line = "aü".as_bytes().to_vec();
        drop_char(&mut line);
        assert_eq!(line, b"a");
        drop_char(&mut line);
        drop_char(&mut line);
        assert!(line.is_empty());
    }
}
