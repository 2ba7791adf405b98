//! Sessions on a machine. The built-in runner is the privileged half of `sojourn serve`: it makes
//! sandboxes, gives sessions one, and cleans up after them; it knows nothing of users, SSH or
//! browsers, and has no network. The remote runner is somebody's own program on their own machine.
//!
//! - [`remote`]: `sojourn runner`, which dials in.
//! - [`process`]: the process tree of a session that has no sandbox.
//! - [`agent`]: an agent and its conversation.
//! - [`chamber`]: a shell there that has a sandbox.
//! - [`tls`]: how a gateway is spoken to, by whoever dials it.
//!
//! Of the built-in one:
//!
//! - [`builtin`]: its life, from the fork to the last session.
//! - `requests`: what a gateway may ask. Everything else ends the connection.
//! - `sessions`: the sessions it holds.
//! - `closing`: what follows a session's end.
//! - `kept`: what sessions left in their sandboxes.
//! - `tellings`: what has to be on record before the runner goes on.
//! - [`retention`]: how long all that is kept.
//! - `directories`: where recordings and live state are, reached by descriptor only.
//! - `record`: recordings of sessions on other machines, which the gateway appends to.
//! - `recovery`: what a runner finds when it starts, and what a lost shim leaves.
//! - `power`: what the loss of power leaves.
#![cfg(target_os = "linux")]

pub mod agent;
pub mod builtin;
pub mod chamber;

mod closing;
mod directories;
#[cfg(feature = "fuzz")]
pub mod fuzz;
mod gateway;
mod kept;
mod power;
pub mod process;
mod record;
mod recovery;
pub mod remote;
mod requests;
pub mod retention;
mod sessions;
mod tellings;
pub mod tls;
