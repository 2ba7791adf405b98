//! The runner on somebody's own machine: it dials the gateway, and keeps what happens in its sessions
//! until the gateway has it.
//!
//! - `spool`: events on disk, from their birth to their acknowledgement.

pub mod spool;
