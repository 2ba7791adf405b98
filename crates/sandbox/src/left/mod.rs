//! What a session left in its sandbox: read when every process of it is dead, and kept as a list and a
//! tar.
//!
//! ```text
//!   runner ──Order, layers──▶ keeper (forked by the zygote)      writes about.json, puts names right
//!          ◀────Report────────  │    ▲
//!                        forks  │    │ "is this directory opaque?", at last the totals
//!                               ▼    │
//!                             walker (confined)                  reads the layers, writes list and tar
//! ```
//!
//! All that is read here is attacker's data: names, sizes, times and trees are as hostile as can be
//! made. The walker therefore can do nothing but read the tree and write to two open files, and
//! everything it does is bounded; where a bound cut something off, that is said.
//!
//! - [`errand`]: the runner's side.
//! - [`keeper`]: the process that the zygote forks, and what it keeps.
//! - `walk`: the tree, from the top, an entry at a time.
//! - `content`: what is in one file.
//! - `list`: one entry, as a line of JSON.
//! - `archive`: the tar.
//! - `sparse`: where a file has data and where it has holes.

pub mod errand;
pub mod keeper;

mod archive;
mod content;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod list;
mod sparse;
mod walk;

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_shim::layers::Layers;
use sojourn_shim::native::IdRange;

/// The list: one JSON object a line, and a last one that says how many there were.
pub const LIST: &str = "files.jsonl";

/// The tar.
pub const TAR: &str = "files.tar";

/// What was kept, in a few words; written last, so where it is, the rest is whole.
pub const ABOUT: &str = "about.json";

/// Below `kept/`: the names of directories that the audit log does not have yet.
pub const UNTOLD: &str = ".untold";

/// Files that were uploaded to a honeypot.
pub const UPLOADS: &str = "uploads";

/// A directory to make of what one session left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The directory's name below `kept/`.
    pub name: String,
    /// Whose it was.
    pub session: SessionId,
    /// In which profile.
    pub profile: String,
    /// How long that is kept, in seconds; 0: for ever.
    pub keep_for: u64,
    /// When the sandbox became the session's: what is older was there before it.
    pub since: Wall,
    /// The ids outside of the ids inside.
    pub ids: IdRange,
    /// How the overlay marks what it hides.
    pub marks: Marks,
    /// How much is read.
    pub bounds: Bounds,
}

/// In which extended attributes an overlay keeps its marks. Those of the other kind are the
/// prisoner's own, and say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Marks {
    /// `trusted.overlay.…`, of an overlay that root mounted.
    Trusted,
    /// `user.overlay.…`, of one that was mounted with `userxattr`.
    User,
}

/// How much of what a session left is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Entries of directories.
    pub entries: u64,
    /// Directories within directories.
    pub depth: usize,
    /// Bytes of a path.
    pub path: usize,
    /// Bytes of the list.
    pub list: u64,
    /// Bytes of the tar.
    pub tar: u64,
    /// Bytes of holes that are hashed, over all files.
    pub holes: u64,
    /// How long it takes.
    pub time: Duration,
}

impl Bounds {
    /// Those for a sandbox with a writable layer of `disk` bytes.
    #[must_use]
    pub fn of_disk(disk: u64) -> Self {
        Self {
            entries: 200_000,
            depth: 128,
            path: 4096,
            list: 32 << 20,
            // A small file takes more room in a tar than on a disk.
            tar: disk.saturating_add(64 << 20),
            holes: 1 << 30,
            time: Duration::from_secs(120),
        }
    }
}

/// Why not all of it was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// There were more entries than are read.
    Entries,
    /// Directories were nested more deeply than is followed.
    Depth,
    /// A path was too long.
    Path,
    /// The list had no more room.
    List,
    /// The tar had no more room.
    Tar,
    /// The disk that it is kept on had no more room.
    Disk,
    /// It took too long.
    Time,
    /// Something could not be read.
    Unreadable,
    /// The reading broke off.
    BrokenOff,
}

/// What was found and kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Entries that changed: the lines of the list.
    pub entries: u64,
    /// Regular files in the tar.
    pub files: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Why not all of it was kept; empty: all was.
    pub truncated: Vec<Cut>,
}

/// Everything to be walked of one sandbox whose every process is dead.
#[derive(Debug)]
pub struct Remains {
    /// Its layers.
    pub layers: Layers,
    /// The ids outside of its ids inside.
    pub ids: IdRange,
    /// How its overlay marks what it hides.
    pub marks: Marks,
}

/// The file [`ABOUT`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Version of this file's shape, 1.
    pub version: u32,
    /// Whose it was.
    pub session: SessionId,
    /// In which profile.
    pub profile: String,
    /// How long that said it is kept, in seconds; 0: for ever.
    pub keep_for: u64,
    /// When it was kept.
    pub kept_at: String,
    /// What.
    #[serde(flatten)]
    pub totals: Totals,
}

/// Keeper → runner: what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Report {
    /// It is kept.
    Kept(Totals),
    /// Nothing had changed: there is no directory.
    Nothing,
    /// It could not be kept.
    Failed {
        /// Why, in a line.
        message: String,
    },
}

#[cfg(test)]
mod tests;
