//! The clock of a gateway that a test moves.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::path::PathBuf;

use crate::PATIENCE;
use crate::until;

/// Moves the time of one gateway. Its sessions' shims have the machine's.
#[derive(Debug)]
pub struct Clock(PathBuf);

impl Clock {
    pub(crate) fn at(socket: &Path) -> Self {
        Self(socket.to_owned())
    }

    /// Moves time on, as in `29m59s999ms`.
    ///
    /// # Panics
    /// When the clock does not answer.
    #[track_caller]
    pub fn advance(&self, by: &str) {
        self.tell(&format!("advance {by}"));
    }

    /// Turns back the time people have; time that never jumps goes on.
    ///
    /// # Panics
    /// When the clock does not answer.
    #[track_caller]
    pub fn back(&self, by: &str) {
        self.tell(&format!("back {by}"));
    }

    /// Stops time: from now on it moves only by what a test adds.
    ///
    /// # Panics
    /// When the clock does not answer.
    #[track_caller]
    pub fn hold(&self) {
        self.tell("hold");
    }

    /// Lets time run again.
    ///
    /// # Panics
    /// When the clock does not answer.
    #[track_caller]
    pub fn go(&self) {
        self.tell("go");
    }

    /// The time it is, as people write it.
    ///
    /// # Panics
    /// When the clock does not answer.
    #[must_use]
    #[track_caller]
    pub fn now(&self) -> String {
        self.tell("now")
    }

    #[track_caller]
    fn tell(&self, command: &str) -> String {
        let mut stream =
            until("the clock's socket", PATIENCE, || UnixStream::connect(&self.0).ok());
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(format!("{command}\n").as_bytes()).expect("a command");
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).expect("an answer");
        assert!(!answer.is_empty() && !answer.starts_with("error"), "{command}: {answer}");
        answer.split(' ').next().unwrap_or_default().to_owned()
    }
}
