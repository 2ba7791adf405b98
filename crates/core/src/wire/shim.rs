//! Gateway ⇄ shim: small binary frames, so that terminal bytes are passed on without being parsed.
//!
//! A frame is `kind: u8, channel: u16 (big-endian), payload`. Each side's first frame is a hello with
//! its version. Output and input are credited per channel: a sender spends [`cost`] of a frame and
//! waits at zero, so one slow reader never holds up another channel, and nothing queues unbounded.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::MAX_MESSAGE;
use super::MAX_PAYLOAD;
use super::Text;
use super::WireError;
use crate::end::EndReason;
use crate::end::Exit;
use crate::end::Limit;
use crate::ids::SessionId;
use crate::limits::Limits;
use crate::time::Wall;

pub use forward::Cookie;
pub use forward::Endpoint;
pub use forward::Greeting;
pub use forward::authority;

mod forward;
#[cfg(test)]
mod tests;

/// The version this build speaks. Since 2 a shim says how much a terminal has printed, and answers
/// [`ToShim::Locate`].
pub const VERSION: u16 = 2;

/// Bytes before the payload.
pub const HEADER: usize = 3;

/// What a frame costs beyond its bytes, so that many tiny frames are bounded too.
pub const FRAME_COST: u32 = 256;

/// The most channels one session may have had open at the same time.
pub const MAX_CHANNELS: usize = 64;

/// Credit for output that a gateway grants a channel at its start.
pub const OUTPUT_WINDOW: u32 = 512 * 1024;

/// Credit for input that a shim grants a channel at its start.
pub const INPUT_WINDOW: u32 = 256 * 1024;

/// What a data frame with so many bytes costs its sender.
#[must_use]
pub fn cost(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX).saturating_add(FRAME_COST)
}

/// Which of a channel's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The terminal, or standard output.
    Out,
    /// Standard error of a program without a terminal.
    Err,
}

/// A terminal's size in characters and pixels, as the client sent it: 0 is legal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
}

/// A terminal as a client asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pty {
    /// The TERM variable.
    pub term: Text,
    /// Its size at the start.
    pub size: WindowSize,
    /// Terminal modes: opcode and value of RFC 4254 section 8.
    pub modes: Vec<(u8, u32)>,
}

/// What runs in a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// The profile's command.
    Shell,
    /// A command line, run by the profile's shell with `-c`.
    Exec(Text),
    /// The file helper: frames of [`super::files`] over its standard input and output. Needs nothing
    /// in the image.
    Files,
    /// A connection made from inside. Its output begins with a [`Greeting`] line, then bytes flow.
    Connect(Endpoint),
    /// The next connection that the listener of this number takes. Its output begins with a
    /// [`Greeting`] line once one came, then bytes flow.
    Accept(u16),
}

/// Where a terminal stands whose person comes back: all that was printed before is in its recording
/// up to here, all that is printed later follows as output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    /// The recording's file, below `recordings/`.
    pub file: String,
    /// How many of its bytes come before the output that follows.
    pub offset: u64,
    /// The terminal's size.
    pub size: WindowSize,
    /// How many bytes the terminal had printed there.
    #[serde(default)]
    pub printed: u64,
}

/// A channel to start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelSpec {
    /// What runs.
    pub program: Program,
    /// The terminal, if it has one.
    pub pty: Option<Pty>,
    /// Environment that the policy lets pass, besides what every program gets.
    pub env: Vec<(Text, Text)>,
    /// The credit the gateway grants for output.
    pub credit: u32,
}

/// What a session was, once it is over: kept in its state file until the gateway has it on record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The session.
    pub session: SessionId,
    /// Why it ended.
    pub reason: EndReason,
    /// How its first program ended, if it did by itself.
    pub exit: Option<Exit>,
    /// What its terminals printed, in bytes.
    pub output_bytes: u64,
    /// When its first program started; none when none did.
    pub started_at: Option<Wall>,
    /// When everything of it was gone.
    pub ended_at: Wall,
    /// Its recordings.
    pub recordings: Vec<RecordingFacts>,
    /// What was reached, where a limit ended it: seconds or bytes.
    pub reached: Option<u64>,
}

/// One recording, sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingFacts {
    /// The channel.
    pub channel: u16,
    /// Its file's name, below `recordings/`.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Lower-case hex SHA-256 of the whole file.
    pub sha256: String,
}

/// How a session's lease stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseState {
    /// The limits it runs under.
    pub limits: Limits,
    /// Left until the deadline.
    pub remaining: Option<Duration>,
    /// Left until it has been idle for too long; none while it cannot be idle.
    pub idle_remaining: Option<Duration>,
    /// Since something last happened.
    pub idle: Duration,
    /// What terminals have printed, in bytes.
    pub output_bytes: u64,
}

/// The shim's first frame: who it is, and what is there already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShimHello {
    /// [`VERSION`] of the shim.
    pub version: u16,
    /// Its session.
    pub session: SessionId,
    /// Channels whose programs run, for a gateway that comes back.
    pub channels: Vec<u16>,
    /// Those of them that have a terminal: their people may come back as well.
    #[serde(default)]
    pub terminals: Vec<u16>,
    /// The next channel number that was never used.
    pub next_channel: u16,
    /// Its lease, once the first program has started.
    pub lease: Option<LeaseState>,
    /// Why it is ending, if it is.
    pub ending: Option<EndReason>,
}

/// Ask of a gateway that a session ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRequest {
    /// Why.
    pub reason: EndReason,
}

macro_rules! kinds {
    ($($name:ident = $value:literal;)*) => { $(const $name: u8 = $value;)* };
}

kinds! {
    HELLO = 0x01;
    START = 0x02;
    INPUT = 0x03;
    INPUT_EOF = 0x04;
    CREDIT = 0x05;
    RESIZE = 0x06;
    SIGNAL = 0x07;
    CLOSE = 0x08;
    MOVE_DEADLINE = 0x09;
    END = 0x0a;
    QUERY = 0x0b;
    LISTEN = 0x0c;
    UNLISTEN = 0x0d;
    ATTACH = 0x0e;
    DETACH = 0x0f;
    LOCATE = 0x10;
    SHIM_HELLO = 0x81;
    STARTED = 0x82;
    START_FAILED = 0x83;
    OUTPUT = 0x84;
    OUTPUT_ERR = 0x85;
    OUTPUT_EOF = 0x86;
    INPUT_CREDIT = 0x87;
    EXIT = 0x88;
    WARNED = 0x89;
    EXPIRED = 0x8a;
    LEASE = 0x8b;
    ENDED = 0x8c;
    INPUT_CLOSED = 0x8d;
    LISTENING = 0x8e;
    LISTEN_FAILED = 0x8f;
    ATTACHED = 0x90;
    NOT_ATTACHED = 0x91;
    LOCATED = 0x92;
}

/// Gateway → shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToShim<'a> {
    /// The gateway's first frame.
    Hello {
        /// [`VERSION`] of the gateway.
        version: u16,
    },
    /// Start a program in a channel whose number was never used.
    Start(u16, Box<ChannelSpec>),
    /// Bytes for its terminal or standard input; costs credit.
    Input(u16, &'a [u8]),
    /// The client will send no more: closes standard input, but hangs up no terminal.
    InputEof(u16),
    /// More credit for output.
    Credit(u16, u32),
    /// The terminal's new size.
    Resize(u16, WindowSize),
    /// A signal to the channel's foreground programs, named without `SIG`.
    Signal(u16, String),
    /// The client closed the channel: HUP to its programs, their output is no longer wanted.
    Close(u16),
    /// The runtime's end, counted from now.
    MoveDeadline(Duration),
    /// End the session.
    End(EndRequest),
    /// Answer with [`FromShim::Lease`].
    Query,
    /// Listen inside, under a number of the gateway's choice. Answered by [`FromShim::Listening`] or
    /// [`FromShim::ListenFailed`].
    Listen(u16, Endpoint),
    /// Listen there no more; connections that were taken go on.
    Unlisten(u16),
    /// The terminal's person is there again: what it prints is wanted, this much of it for now.
    /// Answered by [`FromShim::Attached`], or [`FromShim::NotAttached`] where no terminal runs.
    Attach(u16, u32),
    /// The terminal's person is gone: what it prints is recorded only.
    Detach(u16),
    /// Where does the terminal stand? Changes nothing. Answered by [`FromShim::Located`].
    Locate(u16),
}

/// Shim → gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromShim<'a> {
    /// The shim's first frame.
    Hello(Box<ShimHello>),
    /// The program runs.
    Started(u16),
    /// It could not be started; the line says why.
    StartFailed(u16, String),
    /// What it printed; costs credit.
    Output(u16, Stream, &'a [u8]),
    /// One of its streams ended; with a terminal only [`Stream::Out`].
    OutputEof(u16, Stream),
    /// More credit for input.
    InputCredit(u16, u32),
    /// The program takes no more input; what still comes is dropped.
    InputClosed(u16),
    /// The program ended, and all of its output was sent.
    Exit(u16, Exit),
    /// A limit comes near.
    Warned {
        /// Which.
        limit: Limit,
        /// What is left.
        left: Duration,
    },
    /// The session is ending; programs have been told. No output follows.
    Expired {
        /// Why.
        reason: EndReason,
        /// What was reached, where it is a limit: seconds or bytes.
        reached: u64,
        /// What the limit was set to, in the same unit.
        configured: u64,
    },
    /// The answer to [`ToShim::Query`].
    Lease(Box<LeaseState>),
    /// It listens, at this port (0 for a Unix socket).
    Listening(u16, u16),
    /// It does not listen; the line says why.
    ListenFailed(u16, String),
    /// The answer to [`ToShim::Attach`]; output follows.
    Attached(u16, Box<Attached>),
    /// There is no terminal in this channel any more.
    NotAttached(u16),
    /// The answer to [`ToShim::Locate`]; none where no terminal runs. Output that was printed before it
    /// may follow.
    Located(u16, Option<Box<Attached>>),
    /// Everything is gone and on record. The last frame.
    Ended(Box<Summary>),
}

fn begin(buf: &mut Vec<u8>, kind: u8, channel: u16) {
    buf.clear();
    buf.push(kind);
    buf.extend_from_slice(&channel.to_be_bytes());
}

fn json<T: Serialize>(buf: &mut Vec<u8>, kind: u8, channel: u16, value: &T) {
    begin(buf, kind, channel);
    // Writing to a vector cannot fail, and none of our types has a map with keys that are not text.
    let _written = serde_json::to_writer(buf, value);
}

/// The name of a signal: short, capital letters and digits.
fn signal_name(payload: &[u8]) -> Result<String, WireError> {
    let fits = (1..=16).contains(&payload.len())
        && payload.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    match std::str::from_utf8(payload) {
        Ok(name) if fits => Ok(name.to_owned()),
        _ => Err(WireError::Malformed("not the name of a signal".to_owned())),
    }
}

/// Splits a frame into kind, channel and payload.
fn split(frame: &[u8]) -> Result<(u8, u16, &[u8]), WireError> {
    if frame.len() > MAX_MESSAGE {
        return Err(WireError::Long(frame.len()));
    }
    match frame {
        [kind, high, low, payload @ ..] if payload.len() <= MAX_PAYLOAD => {
            Ok((*kind, u16::from_be_bytes([*high, *low]), payload))
        }
        [_, _, _, ..] => Err(WireError::Long(frame.len())),
        _ => Err(WireError::Short { kind: frame.first().copied().unwrap_or(0), len: frame.len() }),
    }
}

fn number<const N: usize>(kind: u8, payload: &[u8]) -> Result<[u8; N], WireError> {
    payload.try_into().map_err(|_| WireError::Short { kind, len: payload.len() })
}

impl<'a> ToShim<'a> {
    /// Writes the frame into `buf`, which is cleared first.
    pub fn encode(&self, buf: &mut Vec<u8>) {
        match self {
            Self::Hello { version } => {
                begin(buf, HELLO, 0);
                buf.extend_from_slice(&version.to_be_bytes());
            }
            Self::Start(channel, spec) => json(buf, START, *channel, spec),
            Self::Input(channel, bytes) => {
                begin(buf, INPUT, *channel);
                buf.extend_from_slice(bytes);
            }
            Self::InputEof(channel) => begin(buf, INPUT_EOF, *channel),
            Self::Credit(channel, credit) => {
                begin(buf, CREDIT, *channel);
                buf.extend_from_slice(&credit.to_be_bytes());
            }
            Self::Resize(channel, size) => {
                begin(buf, RESIZE, *channel);
                for part in [size.cols, size.rows, size.width, size.height] {
                    buf.extend_from_slice(&part.to_be_bytes());
                }
            }
            Self::Signal(channel, name) => {
                begin(buf, SIGNAL, *channel);
                buf.extend_from_slice(name.as_bytes());
            }
            Self::Close(channel) => begin(buf, CLOSE, *channel),
            Self::MoveDeadline(left) => json(buf, MOVE_DEADLINE, 0, left),
            Self::End(request) => json(buf, END, 0, request),
            Self::Query => begin(buf, QUERY, 0),
            Self::Listen(listener, endpoint) => json(buf, LISTEN, *listener, endpoint),
            Self::Unlisten(listener) => begin(buf, UNLISTEN, *listener),
            Self::Attach(channel, credit) => {
                begin(buf, ATTACH, *channel);
                buf.extend_from_slice(&credit.to_be_bytes());
            }
            Self::Detach(channel) => begin(buf, DETACH, *channel),
            Self::Locate(channel) => begin(buf, LOCATE, *channel),
        }
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// When it is none that a gateway may send.
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let (kind, channel, payload) = split(frame)?;
        Ok(match kind {
            HELLO => Self::Hello { version: u16::from_be_bytes(number(kind, payload)?) },
            START => Self::Start(channel, serde_json::from_slice(payload)?),
            INPUT => Self::Input(channel, payload),
            INPUT_EOF => Self::InputEof(channel),
            CREDIT => Self::Credit(channel, u32::from_be_bytes(number(kind, payload)?)),
            RESIZE => {
                let [a, b, c, d, e, f, g, h] = number(kind, payload)?;
                Self::Resize(
                    channel,
                    WindowSize {
                        cols: u16::from_be_bytes([a, b]),
                        rows: u16::from_be_bytes([c, d]),
                        width: u16::from_be_bytes([e, f]),
                        height: u16::from_be_bytes([g, h]),
                    },
                )
            }
            SIGNAL => Self::Signal(channel, signal_name(payload)?),
            CLOSE => Self::Close(channel),
            MOVE_DEADLINE => Self::MoveDeadline(serde_json::from_slice(payload)?),
            END => Self::End(serde_json::from_slice(payload)?),
            QUERY => Self::Query,
            LISTEN => Self::Listen(channel, serde_json::from_slice(payload)?),
            UNLISTEN => Self::Unlisten(channel),
            ATTACH => Self::Attach(channel, u32::from_be_bytes(number(kind, payload)?)),
            DETACH => Self::Detach(channel),
            LOCATE => Self::Locate(channel),
            _ => return Err(WireError::Kind(kind)),
        })
    }
}

#[derive(Serialize, Deserialize)]
struct WarnedBody {
    limit: Limit,
    left: Duration,
}

#[derive(Serialize, Deserialize)]
struct ExpiredBody {
    reason: EndReason,
    reached: u64,
    configured: u64,
}

impl<'a> FromShim<'a> {
    /// Writes the frame into `buf`, which is cleared first.
    pub fn encode(&self, buf: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => json(buf, SHIM_HELLO, 0, hello),
            Self::Started(channel) => begin(buf, STARTED, *channel),
            Self::StartFailed(channel, why) => {
                begin(buf, START_FAILED, *channel);
                buf.extend_from_slice(&why.as_bytes()[..why.len().min(4096)]);
            }
            Self::Output(channel, stream, bytes) => {
                begin(buf, if *stream == Stream::Out { OUTPUT } else { OUTPUT_ERR }, *channel);
                buf.extend_from_slice(bytes);
            }
            Self::OutputEof(channel, stream) => {
                begin(buf, OUTPUT_EOF, *channel);
                buf.push(u8::from(*stream == Stream::Err));
            }
            Self::InputCredit(channel, credit) => {
                begin(buf, INPUT_CREDIT, *channel);
                buf.extend_from_slice(&credit.to_be_bytes());
            }
            Self::InputClosed(channel) => begin(buf, INPUT_CLOSED, *channel),
            Self::Exit(channel, exit) => json(buf, EXIT, *channel, exit),
            Self::Warned { limit, left } => {
                json(buf, WARNED, 0, &WarnedBody { limit: *limit, left: *left });
            }
            Self::Expired { reason, reached, configured } => {
                let body =
                    ExpiredBody { reason: *reason, reached: *reached, configured: *configured };
                json(buf, EXPIRED, 0, &body);
            }
            Self::Lease(state) => json(buf, LEASE, 0, state),
            Self::Listening(listener, port) => {
                begin(buf, LISTENING, *listener);
                buf.extend_from_slice(&port.to_be_bytes());
            }
            Self::ListenFailed(listener, why) => {
                begin(buf, LISTEN_FAILED, *listener);
                buf.extend_from_slice(&why.as_bytes()[..why.len().min(4096)]);
            }
            Self::Attached(channel, attached) => json(buf, ATTACHED, *channel, attached),
            Self::NotAttached(channel) => begin(buf, NOT_ATTACHED, *channel),
            Self::Located(channel, attached) => json(buf, LOCATED, *channel, attached),
            Self::Ended(summary) => json(buf, ENDED, 0, summary),
        }
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// When it is none that a shim may send.
    pub fn decode(frame: &'a [u8]) -> Result<Self, WireError> {
        let (kind, channel, payload) = split(frame)?;
        Ok(match kind {
            SHIM_HELLO => Self::Hello(serde_json::from_slice(payload)?),
            STARTED => Self::Started(channel),
            START_FAILED => {
                Self::StartFailed(channel, String::from_utf8_lossy(payload).into_owned())
            }
            OUTPUT => Self::Output(channel, Stream::Out, payload),
            OUTPUT_ERR => Self::Output(channel, Stream::Err, payload),
            OUTPUT_EOF => {
                let [stream] = number(kind, payload)?;
                Self::OutputEof(channel, if stream == 0 { Stream::Out } else { Stream::Err })
            }
            INPUT_CREDIT => Self::InputCredit(channel, u32::from_be_bytes(number(kind, payload)?)),
            INPUT_CLOSED => Self::InputClosed(channel),
            EXIT => Self::Exit(channel, serde_json::from_slice(payload)?),
            WARNED => {
                let body: WarnedBody = serde_json::from_slice(payload)?;
                Self::Warned { limit: body.limit, left: body.left }
            }
            EXPIRED => {
                let body: ExpiredBody = serde_json::from_slice(payload)?;
                Self::Expired {
                    reason: body.reason,
                    reached: body.reached,
                    configured: body.configured,
                }
            }
            LEASE => Self::Lease(serde_json::from_slice(payload)?),
            LISTENING => Self::Listening(channel, u16::from_be_bytes(number(kind, payload)?)),
            LISTEN_FAILED => {
                Self::ListenFailed(channel, String::from_utf8_lossy(payload).into_owned())
            }
            ATTACHED => Self::Attached(channel, serde_json::from_slice(payload)?),
            NOT_ATTACHED => Self::NotAttached(channel),
            LOCATED => Self::Located(channel, serde_json::from_slice(payload)?),
            ENDED => Self::Ended(serde_json::from_slice(payload)?),
            _ => return Err(WireError::Kind(kind)),
        })
    }
}
