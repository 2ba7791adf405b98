//! Gateway ⇄ runner: numbered requests and their answers, and events nobody asked for. JSON, one
//! message a frame.
//!
//! A request *names* what it wants (a session, a profile); it never carries a path, a root file
//! system, a uid or a capability. So a gateway in the wrong hands gets from the runner what profiles
//! allow, and nothing of the host.

use serde::Deserialize;
use serde::Serialize;

use super::MAX_MESSAGE;
use super::WireError;
use super::shim::RecordingFacts;
use super::shim::Summary;
use crate::end::EndReason;
use crate::end::Exit;
use crate::ids::SessionId;
use crate::limits::Limits;
use crate::limits::Lower;
use crate::time::Wall;

/// The version this build speaks.
pub const VERSION: u16 = 1;

/// The most sessions in one [`Reply::Sessions`].
pub const PAGE: usize = 20;

/// What [`About::door`] is of a session that was started at the web door.
pub const WEB_DOOR: &str = "web";

/// The most authentication attempts that are told of a session.
pub const MAX_ATTEMPTS: usize = 32;

/// A request with the number its answer will carry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbered<T> {
    /// The number.
    pub id: u64,
    /// What.
    pub body: T,
}

/// Gateway → runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Request {
    /// The first request on a connection.
    Hello {
        /// [`VERSION`] of the gateway.
        version: u16,
        /// The gateway's build: a runner of another one leaves and lets its shims be.
        build: String,
    },
    /// Take a sandbox for a new session. Answered by [`Reply::Opened`] with the shim's connection as
    /// a descriptor.
    Open(Box<Open>),
    /// Connect to a session that runs. Answered by [`Reply::Attached`] with a descriptor.
    Attach {
        /// Which.
        session: SessionId,
    },
    /// What only the gateway knows, for the sidecar.
    Note {
        /// Of which session.
        session: SessionId,
        /// What.
        note: Note,
    },
    /// Kill a session whose shim does not answer.
    Kill {
        /// Which.
        session: SessionId,
    },
    /// The sessions the runner holds, those that ended unseen as well; at most [`PAGE`].
    List {
        /// Only those after this one.
        after: Option<SessionId>,
    },
    /// The end of this session is on record: its directory may go.
    Forget {
        /// Which.
        session: SessionId,
    },
    /// How full the pools are.
    Pools,
    /// A file to append a visitor's upload to, kept as evidence. Answered by [`Reply::Evidence`] with
    /// a descriptor.
    Evidence {
        /// Of which session.
        session: SessionId,
    },
    /// The recording of an agent's session on another machine, to append to: made, or opened again and
    /// cut to its last whole line. Answered by [`Reply::Recording`] with a descriptor.
    Record {
        /// Of which session.
        session: SessionId,
        /// Which of its recordings.
        channel: u16,
        /// When the session was begun: under that day it lies.
        created: Wall,
    },
    /// Nothing more is written to such a recording: it is measured, and the sidecar completed. Answered
    /// by [`Reply::Sealed`], or [`Reply::Unknown`] where there is no recording.
    Seal(Box<Sealing>),
    /// What a session left in its sandbox. Answered by [`Reply::Left`] with a descriptor to read,
    /// or by [`Reply::Unknown`] where nothing is kept.
    Left {
        /// Which session's.
        session: SessionId,
        /// In which form.
        form: LeftForm,
    },
    /// What the runner told of a session's remains is on record.
    Noted {
        /// Which session's.
        session: SessionId,
        /// What was told.
        what: Told,
    },
    /// Make the pool stop, end what runs (or leave it), and leave.
    Shutdown {
        /// Leave sessions running under their shims.
        leave: bool,
    },
}

/// What only the gateway knows of a session on another machine, for its sidecar. Texts are bounded by
/// the sender and shown escaped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealing {
    /// Which session.
    pub session: SessionId,
    /// Which of its recordings.
    pub channel: u16,
    /// When the session was begun.
    pub created: Wall,
    /// Who it was for.
    pub about: About,
    /// What ran.
    pub harness: String,
    /// The profile's name.
    pub profile: String,
    /// What it was allowed.
    pub limits: Limits,
    /// When it was first live.
    pub started_at: Option<Wall>,
    /// When everything of it was gone.
    pub ended_at: Wall,
    /// Why.
    pub reason: EndReason,
    /// How its program ended.
    pub exit: Option<Exit>,
    /// Who ended it.
    pub by: Option<String>,
    /// Why they said they did.
    pub why: Option<String>,
    /// Bytes that it printed.
    pub output_bytes: u64,
}

/// How what a session left is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftForm {
    /// A list: one JSON object a line.
    List,
    /// A tar with the files.
    Tar,
}

/// A session to open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Its id.
    pub session: SessionId,
    /// The profile's name.
    pub profile: String,
    /// Lower limits than the profile's.
    pub lower: Lower,
    /// Who it is for, for the recording's header and sidecar.
    pub about: About,
    /// Whether it is a honeypot's: all input is recorded, and nobody comes back to it.
    #[serde(default)]
    pub honeypot: bool,
}

/// Who a session is for and how they came. Texts are bounded by the sender and shown escaped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The user's name.
    pub user: String,
    /// `ssh` or `web`.
    pub door: String,
    /// The peer's address and port.
    pub peer: String,
    /// The client's version string.
    pub client: String,
    /// How they signed in, refused attempts too.
    pub attempts: Vec<Attempt>,
    /// When the connection was made.
    pub connected_at: Wall,
    /// The HASSH of an SSH client: MD5 of the algorithms it offers, in lower-case hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hassh: Option<String>,
}

/// One attempt to authenticate. Holds a password only where it was tried at a honeypot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When.
    pub at: Wall,
    /// `password`, `publickey`, `certificate`.
    pub method: String,
    /// The name tried.
    pub user: String,
    /// Whether it was let in.
    pub accepted: bool,
    /// The key's fingerprint, where it was a key.
    pub fingerprint: Option<String>,
    /// What was tried at a honeypot, escaped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// What only the gateway knows of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Note {
    /// Who ended it, and why they said they did.
    EndedBy {
        /// The person's name.
        by: String,
        /// Their reason.
        why: Option<String>,
    },
}

/// Where the making of a sandbox stood when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The profile is not known or cannot be used here.
    Profile,
    /// No more sandboxes fit.
    Capacity,
    /// The root file system or the writable layer.
    RootFs,
    /// The container itself.
    Container,
    /// Its pid 1 did not answer.
    Init,
    /// The recording or the session directory.
    Recording,
    /// It took longer than the spawn timeout.
    Timeout,
    /// The runner is not there.
    Runner,
    /// The container engine is not reachable.
    Engine,
    /// The image is missing or cannot be used.
    Image,
    /// The sandbox's network.
    Network,
}

impl Stage {
    /// The stage in words, as in "sandbox failed at stage …".
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Profile => "profile",
            Self::Capacity => "capacity",
            Self::RootFs => "root file system",
            Self::Container => "container",
            Self::Init => "init",
            Self::Recording => "recording",
            Self::Timeout => "spawn timeout",
            Self::Runner => "runner",
            Self::Engine => "container engine",
            Self::Image => "image",
            Self::Network => "network",
        }
    }
}

/// Runner → gateway, in answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// To a hello.
    Hello {
        /// [`VERSION`] of the runner.
        version: u16,
        /// The runner's build.
        build: String,
        /// A number that is another one each time the runner starts.
        epoch: u64,
        /// Its pid.
        pid: u32,
    },
    /// The session has its sandbox; a descriptor comes along.
    Opened {
        /// The sandbox's id.
        sandbox: String,
        /// Whether it came out of the pool.
        warm: bool,
        /// The recording's file below `recordings/`.
        recording: String,
    },
    /// The shim's connection comes along.
    Attached,
    /// It could not be had.
    Failed {
        /// Where.
        stage: Stage,
        /// What went wrong, in a line.
        message: String,
    },
    /// No such session here.
    Unknown,
    /// Sessions, oldest first.
    Sessions {
        /// At most [`PAGE`].
        items: Vec<Held>,
        /// Whether there are more.
        more: bool,
    },
    /// The pools.
    Pools {
        /// One a profile.
        items: Vec<PoolState>,
    },
    /// A file to append to comes along.
    Evidence {
        /// Its name below `kept/`.
        file: String,
        /// The most bytes it may get.
        most: u64,
    },
    /// A recording to append to comes along.
    Recording {
        /// Its file below `recordings/`.
        file: String,
        /// Events that are in it.
        events: u64,
        /// The time of the last one, in microseconds from its start.
        last_us: u64,
        /// Whether nothing is in it.
        is_new: bool,
    },
    /// A recording is complete.
    Sealed {
        /// What it is.
        recording: RecordingFacts,
    },
    /// What the session left comes along.
    Left {
        /// Its directory's name below `kept/`.
        name: String,
        /// Its length in bytes.
        bytes: u64,
    },
    /// Done; nothing to say.
    Done,
}

/// A session the runner holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its id.
    pub session: SessionId,
    /// The profile's name.
    pub profile: String,
    /// Who it is for.
    pub about: About,
    /// Its end, when it is over and the gateway has not said that it knows.
    pub ended: Option<Summary>,
}

/// How a pool stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolState {
    /// The profile.
    pub profile: String,
    /// Sandboxes wanted.
    pub wanted: usize,
    /// Sandboxes ready.
    pub ready: usize,
    /// Sandboxes being made.
    pub making: usize,
    /// Why the last one failed, while they do.
    pub failing: Option<String>,
}

/// Runner → gateway, unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A session's sandbox is gone from this machine.
    Released {
        /// Which session's.
        session: SessionId,
        /// What it was; none when its shim left no word.
        summary: Option<Summary>,
    },
    /// A pool changed.
    Pool(PoolState),
    /// What a session left in its sandbox is kept. Told again until it is [`Request::Noted`].
    Kept {
        /// Which session's.
        session: SessionId,
        /// The directory's name below `kept/`.
        name: String,
        /// How many files changed.
        files: u64,
        /// How many bytes of them are kept.
        bytes: u64,
        /// Whether a bound cut it short.
        truncated: bool,
    },
    /// Something kept is being removed because its time or room is over: when that is
    /// [`Request::Noted`], and not before.
    Removed {
        /// Of which session.
        session: SessionId,
        /// What.
        what: Removed,
        /// Why, in a few words.
        why: String,
    },
}

/// Something kept that was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removed {
    /// Its recordings and sidecar.
    Recording,
    /// What it left in its sandbox.
    Files,
}

/// What of a session's remains the runner told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    /// [`Event::Kept`].
    FilesKept,
    /// [`Event::Removed`] with [`Removed::Files`].
    FilesRemoved,
    /// [`Event::Removed`] with [`Removed::Recording`].
    RecordingRemoved,
}

/// Runner → gateway: an answer or an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FromRunner {
    /// An answer.
    Reply(Numbered<Reply>),
    /// An event.
    Event {
        /// What happened.
        event: Event,
    },
}

/// Writes a message.
///
/// # Errors
/// When it would be longer than [`MAX_MESSAGE`]: the sender has to say less.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MAX_MESSAGE { Err(WireError::Long(bytes.len())) } else { Ok(bytes) }
}

/// Reads a message.
///
/// # Errors
/// When it is too long or not one.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    if bytes.len() > MAX_MESSAGE {
        return Err(WireError::Long(bytes.len()));
    }
    Ok(serde_json::from_slice(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_went() {
        let request = Numbered {
            id: 3,
            body: Request::Open(Box::new(Open {
                session: SessionId::new(),
                profile: "default".to_owned(),
                lower: Lower::default(),
                about: About { user: "alice".to_owned(), ..About::default() },
                honeypot: false,
            })),
        };
        let bytes = encode(&request).unwrap();
        assert_eq!(decode::<Numbered<Request>>(&bytes).unwrap(), request);
        let answer = FromRunner::Reply(Numbered { id: 3, body: Reply::Unknown });
        assert_eq!(decode::<FromRunner>(&encode(&answer).unwrap()).unwrap(), answer);
        let event = FromRunner::Event {
            event: Event::Released { session: SessionId::new(), summary: None },
        };
        assert_eq!(decode::<FromRunner>(&encode(&event).unwrap()).unwrap(), event);
    }

    #[test]
    fn a_request_with_a_path_is_no_request() {
        let json = br#"{"id":1,"body":{"type":"mount","path":"/etc"}}"#;
        assert!(decode::<Numbered<Request>>(json).is_err());
    }
}
