//! What an agent's program says on standard error: for people, escaped, in pieces.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use sojourn_core::wire::relay::Event;
use sojourn_term::escape::escape_bytes;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use super::Sink;

/// What is read, and told, at once. Escaped it may be some times as long.
const READ: usize = 16 << 10;

/// The longest line that is remembered for an error, in characters.
const MAX_LAST: usize = 300;

/// The last line that was said, for the error of a program that ended.
#[derive(Clone, Default)]
pub(super) struct Last(Arc<Mutex<String>>);

impl Last {
    pub(super) fn line(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, text: &str) {
        if let Some(line) = text.lines().rfind(|line| !line.trim().is_empty()) {
            let line = line.chars().take(MAX_LAST).collect();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = line;
        }
    }
}

/// Tells what comes until nothing more does.
pub(super) async fn read(
    mut stderr: Box<dyn AsyncRead + Send + Unpin>,
    sink: Arc<dyn Sink>,
    last: Last,
    hang_up: CancellationToken,
) {
    let mut buffer = vec![0; READ];
    loop {
        let count = tokio::select! {
            read = stderr.read(&mut buffer) => read.unwrap_or(0),
            () = hang_up.cancelled() => return,
        };
        if count == 0 {
            return;
        }
        sink.printed(count as u64);
        let text = lines(buffer.get(..count).unwrap_or_default());
        last.set(&text);
        tokio::select! {
            told = sink.emit(Event::Stderr { text }) => if told.is_err() { return },
            () = hang_up.cancelled() => return,
        }
    }
}

/// Escapes everything but the ends of lines.
fn lines(bytes: &[u8]) -> String {
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines: Vec<String> = lines
        .map(|line| escape_bytes(line.strip_suffix(b"\r").unwrap_or(line), usize::MAX))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_acts_on_a_terminal_is_left() {
        let told = lines(b"one\r\n\x1b[31mred\x07\xff\n");
        assert_eq!(told, "one\n\\x1b[31mred\\x07\\xff\n");
        let last = Last::default();
        last.set(&told);
        assert_eq!(last.line(), "\\x1b[31mred\\x07\\xff");
    }

    #[test]
    fn the_worst_piece_fits_an_event() {
        let worst = lines("\u{200b}".repeat(READ / 3).as_bytes());
        assert!(Event::Stderr { text: worst }.fits());
        assert!(Event::Stderr { text: lines(&[0xff; READ]) }.fits());
    }
}
