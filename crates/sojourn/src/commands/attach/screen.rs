//! What is shown: the session's output, each byte once, and our own lines between.

use std::io;
use std::io::IsTerminal;
use std::io::Write;

use sojourn_term::replay::RESTORE;
use sojourn_term::sanitise::Sanitiser;
use sojourn_term::utf8::Decoder;

/// Puts the terminal where a screen can be drawn on it.
const CLEAR: &[u8] = b"\x1bc";

/// The screen.
pub(super) struct Screen {
    /// The number of the next byte.
    next: Option<u64>,
    /// Keeps from this terminal what would act on it, where the session is somebody else's.
    filter: Option<(Decoder, Sanitiser)>,
    is_terminal: bool,
}

impl Screen {
    pub(super) fn new(filtered: bool) -> Self {
        let filter = filtered.then(Default::default);
        Self { next: None, filter, is_terminal: io::stdout().is_terminal() }
    }

    /// The number of the next byte that is wanted; none: whatever there is.
    pub(super) fn next_wanted(&self) -> Option<u64> {
        self.next
    }

    /// Shows output that came after so many bytes: what is not known yet of it.
    pub(super) fn output(&mut self, seq: u64, bytes: &[u8]) -> io::Result<()> {
        let end = seq.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let known = self.next.unwrap_or(seq).saturating_sub(seq);
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        self.next = Some(self.next.unwrap_or(0).max(end));
        match bytes.get(known..) {
            Some(new) if !new.is_empty() => self.show(new),
            _ => Ok(()),
        }
    }

    /// Draws a screen anew.
    pub(super) fn snapshot(&mut self, seq: u64, data: &str) -> io::Result<()> {
        self.next = Some(seq);
        if self.is_terminal {
            io::stdout().lock().write_all(CLEAR)?;
        }
        if let Some(filter) = &mut self.filter {
            *filter = Default::default();
        }
        self.show(data.as_bytes())
    }

    fn show(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match &mut self.filter {
            None => out.write_all(bytes)?,
            Some((decoder, sanitiser)) => {
                let mut shown = String::new();
                decoder.decode(bytes, &mut |text| sanitiser.push(text, &mut shown));
                out.write_all(shown.as_bytes())?;
            }
        }
        out.flush()
    }

    /// A line of ours, which is not the session's.
    pub(super) fn say(&self, line: &str) {
        // When nobody reads standard error there is nobody to tell.
        let _ = write!(io::stderr().lock(), "\r\nsojourn: {line}\r\n");
    }

    /// Leaves the terminal as it should be, whatever ran in it.
    pub(super) fn restore(&self) {
        if self.is_terminal && self.next.is_some() {
            let mut out = io::stdout().lock();
            let _ = write!(out, "{RESTORE}\r\n");
            let _ = out.flush();
        }
    }
}
