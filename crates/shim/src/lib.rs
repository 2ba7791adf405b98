//! The privileged side of a session on this machine, in small single-threaded processes: the zygote
//! that `sojourn serve` splits off before any thread exists, and the shims it forks, one a session.
//!
//! - [`zygote`]: the split; the process that forks shims and the built-in runner.
//! - [`native`]: the sandbox of namespaces and control groups; [`init_link`]: its process 1.
//! - [`control`]: what a runner and a shim say to each other before and beside a session.
//! - [`shim`]: the life of a shim: sandbox, programs, recording, lease.
//! - [`state`]: the file that tells whoever restarts what a shim is doing.
//! - [`seqpacket`]: one message, one frame, with descriptors.
//!
//! This is the only crate of the project with `unsafe` in it. There is no tokio here.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "processes, signals and mounts have no other way")]

pub mod clock;
pub mod control;
pub mod files;
pub mod init_link;
pub mod native;
pub mod seqpacket;
pub mod shim;
pub mod state;
pub mod zygote;

mod kernel;
mod sys;
