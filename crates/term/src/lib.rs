//! What a terminal session leaves on disk, and how it is shown again: no network, no clock, no threads.
//!
//! - [`cast`]: the recording itself, asciicast v2: writer, reader, verification, recovery.
//! - [`sidecar`]: the JSON file beside it: who, from where, what was run, how it ended.
//! - [`commands`]: command lines, recognised in what is typed: best effort.
//! - [`replay`]: when each piece of a recording is to be shown.
//! - [`snapshot`]: the screen as it is, drawn from the recording; [`thumbnail`]: the same as text.
//! - [`sanitise`]: takes out of terminal output what acts on the viewer instead of the screen.
//! - [`escape`]: foreign strings made safe to print.

pub mod cast;
pub mod commands;
pub mod escape;
pub mod replay;
pub mod sanitise;
pub mod sidecar;
pub mod snapshot;
pub mod tail;
pub mod thumbnail;
pub mod utf8;
