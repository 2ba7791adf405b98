//! Sojourn: one command for the gateway and for those who run it.

mod cli;
mod client;
mod commands;
mod config;
mod data_dir;
mod failure;
mod logging;
mod output;
mod recordings;
mod serve;
mod system_user;
mod table;
mod terminal;

use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::process::ExitCode;

fn main() -> ExitCode {
    failure::install_panic_hook();
    // One provider for all TLS of this program; nobody was before us, so it is taken.
    let _taken = rustls::crypto::ring::default_provider().install_default();
    // The hook has said what there is to say.
    catch_unwind(AssertUnwindSafe(commands::run)).unwrap_or(ExitCode::from(failure::EXIT_BUG))
}
