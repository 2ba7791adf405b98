//! The messages between the parts: gateway and runner, gateway and shim, gateway and file helper.
//!
//! Both travel over `SOCK_SEQPACKET` sockets: one message is one frame, whole or not at all, never
//! longer than [`MAX_MESSAGE`]. `PROTOCOL.md` lists them.

pub mod files;
pub mod relay;
pub mod runner;
pub mod shim;
mod text;

pub use text::Text;

/// The longest payload of a data frame.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// The longest message of either protocol: a payload and its header.
pub const MAX_MESSAGE: usize = MAX_PAYLOAD + 64;

/// Why a message was not understood. The connection it came on is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Too short for what it says it is.
    #[error("a message of kind {kind:#04x} is cut short ({len} bytes)")]
    Short {
        /// Its first byte.
        kind: u8,
        /// Its length.
        len: usize,
    },
    /// Longer than [`MAX_MESSAGE`].
    #[error("a message of {0} bytes is too long")]
    Long(usize),
    /// A kind nobody defined.
    #[error("unknown message kind {0:#04x}")]
    Kind(u8),
    /// Its JSON says something else than its kind.
    #[error("malformed message: {0}")]
    Malformed(String),
}

impl From<serde_json::Error> for WireError {
    fn from(error: serde_json::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}
