//! The runner on somebody's own machine: it dials the gateway, runs sessions in directories that were
//! allowed, holds them to their limits with or without a gateway, and keeps what happens in them until
//! the gateway has it.
//!
//! ```text
//!   gateway ◀──WebSocket── link ── hub ──┬── session ── warden ── agent, or a shell on a terminal
//!                                        └── session …
//!                                  (outbox, lease, record: on disk, one directory a session)
//! ```
//!
//! - [`options`], [`address`]: what it is told at its start; `state`: where it keeps things.
//! - `link`: one connection; `backoff`: the time until the next.
//! - `hub`: what is wanted of which session; `receipts`: what was done already.
//! - `session`: the life of one; `held`, `record`, `leash`, `terminal`: its parts.
//! - `outbox`: what it has to say, in [`spool`] and `bytes` until it is acknowledged.
//! - `allowed`, `environment`, `harnesses`, `chambers`: where, with what, and what may run.
//! - `recovery`: what an earlier runner left; `notice`: what the desktop is told.

pub mod address;
pub mod clock;
pub mod options;
pub mod spool;

mod allowed;
mod backoff;
mod bytes;
mod chambers;
mod environment;
mod harnesses;
mod held;
mod hub;
mod leash;
mod link;
mod notice;
mod outbox;
mod receipts;
mod record;
mod recovery;
mod session;
mod state;
mod terminal;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::wire::relay;
use sojourn_core::wire::relay::Hello;
use sojourn_core::wire::relay::Machine;
use sojourn_core::wire::relay::VERSION;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use address::DialError;
use allowed::Allowed;
use backoff::Backoff;
use hub::Hub;
use link::Parted;
use options::Options;
use receipts::Receipts;
use state::State;
use state::StateError;

/// Programs are asked for their versions again when the last answer is so old.
const PROBED: Duration = Duration::from_secs(300);

/// How long the gateway may take to store the ends of sessions when the runner is stopped.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How often it is looked whether it has.
const LOOK: Duration = Duration::from_millis(20);

/// Why a runner stops.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It is configured wrongly.
    #[error("{0}")]
    Wrong(String),
    /// The gateway does not want it, or it cannot work here.
    #[error("{0}")]
    Refused(String),
}

/// Runs until it is stopped, or the gateway does not want it any more. Sessions are ended first.
///
/// # Errors
/// When it cannot work here, or is refused for good.
pub async fn run(options: Options, stop: CancellationToken) -> Result<(), RunError> {
    let (allowed, problems) = Allowed::new(&options.allow, &options.home);
    if !problems.is_empty() {
        return Err(RunError::Wrong(problems.join("; ")));
    }
    let state = State::open(&options.state_dir, options.gateway.shown(), &options.name);
    let state = state.map_err(|error| match error {
        StateError::Taken { .. } => RunError::Refused(error.to_string()),
        StateError::System(..) => RunError::Wrong(error.to_string()),
    })?;
    let receipts = Receipts::open(&state.receipts()).map_err(|error| {
        let (path, error) = (state.receipts(), crate::tls::plain(&error));
        RunError::Wrong(format!("{}: {error}", path.display()))
    })?;
    if allowed.shown().is_empty() {
        tracing::warn!("{}", allowed::NotAllowed::Nothing);
    }
    let work = Arc::new(Notify::new());
    let hub = Hub::new(options, state, allowed, receipts, work.clone());
    recovery::run(&hub, &work).await;
    let mut linked = tokio::spawn(link_for_ever(hub.clone()));
    let refused = tokio::select! {
        refused = &mut linked => refused.unwrap_or_else(|error| error.to_string()),
        () = stop.cancelled() => {
            tracing::info!("stopping; sessions are ended");
            hub.stop().await;
            last_words(&hub).await;
            linked.abort();
            return Ok(());
        }
    };
    tracing::error!("sessions are ended: {refused}");
    hub.stop().await;
    Err(RunError::Refused(refused))
}

/// Waits a little for the gateway to have everything.
async fn last_words(hub: &Hub) {
    let until = Instant::now() + LAST_WORDS;
    while !hub.is_told() && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
    }
}

/// Dials again and again. Gives the reason when the gateway does not want this runner for good.
async fn link_for_ever(hub: Arc<Hub>) -> String {
    let mut backoff = Backoff::new(hub.options.pace.pause);
    let mut harnesses = Probed::default();
    let chance = RandomState::new();
    for turn in 0_u64.. {
        let options = &hub.options;
        let found = harnesses.current(&hub).await;
        let parted = match options.gateway.dial(&options.token, &options.build).await {
            Ok(socket) => {
                let hello = hello(&hub, found);
                let gateway = options.gateway.shown();
                let welcomed = || {
                    backoff.reset();
                    tracing::info!(gateway, event = "linked", "connected to the gateway");
                };
                link::run(&hub, socket, hello, welcomed).await
            }
            Err(DialError::Unreachable(why)) => Parted::Lost(why),
            Err(DialError::Refused(message)) => Parted::Refused { message, for_good: true },
        };
        let why = match parted {
            Parted::Refused { message, for_good: true } => return shown(&message),
            Parted::Refused { message, .. } | Parted::Lost(message) => shown(&message),
        };
        let pause = backoff.next(chance.hash_one(turn));
        tracing::warn!(
            reason = why,
            retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
            event = "unlinked",
            "no connection to the gateway; sessions go on",
        );
        tokio::time::sleep(pause).await;
    }
    String::new()
}

/// Foreign words, on one line.
fn shown(text: &str) -> String {
    text.chars().take(500).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn hello(hub: &Hub, harnesses: Vec<relay::Harness>) -> Hello {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Hello {
        version: VERSION,
        build: hub.options.build.clone(),
        machine: Machine {
            host,
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
        },
        harnesses,
        directories: hub.allowed.shown(),
        sessions: hub.running(),
    }
}

/// What can be run, as it was found last.
#[derive(Default)]
struct Probed {
    at: Option<Instant>,
    found: Vec<relay::Harness>,
}

impl Probed {
    async fn current(&mut self, hub: &Hub) -> Vec<relay::Harness> {
        if self.at.is_none_or(|at| at.elapsed() >= PROBED) {
            let options = &hub.options;
            let env = environment::of_program(
                &options.environment,
                &options.pass_env,
                &BTreeMap::new(),
                &[],
            );
            self.found = harnesses::probe(&options.harnesses, &env).await;
            self.at = Some(Instant::now());
        }
        self.found.clone()
    }
}
