//! What is done to a session as a whole: interrupt its turn, end it, move its deadline.

use std::sync::Arc;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::end::EndReason;
use sojourn_core::extension;
use sojourn_core::extension::Reach;
use sojourn_core::extension::Standing;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Mono;
use sojourn_core::time::micros;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::Person as By;
use sojourn_core::wire::relay::Receipt;
use sojourn_store::Session as Kept;
use tokio::task::JoinHandle;

use super::Agents;
use super::answering::by;
use super::session::Agent;
use super::session::Ending;
use super::session::Told;
use super::storing::Work;
use crate::ending::EndedBy;
use crate::extend::ExtendError;
use crate::extend::Extended;
use crate::extend::Extension;
use crate::view::Seconds;
use crate::visiting::Person;

/// Why a session is lost whose runner is nobody's any more.
pub(super) const REMOVED: &str = "its runner was removed";

impl Agents {
    /// Has a session's agent stop its turn. The session goes on. False: there is none, or it cannot
    /// be reached.
    pub fn interrupt(&self, person: &Person, id: SessionId) -> bool {
        let Some(agent) = self.held(id) else { return false };
        if !agent.shown().linked {
            return false;
        }
        let event = Event::new(self.kit.clock.wall(), Action::InterruptSent, person.actor.clone());
        let now = self.kit.clock.mono();
        self.kit.audit.record_few(event.session(id), now);
        agent.shown().lease.touch_input(now);
        let command = Command::Interrupt { by: by(person) };
        let agents = self.clone();
        self.kit.tasks.spawn(async move {
            if let Err(error) = agents.kit.remote.command(agent.runner, id, command).await {
                tracing::warn!(session = %id, %error, "an agent is not interrupted");
            }
        });
        true
    }

    /// Ends a session. The first wish counts; one whose runner is out of reach ends when it comes
    /// again. None when there is none; else what is done once the wish is kept.
    pub(crate) fn end(
        &self,
        id: SessionId,
        reason: EndReason,
        by: Option<EndedBy>,
    ) -> Option<JoinHandle<()>> {
        let agent = self.held(id)?;
        let ending = Ending { reason, by };
        let (first, at_rest, linked) = agent.show(|shown, _| {
            let first = shown.ending.is_none();
            shown.ending.get_or_insert_with(|| ending.clone());
            (first, shown.standing.phase.is_at_rest(), shown.linked)
        });
        if !first {
            return Some(self.kit.tasks.spawn(async {}));
        }
        tracing::info!(session = %id, reason = reason.name(), event = "session_end_requested",
            "an agent's session is being ended");
        if linked && !at_rest {
            let (agents, agent, ending) = (self.clone(), agent.clone(), ending.clone());
            self.kit.tasks.spawn(async move { agents.send_end(&agent, ending).await });
        }
        let agents = self.clone();
        Some(self.kit.tasks.spawn(async move {
            agents.keep_wish(&agent, ending).await;
        }))
    }

    /// Keeps that an end is wished for: its runner may come back to another gateway. Where nothing of it
    /// runs, that is its end.
    pub(super) async fn keep_wish(&self, agent: &Arc<Agent>, ending: Ending) {
        let mut work = Work::on(agent.clone()).await;
        // It may have been taken up again meanwhile.
        if work.is_closed() || agent.shown().ending.as_ref() != Some(&ending) {
            return;
        }
        let (standing, effects) = work.standing();
        if standing.phase.is_at_rest() {
            effects.extend(standing.give_up(ending.reason, None));
            work.ending = Some(ending);
        } else {
            standing.wished = Some(ending);
        }
        if let Err(error) = self.keep(vec![work]).await {
            tracing::error!(session = %agent.id, %error, "the wish for a session's end is not kept");
        }
    }

    /// Ends a session that no runner will ever speak of again. What was wished before is why.
    pub(super) fn lose(&self, agent: &Arc<Agent>, why: &'static str) {
        let (agents, agent) = (self.clone(), agent.clone());
        let wished = agent.shown().ending.clone();
        let lost = wished.unwrap_or(Ending { reason: EndReason::RunnerLost, by: None });
        self.kit.tasks.spawn(async move {
            agents.give_up(&agent, lost, Some(why.to_owned())).await;
        });
    }

    pub(super) async fn send_end(&self, agent: &Arc<Agent>, ending: Ending) {
        let Ending { reason, by } = ending;
        let why = by.as_ref().and_then(|by| by.why.clone());
        let by = by.map(|by| By { user: by.name, address: None });
        let command = Command::End { reason, by, why };
        match self.kit.remote.command(agent.runner, agent.id, command).await {
            Ok(Receipt::Accepted | Receipt::Duplicate) => {}
            Ok(Receipt::Rejected { code, message }) => {
                tracing::warn!(session = %agent.id, code, message, "an end is refused");
            }
            // It has it when it comes again.
            Err(error) => tracing::debug!(session = %agent.id, %error, "an end waits"),
        }
    }

    /// Ends a session of which nothing runs, or whose runner knows nothing any more.
    pub(super) async fn give_up(
        &self,
        agent: &Arc<Agent>,
        ending: Ending,
        message: Option<String>,
    ) {
        let mut work = Work::on(agent.clone()).await;
        if work.is_closed() {
            return;
        }
        let (standing, effects) = work.standing();
        effects.extend(standing.give_up(ending.reason, message));
        work.ending = Some(ending);
        if let Err(error) = self.keep(vec![work]).await {
            tracing::error!(session = %agent.id, %error, "a session's end is not kept");
        }
    }

    /// Moves a session's deadline later, on record and on its runner.
    ///
    /// # Errors
    /// When that may not be, or cannot be kept.
    pub(crate) async fn extend(
        &self,
        kept: &Kept,
        extension: &Extension,
        beyond: bool,
    ) -> Result<Extended, ExtendError> {
        let agent = self.held(kept.new.id).ok_or(ExtendError::Over)?;
        let reach = match beyond {
            true => Reach::Beyond,
            false => Reach::Policy(agent.new.limits.max_runtime),
        };
        self.extended(&agent, extension.by, reach)?;
        if !self.kit.audit.is_writable() {
            return Err(ExtendError::Audit);
        }
        // Before the book is taken: what its runner says meanwhile is written there.
        let command = Command::Extend { by: extension.by };
        match self.kit.remote.command(agent.runner, agent.id, command).await {
            Ok(Receipt::Accepted | Receipt::Duplicate) => {}
            Ok(Receipt::Rejected { message, .. }) => return Err(ExtendError::Runner(message)),
            Err(_) => return Err(ExtendError::Silent),
        }
        let mut work = Work::on(agent.clone()).await;
        // It may have been moved meanwhile; it is later by as much in any case.
        let left = self.extended(&agent, extension.by, Reach::Beyond)?;
        let (now, wall) = (self.kit.clock.mono(), self.kit.clock.wall());
        let extended = Extended { deadline: wall.after(left), left };
        let event = Event::new(wall, Action::SessionExtended, extension.actor.clone())
            .session(agent.id)
            .detail("seconds", serde_json::json!(Seconds(extension.by)))
            .detail("why", serde_json::json!(extension.who.why))
            .detail("deadline", extended.deadline.to_rfc3339())
            .detail("by", extension.who.name.clone());
        work.tell(event);
        work.standing().0.extended += micros(extension.by);
        self.keep(vec![work]).await.map_err(|error| {
            tracing::error!(session = %agent.id, %error, "an extension is not kept");
            ExtendError::Store(crate::listing::StoreUnavailable)
        })?;
        agent.show(|shown, told| {
            shown.lease.move_deadline(now.after(left));
            told.push(Told::Lease);
        });
        self.kit.records.extended(agent.id, extension, &extended).await;
        Ok(extended)
    }

    /// What is left until a session's deadline once it is moved by so much.
    fn extended(&self, agent: &Agent, by: Duration, reach: Reach) -> Result<Duration, ExtendError> {
        let (now, wall) = (self.kit.clock.mono(), self.kit.clock.wall());
        let shown = agent.shown();
        if shown.ending.is_some() || shown.ended.is_some() {
            return Err(ExtendError::Over);
        }
        let started = shown.started_at.ok_or(ExtendError::NotStarted)?;
        let elapsed = u64::try_from(wall.0.saturating_sub(started.0)).unwrap_or(0);
        let deadline = shown.lease.deadline();
        let remaining = (deadline != Mono::NEVER).then(|| deadline.since(now));
        let standing = Standing { elapsed: Duration::from_micros(elapsed), remaining };
        Ok(extension::extended(standing, by, reach)?)
    }
}
