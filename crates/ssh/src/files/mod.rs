//! What SFTP and SCP have in common: the file helper inside the sandbox, what is on record of a
//! transfer, and how a channel is served by the door itself.
//!
//! ```text
//!   client ──▶ Intake ──▶ ServedInput ──▶ ┌────────┐ ──▶ Asking ──▶ file helper
//!                                         │ server │                    │
//!   client ◀── Line ◀──── ServedOutput ◀─ └────────┘ ◀── Answers ◀──────┘
//! ```
//!
//! The server is one task a channel. Nothing of it opens a path: the helper does, inside.

mod evidence;
mod helper;
mod served;
mod transfer;

pub(crate) use helper::Answers;
pub(crate) use helper::Asking;
pub(crate) use helper::HelperError;
pub(crate) use helper::bytes_of;
pub(crate) use helper::error_text;
pub(crate) use served::Client;
pub(crate) use served::ClientGone;
pub(crate) use served::EitherInput;
pub(crate) use served::EitherOutput;
pub(crate) use served::Service;
pub(crate) use transfer::Direction;
pub(crate) use transfer::Ledger;
pub(crate) use transfer::Transfer;

/// What is read or written at the same time, in parts of the protocol's size: enough that the way to
/// the helper and back is never what a transfer waits for.
pub(crate) const IN_FLIGHT: usize = 32;
