//! `sojourn serve`, in the order of its life:
//!
//! 1. as root: the account, the directories, then the split, before any thread exists;
//! 2. the lock, and the runner: one that lives already, or a new one from the zygote;
//! 3. from root to the gateway's user, for good;
//! 4. store, audit log, identity, engine, what the gateway before left, then the doors;
//! 5. until a signal: sessions are told and ended, or left to the next start.
//!
//! Whoever is not root starts it with their own rights, and without sandboxes: see [`rootless`].

mod account;
pub(crate) mod convert;
mod doors;
mod first_admin;
mod gateway;
mod layout;
mod lock;
mod privileges;
mod reload;
mod rootless;
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
use crate::failure::complain;
use crate::logging;
use account::Account;
use gateway::Source;
use runner_source::RunnerSource;

/// Runs the gateway until it is told to stop.
pub(crate) fn run(loaded: Loaded) -> Outcome {
    let config = loaded.config;
    let is_root = geteuid().is_root();
    if !is_root {
        rootless::check(&config)?;
    }
    logging::init(&config.log);
    for note in &loaded.notes {
        tracing::warn!("{note}");
    }
    if !config.data_dir.0.exists() {
        // A first start that cannot go on leaves nothing behind.
        doors::can_listen(&config)?;
    }
    let account = is_root.then(|| Account::find_or_create(&config.server.user.0)).transpose()?;
    let runner_config = match account {
        Some(account) => {
            layout::prepare(&config.data_dir.0, account)?;
            convert::runner(&config)?
        }
        None => {
            layout::prepare_own(&config.data_dir.0)?;
            // Before the fork, which passes it on.
            privileges::gain_none()?;
            rootless::runner(&config)
        }
    };
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
    match account {
        Some(account) => privileges::drop_to(account)?,
        None => complain(rootless::NOTE),
    }
    layout::check_reachable(&config.data_dir.0)?;
    privileges::raise_descriptors();
    let source = Source { file: loaded.file, is_roots: is_root };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Refused(format!("no runtime: {error}")))?;
    let outcome = runtime.block_on(gateway::live(config, source, runners));
    // What still blocks a thread (a password being hashed) is not waited for.
    runtime.shutdown_background();
    outcome
}
