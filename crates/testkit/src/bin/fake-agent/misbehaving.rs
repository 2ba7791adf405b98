//! What no agent should do.

use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use agent_client_protocol::Error;

use super::broken;
use super::script;
use super::script::Turn;

/// What is written at once of a long line, in bytes.
const PIECE: usize = 64 << 10;

impl Turn {
    pub(crate) async fn misbehave(&self, words: &[&str]) -> Result<(), Error> {
        match words {
            ["die", code, when @ ..] => {
                if when.contains(&"mid-perm") {
                    self.ask_and_leave()?;
                    // Until the question is written.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                eprintln!("fake-agent: dying as told");
                std::process::exit(code.parse().unwrap_or(1));
            }
            ["big-line", length] => self.big_line(script::size(length)).await,
            ["nonjson"] => {
                let lines = b"Loading...\n{\"not\": a message}\n[1, 2]\n\xff\xfe\n{}\n";
                self.shared.voice.raw(lines).await.map_err(broken)?;
                self.say("still here\n").await
            }
            ["fork-setsid"] => {
                // In a session of its own, deaf to TERM, with our output held open.
                let sleeper = Command::new("setsid")
                    .args(["--fork", "sh", "-c", "trap '' TERM; sleep 1000 & wait; sleep 1000"])
                    .stdin(Stdio::null())
                    .spawn();
                sleeper.map_err(broken)?.wait().map_err(broken)?;
                self.say("forked\n").await
            }
            _ => Ok(()),
        }
    }

    /// One line that is so long, and a short one after it.
    async fn big_line(&self, length: u64) -> Result<(), Error> {
        let voice = &self.shared.voice;
        let piece = "x".repeat(PIECE);
        let mut left = length;
        while left > 0 {
            let bytes = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            voice.raw(&piece.as_bytes()[..bytes]).await.map_err(broken)?;
            left -= bytes as u64;
        }
        voice.raw(b"\n").await.map_err(broken)?;
        self.say("after it\n").await
    }
}
