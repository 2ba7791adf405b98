//! Who a runner is and what it holds, as it says when it comes.

use serde::Deserialize;
use serde::Serialize;

use super::Epoch;
use super::MAX_PROMPTS;
use super::MAX_SESSIONS;
use super::RequestId;
use super::Seq;
use super::few;
use super::short;
use crate::ids::SessionId;
use crate::status::Status;
use crate::wire::WireError;

/// The longest text about a machine or a harness, in bytes.
const LONGEST_TEXT: usize = 256;
/// The longest path, as Linux has it.
const LONGEST_PATH: usize = 4096;
/// The most harnesses and directories.
const MAX_LISTED: usize = 64;

/// The first message of a runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The highest version it speaks.
    pub version: u16,
    /// Its build.
    pub build: String,
    /// Its machine.
    pub machine: Machine,
    /// What it can run.
    pub harnesses: Vec<Harness>,
    /// Where sessions may work; whatever is below is allowed as well.
    pub directories: Vec<String>,
    /// The sessions it holds, also those whose end the gateway has not acknowledged.
    pub sessions: Vec<Running>,
}

/// A machine, as people tell it from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Its host name.
    pub host: String,
    /// `linux`, `macos`, …
    pub os: String,
    /// `x86_64`, `aarch64`, …
    pub arch: String,
}

/// Something that a runner can run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Harness {
    /// Its name: `shell`, `claude`, …
    pub name: String,
    /// Whether its program was found.
    pub available: bool,
    /// The program's version, as it says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Why it is not available, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A session that a runner holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Which.
    pub session: SessionId,
    /// How often its agent was started.
    pub epoch: Epoch,
    /// The last event there is.
    pub head: Seq,
    /// Bytes of its terminal so far, where it has one.
    #[serde(default)]
    pub offset: u64,
    /// Where it stands.
    pub status: Status,
    /// What it still asks.
    pub asks: Vec<RequestId>,
}

impl Hello {
    /// Whether everything in it is as short as it may be.
    pub(super) fn check(&self) -> Result<(), WireError> {
        few("sessions", &self.sessions, MAX_SESSIONS)?;
        few("harnesses", &self.harnesses, MAX_LISTED)?;
        few("directories", &self.directories, MAX_LISTED)?;
        for text in [&self.build, &self.machine.host, &self.machine.os, &self.machine.arch] {
            short("a text of hello", text, LONGEST_TEXT)?;
        }
        for harness in &self.harnesses {
            let texts = [Some(&harness.name), harness.version.as_ref(), harness.note.as_ref()];
            for text in texts.into_iter().flatten() {
                short("a text of a harness", text, LONGEST_TEXT)?;
            }
        }
        for directory in &self.directories {
            short("a directory", directory, LONGEST_PATH)?;
        }
        for session in &self.sessions {
            few("open questions", &session.asks, MAX_PROMPTS)?;
        }
        Ok(())
    }
}
