//! The SSH door: people come in with the `ssh` they already have.
//!
//! ```text
//!   Door ── a task a connection ──▶ SshHandler (answers the library)
//!    │                                  │ a channel is opened
//!    │ Lobby: who has not               ▼
//!    │ signed in yet            Line (program ──▶ client)
//!    ▼                          Intake (client ──▶ Spool ──▶ program)
//!    │                         Service (SFTP, SCP) over the file helper, where that is asked for
//!    │                         Passage (forwarded connections)
//!   Connection: who it is, and the one session it may have
//! ```
//!
//! It knows russh and nothing of sandboxes; the gate behind it (the engine) knows nothing of russh.
//! Nobody who has not signed in costs more than a bounded handshake.

mod algorithms;
mod caller;
mod channel;
mod config;
mod connection;
mod connects;
mod door;
mod files;
mod forward;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod gate;
mod handler;
mod hassh;
mod honeypot;
mod host_keys;
mod intake;
mod lobby;
mod pace;
mod places;
mod proxy;
mod scp;
mod sftp;
mod sign_in;
mod spool;
mod turned_away;
mod unasked;
mod valve;
mod wire;

pub use algorithms::Algorithms;
pub use algorithms::UnknownAlgorithm;
pub use config::Keepalive;
pub use config::SetupError;
pub use config::SshListener;
pub use door::Door;
pub use gate::Gate;
pub use honeypot::Honeypot;
pub use host_keys::HostKeyError;
pub use host_keys::HostKeys;
pub use lobby::LobbyLimits;
pub use spool::SpoolLimits;
pub use turned_away::Why;
