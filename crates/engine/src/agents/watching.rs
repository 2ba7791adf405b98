//! Looking on at a conversation: first what there was, then what comes, each event once and in order.
//!
//! Whoever looks on has a place in the log and no queue of their own: what they have not read is read
//! from the newest events at hand, or from the store. So a browser that reads slowly, or not at all,
//! costs nobody anything.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::authz::Asker;
use sojourn_core::authz::Deed;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::ids::SessionId;
use sojourn_core::status::Status;
use sojourn_core::time::Mono;
use sojourn_core::wire::relay::Recovery;
use sojourn_core::wire::relay::RequestId;
use sojourn_core::wire::relay::Seq;
use sojourn_core::wire::relay::Usage;
use sojourn_store::AgentEvent;
use tokio::sync::broadcast;
use tokio::sync::watch;

use super::Agents;
use super::session::Agent;
use super::session::Asked;
use super::session::Input;
use super::session::Shown;
use super::session::Told;
use super::state::Standing;
use crate::door::Refusal;
use crate::listing::StoreUnavailable;
use crate::view::LeaseView;
use crate::view::Seconds;
use crate::visiting::Person;

/// How often it is looked whether a session is over.
const LOOK: Duration = Duration::from_secs(1);

/// Events that are read at once.
const PAGE: u32 = 200;

/// Somebody who looks on.
pub struct Attending {
    agents: Agents,
    agent: Arc<Agent>,
    news: broadcast::Receiver<Told>,
    heads: watch::Receiver<Seq>,
    /// The next event they want.
    next: Seq,
    /// Read, and not yet taken.
    read: VecDeque<Arc<AgentEvent>>,
    /// Whether they have all that there was, and so are told what is open.
    caught_up: bool,
    /// Prompts that were shown.
    shown: HashSet<RequestId>,
    /// Nothing comes any more.
    over: Option<(EndReason, Option<Exit>)>,
}

/// Something that one who looks on learns.
#[derive(Clone, Debug)]
pub enum Seen {
    /// The next event.
    Event(Arc<AgentEvent>),
    /// Events before this one are not there any more.
    TruncatedBefore(Seq),
    /// They have all that there was: what is open, and what waits, is told from now on.
    Now(Box<Snapshot>),
    /// The agent asks this.
    Asked(RequestId, Asked),
    /// Something else.
    Told(Told),
}

/// How a session stands.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// So.
    pub status: Status,
    /// What is asked and open, the oldest first.
    pub asks: Vec<(RequestId, Asked)>,
    /// Messages that wait.
    pub inputs: Vec<Input>,
    /// The agent's mode.
    pub mode: Option<String>,
    /// Tokens and money.
    pub usage: Option<Usage>,
    /// How it is taken up again.
    pub recovery: Option<Recovery>,
    /// Whether its runner is there.
    pub linked: bool,
    /// Whether anybody looks on.
    pub attached: bool,
}

impl Snapshot {
    pub(super) fn of(shown: &Shown) -> Self {
        Self {
            status: shown.status(),
            asks: shown.asks.values().map(|ask| (ask.request, ask.what.clone())).collect(),
            inputs: shown.inputs.clone(),
            mode: shown.standing.mode.clone(),
            usage: shown.standing.usage,
            recovery: recovery(shown),
            linked: shown.linked,
            attached: false,
        }
    }
}

/// How a session is taken up again: that it can be, only while nothing of it runs.
fn recovery(shown: &Shown) -> Option<Recovery> {
    let recovery = shown.standing.recovery.clone()?;
    let at_rest = shown.standing.phase.is_at_rest();
    Some(Recovery { can_resume: recovery.can_resume && at_rest, ..recovery })
}

impl Agents {
    /// Looks on at a session, from this event on; 0 and 1 are its first.
    ///
    /// # Errors
    /// When the store does not answer. None where the session is no agent's.
    pub async fn attend(
        &self,
        id: SessionId,
        from: Seq,
    ) -> Result<Option<Attending>, StoreUnavailable> {
        let agent = match self.held(id) {
            Some(agent) => agent,
            None => {
                let Some(kept) = self.kit.records.store().session(id).await? else {
                    return Ok(None);
                };
                let Some(agent) = self.read(kept).await? else { return Ok(None) };
                // It may have been taken up again meanwhile.
                self.held(id).unwrap_or(agent)
            }
        };
        let (over, news, heads) = agent.look(|shown| shown.ended.clone());
        Ok(Some(Attending {
            agents: self.clone(),
            agent,
            news,
            heads,
            next: from.max(1),
            read: VecDeque::new(),
            caught_up: false,
            shown: HashSet::new(),
            over,
        }))
    }

    /// Resolves when a session is over.
    pub async fn over(&self, id: SessionId) {
        while let Some(agent) = self.held(id) {
            let (is_over, mut news, _) = agent.look(|shown| shown.ended.is_some());
            // Its end is told just before it is let go.
            let told =
                async { while !is_over && !matches!(news.recv().await, Ok(Told::Ended { .. })) {} };
            let _later = tokio::time::timeout(LOOK, told).await;
        }
    }

    /// Events of a session from this one on.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn events(
        &self,
        id: SessionId,
        from: Seq,
        limit: u32,
    ) -> Result<Vec<AgentEvent>, StoreUnavailable> {
        Ok(self.kit.records.store().agent_events(id, from.max(1), limit).await?)
    }

    /// How a session stands that is not over.
    #[must_use]
    pub fn snapshot(&self, id: SessionId) -> Option<Snapshot> {
        let agent = self.held(id)?;
        let snapshot = Snapshot::of(&agent.shown());
        Some(Snapshot { attached: agent.is_attached(), ..snapshot })
    }

    /// How a session that is over is taken up again.
    pub(crate) async fn recovery_of(&self, id: SessionId) -> Option<Recovery> {
        // What is shown does not fail because of this.
        let (_, state) = self.kit.records.store().agent(id).await.ok().flatten()?;
        serde_json::from_str::<Standing>(&state).ok()?.recovery
    }

    /// How the lease of a session stands that is not over; none before it began.
    #[must_use]
    pub fn lease(&self, id: SessionId) -> Option<LeaseView> {
        let agent = self.held(id)?;
        let shown = agent.shown();
        let (now, wall) = (self.kit.clock.mono(), self.kit.clock.wall());
        shown.started_at?;
        let lease = &shown.lease;
        let left = |at: Mono| (at != Mono::NEVER).then(|| at.since(now));
        let (remaining, idle) = (left(lease.deadline()), left(lease.idle_deadline()));
        Some(LeaseView {
            deadline: remaining.map(|left| wall.after(left)),
            idle_deadline: idle.map(|left| wall.after(left)),
            remaining_seconds: remaining.map(Seconds),
            idle_seconds: Seconds(now.since(lease.last_activity())),
            output_bytes: shown.standing.output,
        })
    }

    /// Puts on record that somebody looks on: at their own session to drive it, or at another's.
    ///
    /// # Errors
    /// When it cannot be, and they are not root.
    pub async fn came(&self, person: &Person, id: SessionId, drives: bool) -> Result<(), Refusal> {
        let own = self.may_now(person.asker, Deed::Drive, id).is_allowed();
        let action = match (own, drives) {
            (true, true) => Action::SessionAttached,
            (true, false) => return Ok(()),
            (false, _) => Action::SessionWatched,
        };
        let event = Event::new(self.kit.clock.wall(), action, person.actor.clone()).session(id);
        match self.kit.audit.record(event).await {
            Err(_) if person.asker != Asker::Local => Err(Refusal::Audit),
            _ => Ok(()),
        }
    }
}

impl Attending {
    /// How the session stands now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.agent.shown())
    }

    /// What comes next; waits for it. None: nothing comes any more. Dropped while it waits, nothing
    /// is lost.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn next(&mut self) -> Result<Option<Seen>, StoreUnavailable> {
        loop {
            if let Some(event) = self.read.pop_front() {
                self.next = event.seq + 1;
                return Ok(Some(Seen::Event(event)));
            }
            let head = *self.heads.borrow_and_update();
            if self.next <= head {
                if let Some(gap) = self.fetch().await? {
                    return Ok(Some(gap));
                }
                continue;
            }
            if !self.caught_up {
                self.caught_up = true;
                return Ok(Some(Seen::Now(Box::new(self.all_anew()))));
            }
            if let Some((reason, exit)) = self.over.take() {
                return Ok(Some(Seen::Told(Told::Ended { reason, exit })));
            }
            let told = tokio::select! {
                biased;
                changed = self.heads.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return Ok(None),
                },
                told = self.news.recv() => told,
            };
            match told {
                Ok(Told::Asked(request)) => {
                    let ask = self.agent.shown().ask(request).map(|ask| ask.what.clone());
                    if let Some(what) = ask.filter(|_| self.shown.insert(request)) {
                        return Ok(Some(Seen::Asked(request, what)));
                    }
                }
                Ok(told) => {
                    if let Told::Resolved { request, .. } = &told {
                        self.shown.remove(request);
                    }
                    return Ok(Some(Seen::Told(told)));
                }
                // So much was told that it is told all anew.
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    self.caught_up = false;
                    self.over = self.agent.shown().ended.clone();
                }
                Err(broadcast::error::RecvError::Closed) => return Ok(None),
            }
        }
    }

    fn all_anew(&mut self) -> Snapshot {
        let snapshot = self.snapshot();
        self.shown = snapshot.asks.iter().map(|(request, _)| *request).collect();
        snapshot
    }

    /// Reads the next events. What is not there any more is said.
    async fn fetch(&mut self) -> Result<Option<Seen>, StoreUnavailable> {
        let recent = self.agent.recent(self.next, PAGE as usize);
        self.read = match recent.filter(|events| !events.is_empty()) {
            Some(events) => events.into(),
            None => {
                let events = self.agents.events(self.agent.id, self.next, PAGE).await?;
                events.into_iter().map(Arc::new).collect()
            }
        };
        match self.read.front() {
            Some(first) if first.seq > self.next => {
                let first = first.seq;
                self.next = first;
                Ok(Some(Seen::TruncatedBefore(first)))
            }
            Some(_) => Ok(None),
            // All of them are gone.
            None => {
                self.next = self.heads.borrow().saturating_add(1);
                Ok(Some(Seen::TruncatedBefore(self.next)))
            }
        }
    }
}
