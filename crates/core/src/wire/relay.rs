//! Gateway ⇄ runner on another machine: what travels over the WebSocket that the runner dials.
//!
//! Text frames are JSON, one message each; binary frames are terminal bytes ([`Bytes`]). The runner
//! numbers what happens in a session, keeps it on its disk until the gateway has acknowledged it, and
//! sends it again after a break: each [`Sequenced`] event arrives exactly once, in order. Commands
//! carry an id of the gateway's; a runner that has seen one says so and does nothing, so a command
//! that was sent twice happens once.
//!
//! ```text
//!   runner                                        gateway
//!     │── hello {sessions: head, open prompts} ──▶  │
//!     │  ◀── welcome {have: the last stored} ───────│
//!     │── event 41, 42, 43 ──────────────────────▶  │  stored, then shown
//!     │  ◀── ack 43 ────────────────────────────────│
//!     │  ◀── command C ─────────────────────────────│
//!     │── receipt C: accepted ───────────────────▶  │
//! ```

mod command;
mod event;
mod hello;

#[cfg(test)]
mod tests;

use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

pub use command::Answer;
pub use command::Command;
pub use command::Decision;
pub use command::Launch;
pub use command::PermissionMode;
pub use command::Person;
pub use command::Rule;
pub use command::Used;
pub use event::Event;
pub use event::Held;
pub use event::MessageState;
pub use event::Outcome;
pub use event::Prompt;
pub use event::Question;
pub use event::Recovery;
pub use event::Sequenced;
pub use event::Step;
pub use event::StepState;
pub use event::Usage;
pub use hello::Harness;
pub use hello::Hello;
pub use hello::Machine;
pub use hello::Running;

use super::WireError;
use crate::ids::SessionId;

/// The version this build speaks. A gateway speaks the one before, too.
pub const VERSION: u16 = 1;

/// The longest text frame, in bytes; longer ones end the connection.
pub const MAX_FRAME: usize = 1 << 20;

/// The longest event body, in bytes of JSON. What an agent says beyond it is cut and marked where it
/// is born.
pub const MAX_EVENT: usize = 256 << 10;

/// The most bytes of a terminal in one binary frame.
pub const MAX_BYTES: usize = 64 << 10;

/// The most sessions a runner tells of.
pub const MAX_SESSIONS: usize = 256;

/// The most prompts of one session that wait for an answer.
pub const MAX_PROMPTS: usize = 32;

/// Both sides ping so often, in seconds.
pub const PING_SECONDS: u64 = 15;

/// A side that hears nothing at all for so long takes the connection for dead, in seconds.
pub const DEAD_SECONDS: u64 = 45;

/// The number of an event in its session, from 1.
pub type Seq = u64;

/// Counts the times a session's agent was started, from 1. What an agent asked in an earlier one can
/// not be answered any more.
pub type Epoch = u32;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Makes a new one.
            #[must_use]
            #[expect(clippy::new_without_default, reason = "each call gives another one")]
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }
    };
}

number! {
    /// Tells a command from every other; the gateway gives it, the runner remembers it.
    CommandId
}
number! {
    /// Tells a prompt or question from every other, whatever numbers its agent gives. The runner
    /// makes it.
    RequestId
}

/// Runner → gateway.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromRunner {
    /// The first message on a connection.
    Hello(Box<Hello>),
    /// Something happened in a session.
    Event(Box<Sequenced>),
    /// What became of a command.
    Receipt {
        /// Which.
        command: CommandId,
        /// What.
        outcome: Receipt,
    },
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
}

/// Gateway → runner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToRunner {
    /// The answer to hello.
    Welcome {
        /// The version that is spoken from here on.
        version: u16,
        /// Counts this runner's connections: what comes late from an older one is nothing.
        generation: u64,
        /// The most sessions it may run at the same time.
        max_sessions: u32,
        /// What the gateway has of the sessions the runner told of; of one that is not here it wants
        /// nothing, and the runner ends it.
        have: Vec<Stored>,
        /// No new session starts here for now.
        paused: bool,
    },
    /// Everything of a session up to this is stored: it need not be kept any longer.
    Ack(Stored),
    /// Send again from here: something is missing.
    Resend {
        /// Of which session.
        session: SessionId,
        /// The first that is wanted.
        from: Seq,
    },
    /// Do something.
    Command {
        /// Tells it from others.
        command: CommandId,
        /// In which session.
        session: SessionId,
        /// What.
        body: Box<Command>,
    },
    /// New sessions may start, or not.
    Pause {
        /// Not.
        paused: bool,
    },
    /// Are you there?
    Ping,
    /// Yes.
    Pong,
    /// The connection ends, and why: the runner need not come back when `for_good`.
    Refused {
        /// A stable word.
        code: String,
        /// A line for people.
        message: String,
        /// Coming again would be refused again.
        for_good: bool,
    },
}

/// How far a session is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Which.
    pub session: SessionId,
    /// The last event; 0 before the first.
    pub seq: Seq,
    /// Bytes of its terminal, where it has one.
    #[serde(default)]
    pub offset: u64,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Receipt {
    /// It is being done; what comes of it are events.
    Accepted,
    /// It was done before.
    Duplicate,
    /// It is not done.
    Rejected {
        /// A stable word.
        code: String,
        /// A line for people that says what to do.
        message: String,
    },
}

impl FromRunner {
    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(self)
    }

    /// Reads a text frame.
    ///
    /// # Errors
    /// When it is too long, or says nothing that is known.
    pub fn decode(frame: &str) -> Result<Self, WireError> {
        let message = decode(frame)?;
        match &message {
            Self::Hello(hello) => hello.check()?,
            Self::Event(event) => event.check()?,
            Self::Receipt { .. } | Self::Ping | Self::Pong => {}
        }
        Ok(message)
    }
}

impl ToRunner {
    /// As it travels.
    #[must_use]
    pub fn encode(&self) -> String {
        encode(self)
    }

    /// Reads a text frame.
    ///
    /// # Errors
    /// When it is too long, or says nothing that is known.
    pub fn decode(frame: &str) -> Result<Self, WireError> {
        decode(frame)
    }
}

fn encode<T: Serialize>(message: &T) -> String {
    // Nothing in these types can fail to be JSON: no map has keys that are no text.
    serde_json::to_string(message).unwrap_or_default()
}

fn decode<T: DeserializeOwned>(frame: &str) -> Result<T, WireError> {
    if frame.len() > MAX_FRAME {
        return Err(WireError::Long(frame.len()));
    }
    Ok(serde_json::from_str(frame)?)
}

/// Refuses a list that is longer than it may be.
fn few<T>(what: &str, items: &[T], most: usize) -> Result<(), WireError> {
    match items.len() <= most {
        true => Ok(()),
        false => Err(WireError::Malformed(format!("{} {what}; {most} is the most", items.len()))),
    }
}

/// Refuses a text that is longer than it may be, in bytes.
fn short(what: &str, text: &str, most: usize) -> Result<(), WireError> {
    match text.len() <= most {
        true => Ok(()),
        false => Err(WireError::Malformed(format!("{what} is longer than {most} bytes"))),
    }
}

/// Bytes of a terminal, in a binary frame: 16 bytes of session id, 8 of offset (big-endian), then the
/// bytes. From the runner they are output, to it they are input; input has no offset (zero).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes<'a> {
    /// Of which session.
    pub session: SessionId,
    /// Where the first of them stands in the terminal's output.
    pub offset: u64,
    /// What.
    pub bytes: &'a [u8],
}

/// The length of what stands before the bytes.
const HEADER: usize = 24;

impl<'a> Bytes<'a> {
    /// As they travel.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut frame = Vec::with_capacity(HEADER + self.bytes.len());
        frame.extend_from_slice(self.session.0.as_bytes());
        frame.extend_from_slice(&self.offset.to_be_bytes());
        frame.extend_from_slice(self.bytes);
        frame
    }

    /// Reads a binary frame.
    ///
    /// # Errors
    /// When it is too short or too long.
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let short = || WireError::Short { kind: 0, len: frame.len() };
        if frame.len() > HEADER + MAX_BYTES {
            return Err(WireError::Long(frame.len()));
        }
        let (session, rest) = frame.split_first_chunk::<16>().ok_or_else(short)?;
        let (offset, bytes) = rest.split_first_chunk::<8>().ok_or_else(short)?;
        Ok(Self {
            session: SessionId(Uuid::from_bytes(*session)),
            offset: u64::from_be_bytes(*offset),
            bytes,
        })
    }
}
