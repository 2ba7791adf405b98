//! The privileged side of a session on this machine, in small single-threaded processes: the zygote
//! that `sojourn serve` splits off before any thread exists, and the shims it forks, one a session.
//!
//! - [`zygote`]: the split; the process that forks shims and the built-in runner.
//! - [`sandbox`]: what a session holds of its sandbox; [`init_link`]: its process 1; [`cgroup`] and
//!   [`pty`]: where its programs are found, and their terminals.
//! - [`nat`]: a network for a sandbox, and what it may reach.
//! - [`native`]: the sandbox of namespaces and an overlay that is built here.
//! - [`container`]: one that an engine made, taken over; [`host`]: no sandbox, another user.
//! - [`layers`]: what a sandbox wrote, readable when it is dead.
//! - [`confined`]: a process that reads that, and can do nothing else.
//! - [`joined`]: a place in a sandbox that another shim holds.
//! - [`control`]: what a runner and a shim say to each other before and beside a session.
//! - [`shim`]: the life of a shim: sandbox, programs, recording, lease.
//! - [`state`]: the file that tells whoever restarts what a shim is doing.
//! - [`seqpacket`]: one message, one frame, with descriptors.
//!
//! This is the only crate of the project with `unsafe` in it. There is no tokio here.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "processes, signals and mounts have no other way")]

pub mod cgroup;
pub mod clock;
pub mod confined;
pub mod container;
pub mod control;
pub mod error;
pub mod files;
pub mod host;
pub mod init_link;
pub mod joined;
pub mod layers;
pub mod nat;
pub mod native;
pub mod pty;
pub mod sandbox;
pub mod seqpacket;
pub mod shim;
pub mod state;
pub mod zygote;

mod builder;
mod kernel;
mod sys;
mod userns;
