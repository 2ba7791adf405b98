//! What is typed, read by a thread of its own: a read that waits for a key cannot be called off.

use std::io;
use std::io::Read;

use tokio::sync::mpsc;

/// Ctrl-], which leaves the session.
const LEAVE: u8 = 0x1d;

/// The most that is read at once.
const PIECE: usize = 4096;

/// Pieces that wait to be sent: then the reader waits, and so does whoever pastes.
const WAITING: usize = 16;

/// What a person does.
pub(super) enum Key {
    /// They type.
    Typed(Vec<u8>),
    /// They leave.
    Leave,
    /// Nothing is typed any more; said once.
    Ended,
}

/// The keyboard.
pub(super) struct Keyboard {
    keys: mpsc::Receiver<Key>,
    has_ended: bool,
}

impl Keyboard {
    /// Reads standard input from now on. The thread ends with the process.
    pub(super) fn start() -> Self {
        let (typed, keys) = mpsc::channel(WAITING);
        std::thread::spawn(move || read(io::stdin().lock(), &typed));
        Self { keys, has_ended: false }
    }

    /// The next thing that is done. After standard input has ended nothing ever is.
    pub(super) async fn next(&mut self) -> Key {
        if self.has_ended {
            return std::future::pending().await;
        }
        let key = self.keys.recv().await;
        self.has_ended = key.is_none();
        key.unwrap_or(Key::Ended)
    }
}

fn read(mut input: impl Read, typed: &mpsc::Sender<Key>) {
    let mut piece = [0; PIECE];
    while let Ok(count @ 1..) = input.read(&mut piece) {
        let bytes = &piece[..count];
        let (bytes, leaves) = match bytes.iter().position(|byte| *byte == LEAVE) {
            Some(at) => (&bytes[..at], true),
            None => (bytes, false),
        };
        let told = bytes.is_empty() || typed.blocking_send(Key::Typed(bytes.to_vec())).is_ok();
        if leaves {
            let _gone = typed.blocking_send(Key::Leave);
        }
        if leaves || !told {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_before_leaving_is_sent_and_what_comes_after_is_not() {
        let (typed, mut keys) = mpsc::channel(4);
        read(&b"ls\r\x1dexit\r"[..], &typed);
        drop(typed);
        assert!(matches!(keys.blocking_recv(), Some(Key::Typed(bytes)) if bytes == b"ls\r"));
        assert!(matches!(keys.blocking_recv(), Some(Key::Leave)));
        assert!(keys.blocking_recv().is_none());
    }
}
