//! `sojourn serve`, in the order of its life:
//!
//! 1. as root: the account, the directories, then the split, before any thread exists;
//! 2. the lock, and the runner: one that lives already, or a new one from the zygote;
//! 3. from root to the gateway's user, for good;
//! 4. store, audit log, identity, engine, what the gateway before left, then the doors;
//! 5. until a signal: sessions are told and ended, or left to the next start.

mod account;
pub(crate) mod convert;
mod doors;
mod first_admin;
mod gateway;
mod layout;
mod lock;
mod privileges;
mod reload;
mod runner_source;
mod systemd;

use rustix::process::geteuid;
use sojourn_runner::builtin;
use sojourn_sandbox::image::unpacker;
use sojourn_sandbox::left::keeper;
use sojourn_shim::zygote;

use crate::config::Loaded;
use crate::failure::Failure;
use crate::failure::Outcome;
use crate::logging;
use account::Account;
use runner_source::RunnerSource;

/// Runs the gateway until it is told to stop.
pub(crate) fn run(loaded: Loaded) -> Outcome {
    let config = loaded.config;
    if !geteuid().is_root() {
        return Err(Failure::Usage(
            "this version makes its sandboxes as root: run it with sudo (the gateway itself then \
             drops to [server] user)"
                .to_owned(),
        ));
    }
    logging::init(&config.log);
    for note in &loaded.notes {
        tracing::warn!("{note}");
    }
    let account = Account::find_or_create(&config.server.user.0)?;
    layout::prepare(&config.data_dir.0, account)?;
    let runner_config = convert::runner(&config)?;
    let run_runner = |seed| builtin::run(seed, runner_config.clone());
    let plan = zygote::Plan {
        runner: &run_runner,
        keeper: &keeper::run,
        unpacker: &unpacker::run,
        keep: &[],
    };
    let zygote = zygote::split(&plan)
        .map_err(|error| Failure::Refused(format!("the zygote cannot be forked: {error}")))?;
    let _lock = lock::take(&config.data_dir.0)?;
    let runners = RunnerSource::begin(zygote, &config.data_dir.0)?;
    privileges::drop_to(account)?;
    layout::check_reachable(&config.data_dir.0)?;
    privileges::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Refused(format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(gateway::live(config, loaded.file, runners));
    // What still blocks a thread (a password being hashed) is not waited for.
    runtime.shutdown_background();
    outcome
}
