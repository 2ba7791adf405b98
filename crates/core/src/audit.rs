//! The chain format of the audit log: what an event is, how it becomes a line, how a line is checked.
//!
//! A line is one JSON object. Its last member is `hash`, the SHA-256 of the line's own bytes before
//! `,"hash":`; its `prev` is the hash of the line before, across files. So whoever changes, drops,
//! adds or moves a line has to rewrite every later one, and the signed checkpoints with them.
//!
//! Nothing here reads or writes a file.

mod chain;
mod checkpoint;
mod event;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use sha2::Digest;
use sha2::Sha256;

pub use chain::ChainChecker;
pub use chain::ChainWriter;
pub use chain::Entry;
pub use chain::Fault;
pub use checkpoint::BadKey;
pub use checkpoint::Checkpoint;
pub use checkpoint::CheckpointKey;
pub use checkpoint::PublicKey;
pub use event::Action;
pub use event::Actor;
pub use event::ActorKind;
pub use event::Event;
pub use event::UnknownAction;

/// The longest line, its end of line not counted.
pub const MAX_LINE: usize = 64 * 1024;

/// The SHA-256 of a line.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LineHash(pub [u8; 32]);

impl LineHash {
    /// What stands in the `prev` of the very first line.
    pub const ZERO: Self = Self([0; 32]);

    /// The hash of a line's bytes before `,"hash":`.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }
}

impl LineHash {
    /// In lower-case hexadecimal.
    fn hex(&self) -> [u8; 64] {
        let mut hex = [0; 64];
        for (digits, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            digits.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
        }
        hex
    }
}

const fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

impl fmt::Display for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl fmt::Debug for LineHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Not 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not 64 lower-case hexadecimal digits")]
pub struct NotAHash;

impl FromStr for LineHash {
    type Err = NotAHash;

    fn from_str(hex: &str) -> Result<Self, NotAHash> {
        from_hex(hex).map(Self).ok_or(NotAHash)
    }
}

impl Serialize for LineHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.hex()).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for LineHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a chain ends: the number and the hash of its last line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The last line's `seq`; 0 when there is no line.
    pub seq: u64,
    /// The last line's `hash`.
    pub hash: LineHash,
}

impl Head {
    /// The end of a chain without a line.
    pub const START: Self = Self { seq: 0, hash: LineHash::ZERO };
}

/// Reads exactly `N` bytes of lower-case hexadecimal.
fn from_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let digits = hex.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = (nibble(pair[0])? << 4) | nibble(pair[1])?;
    }
    Some(bytes)
}

/// Upper case is no hexadecimal here: a flipped bit in a hash must not go unnoticed.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}
