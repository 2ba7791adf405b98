//! Sessions on record: each step of a session's life goes into the store, the audit log and the log,
//! in the same words.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use serde_json::json;
use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::ActorKind;
use sojourn_core::audit::Event;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::end::seconds_left;
use sojourn_core::ids::SessionId;
use sojourn_core::limits::Limits;
use sojourn_core::time::Wall;
use sojourn_core::wire::runner::Held;
use sojourn_core::wire::shim::Summary;
use sojourn_store::NewSession;
use sojourn_store::Recording;
use sojourn_store::SessionEnd;
use sojourn_store::Store;
use sojourn_store::StoreError;

use crate::audit::AuditHandle;
use crate::clock::Clock;
use crate::door::Door;
use crate::door::Refusal;
use crate::door::Stay;
use crate::door::Who;
use crate::ending::EndedBy;
use crate::extend::Extended;
use crate::extend::Extension;
use crate::identity::How;
use crate::profiles::DEFAULT;
use crate::profiles::HOST;
use crate::roster::Guest;

/// What runs in a session that is no agent's.
pub const SHELL: &str = "shell";

/// The record keeper. Cheap to clone.
#[derive(Clone)]
pub struct Records {
    store: Store,
    audit: AuditHandle,
    clock: Arc<dyn Clock>,
    owed: Arc<Mutex<HashMap<SessionId, Arc<Begun>>>>,
}

/// The most starts that are remembered while the store is away. One beyond them is on record without
/// what is known of it.
const MOST_OWED: usize = 4096;

/// A start that the store did not keep. It goes on record with the end, if anything ran.
struct Begun {
    new: NewSession,
    event: Event,
}

impl Records {
    /// Keeps records in `store` and `audit`.
    #[must_use]
    pub fn new(store: Store, audit: AuditHandle, clock: Arc<dyn Clock>) -> Self {
        Self { store, audit, clock, owed: Arc::default() }
    }

    /// The audit log behind it.
    pub(crate) fn audit(&self) -> &AuditHandle {
        &self.audit
    }

    /// The store behind it.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// A session started. Durable when it returns.
    pub(crate) async fn started(
        &self,
        id: SessionId,
        stay: &Stay,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        let unnamed = if stay.on.is_some() { HOST } else { DEFAULT };
        let profile = stay.profile.clone().unwrap_or_else(|| unnamed.to_owned());
        let now = self.clock.wall();
        let user = stay.who.user();
        let new = NewSession {
            id,
            user: user.map(|user| user.id),
            user_name: user.map(|user| user.name.clone()),
            door: stay.door.name().to_owned(),
            harness: SHELL.to_owned(),
            profile: profile.clone(),
            cwd: stay.web.as_ref().and_then(|web| web.cwd.clone()),
            why: stay.why.clone(),
            labels: stay.web.as_ref().map(|web| web.labels.clone()).unwrap_or_default(),
            limits: limits.clone(),
            peer: Some(stay.peer.to_string()),
            client: Some(stay.client.chars().take(256).collect()),
            auth_method: match &stay.who {
                Who::Local => None,
                _ => Some(user.map_or(How::Password, |user| user.how).name().to_owned()),
            },
            auth_key: user.and_then(|user| user.fingerprint.clone()),
            auth_epoch: user.map(|user| user.epoch),
            login: user.and_then(|user| user.login).map(|login| login.to_string()),
            token: stay.web.as_ref().and_then(|web| web.token.clone()),
            created_at: now,
            remote: stay.on.clone(),
        };
        let event = Event::new(now, Action::SessionStarted, actor(stay))
            .session(id)
            .detail("profile", profile)
            .detail("harness", SHELL)
            .detail("why", json!(stay.why))
            .detail("runner", json!(new.remote.as_ref().map(|on| &on.name)))
            .detail("limits", json!(crate::view::LimitsView::from(limits)));
        if let Err(error) = self.store.begin_session(&new, now, &event).await {
            // Its program may run meanwhile, and be recorded.
            self.owe(new, event);
            return Err(self.store_failed("a session's start", &error));
        }
        self.audit.settled().await.map_err(|_| Refusal::Audit)
    }

    /// A session was refused.
    pub(crate) async fn refused(&self, stay: &Stay, refusal: &Refusal) {
        tracing::warn!(
            user = %stay.who.name(), source = %stay.peer.ip(), code = refusal.code(),
            reason = %refusal, event = "session_refused", "session refused",
        );
        let event = Event::new(self.clock.wall(), Action::SessionRefused, actor(stay))
            .detail("code", refusal.code())
            .detail("reason", refusal.to_string())
            .detail("profile", json!(stay.profile));
        // The refusal stands whether or not it can be written.
        self.audit.record_few(event, self.clock.mono());
    }

    /// Somebody came back to a session. Durable when it returns.
    pub(crate) async fn attached(&self, id: SessionId, stay: &Stay) -> Result<(), Refusal> {
        tracing::info!(
            session = %id, user = stay.who.name(), source = %stay.peer.ip(),
            event = "session_attached", "session attached",
        );
        let event = Event::new(self.clock.wall(), Action::SessionAttached, actor(stay)).session(id);
        self.audit.record(event).await.map_err(|_| Refusal::Audit)
    }

    /// Somebody's connection is gone, or their gateway was, and their terminals wait for them.
    pub(crate) fn detached(
        &self,
        id: SessionId,
        guest: Option<Guest>,
        terminals: usize,
        grace: Duration,
    ) {
        tracing::info!(
            session = %id, terminals, grace_seconds = grace.as_secs(),
            event = "session_detached", "session detached",
        );
        let found = guest.is_none();
        let actor = guest.map_or(Actor::SYSTEM, |guest| guest.actor);
        let event = Event::new(self.clock.wall(), Action::SessionDetached, actor)
            .session(id)
            .detail("terminals", terminals)
            .detail("grace_seconds", json!(crate::view::Seconds(grace)));
        let event = if found { event.detail("found_at_start", true) } else { event };
        self.audit.record_soon(event);
    }

    /// Somebody took a terminal from another connection.
    pub(crate) fn taken_over(&self, id: SessionId, by: &Guest, channel: u16, from: Option<IpAddr>) {
        tracing::info!(
            session = %id, user = %by.name, source = %by.address, channel,
            event = "session_taken_over", "session taken over",
        );
        let event = Event::new(self.clock.wall(), Action::SessionTakenOver, by.actor.clone())
            .session(id)
            .detail("channel", channel)
            .detail("from", json!(from));
        self.audit.record_soon(event);
    }

    /// A session was extended, for whoever looks at it. That it is not known there is no reason not to:
    /// the audit log has it.
    pub(crate) async fn extended(&self, id: SessionId, asked: &Extension, new: &Extended) {
        let kept = sojourn_store::Extension {
            at: self.clock.wall(),
            by: asked.who.name.clone(),
            micros: sojourn_core::time::micros(asked.by),
            deadline: new.deadline,
            why: asked.who.why.clone(),
        };
        let mut added = self.store.add_extension(id, &kept).await;
        // Two at the same time may take the same number.
        if let Err(StoreError::Taken | StoreError::Conflict) = added {
            added = self.store.add_extension(id, &kept).await;
        }
        if let Err(error) = added {
            self.store_failed("an extension", &error);
        }
    }

    /// A limit comes near.
    pub(crate) fn limit_warned(&self, id: SessionId, limit: Limit, left: Duration) {
        tracing::info!(
            session = %id, ?limit, seconds = seconds_left(left), event = "limit_warned", "limit warned"
        );
        let event = Event::new(self.clock.wall(), Action::LimitWarned, Actor::SYSTEM)
            .session(id)
            .detail("limit", json!(limit))
            .detail("seconds", seconds_left(left));
        self.audit.record_soon(event);
    }

    /// A limit was reached.
    pub(crate) fn limit_exceeded(
        &self,
        id: SessionId,
        limit: Limit,
        configured: u64,
        reached: u64,
    ) {
        tracing::info!(
            session = %id, ?limit, configured, reached, event = "limit_exceeded", "limit exceeded"
        );
        let event = Event::new(self.clock.wall(), Action::LimitExceeded, Actor::SYSTEM)
            .session(id)
            .detail("limit", json!(limit))
            .detail("configured", configured)
            .detail("reached", reached);
        self.audit.record_soon(event);
    }

    /// A session is over and its tree gone. False when that could not be kept: then whoever knows of it
    /// must not forget it.
    pub(crate) async fn ended(&self, summary: &Summary, by: Option<&EndedBy>) -> bool {
        tracing::info!(
            session = %summary.session, reason = summary.reason.name(), bytes = summary.output_bytes,
            event = "session_ended", "session ended",
        );
        self.keep_end(summary, by).await
    }

    /// The same once more, where it could not be kept.
    pub(crate) async fn keep_end(&self, summary: &Summary, by: Option<&EndedBy>) -> bool {
        let id = summary.session;
        if let Some(at) = summary.started_at
            && let Err(error) = self.keep_owed(id, at).await
        {
            self.store_failed("a session's start", &error);
            return false;
        }
        let recording = summary.recordings.first();
        // So many fit a line of the audit log, many times over.
        let recordings: Vec<_> = (summary.recordings.iter().take(64))
            .map(|facts| json!({"file": facts.file, "bytes": facts.bytes, "sha256": facts.sha256}))
            .collect();
        let exit = summary.exit.as_ref().map(|exit| json!(exit));
        let end = SessionEnd {
            at: summary.ended_at,
            reason: summary.reason,
            exit: summary.exit.clone(),
            by: by.map(|by| by.name.clone()),
            detail: by.and_then(|by| by.why.clone()),
            output_bytes: summary.output_bytes,
            recording: recording.map(|facts| Recording {
                path: facts.file.clone(),
                bytes: facts.bytes,
                sha256: facts.sha256.clone(),
            }),
        };
        let event = Event::new(self.clock.wall(), Action::SessionEnded, Actor::SYSTEM)
            .session(id)
            .detail("reason", summary.reason.name())
            .detail("exit", json!(exit))
            .detail("by", json!(by.map(|by| &by.name)))
            .detail("why", json!(by.and_then(|by| by.why.as_ref())))
            .detail("bytes", summary.output_bytes)
            .detail("recording", json!(recording.map(|facts| &facts.file)))
            .detail("recording_bytes", json!(recording.map(|facts| facts.bytes)))
            .detail("recording_sha256", json!(recording.map(|facts| &facts.sha256)))
            .detail("recordings", recordings);
        match self.store.end_session(id, &end, &event).await {
            // False: it was on record before the gateway was lost, and the runner tells it again.
            Ok(_) => {
                self.owed().remove(&id);
                true
            }
            Err(error) => {
                self.store_failed("a session's end", &error);
                false
            }
        }
    }

    /// Puts a start on record that the store did not keep, unless it did and could not say so.
    async fn keep_owed(&self, id: SessionId, at: Wall) -> Result<(), StoreError> {
        let owed = self.owed().get(&id).cloned();
        let Some(begun) = owed else { return Ok(()) };
        if self.store.session(id).await?.is_some() {
            return Ok(());
        }
        match self.store.begin_session(&begun.new, at, &begun.event).await {
            // What is refused today is refused for ever: the session's end must not wait for it.
            Err(StoreError::TooMany { .. } | StoreError::TooLong { .. }) => Ok(()),
            begun => begun,
        }
    }

    /// Whether the session's start goes on record with its end.
    pub(crate) fn is_owed(&self, id: SessionId) -> bool {
        self.owed().contains_key(&id)
    }

    fn owe(&self, new: NewSession, event: Event) {
        let mut owed = self.owed();
        if owed.len() < MOST_OWED {
            owed.insert(new.id, Arc::new(Begun { new, event }));
        }
    }

    fn owed(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Begun>>> {
        self.owed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session that the runner holds and the store does not know: its gateway was lost between the
    /// two. It is on record from now on.
    ///
    /// # Errors
    /// When the store does not keep it now.
    pub(crate) async fn found(&self, held: &Held, limits: &Limits) -> Result<(), StoreError> {
        let now = self.clock.wall();
        let new = found(held, limits);
        let event = Event::new(now, Action::SessionStarted, Actor::SYSTEM)
            .session(held.session)
            .detail("profile", held.profile.clone())
            .detail("found_at_start", true);
        match self.store.begin_session(&new, now, &event).await {
            // Taken: somebody else found it too. What is refused today is refused for ever.
            Ok(())
            | Err(StoreError::Taken | StoreError::TooMany { .. } | StoreError::TooLong { .. }) => {
                Ok(())
            }
            Err(error) => {
                self.store_failed("a session that was found", &error);
                Err(error)
            }
        }
    }

    fn store_failed(&self, what: &str, error: &StoreError) -> Refusal {
        tracing::error!(%error, "the store did not keep {what}");
        Refusal::Store
    }
}

/// What is kept of a session that the runner holds and the store does not know.
fn found(held: &Held, limits: &Limits) -> NewSession {
    NewSession {
        id: held.session,
        user: None,
        user_name: Some(held.about.user.clone()).filter(|name| !name.is_empty()),
        door: held.about.door.clone(),
        harness: SHELL.to_owned(),
        profile: held.profile.clone(),
        cwd: None,
        why: None,
        labels: std::collections::BTreeMap::new(),
        limits: limits.clone(),
        peer: Some(held.about.peer.clone()),
        client: Some(held.about.client.clone()),
        auth_method: None,
        auth_key: None,
        auth_epoch: None,
        login: None,
        token: None,
        created_at: held.about.connected_at,
        remote: None,
    }
}

/// A session that ended with nobody looking: what is said when there is no word of it at all.
pub(crate) fn lost(session: SessionId, reason: EndReason, clock: &dyn Clock) -> Summary {
    Summary {
        session,
        reason,
        exit: None::<Exit>,
        output_bytes: 0,
        started_at: None,
        ended_at: clock.wall(),
        recordings: Vec::new(),
        reached: None,
    }
}

/// Who asks for a stay, as a session remembers them.
pub(crate) fn guest(stay: &Stay) -> Guest {
    Guest { name: stay.who.name().to_owned(), address: stay.peer.ip(), actor: actor(stay) }
}

fn actor(stay: &Stay) -> Actor {
    let (name, address) = (stay.who.name(), stay.peer.ip());
    if let Some(web) = &stay.web {
        return web.actor.clone();
    }
    match (&stay.who, stay.door) {
        (Who::Visitor(_), _) => Actor::honeypot(name, address).with_user_agent(&stay.client),
        (_, Door::Ssh) => Actor::ssh(name, address).with_user_agent(&stay.client),
        (_, Door::Web) => Actor {
            user: Some(name.to_owned()),
            ip_address: Some(address),
            ..Actor::new(ActorKind::Browser)
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit;
    use crate::clock::ManualClock;

    #[tokio::test]
    async fn a_start_the_store_did_not_keep_is_on_record_with_the_end() {
        let dir = tempfile::TempDir::new().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new());
        let options = audit::AuditOptions {
            data_dir: dir.path().to_owned(),
            on_failure: audit::OnFailure::Refuse,
        };
        let (log, _writer) = audit::start(&options, store.clone(), clock.clone()).await.unwrap();
        let records = Records::new(store.clone(), log, clock.clone());
        let about = sojourn_core::wire::runner::About::default();
        let held = |session| Held {
            session,
            profile: "default".to_owned(),
            about: about.clone(),
            ended: None,
        };
        let started = |id| Event::new(Wall(1), Action::SessionStarted, Actor::SYSTEM).session(id);
        let (ran, never_ran) = (SessionId::new(), SessionId::new());
        for id in [ran, never_ran] {
            let new = found(&held(id), &Limits::default());
            records.owe(new, started(id).detail("profile", "default"));
        }
        let of = |id| lost(id, EndReason::Failed, clock.as_ref());
        let summary = Summary { started_at: Some(Wall(2)), ..of(ran) };
        assert!(records.ended(&summary, None).await && records.keep_end(&summary, None).await);
        assert!(records.ended(&of(never_ran), None).await);
        assert!(records.owed().is_empty());
        let kept = store.session(ran).await.unwrap().unwrap();
        assert_eq!((kept.started_at, kept.end.unwrap().reason), (Some(Wall(2)), EndReason::Failed));
        assert!(store.session(never_ran).await.unwrap().is_none(), "nothing ran");
        let untold = store.untold(10).await.unwrap();
        let told: Vec<Action> = untold.iter().map(|event| event.action).collect();
        assert_eq!(told, [Action::SessionStarted, Action::SessionEnded]);
    }
}
