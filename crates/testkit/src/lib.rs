//! What tests of the whole program need: a real gateway in a directory of its own, and the real
//! OpenSSH client. For tests only.
//!
//! Nothing here sleeps for a fixed time: [`until`] waits for a condition with a deadline. What a test
//! starts is ended by its pid when it goes out of scope, also when the test fails.

mod browser;
mod client;
mod clock;
mod cutter;
mod disk;
mod dockerd;
mod far;
mod gateway;
mod network;
mod peer;
mod postgres;
mod push;
mod runner;
mod scratch;
mod sshd;

pub use browser::Answer;
pub use browser::Ask;
pub use browser::Browser;
pub use browser::Cookie;
pub use browser::Frame;
pub use browser::Jar;
pub use browser::Socket;
pub use client::Client;
pub use client::Output;
pub use client::Running;
pub use clock::Clock;
pub use cutter::Cutter;
pub use disk::Disk;
pub use disk::DiskKind;
pub use dockerd::Dockerd;
pub use far::Far;
pub use far::can_lose_packets;
pub use gateway::Gateway;
pub use gateway::Options;
pub use network::Network;
pub use network::alone;
pub use network::cover;
pub use peer::Peer;
pub use postgres::Database;
pub use postgres::PASSWORD as DATABASE_PASSWORD;
pub use postgres::Postgres;
pub use push::PushService;
pub use push::Subscription;
pub use runner::Runner;
pub use runner::processes_of;
pub use scratch::Scratch;
pub use sshd::Sshd;

use std::time::Duration;
use std::time::Instant;

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `condition` gives something.
///
/// # Panics
/// When it did not within `patience`.
#[track_caller]
pub fn until<T>(what: &str, patience: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited {patience:?} for {what}");
        // The pause between two looks, not a guess at how long something takes.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether tests can make real sandboxes. When not, says so: a test that did nothing must not look as
/// if it had.
#[must_use]
pub fn can_make_sandboxes() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: real sandboxes need root here");
    }
    root
}
