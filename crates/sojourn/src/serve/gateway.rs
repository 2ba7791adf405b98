//! The gateway's life once it has its own rights only.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_engine::Engine;
use sojourn_engine::audit;
use sojourn_engine::audit::AuditOptions;
use sojourn_engine::clock;
use sojourn_engine::clock::Clock;
use sojourn_engine::engine::Parts;
use sojourn_engine::identity::Identity;
use sojourn_engine::login::Logins;
use sojourn_engine::records::Records;
use sojourn_engine::tokens::Tokens;
use sojourn_store::Claim;
use sojourn_store::Store;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::convert;
use super::doors;
use super::first_admin;
use super::reload::Reloader;
use super::runner_source::RunnerSource;
use super::systemd;
use crate::config::Config;
use crate::config::Forwarded;
use crate::config::OnAuditFailure;
use crate::config::OnStop;
use crate::failure::Failure;
use crate::failure::Outcome;

/// How long a runner may take to come at the start.
const RUNNER: Duration = Duration::from_secs(60);

/// Between two tries to take up what is left.
const AGAIN: Duration = Duration::from_millis(200);

/// Beyond the longest grace: what an ending session may still need.
const SLACK: Duration = Duration::from_secs(20);

/// Where the configuration was read.
pub(super) struct Source {
    /// Which file it is; none: there was none.
    pub(super) file: Option<PathBuf>,
    /// Whether root read it, and only root may be able to change it.
    pub(super) is_roots: bool,
}

/// Runs until a signal, or until a part that cannot be missed is gone.
pub(super) async fn live(config: Config, source: Source, runners: RunnerSource) -> Outcome {
    let clock = clock::from_environment()
        .map_err(|error| Failure::refused(format!("no clock: {error}")))?;
    let data_dir = config.data_dir.0.clone();
    let (store, mut claim) = Store::open_alone(config.store.url.location(&data_dir))
        .await
        .map_err(|error| Failure::caused(&error))?;
    let options = AuditOptions {
        data_dir: data_dir.clone(),
        on_failure: match config.audit.on_failure {
            OnAuditFailure::Refuse => audit::OnFailure::Refuse,
            OnAuditFailure::Continue => audit::OnFailure::Continue,
        },
    };
    let (log, writer) = audit::start(&options, store.clone(), clock.clone())
        .await
        .map_err(|error| Failure::caused(&error))?;
    // The log outlives everything that may still have something to tell.
    let last = CancellationToken::new();
    let syslog = match config.audit.forward {
        Forwarded::Nowhere => None,
        Forwarded::Syslog => Some(audit::Syslog::default()),
    };
    let keeper = tokio::spawn(writer.telling(syslog).run(last.clone()));
    let settings = convert::identity(&config);
    let identity = Identity::open(store.clone(), log.clone(), clock.clone(), &data_dir, settings)
        .map_err(|error| Failure::caused(&error))?;
    let logins = Logins::open(
        &data_dir,
        convert::logins(&config),
        store.clone(),
        identity.clone(),
        log.clone(),
        clock.clone(),
    )
    .await
    .map_err(|error| Failure::caused(&error))?;
    let engine = Engine::new(Parts {
        clock: clock.clone(),
        accounts: identity.accounts(),
        identity,
        logins,
        audit: log.clone(),
        tokens: Tokens::new(store.clone(), log.clone(), clock.clone()),
        records: Records::new(store.clone(), log.clone(), clock.clone()),
        profiles: convert::profiles(&config),
        max_sessions: count(config.limits.max_concurrent_sessions),
        max_sessions_per_user: count(config.limits.max_sessions_per_user),
        recordings: data_dir.join("recordings"),
        build: convert::BUILD.to_owned(),
    });
    engine.set_max_watchers(count(config.limits.max_watchers));
    engine.remote().set_max_sessions(count(config.limits.max_sessions_per_runner));
    engine.remote().set_lost_after(convert::for_ever(config.limits.runner_lost_after));
    engine.rates().set(convert::rates(&config));
    let place = Place { store: &store, claim: &mut claim, clock: clock.as_ref() };
    let outcome = serve(&config, source, &engine, runners, place).await;
    log.record_soon(Event::new(clock.wall(), Action::GatewayStopped, Actor::SYSTEM));
    last.cancel();
    let _crashed = keeper.await;
    store.close().await;
    outcome
}

/// Where a gateway keeps what it knows.
struct Place<'a> {
    store: &'a Store,
    claim: &'a mut Claim,
    clock: &'a dyn Clock,
}

async fn serve(
    config: &Config,
    source: Source,
    engine: &Engine,
    runners: RunnerSource,
    place: Place<'_>,
) -> Outcome {
    let Place { store, claim, clock } = place;
    let started = Event::new(clock.wall(), Action::GatewayStarted, Actor::SYSTEM)
        .detail("version", env!("CARGO_PKG_VERSION"));
    engine.audit().record(started).await.map_err(|error| Failure::caused(&error))?;
    let mut runner = tokio::spawn(runners.serve(engine.clone()));
    let doors = TaskTracker::new();
    let stop = stop_signal()?;
    // Without this a closed terminal would kill the gateway, and its sessions would not be told.
    let hup = signal(SignalKind::hangup()).map_err(no_signals)?;
    let running = async {
        // Before anything is found that nobody was told of: it is no answer to a request.
        engine.settle_requests().await;
        take_up(engine).await?;
        let admin = first_admin::ensure(store, &config.data_dir.0, clock).await?;
        let listening = doors::open(config, engine, &doors).await?;
        first_admin::welcome(&listening, admin, &source);
        systemd::tell(systemd::READY);
        let reloader = Reloader {
            source,
            started: config.clone(),
            current: config.clone(),
            engine: engine.clone(),
            gate: listening.gate,
            tls: listening.tls,
        };
        doors.spawn(reloader.run(hup));
        tokio::join!(engine.watch_accounts(), engine.keep_house());
        Ok(())
    };
    let outcome = tokio::select! {
        ended = running => ended,
        signal = stop => {
            tracing::info!(signal, event = "stopping", "stopping");
            Ok(())
        }
        lost = claim.lost() => Err(Failure::caused(&lost)),
        ended = &mut runner => match ended {
            Ok(Err(failure)) => Err(failure),
            _ => Err(Failure::refused("the runner cannot be reached any more")),
        },
    };
    systemd::tell(systemd::STOPPING);
    if let Err(failure) = &outcome {
        tracing::error!(%failure, event = "stopping", "stopping");
    }
    // After a failure sessions are not to blame: the next start takes them up.
    let leave = config.server.on_stop == OnStop::Leave || outcome.is_err();
    let longest = config.profiles.usable().map(|(_, profile)| config.limits_for(profile).grace);
    let patience = longest.max().unwrap_or_default() + SLACK;
    engine.shut_down(leave, patience).await;
    if !runner.is_finished() {
        // It has to clean up: until then what it made is not gone.
        let _late = tokio::time::timeout(SLACK, runner).await;
    }
    doors.close();
    let _late = tokio::time::timeout(Duration::from_secs(2), doors.wait()).await;
    remove_socket(&config.data_dir.0);
    outcome
}

/// Takes up what the gateway before this one left. The runner it left may just be going, and the next
/// one has to wait for that.
async fn take_up(engine: &Engine) -> Outcome {
    let taken = async {
        while let Err(error) = engine.adopt().await {
            tracing::warn!(%error, "what the gateway before this one left waits");
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::time::timeout(RUNNER, taken).await.map_err(|_| {
        Failure::refused(
            "what the gateway before this one left cannot be taken up; see the log for why",
        )
    })
}

/// The first of the signals that stop the gateway, by name.
fn stop_signal() -> Result<impl Future<Output = &'static str>, Failure> {
    let mut term = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut int = signal(SignalKind::interrupt()).map_err(no_signals)?;
    Ok(async move {
        tokio::select! {
            _ = term.recv() => "TERM",
            _ = int.recv() => "INT",
        }
    })
}

fn no_signals(error: std::io::Error) -> Failure {
    Failure::refused(format!("no signals: {error}"))
}

fn remove_socket(data_dir: &Path) {
    let _missing = std::fs::remove_file(data_dir.join(doors::SOCKET));
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
