//! What a session is, without any I/O: ids, units, leases, ends, authorisation, the audit chain and
//! the messages between the parts.
//!
//! Everything here is deterministic: the same events and times give the same effects. There is no
//! clock, no socket and no runtime in this crate, so it checks and tests in seconds.

pub mod audit;
pub mod authz;
pub mod end;
pub mod extension;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod ids;
pub mod lease;
pub mod limits;
pub mod login;
pub mod network;
pub mod rate;
pub mod scope;
pub mod status;
pub mod time;
pub mod units;
pub mod wire;
