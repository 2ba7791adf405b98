//! A session's deadline is moved later, on record, and its people are told.

use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::authz::Answer;
use sojourn_core::authz::Asker;
use sojourn_core::authz::Deed;
use sojourn_core::authz::Ownership;
use sojourn_core::authz::may;
use sojourn_core::extension;
use sojourn_core::extension::NoExtension;
use sojourn_core::extension::Reach;
use sojourn_core::extension::Standing;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::shim::ToShim;

use crate::ending::EndedBy;
use crate::engine::Engine;
use crate::listing::StoreUnavailable;
use crate::session::Command;
use crate::view::Seconds;

/// More time that somebody asks for.
#[derive(Clone, Debug)]
pub struct Extension {
    /// How much.
    pub by: Duration,
    /// Who asks, as the session's people read it, and why.
    pub who: EndedBy,
    /// Who asks, as to what they may.
    pub asker: Asker,
    /// Who asks, for the record.
    pub actor: Actor,
}

/// The new end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extended {
    /// When it is.
    pub deadline: Wall,
    /// What is left until then.
    pub left: Duration,
}

/// Why a session is not extended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtendError {
    /// No such session, or none that whoever asks may know of.
    #[error("there is no such session")]
    Unknown,
    /// They may know of it, and not do this.
    #[error("you may not extend this session")]
    Forbidden,
    /// It is over, or will be in a moment.
    #[error("the session has ended, or is ending")]
    Over,
    /// Nothing runs in it yet.
    #[error("the session has not started yet")]
    NotStarted,
    /// It may not run so long.
    #[error(transparent)]
    No(#[from] NoExtension),
    /// Nothing is extended off the record.
    #[error("the audit log cannot be written, so no session is extended; tell the operator")]
    Audit,
    /// Its shim does not answer.
    #[error("the session does not answer; try again in a moment")]
    Silent,
    /// The runner it is on has limits of its own.
    #[error("{0}")]
    Runner(String),
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreUnavailable),
}

impl Engine {
    /// Moves a session's deadline later: by its owner as far as the profile goes, by an admin beyond
    /// it. On record before it is done.
    ///
    /// # Errors
    /// When that may not be, or cannot be kept.
    pub async fn extend(
        &self,
        id: SessionId,
        extension: &Extension,
    ) -> Result<Extended, ExtendError> {
        let kept = self.inner.records.store().session(id).await.map_err(StoreUnavailable::from)?;
        let kept = kept.ok_or(ExtendError::Unknown)?;
        let remote = kept.new.remote.is_some();
        let ownership = Ownership { owner: kept.new.user, remote };
        let may = |deed| may(extension.asker, deed, ownership);
        match may(Deed::Extend) {
            Answer::Allowed => {}
            Answer::Forbidden => return Err(ExtendError::Forbidden),
            Answer::Hidden => return Err(ExtendError::Unknown),
        }
        if remote && self.session(id).is_none() {
            let beyond = may(Deed::ExtendBeyondPolicy).is_allowed();
            return self.inner.agents.extend(&kept, extension, beyond).await;
        }
        let session = self.session(id).filter(|session| !session.is_ending());
        let session = session.ok_or(ExtendError::Over)?;
        if !session.shared.has_started() {
            return Err(ExtendError::NotStarted);
        }
        // One at a time: each counts from where the one before it has left the deadline.
        let _in_turn = session.shared.extending.lock().await;
        let lease = session.fresh_lease().await.ok_or(ExtendError::Silent)?;
        let (now, asked) = (self.clock().wall(), self.clock().mono());
        let started = kept.started_at.unwrap_or(now);
        let elapsed = u64::try_from(now.0.saturating_sub(started.0)).unwrap_or(0);
        let standing =
            Standing { elapsed: Duration::from_micros(elapsed), remaining: lease.remaining };
        let reach = match may(Deed::ExtendBeyondPolicy) {
            Answer::Allowed => Reach::Beyond,
            _ => Reach::Policy(session.shared.policy.limits_at(session.shared.door).max_runtime),
        };
        let left = extension::extended(standing, extension.by, reach)?;
        let extended = Extended { deadline: now.after(left), left };
        self.put_on_record(id, extension, &extended).await?;
        let line = extension::notice(&extension.who.name, left);
        // The log took its time, which is no extension.
        let left = left.saturating_sub(self.clock().mono().since(asked));
        let moved = session.tell_shim(&ToShim::MoveDeadline(left)).await;
        moved.map_err(|_| ExtendError::Over)?;
        self.inner.records.extended(id, extension, &extended).await;
        // Who is there is told; that nobody is there is no failure.
        let _over = session.tell(Command::Notice(line)).await;
        Ok(extended)
    }

    async fn put_on_record(
        &self,
        id: SessionId,
        extension: &Extension,
        extended: &Extended,
    ) -> Result<(), ExtendError> {
        if !self.audit().is_writable() {
            return Err(ExtendError::Audit);
        }
        let (who, deadline) = (&extension.who, extended.deadline.to_rfc3339());
        tracing::info!(
            session = %id, by = who.name, seconds = extension.by.as_secs(), deadline,
            event = "session_extended", "session extended",
        );
        let event =
            Event::new(self.clock().wall(), Action::SessionExtended, extension.actor.clone())
                .session(id)
                .detail("seconds", serde_json::json!(Seconds(extension.by)))
                .detail("why", serde_json::json!(who.why))
                .detail("deadline", deadline)
                .detail("by", who.name.clone());
        self.audit().record(event).await.map_err(|_| ExtendError::Audit)
    }
}
