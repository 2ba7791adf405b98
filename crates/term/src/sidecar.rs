//! The JSON file beside a recording: who came, from where, what ran, and how it ended.
//!
//! Written whole by the shim, once at the start and once at the end; replacing the file atomically
//! is the caller's. Times are RFC 3339 strings. No secret has a field here: not an environment, and
//! not a password that was tried, except at a honeypot, where it is nobody's and evidence.

use serde::Deserialize;
use serde::Serialize;

use crate::cast::Marks;
use crate::commands;
use crate::escape::escape_bytes;

/// Version of this file's shape.
const VERSION: u32 = 1;

/// The most marks of all recordings together. One recording gets a sixteenth of what is left, which
/// is all it can have unless the session has many long ones.
const MOST_MARKS: usize = 16 << 10;

/// The most command lines, and bytes of them together.
const MOST_COMMANDS: usize = 1000;
const MOST_COMMAND_BYTES: usize = 256 << 10;

/// Everything about a session that its recordings do not say themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sidecar {
    /// Version of this file's shape, 1.
    pub version: u32,
    /// The session's id.
    pub session: String,
    /// Whose session it is; `None` at a honeypot, where nobody is.
    pub user: Option<String>,
    /// The door it came in by.
    pub door: String,
    /// The profile it runs under.
    pub profile: String,
    /// The other end of the connection.
    pub peer: Option<Peer>,
    /// Every try to authenticate on that connection, in order.
    pub authentication: Vec<Attempt>,
    /// The sandbox's id.
    pub sandbox: String,
    /// When the first program started.
    pub started_at: String,
    /// When the session was over; `None` while it runs.
    pub ended_at: Option<String>,
    /// From the one to the other, in milliseconds.
    pub duration_ms: Option<u64>,
    /// Why it ended, by the names of the API.
    pub end_reason: Option<String>,
    /// The person who ended it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<EndedBy>,
    /// What it was allowed, and what became of that.
    pub lease: Lease,
    /// What ran, each program with a recording of its own.
    pub channels: Vec<Channel>,
    /// Forwards that are not among them, because there were so many.
    #[serde(skip_serializing_if = "is_zero")]
    pub unlisted: u64,
    /// Command lines, escaped: those that were asked for, and what was recognised as one in what was
    /// typed. Best effort.
    pub commands: Vec<String>,
    /// How many more there were.
    #[serde(skip_serializing_if = "is_zero")]
    pub commands_left_out: u64,
    /// Whether this was completed after the fact, because the recorder was cut off.
    pub recovered: bool,
}

/// Who ended a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct EndedBy {
    /// Their name, escaped.
    pub name: String,
    /// Why, as they said, escaped.
    pub why: Option<String>,
}

/// Where a connection came from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// Its address and port.
    pub address: String,
    /// What its software called itself, escaped.
    pub client_version: String,
    /// The HASSH of an SSH client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hassh: Option<String>,
}

/// One try to authenticate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempt {
    /// When.
    pub time: String,
    /// `password`, `publickey`, `keyboard-interactive`, …
    pub method: String,
    /// The name that was given, escaped.
    pub user: String,
    /// `accepted`, `refused`, or why.
    pub outcome: String,
    /// Fingerprint of the key that was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_fingerprint: Option<String>,
    /// The password that was tried, escaped: at a honeypot only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// One program of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Channel {
    /// Its number, from 0.
    pub n: u32,
    /// `shell`, `exec`, `sftp`, `direct-tcpip`, `forwarded-tcpip`, …
    pub kind: String,
    /// The command as the client sent it, escaped.
    pub command: Option<String>,
    /// Of a forward: where it leads, or where it was listened for; escaped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What went in and came out, of what has no recording.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved: Option<Moved>,
    /// Whether it had a terminal.
    pub tty: bool,
    /// How the program ended; `None` while it runs, or when nobody knows.
    pub exit: Option<Exit>,
    /// The recording's file name; empty where there is none: files and forwards.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub recording: String,
    /// The recording's length in bytes, when sealed.
    pub bytes: u64,
    /// The recording's SHA-256 in lower-case hexadecimal, when sealed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// Marks along the recording, when sealed: where it was changed, if it ever is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub marks: Option<Marks>,
}

/// What went through a channel, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Moved {
    /// From the client.
    pub input: u64,
    /// To the client.
    pub output: u64,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// By itself, with this status.
    Code(u32),
    /// By this signal, named as in SSH: without `SIG`.
    Signal(String),
}

/// The limits of a session, and when they were felt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lease {
    /// What was allowed.
    pub limits: Limits,
    /// When the person was told that the end is near.
    pub warned_at: Vec<String>,
    /// Bytes of output that counted.
    pub output_bytes: u64,
}

/// What a session was allowed; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Longest stay, in milliseconds.
    pub max_runtime_ms: Option<u64>,
    /// Longest time without activity, in milliseconds.
    pub idle_timeout_ms: Option<u64>,
    /// Most output, in bytes.
    pub max_output_bytes: Option<u64>,
}

impl Sidecar {
    /// A sidecar of the current shape for a session, with nothing known yet.
    #[must_use]
    pub fn new(session: impl Into<String>) -> Self {
        Self { version: VERSION, session: session.into(), ..Self::default() }
    }

    /// Notes a command line, if there is room for it.
    pub fn command(&mut self, line: &[u8]) {
        let line = escape_bytes(line, commands::LONGEST);
        let bytes: usize = self.commands.iter().map(String::len).sum();
        if self.commands.len() < MOST_COMMANDS && bytes + line.len() <= MOST_COMMAND_BYTES {
            self.commands.push(line);
        } else {
            self.commands_left_out += 1;
        }
    }

    /// Notes what the recording of channel `n` was sealed with.
    pub fn seal(&mut self, n: u32, bytes: u64, sha256: &str, mut marks: Marks) {
        let held = self.channels.iter().filter_map(|channel| channel.marks.as_ref());
        let left = MOST_MARKS.saturating_sub(held.map(Marks::len).sum());
        if let Some(channel) = self.channels.iter_mut().rev().find(|channel| channel.n == n) {
            marks.thin(left / 16);
            channel.bytes = bytes;
            sha256.clone_into(&mut channel.sha256);
            channel.marks = Some(marks);
        }
    }

    /// The file's bytes: indented for people, with a newline at the end.
    ///
    /// # Errors
    /// None that is known: every member can be written as JSON.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Reads the file's bytes. Members of a later version are ignored.
    ///
    /// # Errors
    /// When they are not JSON of this shape.
    pub fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
mod tests {
    use sha2::Digest;
    use sha2::Sha256;

    use super::*;

    #[test]
    fn a_sidecar_survives_its_file() {
        let mut sidecar = Sidecar::new("0198c5f0-0000-7000-8000-0000000000aa");
        sidecar.user = Some("alice".into());
        sidecar.lease.limits.max_runtime_ms = Some(5000);
        sidecar.channels.push(Channel {
            kind: "exec".into(),
            command: Some("kill -TERM $$".into()),
            exit: Some(Exit::Signal("TERM".into())),
            ..Channel::default()
        });
        let bytes = sidecar.to_json().unwrap();
        assert!(bytes.ends_with(b"}\n"));
        assert!(String::from_utf8_lossy(&bytes).contains(r#""signal": "TERM""#));
        assert_eq!(Sidecar::from_json(&bytes).unwrap(), sidecar);
    }

    #[test]
    fn commands_are_escaped_and_bounded() {
        let mut sidecar = Sidecar::new("s");
        sidecar.command(b"printf '\x1b[2J\xff'");
        for _ in 0..2 * MOST_COMMANDS {
            sidecar.command("ü".repeat(5000).as_bytes());
        }
        assert_eq!(sidecar.commands[0], "printf '\\x1b[2J\\xff'");
        assert!(sidecar.commands.iter().map(String::len).sum::<usize>() <= MOST_COMMAND_BYTES);
        let all = sidecar.commands.len() as u64 + sidecar.commands_left_out;
        assert_eq!(all, 2 * MOST_COMMANDS as u64 + 1);
    }

    #[test]
    fn marks_of_many_recordings_are_bounded() {
        let mut marks = Marks::default();
        (0..1024).for_each(|_| marks.line(&Sha256::new()));
        let mut sidecar = Sidecar::new("s");
        for n in 0..200 {
            sidecar.channels.push(Channel { n, ..Channel::default() });
            sidecar.seal(n, 7, "aa", marks.clone());
        }
        let held = |channel: &Channel| channel.marks.as_ref().unwrap().len();
        assert_eq!(held(&sidecar.channels[0]), 1024);
        assert!(sidecar.channels.iter().map(held).sum::<usize>() <= MOST_MARKS);
        let last = &sidecar.channels[199];
        assert_eq!((last.bytes, last.sha256.as_str()), (7, "aa"));
    }

    #[test]
    fn members_that_are_missing_or_unknown_do_no_harm() {
        let read = Sidecar::from_json(br#"{"session":"s","later":[1]}"#).unwrap();
        assert_eq!(read, Sidecar { session: "s".into(), ..Sidecar::default() });
    }
}
