//! What a runner starts beside a shell that has a sandbox: see [`sojourn_runner::chamber`].

use std::process::ExitCode;

use sojourn_runner::chamber;
use sojourn_runner::chamber::Guest;

use crate::cli::Chamber;
use crate::cli::Common;
use crate::serve::convert;

pub(super) fn run(common: &Common, asked: &Chamber) -> ExitCode {
    // Nothing is logged here: standard error is somebody's terminal.
    let read = super::load(common)
        .and_then(|loaded| convert::chamber(&loaded.config, &asked.profile, asked.place));
    match read {
        Ok(config) => {
            let guest = Guest { session: asked.session, user: asked.user.clone() };
            chamber::run(config, &guest)
        }
        Err(failure) => chamber::refuse(&failure.to_string()),
    }
}
