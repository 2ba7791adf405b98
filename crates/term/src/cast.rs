//! asciicast v2: a header line, then one `[time, code, data]` line an event.
//!
//! A recording is only ever appended to, a whole line at a time, so a crash can cost the line being
//! written and nothing before it. Ours carry one member the format does not know, `sojourn`, which
//! names the session; every player ignores it.

mod excerpt;
mod marks;
pub(crate) mod reader;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

pub use excerpt::Cut;
pub use excerpt::Excerpt;
pub use marks::Marks;
pub use reader::Event;
pub use reader::Fault;
pub use reader::ReadError;
pub use reader::Reader;
pub use reader::Tail;
pub use verify::Recovered;
pub use verify::Verified;
pub use verify::recover;
pub use verify::survey;
pub use verify::verify;
pub(crate) use writer::HIDDEN;
pub use writer::Sealed;
pub use writer::Stream;
pub use writer::Writer;

/// Longest line a reader accepts, in bytes. The writer stays well below it: it splits what is long.
pub const MAX_LINE: usize = 4 << 20;

/// Largest terminal, in columns or rows, that a file claims. Players allocate what the file says.
pub(crate) const MAX_SIDE: u32 = 1000;

/// The first line of a recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Columns at the start; written as 1 to 1000.
    pub width: u32,
    /// Rows at the start; written as 1 to 1000.
    pub height: u32,
    /// Wall time of the start, in seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<u64>,
    /// A name for the list of recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What ran, when that was not a login shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// `TERM` and `SHELL` where known, nothing else: an environment can hold secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Whose recording this is; absent in files that other programs wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sojourn: Option<Origin>,
}

/// The session and channel a recording belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The session's id.
    pub session: String,
    /// The channel's number within the session, from 0.
    pub channel: u32,
}

impl Header {
    /// Remembers an environment variable that players show; nothing when it is not known.
    #[must_use]
    pub fn with_env(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.env.insert(name.to_owned(), value.to_owned());
        }
        self
    }
}

/// The header as it stands in the file: with the version of the format in front.
#[derive(Serialize, Deserialize)]
struct Versioned<H> {
    version: u32,
    #[serde(flatten)]
    header: H,
}

/// What an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Printed by the program.
    Output,
    /// Typed by the person.
    Input,
    /// The terminal's new size, `COLSxROWS`.
    Resize,
    /// One event of an agent, as JSON.
    Agent,
    /// A note of ours.
    Marker,
    /// Not one that we write.
    Other,
}

impl Code {
    fn as_str(self) -> &'static str {
        match self {
            Self::Output => "o",
            Self::Input => "i",
            Self::Resize => "r",
            Self::Agent => "e",
            Self::Marker => "m",
            Self::Other => "?",
        }
    }

    fn parse(code: &str) -> Self {
        match code {
            "o" => Self::Output,
            "i" => Self::Input,
            "r" => Self::Resize,
            "e" => Self::Agent,
            "m" => Self::Marker,
            _ => Self::Other,
        }
    }
}

/// Lower-case hexadecimal, as every digest of ours is written.
pub fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::with_capacity(digest.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
