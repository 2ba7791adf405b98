//! Connections into and out of a sandbox: where they lead, and the line they begin with.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use super::super::Text;
use super::super::WireError;
use super::super::text::from_hex;
#[cfg(doc)]
use super::Program;

/// A place inside a sandbox that is connected to, or listened at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    /// A TCP port. To connect: a name or an address; to listen: an address, `localhost`, or nothing
    /// for every address.
    Tcp {
        /// The name or address.
        host: Text,
        /// The port; to listen, 0 is any free one.
        port: u16,
    },
    /// A Unix socket by its path.
    Unix(Text),
    /// A display whose X server is elsewhere, only to listen: the socket of the first number that is
    /// free, which is told as its port, and [`authority`], which has this cookie.
    Display(Cookie),
}

/// Where programs learn how to prove themselves to a display: a file as `xauth` makes them.
#[must_use]
pub fn authority(display: u16) -> String {
    format!("/tmp/.X{display}-authority")
}

/// What programs prove themselves to an X server with. In no log: it shows nothing of itself.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cookie(Text);

impl Cookie {
    /// The most bytes of one; X servers make them of 16.
    pub const LONGEST: usize = 64;

    /// Reads one from pairs of hexadecimal digits; none, when it is empty, too long, or something else.
    #[must_use]
    pub fn parse(hex: &str) -> Option<Self> {
        if hex.is_empty() || hex.len() > 2 * Self::LONGEST {
            return None;
        }
        from_hex(hex).map(|bytes| Self(Text(bytes)))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.0
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie")
    }
}

/// The first line of what a [`Program::Connect`] or [`Program::Accept`] prints. No longer than
/// [`Greeting::LONGEST`] with its line feed; the sandbox's own claim.
///
/// `ok`, `ok ADDRESS PORT` (the peer's, for [`Program::Accept`] of TCP), or `error TEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Bytes flow from here on.
    Open {
        /// Who connected, where that is known.
        peer: Option<(String, u16)>,
    },
    /// There is no connection; the line says why.
    Failed(String),
}

impl Greeting {
    /// The longest line.
    pub const LONGEST: usize = 256;

    /// Reads the line, without its line feed.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(line: &[u8]) -> Result<Self, WireError> {
        let bad = || WireError::Malformed("not a greeting".to_owned());
        let line = std::str::from_utf8(line).map_err(|_| bad())?;
        if line.len() >= Self::LONGEST {
            return Err(bad());
        }
        if let Some(why) = line.strip_prefix("error ") {
            return Ok(Self::Failed(why.to_owned()));
        }
        let mut words = line.split(' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("ok"), None, None, None) => Ok(Self::Open { peer: None }),
            (Some("ok"), Some(address), Some(port), None) => {
                let port = port.parse().map_err(|_| bad())?;
                Ok(Self::Open { peer: Some((address.to_owned(), port)) })
            }
            _ => Err(bad()),
        }
    }
}
