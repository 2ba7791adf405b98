//! A session is opened: admitted, given its sandbox, put on record and held.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use sojourn_core::authz::General;
use sojourn_core::authz::may_in_general;
use sojourn_core::end::EndReason;
use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::ids::UserId;
use sojourn_core::wire::runner::Open;
use sojourn_core::wire::runner::Reply;
use sojourn_core::wire::runner::Request;
use sojourn_core::wire::runner::Stage;
use sojourn_core::wire::shim::ToShim;
use sojourn_core::wire::shim::VERSION;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::admission::Slot;
use crate::broker::Broker;
use crate::broker::Onlookers;
use crate::door::Door;
use crate::door::Refusal;
use crate::door::Stay;
use crate::door::Who;
use crate::engine::Engine;
use crate::engine::Inner;
use crate::engine::Live;
use crate::engine::lock;
use crate::identity::Principal;
use crate::metrics::Meter;
use crate::profiles::DEFAULT;
use crate::profiles::ProfilePolicy;
use crate::records;
use crate::repeats;
use crate::roster::Guest;
use crate::roster::Roster;
use crate::runner_link::RunnerError;
use crate::seqpacket::SeqPacket;
use crate::session::Progress;
use crate::session::Session;
use crate::session::Shared;
use crate::unheld::Unheld;
use crate::watching::News;

/// How many things may be on their way to a session's task.
const COMMANDS: usize = 8;

impl Engine {
    /// Opens a session: its sandbox is taken, and its start goes on record while its first program
    /// starts.
    ///
    /// # Errors
    /// A [`Refusal`], which is audited.
    pub async fn open(&self, stay: Stay) -> Result<Session, Refusal> {
        let opened = self.try_open(&stay).await;
        if let Err(refusal) = &opened {
            self.refused(&stay, refusal).await;
        }
        opened
    }

    /// Puts a refusal on record.
    pub async fn refused(&self, stay: &Stay, refusal: &Refusal) {
        let door = stay.counted_door();
        self.inner.metrics.session_refused(door, refusal);
        self.inner.records.refused(stay, refusal).await;
    }

    async fn try_open(&self, stay: &Stay) -> Result<Session, Refusal> {
        let inner = &self.inner;
        let asked = inner.clock.mono();
        if inner.shutdown.is_cancelled() {
            return Err(Refusal::ShuttingDown);
        }
        if !inner.audit.is_writable() {
            return Err(Refusal::Audit);
        }
        let name = stay.profile.as_deref().unwrap_or(DEFAULT);
        let unknown = || {
            let there = self.profiles_for(&stay.who).into_iter().map(|(name, _)| name).collect();
            Refusal::UnknownProfile { name: name.to_owned(), there }
        };
        let (policy, slot) = match &stay.who {
            Who::User(principal) => {
                if !may_in_general(principal.asker(), General::StartSession).is_allowed() {
                    return Err(Refusal::Account);
                }
                match inner.identity.may_begin(principal).await {
                    Ok(true) => {}
                    Ok(false) => return Err(Refusal::Account),
                    Err(_) => return Err(Refusal::Store),
                }
                let policy = inner.profiles.usable(name, principal).ok_or_else(unknown)?;
                let stated = stay.why.as_deref().is_some_and(|why| !why.trim().is_empty());
                if policy.require_why && !stated {
                    return Err(Refusal::WhyRequired);
                }
                let slot = inner.admission.take(Some(principal.id));
                (policy, slot.map_err(|full| self.naming(full, principal))?)
            }
            Who::Local => {
                let policy = inner.profiles.usable_locally(name).ok_or_else(unknown)?;
                (policy, inner.admission.take(None)?)
            }
            // The operator has chosen the profile for everybody who comes.
            Who::Visitor(visitor) => {
                let policy = inner.profiles.get(name).ok_or_else(unknown)?;
                let place = visitor.pot.take()?;
                (policy, inner.admission.take(None)?.with(Some(place)))
            }
        };
        let id = repeats::session_id();
        let open = Request::Open(Box::new(Open {
            session: id,
            profile: name.to_owned(),
            lower: stay.lower.clone(),
            about: stay.about(),
            honeypot: matches!(stay.who, Who::Visitor(_)),
        }));
        let failed =
            |stage: Stage, message: String| Refusal::Sandbox { stage: stage.name(), message };
        let (asking, unheld) = (inner.clone(), Unheld::new(inner.clone(), id));
        // A task of its own: whoever wants the session may give up, and then it is given up, too.
        let asked_for =
            inner.tasks.spawn(async move { (asking.runner.ask(open).await, unheld) }).await;
        let (answer, unheld) =
            asked_for.map_err(|error| failed(Stage::Runner, error.to_string()))?;
        let (sandbox, warm, fd) = match answer {
            Ok((Reply::Opened { sandbox, warm, .. }, Some(fd))) => (sandbox, warm, fd),
            Ok((Reply::Failed { stage, message }, _)) => {
                unheld.settled();
                return Err(failed(stage, message));
            }
            Ok((other, _)) => {
                return Err(failed(Stage::Runner, format!("unexpected answer {other:?}")));
            }
            Err(error @ (RunnerError::Gone | RunnerError::Silent | RunnerError::TooLarge)) => {
                return Err(failed(Stage::Runner, error.to_string()));
            }
        };
        tracing::info!(
            session = %id, user = %stay.who.name(), source = %stay.peer.ip(),
            profile = name, sandbox, warm, event = "session_opened", "session opened",
        );
        inner.metrics.taken(name, warm);
        let (recorded, is_recorded) = watch::channel(None);
        let principal = stay.who.user().cloned();
        let arrival = Arrival {
            id,
            owner: principal.as_ref().map(|principal| principal.id),
            honeypot: matches!(stay.who, Who::Visitor(_)),
            door: stay.door,
            principal,
            profile: name.to_owned(),
            policy: policy.clone(),
            slot,
            guest: Some(records::guest(stay)),
            meter: Meter::new(&inner.metrics, stay.counted_door(), records::SHELL)
                .asked(asked, warm),
            remote: None,
        };
        let session = inner.hold(arrival, fd, is_recorded).await?;
        unheld.settled();
        let record = inner.clone();
        let stay = stay.clone();
        let limits = policy.limits_at(stay.door).lowered(&stay.lower);
        inner.tasks.spawn(async move {
            let result = record.records.started(id, &stay, &limits).await;
            let failed = result.is_err();
            recorded.send_replace(Some(result));
            if failed && let Some(session) = record.session(id) {
                session.request_end(EndReason::Failed).await;
            }
        });
        Ok(session)
    }
}

/// A session that is about to be held.
pub(crate) struct Arrival {
    pub(crate) id: SessionId,
    pub(crate) principal: Option<Principal>,
    /// Whose it is. Nobody comes back to one that is nobody's.
    pub(crate) owner: Option<UserId>,
    pub(crate) profile: String,
    pub(crate) policy: ProfilePolicy,
    pub(crate) slot: Slot,
    /// Who is at the connection it is for; none for one that was there before.
    pub(crate) guest: Option<Guest>,
    pub(crate) honeypot: bool,
    /// What is measured of it.
    pub(crate) meter: Meter,
    /// By which door it came.
    pub(crate) door: Door,
    /// The runner it is on; none: the built-in one.
    pub(crate) remote: Option<RunnerId>,
}

impl Inner {
    /// Greets a session's shim and starts the session's task.
    pub(crate) async fn hold(
        self: &Arc<Self>,
        arrival: Arrival,
        fd: OwnedFd,
        recorded: watch::Receiver<Option<Result<(), Refusal>>>,
    ) -> Result<Session, Refusal> {
        let lost = |error: std::io::Error| Refusal::Sandbox {
            stage: Stage::Runner.name(),
            message: format!("its connection broke: {error}"),
        };
        let link = Arc::new(SeqPacket::new(fd).map_err(lost)?);
        let mut hello = Vec::new();
        ToShim::Hello { version: VERSION }.encode(&mut hello);
        link.send(&hello).await.map_err(lost)?;
        let (commands, incoming) = mpsc::channel(COMMANDS);
        let attached = arrival.guest.is_some();
        let (progress, watched) = watch::channel(Progress { attached, ..Progress::default() });
        let (release, released) = oneshot::channel();
        let (teller, news) = watch::channel(News::default());
        let shared = Arc::new(Shared {
            id: arrival.id,
            link,
            detach_grace: match (arrival.owner, arrival.door) {
                (None, Door::Ssh) => Duration::ZERO,
                _ => arrival.policy.limits.detach_grace,
            },
            door: arrival.door,
            policy: arrival.policy,
            screens: self.screens.clone(),
            extending: tokio::sync::Mutex::new(()),
            commands,
            starting: tokio::sync::Mutex::new(()),
            honeypot: arrival.honeypot,
            remote: arrival.remote,
            next_channel: AtomicU16::new(0),
            open: AtomicUsize::new(0),
            progress: watched,
            news,
            recorded,
            ended_by: Mutex::new(None),
            listeners: Mutex::default(),
        });
        let mut roster = Roster::default();
        let holder = arrival.guest.map(|guest| roster.enter(guest));
        let live = Live {
            session: shared.handle(),
            principal: arrival.principal,
            owner: arrival.owner,
            profile: arrival.profile,
            released: Some(release),
            _slot: arrival.slot,
        };
        lock(&self.live).insert(arrival.id, live);
        let session = Session { holder, ..shared.handle() };
        let broker = Broker {
            shared,
            inner: self.clone(),
            commands: incoming,
            progress,
            released,
            roster,
            ends_at: None,
            closing: false,
            meter: arrival.meter,
            onlookers: Onlookers::new(teller),
            pulse: self.pulse.subscribe(),
        };
        self.tasks.spawn(broker.run());
        Ok(session)
    }
}
