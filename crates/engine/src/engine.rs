//! The engine: opens sessions, holds those in motion, ends them, and keeps their record.

use std::collections::HashMap;
use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use sojourn_core::audit::Actor;
use sojourn_core::end::EndReason;
use sojourn_core::ids::SessionId;
use sojourn_core::ids::UserId;
use sojourn_core::time::Mono;
use sojourn_core::wire::runner::Event as RunnerEvent;
use sojourn_core::wire::runner::Note;
use sojourn_core::wire::runner::Reply;
use sojourn_core::wire::runner::Request;
use sojourn_core::wire::shim::Summary;
use tokio::sync::broadcast;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::admission::Slot;
use crate::agents;
use crate::agents::Agents;
use crate::audit::AuditHandle;
use crate::clock::Clock;
use crate::door::Evidence;
use crate::door::Who;
use crate::ending::EndedBy;
use crate::health;
use crate::identity::Accounts;
use crate::identity::Identity;
use crate::identity::Principal;
use crate::in_effect::ProfilesInEffect;
use crate::login::Logins;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::profiles::DEFAULT;
use crate::profiles::Forward;
use crate::profiles::Profiles;
use crate::push;
use crate::rates::Rates;
use crate::records::Records;
use crate::remote;
use crate::remote::Remote;
use crate::repeats::Repeats;
use crate::runner_link::RunnerError;
use crate::runner_link::RunnerLink;
use crate::screens::Screens;
use crate::session::Session;
use crate::tokens::Tokens;
use crate::unheld::Unheld;
use crate::watching::MAX_WATCHERS;
use crate::words;

/// How many events of the runner may wait.
const EVENTS: usize = 1024;

/// How often the pulse moves.
const BEAT: Duration = Duration::from_secs(5);

/// How long the runner may take to hear the last requests.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// How long whoever ends a session waits until that has begun. What is stuck begins later.
pub(crate) const BEGINNING: Duration = Duration::from_secs(5);

/// How long the end of a session waits until its shim knows who ended it.
const NOTE: Duration = Duration::from_millis(250);

/// How often it is looked whether a session that was being opened at the end is there.
const NEWCOMERS: Duration = Duration::from_millis(50);

/// What an engine is made with.
pub struct Parts {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Who may come in.
    pub identity: Identity,
    /// Who is signed in at the web door.
    pub logins: Logins,
    /// The accounts, for those who may change them.
    pub accounts: Accounts,
    /// The audit log's writer.
    pub audit: AuditHandle,
    /// Tokens of programs and runners.
    pub tokens: Tokens,
    /// Sessions' records.
    pub records: Records,
    /// The profiles.
    pub profiles: Profiles,
    /// Sessions on the whole gateway, detached ones too.
    pub max_sessions: usize,
    /// Sessions of one user, by all doors.
    pub max_sessions_per_user: usize,
    /// Where recordings are.
    pub recordings: PathBuf,
    /// The build, told to the runner.
    pub build: String,
}

/// The engine. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
}

/// What all handles share.
pub(crate) struct Inner {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) identity: Identity,
    pub(crate) logins: Logins,
    accounts: Accounts,
    pub(crate) audit: AuditHandle,
    pub(crate) tokens: Tokens,
    pub(crate) records: Records,
    pub(crate) profiles: ProfilesInEffect,
    pub(crate) runner: RunnerLink,
    pub(crate) remote: Remote,
    pub(crate) agents: Agents,
    pub(crate) admission: Admission,
    pub(crate) live: Mutex<HashMap<SessionId, Live>>,
    /// Sessions that are not, and of which the runner will say so.
    pub(crate) parting: Mutex<HashSet<SessionId>>,
    /// Sessions that are over and whose end somebody here is at putting on record.
    pub(crate) finishing: Mutex<HashSet<SessionId>>,
    pub(crate) started: Mono,
    pub(crate) shutdown: CancellationToken,
    pub(crate) tasks: TaskTracker,
    build: String,
    events: mpsc::Sender<RunnerEvent>,
    pub(crate) screens: Screens,
    presence: Presence,
    pub(crate) metrics: Metrics,
    rates: Rates,
    pub(crate) health: health::Found,
    /// Moves every few seconds, for all who look after something at their leisure.
    pub(crate) pulse: watch::Sender<u64>,
    /// People who may look on at one session.
    pub(crate) max_watchers: AtomicUsize,
}

/// A session in motion.
pub(crate) struct Live {
    pub(crate) session: Session,
    /// Who opened it, as far as it is on record; none for a honeypot's visitor.
    pub(crate) principal: Option<Principal>,
    /// Whose it is, and so who may come back to it.
    pub(crate) owner: Option<UserId>,
    /// The profile's name.
    pub(crate) profile: String,
    pub(crate) released: Option<oneshot::Sender<Option<Summary>>>,
    pub(crate) _slot: Slot,
}

impl Engine {
    /// Makes an engine. Runners are given to it by [`Engine::serve_runner`].
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let (events, incoming) = mpsc::channel(EVENTS);
        let started = parts.clock.mono();
        let metrics = Metrics::new();
        parts.audit.counted_by(&metrics);
        let remote = Remote::new(remote::Parts {
            store: parts.records.store().clone(),
            tokens: parts.tokens.clone(),
            audit: parts.audit.clone(),
            clock: parts.clock.clone(),
        });
        let rates = Rates::new(parts.clock.clone(), parts.audit.clone(), metrics.clone());
        let (runner, shutdown, tasks) =
            (RunnerLink::new(), CancellationToken::new(), TaskTracker::new());
        let admission = Admission::new(parts.max_sessions, parts.max_sessions_per_user);
        let agents = Agents::new(agents::Kit {
            clock: parts.clock.clone(),
            records: parts.records.clone(),
            audit: parts.audit.clone(),
            metrics: metrics.clone(),
            rates: rates.clone(),
            admission: admission.clone(),
            remote: remote.clone(),
            recordings: Arc::new(runner.clone()),
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
            held: Mutex::default(),
            opened: broadcast::Sender::new(push::WAITING),
        });
        remote.heard_by(Arc::new(agents.clone()));
        let inner = Arc::new(Inner {
            clock: parts.clock,
            identity: parts.identity,
            logins: parts.logins,
            accounts: parts.accounts,
            audit: parts.audit,
            tokens: parts.tokens,
            records: parts.records,
            profiles: ProfilesInEffect::new(parts.profiles),
            runner,
            remote,
            agents,
            admission,
            live: Mutex::new(HashMap::new()),
            parting: Mutex::default(),
            finishing: Mutex::default(),
            started,
            shutdown,
            tasks,
            build: parts.build,
            events,
            screens: Screens::new(parts.recordings),
            presence: Presence::default(),
            metrics,
            rates,
            health: health::Found::default(),
            max_watchers: MAX_WATCHERS.into(),
            pulse: watch::Sender::new(0),
        });
        inner.tasks.spawn(inner.logins.clone().run(inner.shutdown.clone()));
        inner.tasks.spawn(inner.agents.clone().keep_limits());
        inner.tasks.spawn(beat(Arc::downgrade(&inner), inner.shutdown.clone()));
        inner.tasks.spawn(words::keep(Arc::downgrade(&inner), inner.shutdown.clone()));
        inner.tasks.spawn(listen(Arc::downgrade(&inner), incoming));
        Self { inner }
    }

    /// Who may come in.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.inner.identity
    }

    /// The accounts, for those who may change them.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.inner.accounts
    }

    /// Tokens of programs and runners.
    #[must_use]
    pub fn tokens(&self) -> &Tokens {
        &self.inner.tokens
    }

    /// Requests that may be sent again.
    #[must_use]
    pub fn repeats(&self) -> Repeats {
        Repeats::new(self.inner.records.store().clone(), Arc::clone(&self.inner.clock))
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> &AuditHandle {
        &self.inner.audit
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Numbers for Prometheus.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Who is at sessions.
    #[must_use]
    pub fn presence(&self) -> &Presence {
        &self.inner.presence
    }

    /// How often somebody may do what.
    #[must_use]
    pub fn rates(&self) -> &Rates {
        &self.inner.rates
    }

    /// Runners on other machines.
    #[must_use]
    pub fn remote(&self) -> &Remote {
        &self.inner.remote
    }

    /// Conversations with agents.
    #[must_use]
    pub fn agents(&self) -> &Agents {
        &self.inner.agents
    }

    /// What waits in the engine's queues.
    pub(crate) fn measure_queues(&self) {
        let events = &self.inner.events;
        let waiting = events.max_capacity() - events.capacity();
        self.inner.metrics.queue("runner_events", waiting, events.max_capacity());
    }

    /// Cancelled when the gateway goes down: doors take nobody new.
    #[must_use]
    pub fn shutdown(&self) -> &CancellationToken {
        &self.inner.shutdown
    }

    /// Moves every few seconds: one timer for all who look after something at their leisure.
    #[must_use]
    pub fn pulse(&self) -> watch::Receiver<u64> {
        self.inner.pulse.subscribe()
    }

    /// Speaks to a runner until its connection ends.
    pub async fn serve_runner(&self, fd: OwnedFd) {
        let inner = &self.inner;
        let served = inner.runner.serve(fd, &inner.build, &inner.events);
        tokio::pin!(served);
        let ended = tokio::select! {
            ended = &mut served => ended,
            () = self.catch_up_at_last() => served.await,
        };
        match ended {
            Ok(()) if inner.shutdown.is_cancelled() => tracing::info!("runner disconnected"),
            Ok(()) => tracing::warn!("runner disconnected"),
            Err(error) => tracing::error!(%error, "runner connection broke"),
        }
    }

    /// Whether somebody may forward so in a session of this profile; none is the default one.
    #[must_use]
    pub fn may_forward(&self, who: &Who, profile: Option<&str>, kind: Forward) -> bool {
        let (profiles, name) = (&self.inner.profiles, profile.unwrap_or(DEFAULT));
        let policy = match who {
            Who::User(principal) => profiles.usable(name, principal),
            Who::Visitor(_) => profiles.get(name),
            Who::Local => profiles.usable_locally(name),
        };
        policy.is_some_and(|policy| policy.forward.contains(&kind))
    }

    /// A file to keep an upload of a honeypot's session in; none, when there is no room for one, or
    /// the session is no honeypot's.
    pub async fn evidence(&self, id: SessionId) -> Option<Evidence> {
        let session = self.inner.session(id).filter(Session::is_honeypot)?;
        match self.inner.runner.ask(Request::Evidence { session: session.id() }).await {
            Ok((Reply::Evidence { file: name, most }, Some(fd))) => {
                Some(Evidence { file: fd.into(), name, most })
            }
            Ok((Reply::Failed { message, .. }, _)) => {
                tracing::warn!(session = %id, message, "no evidence is kept");
                None
            }
            answer => {
                tracing::warn!(session = %id, ?answer, "no evidence is kept");
                None
            }
        }
    }

    /// The session with this id, if it is in motion.
    #[must_use]
    pub fn session(&self, id: SessionId) -> Option<Session> {
        self.inner.session(id)
    }

    /// Ends a session in a person's name. Returns whether there was one in motion; then its end has
    /// begun, and a gateway that is lost now does not forget it.
    pub async fn end(&self, id: SessionId, by: EndedBy, actor: &Actor) -> bool {
        match self.begin_end(id, by, actor) {
            Some(begun) => {
                let _late = tokio::time::timeout(BEGINNING, begun).await;
                true
            }
            None => false,
        }
    }

    /// The same, and what is returned is done when its end has begun.
    pub(crate) fn begin_end(
        &self,
        id: SessionId,
        by: EndedBy,
        actor: &Actor,
    ) -> Option<JoinHandle<()>> {
        let Some(session) = self.inner.session(id) else {
            return self.inner.agents.end(id, EndReason::EndedBy, Some(by));
        };
        let note = Note::EndedBy { by: by.name.clone(), why: by.why.clone() };
        tracing::info!(
            session = %id, by = by.name, actor = ?actor.kind, event = "session_end_requested",
            "session is being ended",
        );
        lock(&session.shared.ended_by).get_or_insert(by);
        let inner = self.inner.clone();
        Some(self.inner.tasks.spawn(async move {
            // The sidecar is to say who it was, but the end does not wait for that for long.
            let noted = inner.runner.ask(Request::Note { session: id, note });
            let _late = tokio::time::timeout(NOTE, noted).await;
            session.request_end(EndReason::EndedBy).await;
        }))
    }

    /// Ids of the sessions in motion.
    #[must_use]
    pub fn live(&self) -> Vec<SessionId> {
        lock(&self.inner.live).keys().copied().collect()
    }

    /// How the pools stand.
    ///
    /// # Errors
    /// When the runner does not answer.
    pub async fn pools(&self) -> Result<Vec<sojourn_core::wire::runner::PoolState>, RunnerError> {
        match self.inner.runner.ask(Request::Pools).await? {
            (Reply::Pools { items }, _) => Ok(items),
            _ => Err(RunnerError::Silent),
        }
    }

    /// Whether the built-in runner is connected.
    #[must_use]
    pub fn runner_is_there(&self) -> bool {
        self.inner.runner.is_there()
    }

    /// Takes nobody new; with `leave`, sessions stay under their shims, else they are told and ended.
    /// Returns when they are over, the runner has been told to go, or `patience` is over.
    pub async fn shut_down(&self, leave: bool, patience: Duration) {
        let inner = &self.inner;
        inner.shutdown.cancel();
        inner.tasks.close();
        if !leave && tokio::time::timeout(patience, self.end_everything()).await.is_err() {
            let late = self.live();
            tracing::error!(sessions = late.len(), "sessions did not end in time: killing them");
            let kill = async {
                for session in late {
                    inner.kill(session).await;
                }
            };
            let _stuck = tokio::time::timeout(LAST_WORDS, kill).await;
        }
        inner.remote.shut_down();
        // One that is not there leaves its sessions without being told.
        if leave && !inner.runner.is_there() {
            return;
        }
        let told = inner.runner.ask(Request::Shutdown { leave });
        let _stuck = tokio::time::timeout(LAST_WORDS, told).await;
    }

    /// Ends sessions until there are none, those too that were still being opened.
    async fn end_everything(&self) {
        let inner = &self.inner;
        // Agents and terminals on other machines go on: their runners keep what happens until there is
        // a gateway.
        loop {
            let (elsewhere, sessions): (Vec<Session>, Vec<Session>) = lock(&inner.live)
                .values()
                .map(|live| live.session.clone())
                .partition(|session| session.shared.remote.is_some());
            if inner.admission.active() <= inner.agents.places() + elsewhere.len() {
                return;
            }
            for session in &sessions {
                session.request_end(EndReason::Shutdown).await;
            }
            let over = async {
                for session in &sessions {
                    session.over().await;
                }
            };
            match sessions.is_empty() {
                true => tokio::time::sleep(NEWCOMERS).await,
                false => over.await,
            }
        }
    }
}

impl Inner {
    pub(crate) fn session(&self, id: SessionId) -> Option<Session> {
        lock(&self.live).get(&id).map(|live| live.session.clone())
    }

    /// A user's sessions in motion, oldest first, each with the profile's name.
    pub(crate) fn theirs(&self, user: UserId) -> Vec<(Session, String)> {
        let live = lock(&self.live);
        let theirs = live.values().filter(|live| live.owner == Some(user));
        let theirs = theirs.map(|live| (live.session.clone(), live.profile.clone()));
        let mut theirs: Vec<_> = theirs.collect();
        theirs.sort_by_key(|(session, _)| session.id());
        theirs
    }

    /// Sessions in motion whose opener is known.
    pub(crate) fn principals(&self) -> Vec<(Session, Principal)> {
        let live = lock(&self.live);
        let known = live.values().filter_map(|live| {
            live.principal.clone().map(|principal| (live.session.clone(), principal))
        });
        known.collect()
    }

    pub(crate) fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Has the runner kill a session whose shim says nothing any more.
    pub(crate) async fn kill(&self, session: SessionId) {
        let _gone = self.runner.ask(Request::Kill { session }).await;
    }

    fn on_runner(self: &Arc<Self>, event: RunnerEvent) {
        match event {
            RunnerEvent::Released { session, summary } => {
                tracing::info!(%session, event = "sandbox_released", "sandbox released");
                if !self.released(session, summary) {
                    Unheld::disown(self, session);
                }
            }
            RunnerEvent::Pool(state) => {
                if let Some(why) = &state.failing {
                    tracing::error!(profile = state.profile, why, "no sandbox can be made");
                } else {
                    tracing::debug!(profile = state.profile, ready = state.ready, "pool");
                }
            }
            // So few at a time as the runner has to tell: it waits for an answer.
            event @ (RunnerEvent::Kept { .. } | RunnerEvent::Removed { .. }) => {
                tokio::spawn(self.clone().remains(event));
            }
        }
    }
}

/// Moves the pulse as long as there is an engine that is not going down.
async fn beat(inner: std::sync::Weak<Inner>, shutdown: CancellationToken) {
    let mut beats = tokio::time::interval(BEAT);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = beats.tick() => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        inner.pulse.send_modify(|beat| *beat += 1);
    }
}

/// Takes the runner's events as long as there is an engine.
async fn listen(inner: std::sync::Weak<Inner>, mut events: mpsc::Receiver<RunnerEvent>) {
    while let Some(event) = events.recv().await {
        let Some(inner) = inner.upgrade() else { return };
        inner.on_runner(event);
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
