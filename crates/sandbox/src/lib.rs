//! Sandboxes made ahead of time: what a profile asks for, the shims that build it, and the pool that
//! has some ready.
//!
//! - [`profile`]: a profile as the runner knows it.
//! - [`pool`]: the pools; one is taken by a message.
//! - [`prepared`]: a sandbox that waits for a session, and the shim that holds it.
//! - [`docker`]: sandboxes in containers of an engine.
//! - [`egress`]: what a profile's sandboxes may reach.
//! - [`forge`]: asks the zygote for shims.
//! - [`image`]: image archives, unpacked once for all sandboxes.
//! - [`left`]: what a session left in its sandbox, read when everything of it is dead.
//! - [`bait`]: what the profile for honeypots is made to look like.
//! - [`slots`]: user ids, so that no two sandboxes share one.
//! - [`tether`]: what ties a runner to a shim that has a session.
//! - [`packets`]: a seqpacket socket on the runtime.
#![cfg(target_os = "linux")]

pub mod bait;
pub mod docker;
pub mod egress;
pub mod forge;
#[cfg(feature = "fuzz")]
pub mod fuzz;
pub mod image;
pub mod left;
pub mod packets;
pub mod pool;
pub mod prepared;
pub mod profile;
pub mod shared;
pub mod slots;
pub mod tether;
