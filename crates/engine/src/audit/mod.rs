//! The audit log: one writer, many readers, and the check that nobody changed a line.
//!
//! ```text
//!   record / record_soon ──▶ queue ─┐
//!                                   ├──▶ writer ──▶ append + fdatasync ──▶ answers
//!   store changes ────▶ outbox ─────┘      │
//!                                          └──▶ a signed checkpoint now and then
//! ```
//!
//! An event that belongs to a change of the store travels by the outbox and is in the log exactly
//! once, whatever crashes when. Only one process appends; others leave their events in the outbox.

mod appender;
mod disk;
mod few;
mod handle;
mod keys;
mod opening;
mod read;
mod search;
mod syslog;
mod verify;
mod writer;

#[cfg(all(test, feature = "bench"))]
mod bench;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

pub use disk::DIR;
pub use disk::LockError;
pub use handle::AuditHandle;
pub use handle::AuditUnavailable;
pub use handle::OnFailure;
pub use keys::KeyError;
pub use read::Line;
pub use read::LogReader;
pub use read::Query;
pub use search::Found;
pub use search::MAX_PAGE;
pub use search::SearchError;
pub use search::search;
pub use syslog::Syslog;
pub use verify::Finding;
pub use verify::Findings;
pub use verify::verify;
pub use verify::verify_until;
pub use writer::AuditWriter;
pub use writer::drain;
pub use writer::start;

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct AuditOptions {
    /// The data directory: the log is in `audit/`, its key in `keys/`.
    pub data_dir: PathBuf,
    /// What happens while it cannot be written.
    pub on_failure: OnFailure,
}

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum AuditOpenError {
    /// Another process appends to it, or its directory cannot be used.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Its key is not there.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its last lines cannot be read.
    #[error("the audit log's last lines cannot be read")]
    Read(#[from] io::Error),
    /// The outbox cannot be read.
    #[error(transparent)]
    Store(#[from] sojourn_store::StoreError),
}
