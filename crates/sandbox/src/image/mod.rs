//! Image archives as root file systems: a file that `docker save`, `skopeo` or `buildah` wrote, unpacked
//! once into a directory that is named after its content.
//!
//! ```text
//!   runner ──Order, archive, images/──▶ unpacker (forked by the zygote)   makes and names the directory
//!          ◀──────────Report──────────    │    ▲
//!                                  forks  │    │ "this digest", at last what it says of itself
//!                                         ▼    │
//!                                       reader (confined)                 reads all of the archive
//! ```
//!
//! An archive is a stranger's: names, links, sizes and compression are as hostile as can be made. What
//! reads it has a user namespace of its own, whose ids no sandbox and nobody on the host has, the new
//! directory for a root, and a list of system calls. Everything is bounded. The directory has its name
//! only when all of it is there and right.
//!
//! - [`cache`]: the runner's side: which archives are there, and which directories are needed.
//! - [`unpacker`]: the process that the zygote forks.
//! - `archive`: where things are in the file, of both forms.
//! - `describe`: what index, manifest and configuration say.
//! - `layer`: one layer over those before it.
//! - `tree`: the directory, through which no link leads out.
//! - `compress`: streams, and digests of what passes.
//! - `tar`: headers.

pub mod cache;
pub mod unpacker;

mod archive;
mod compress;
mod describe;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod layer;
mod tar;
mod tree;

#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::io;
use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use sojourn_core::time::Mono;
use sojourn_shim::clock;
use sojourn_shim::native::IdRange;

/// An archive to unpack. Its descriptor and that of `images/` come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The ids on disk of the ids in the image.
    pub ids: IdRange,
    /// How much of it there may be.
    pub bounds: Bounds,
}

/// How much an image may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Files, directories and links, over all layers.
    pub entries: u64,
    /// Bytes of all layers, without compression.
    pub bytes: u64,
    /// How many times the archive's own size that may be, beyond [`Bounds::free`].
    pub ratio: u64,
    /// Bytes that an archive of any size may hold.
    pub free: u64,
    /// How long it may take.
    pub time: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            entries: 2_000_000,
            bytes: 64 << 30,
            ratio: 100,
            free: 256 << 20,
            time: Duration::from_secs(900),
        }
    }
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Report {
    /// It is there.
    Ready {
        /// The directory's name below `images/`.
        name: String,
        /// What the image says of itself.
        about: About,
    },
    /// It cannot be had.
    Failed {
        /// Why, in a line.
        message: String,
    },
}

/// What is kept of what an image says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Environment, as `NAME=value`.
    pub env: Vec<String>,
}

/// What is wrong with an archive, or with unpacking it, in a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Problem(pub(crate) String);

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull => Self("no space is left where images are kept".to_owned()),
            // Of ours, through a library's.
            io::ErrorKind::Other => match error.downcast::<Self>() {
                Ok(problem) => problem,
                Err(error) => Self(error.to_string()),
            },
            _ => Self(error.to_string()),
        }
    }
}

impl From<rustix::io::Errno> for Problem {
    fn from(errno: rustix::io::Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl From<Problem> for io::Error {
    fn from(problem: Problem) -> Self {
        Self::other(problem)
    }
}

/// A problem for this reason.
fn problem<T>(message: impl Into<String>) -> Result<T, Problem> {
    Err(Problem(message.into()))
}

/// What is left of the bounds.
#[derive(Debug)]
struct Meter {
    entries: Cell<u64>,
    bytes: Cell<u64>,
    until: Mono,
}

impl Meter {
    /// The bounds of an archive of so many bytes.
    fn new(bounds: &Bounds, archive: u64) -> Self {
        let by_ratio = archive.saturating_mul(bounds.ratio).saturating_add(bounds.free);
        Self {
            entries: Cell::new(bounds.entries),
            bytes: Cell::new(bounds.bytes.min(by_ratio)),
            until: clock::mono().after(bounds.time),
        }
    }

    /// Another entry of a layer.
    fn entry(&self) -> Result<(), Problem> {
        match self.entries.get().checked_sub(1) {
            Some(left) => self.entries.set(left),
            None => return problem("it holds more files than an image may"),
        }
        if clock::mono() >= self.until { problem("unpacking it takes too long") } else { Ok(()) }
    }

    /// So many bytes more.
    fn bytes(&self, count: u64) -> Result<(), Problem> {
        match self.bytes.get().checked_sub(count) {
            Some(left) => self.bytes.set(left),
            None => return problem("unpacked it is larger than an image may be"),
        }
        if clock::mono() >= self.until { problem("unpacking it takes too long") } else { Ok(()) }
    }
}

/// A text of an archive in an error message: short, and without control characters.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    format!("\"{text}\"")
}
