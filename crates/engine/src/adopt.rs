//! A gateway that starts finds what the one before it left: sessions that go on under their shims,
//! ends that nobody put on record, and records of sessions that are no more.

use std::collections::HashSet;
use std::time::Duration;

use sojourn_core::authz::Role;
use sojourn_core::end::EndReason;
use sojourn_core::ids::SessionId;
use sojourn_core::wire::runner::Held;
use sojourn_core::wire::runner::Reply;
use sojourn_core::wire::runner::Request;
use sojourn_core::wire::shim::Summary;
use sojourn_store::NewSession;
use sojourn_store::Session as Kept;
use sojourn_store::StoreError;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::door::Door;
use crate::engine::Engine;
use crate::engine::lock;
use crate::identity::How;
use crate::identity::Principal;
use crate::metrics::Meter;
use crate::opening::Arrival;
use crate::profiles::DEFAULT;
use crate::profiles::ProfilePolicy;
use crate::records;
use crate::runner_link::RunnerError;
use crate::unheld::Unheld;

/// How long a shim that was found may take to say what there is.
const GREETING: Duration = Duration::from_secs(5);

/// How long a session that cannot be reached may take to turn out to be over, and between two looks.
const LAST_WORD: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Sessions that go on.
    pub running: usize,
    /// Sessions whose end is on record only now.
    pub ended: usize,
}

/// Why not everything could be taken up. Nothing is ended for it: it is to be tried again.
#[derive(Debug, thiserror::Error)]
pub enum Unadopted {
    /// The runner does not say what it holds, or went meanwhile.
    #[error(transparent)]
    Runner(#[from] RunnerError),
    /// The store does not say what is on record.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Engine {
    /// Takes up what the runner holds, and closes the record of what is no more. To be called before
    /// any door is open, and again after an error: what was taken up stays so.
    ///
    /// # Errors
    /// When the runner or the store does not answer.
    pub async fn adopt(&self) -> Result<Adopted, Unadopted> {
        self.inner.agents.load().await?;
        let mut adopted = Adopted::default();
        let mut held_ids = HashSet::new();
        for held in self.held().await? {
            held_ids.insert(held.session);
            if self.adopt_one(&held).await? {
                adopted.running += 1;
            } else {
                adopted.ended += 1;
            }
        }
        adopted.running += self.adopt_terminals().await?;
        adopted.ended += self.close_records(&held_ids).await?;
        if adopted != Adopted::default() {
            tracing::info!(
                running = adopted.running,
                ended = adopted.ended,
                event = "sessions_adopted",
                "sessions of the gateway before this one",
            );
        }
        Ok(adopted)
    }

    /// Catches up, however often a runner that has much to do must be asked.
    pub(crate) async fn catch_up_at_last(&self) {
        while let Err(error) = self.catch_up().await {
            tracing::warn!(%error, "the runner does not say what became of its sessions");
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Asks a runner that has just come what became of the sessions in motion: one may have ended while
    /// there was none to tell.
    async fn catch_up(&self) -> Result<(), RunnerError> {
        lock(&self.inner.parting).clear();
        for held in self.held().await? {
            let Some(summary) = &held.ended else { continue };
            if lock(&self.inner.finishing).contains(&held.session) {
                // It goes on record with who ended it.
                continue;
            }
            if self.session(held.session).is_some() {
                self.inner.released(held.session, Some(summary.clone()));
            } else if self.keep_end_of(&held, summary).await {
                // Its end is on record, and the runner before this one had no time to forget it.
                let _gone = self.inner.runner.ask(Request::Forget { session: held.session }).await;
            } else {
                Unheld::disown(&self.inner, held.session);
            }
        }
        Ok(())
    }

    /// Puts the end of a session on record that nobody holds, with its start where that is not. False
    /// when it could not be kept.
    pub(crate) async fn keep_end_of(&self, held: &Held, summary: &Summary) -> bool {
        self.keep_start_of(held, summary).await && self.inner.records.keep_end(summary, None).await
    }

    /// Its start alone. One that never started has nothing to be put on record.
    async fn keep_start_of(&self, held: &Held, summary: &Summary) -> bool {
        let records = &self.inner.records;
        if summary.started_at.is_none() || records.is_owed(held.session) {
            return true;
        }
        match records.store().session(held.session).await {
            Ok(None) => self.found(held).await.is_ok(),
            Ok(Some(_)) => true,
            Err(_) => false,
        }
    }

    /// Puts on record that there is a session which the store does not know.
    async fn found(&self, held: &Held) -> Result<(), StoreError> {
        let limits = self.policy_of(&held.profile).map(|policy| policy.limits);
        self.inner.records.found(held, &limits.unwrap_or_default()).await
    }

    /// The rules of a session that is found: those of its profile, as long as there is one.
    fn policy_of(&self, profile: &str) -> Option<ProfilePolicy> {
        self.inner.profiles.get(profile).or_else(|| self.inner.profiles.get(DEFAULT))
    }

    /// Every session the runner holds: no more than it has ranges of user ids, and those that ended
    /// since a gateway last listened.
    pub(crate) async fn held(&self) -> Result<Vec<Held>, RunnerError> {
        let mut held: Vec<Held> = Vec::new();
        loop {
            let after = held.last().map(|last| last.session);
            match self.inner.runner.ask(Request::List { after }).await? {
                (Reply::Sessions { items, more: true }, _) if !items.is_empty() => {
                    held.extend(items);
                }
                (Reply::Sessions { items, .. }, _) => {
                    held.extend(items);
                    return Ok(held);
                }
                _ => return Err(RunnerError::Silent),
            }
        }
    }

    /// Whether the session goes on.
    async fn adopt_one(&self, held: &Held) -> Result<bool, Unadopted> {
        let id = held.session;
        if self.session(id).is_some() {
            return Ok(true);
        }
        if let Some(summary) = &held.ended {
            self.put_away(held, summary).await;
            return Ok(false);
        }
        let kept = self.inner.records.store().session(id).await?;
        // Nobody was told of it, and nobody would ever come back to it. It is found when it is over: it
        // would be somebody's who is not known otherwise, should this be tried again.
        let is_nobodys = kept.is_none() && held.about.door == Door::Web.name();
        if !is_nobodys && kept.is_none() {
            self.found(held).await?;
        }
        if is_nobodys {
            self.inner.runner.ask(Request::Kill { session: id }).await?;
        } else if let Some(policy) = self.policy_of(&held.profile)
            && let (Reply::Attached, Some(fd)) =
                self.inner.runner.ask(Request::Attach { session: id }).await?
        {
            // Whose it is says our own record alone: a honeypot's visitor may have given any name.
            let came_by = kept.as_ref().map(|session| session.new.door == Door::Web.name());
            let door = if came_by == Some(true) { Door::Web } else { Door::Ssh };
            let owner = kept.as_ref().and_then(|session| session.new.user);
            let opener = kept.as_ref().and_then(|session| opener(&session.new));
            let arrival = Arrival {
                id,
                principal: opener,
                owner,
                profile: held.profile.clone(),
                policy,
                slot: self.inner.admission().take_over(owner),
                guest: None,
                // Nothing more is uploaded to one whose connection is gone.
                honeypot: false,
                meter: Meter::new(&self.inner.metrics, &held.about.door, records::SHELL).found(),
                door,
                remote: None,
            };
            let (_recorded, is_recorded) = watch::channel(Some(Ok(())));
            if let Ok(session) = self.inner.hold(arrival, fd, is_recorded).await {
                // Its terminals can be come back to once they are known.
                let mut progress = session.shared.progress.clone();
                let greeted = progress.wait_for(|p| p.greeted || p.over);
                let _late = tokio::time::timeout(GREETING, greeted).await;
                return Ok(true);
            }
        }
        let summary = self.end_of(id).await?;
        if is_nobodys {
            self.found(held).await?;
        }
        let summary = summary
            .unwrap_or_else(|| records::lost(id, EndReason::RunnerLost, self.inner.clock.as_ref()));
        self.put_away(held, &summary).await;
        Ok(false)
    }

    /// Puts the end of a session on record that was found over, now or as soon as it can be, and has the
    /// runner forget it.
    async fn put_away(&self, held: &Held, summary: &Summary) {
        let kept = self.keep_start_of(held, summary).await;
        if kept && self.inner.records.ended(summary, None).await {
            self.inner.metrics.ended_unseen(&held.about.door, records::SHELL, summary);
            let _gone = self.inner.runner.ask(Request::Forget { session: held.session }).await;
        } else {
            Unheld::disown(&self.inner, held.session);
        }
    }

    /// What became of a session that cannot be reached. It may have ended while it was asked for, and then
    /// its shim has left word how; else it must not go on unseen.
    async fn end_of(&self, id: SessionId) -> Result<Option<Summary>, RunnerError> {
        for is_over in [true, false] {
            if !is_over {
                self.inner.runner.ask(Request::Kill { session: id }).await?;
            }
            let deadline = Instant::now() + LAST_WORD;
            while Instant::now() < deadline {
                let held = self.held().await?.into_iter().find(|held| held.session == id);
                let Some(held) = held else { return Ok(None) };
                if held.ended.is_some() {
                    return Ok(held.ended);
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        Ok(None)
    }

    /// Ends on record what the store thinks is running and nobody holds.
    async fn close_records(&self, held: &HashSet<SessionId>) -> Result<usize, StoreError> {
        let kept = self.not_over().await?;
        let mut closed = 0;
        // Those on other machines go on without us, and what was taken up tells of its end itself.
        let here = kept.into_iter().filter(|session| session.new.remote.is_none());
        let lost = |id: &SessionId| !held.contains(id) && self.session(*id).is_none();
        for session in here.filter(|session| lost(&session.new.id)) {
            let summary =
                records::lost(session.new.id, EndReason::Shutdown, self.inner.clock.as_ref());
            if self.inner.records.ended(&summary, None).await {
                let (door, harness) = (&session.new.door, &session.new.harness);
                self.inner.metrics.ended_unseen(door, harness, &summary);
                closed += 1;
            }
        }
        Ok(closed)
    }

    /// What the store thinks is running.
    pub(crate) async fn not_over(&self) -> Result<Vec<Kept>, StoreError> {
        self.inner.records.store().sessions_not_over().await
    }
}

/// Who opened a session of the gateway before this one, as far as it is on record: with what it stands
/// and falls.
pub(crate) fn opener(new: &NewSession) -> Option<Principal> {
    Some(Principal {
        id: new.user?,
        name: new.user_name.clone()?,
        // It opens nothing any more.
        role: Role::Auditor,
        how: How::from_name(new.auth_method.as_deref()?)?,
        fingerprint: new.auth_key.clone(),
        epoch: new.auth_epoch?,
        login: new.login.as_deref().and_then(|id| id.parse().ok()),
    })
}
