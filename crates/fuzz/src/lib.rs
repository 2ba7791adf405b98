//! Every decoder of the project as a function of bytes that panics where a promise is broken, with
//! seeds that the real encoders made, and a driver that needs no special toolchain.
//!
//! - [`target`]: what a target is, and all of them.
//! - [`targets`]: their functions.
//! - [`seeds`]: what each begins with.
//! - [`mutate`]: changes inputs, always the same way for the same seed.
//! - [`drive`]: runs a target for a while.
//!
//! `fuzz/` at the root of the repository has the corpus, and the same targets for `cargo fuzz`.
#![cfg(target_os = "linux")]

pub mod drive;
pub mod mutate;
pub mod seeds;
pub mod target;
pub mod targets;

// The program is no library, and its configuration is worth a second compilation.
#[expect(dead_code, unused_imports, reason = "only the reading of it is of use here")]
#[path = "../../sojourn/src/config/mod.rs"]
mod config;
#[expect(dead_code, reason = "only the configuration asks for accounts")]
#[path = "../../sojourn/src/system_user.rs"]
mod system_user;

// What process 1 of a sandbox reads, compiled once more for this side.
#[expect(dead_code, reason = "how long an answer may be is for whoever receives it")]
#[path = "../../shim/init/dns.rs"]
mod dns;
#[path = "../../shim/init/endpoint.rs"]
mod endpoint;
#[path = "../../shim/init/input.rs"]
mod input;
#[path = "../../shim/init/request.rs"]
mod request;
