//! Messages to agents. Each is kept before it is answered for, once under its client's id, and brought
//! to the runner in the order in which they came; the runner queues while the agent works.

use std::sync::Arc;

use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::authz::Answer;
use sojourn_core::authz::Deed;
use sojourn_core::ids::SessionId;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::MessageState;
use sojourn_core::wire::relay::Person as By;
use sojourn_core::wire::relay::Receipt;
use sojourn_store::AgentInput;
use sojourn_store::InputState;
use sojourn_store::StoreError;

use super::Agents;
use super::answering::by;
use super::records;
use super::session::Agent;
use super::session::Input;
use super::session::Told;
use super::state::Phase;
use crate::rates::Refused;
use crate::visiting::Person;

/// The longest message, in bytes.
pub(super) const LONGEST: usize = 100_000;

/// The longest id of a client's.
const LONGEST_ID: usize = 128;

/// The most messages that wait.
const MOST_WAITING: usize = 100;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The client's own id of it: the same once more is the same message.
    pub client_msg_id: String,
    /// What.
    pub content: String,
}

/// Why a message, or a change of one, is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cannot {
    /// No such session, or it is over.
    #[error("the session is over")]
    Over,
    /// They may look on, and no more.
    #[error("only the owner of the runner speaks to an agent there")]
    Forbidden,
    /// A part of it cannot be.
    #[error("{1}")]
    Invalid(&'static str, &'static str),
    /// Too many wait.
    #[error("{0} messages wait already; wait, or take some back")]
    Full(usize),
    /// The session has had as many as it may ever have.
    #[error("this session has had {0} messages, which is the most; say it in a new session")]
    Spent(usize),
    /// There were too many in the last minute.
    #[error(transparent)]
    TooOften(#[from] Refused),
    /// No such message waits.
    #[error("there is no such message that waits")]
    NotWaiting,
    /// The audit log cannot be written.
    #[error("the audit log cannot be written, so nothing is said; tell the operator")]
    Audit,
    /// The store does not answer.
    #[error("the store does not answer; see the gateway's log")]
    Store,
}

impl Cannot {
    /// A stable word for programs.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Over | Self::NotWaiting => "CONFLICT",
            Self::Forbidden => "FORBIDDEN",
            Self::Invalid(..) => "INVALID",
            Self::Full(_) | Self::Spent(_) => "LIMIT_REACHED",
            Self::TooOften(_) => "RATE_LIMITED",
            Self::Audit => "AUDIT_UNAVAILABLE",
            Self::Store => "STORE_UNAVAILABLE",
        }
    }
}

impl Agents {
    /// Says something to a session's agent. Answers where the message stands; everybody else is told.
    ///
    /// # Errors
    /// [`Cannot`].
    pub async fn say(
        &self,
        person: &Person,
        id: SessionId,
        message: Message,
    ) -> Result<MessageState, Cannot> {
        let agent = self.spoken_to(person, id)?;
        let Message { client_msg_id, content } = message;
        if client_msg_id.is_empty() || client_msg_id.len() > LONGEST_ID {
            return Err(Cannot::Invalid("client_msg_id", "an id of 1 to 128 bytes"));
        }
        check(&content)?;
        let store = self.kit.records.store();
        if let Some(known) = store.input(id, &client_msg_id).await.map_err(gone)? {
            return Ok(state(known.state));
        }
        if agent.shown().inputs.len() >= MOST_WAITING {
            return Err(Cannot::Full(MOST_WAITING));
        }
        self.kit.rates.message(id, &person.actor)?;
        if !self.kit.audit.is_writable() {
            return Err(Cannot::Audit);
        }
        let (now, said_by) = (self.kit.clock.wall(), by(person));
        let event = Event::new(now, Action::InputSent, person.actor.clone())
            .session(id)
            .detail("message", records::digest(&content))
            .detail("client_msg_id", client_msg_id.clone());
        let input = AgentInput {
            client_msg_id: client_msg_id.clone(),
            content: content.clone(),
            by: serde_json::to_string(&said_by).unwrap_or_default(),
            state: InputState::Kept,
            code: None,
        };
        match store.add_input(id, &input, now, &event).await {
            Ok(true) => {}
            Ok(false) => return Ok(MessageState::Queued),
            Err(StoreError::TooMany { limit, .. }) => return Err(Cannot::Spent(limit)),
            Err(error) => return Err(gone(error)),
        }
        let mono = self.kit.clock.mono();
        agent.show(|shown, told| {
            shown.lease.touch_input(mono);
            shown.inputs.push(Input {
                client_msg_id: client_msg_id.clone(),
                content: content.clone(),
                is_there: false,
                by: input.by,
            });
            let (state, content) = (MessageState::Queued, Some(content));
            told.push(Told::Message { client_msg_id, state, content, code: None });
        });
        let agents = self.clone();
        self.kit.tasks.spawn(async move { agents.deliver(&agent).await });
        Ok(MessageState::Queued)
    }

    /// Changes what a message says that waits.
    ///
    /// # Errors
    /// [`Cannot`].
    pub async fn edit(
        &self,
        person: &Person,
        id: SessionId,
        message: Message,
    ) -> Result<(), Cannot> {
        check(&message.content)?;
        self.kit.rates.message(id, &person.actor)?;
        let agent = self.spoken_to(person, id)?;
        self.change(person, &agent, &message.client_msg_id, Some(message.content)).await
    }

    /// Takes back a message that waits.
    ///
    /// # Errors
    /// [`Cannot`].
    pub async fn cancel(
        &self,
        person: &Person,
        id: SessionId,
        client_msg_id: &str,
    ) -> Result<(), Cannot> {
        let agent = self.spoken_to(person, id)?;
        self.change(person, &agent, client_msg_id, None).await
    }

    /// Changes, or without `content` takes back, a message that waits: here, or on the runner.
    async fn change(
        &self,
        person: &Person,
        agent: &Arc<Agent>,
        client_msg_id: &str,
        content: Option<String>,
    ) -> Result<(), Cannot> {
        if !self.kit.audit.is_writable() {
            return Err(Cannot::Audit);
        }
        let event = Event::new(self.kit.clock.wall(), Action::InputSent, person.actor.clone())
            .session(agent.id)
            .detail("client_msg_id", client_msg_id);
        let event = match &content {
            Some(content) => event.detail("edited", records::digest(content)),
            None => event.detail("cancelled", true),
        };
        let store = self.kit.records.store();
        // Not while it is on its way.
        let _in_turn = agent.delivering.lock().await;
        let found =
            agent.shown().inputs.iter().find(|it| it.client_msg_id == client_msg_id).cloned();
        let found = found.ok_or(Cannot::NotWaiting)?;
        let id = client_msg_id.to_owned();
        if found.is_there {
            let command = match &content {
                Some(content) => {
                    Command::EditMessage { client_msg_id: id.clone(), content: content.clone() }
                }
                None => Command::CancelMessage { client_msg_id: id.clone() },
            };
            match self.kit.remote.command(agent.runner, agent.id, command).await {
                // What comes of it is an event.
                Ok(Receipt::Accepted | Receipt::Duplicate) => {}
                Ok(Receipt::Rejected { .. }) | Err(_) => return Err(Cannot::NotWaiting),
            }
            if let Err(error) = store.tell(&event).await {
                tracing::error!(%error, "the store did not keep that a message was changed");
                self.kit.audit.record_soon(event);
            }
        } else {
            let (kept, state) = match content {
                Some(_) => (InputState::Kept, MessageState::Queued),
                None => (InputState::Cancelled, MessageState::Cancelled),
            };
            let moved = store.change_input(agent.id, &id, kept, content.as_deref(), &event).await;
            if !moved.map_err(gone)? {
                return Err(Cannot::NotWaiting);
            }
            agent.show(|shown, told| {
                shown.move_input(&id, kept, content.as_ref());
                let (client_msg_id, content) = (id.clone(), content.clone());
                told.push(Told::Message { client_msg_id, state, content, code: None });
            });
        }
        Ok(())
    }

    /// Brings messages to the runner that it does not have.
    pub(super) async fn deliver(&self, agent: &Arc<Agent>) {
        let _in_turn = agent.delivering.lock().await;
        loop {
            let next = {
                let shown = agent.shown();
                let is_live = matches!(shown.standing.phase, Phase::Running | Phase::Waiting);
                let reachable = shown.linked && is_live;
                let waits = shown.inputs.iter().find(|input| !input.is_there).cloned();
                waits.filter(|_| reachable)
            };
            let Some(input) = next else { return };
            let nobody = || By { user: String::new(), address: None };
            let command = Command::Message {
                client_msg_id: input.client_msg_id.clone(),
                content: input.content,
                by: serde_json::from_str(&input.by).unwrap_or_else(|_| nobody()),
            };
            let (state, code) = match self.kit.remote.command(agent.runner, agent.id, command).await
            {
                Ok(Receipt::Accepted | Receipt::Duplicate) => (InputState::Queued, None),
                Ok(Receipt::Rejected { code, message }) => {
                    tracing::warn!(session = %agent.id, code, message, "a message is refused");
                    (InputState::Refused, Some(code))
                }
                // When the runner comes again, it is tried again.
                Err(error) => {
                    tracing::debug!(session = %agent.id, %error, "a message waits");
                    return;
                }
            };
            let id = input.client_msg_id;
            let store = self.kit.records.store();
            if let Err(error) = store.move_input(agent.id, &id, state, None, code.as_deref()).await
            {
                tracing::warn!(session = %agent.id, %error, "a message's state is not kept");
            }
            agent.show(|shown, told| {
                let refused = state == InputState::Refused;
                shown.move_input(&id, state, None);
                if refused {
                    let (state, content) = (MessageState::Refused, None);
                    told.push(Told::Message { client_msg_id: id, state, content, code });
                }
            });
        }
    }

    /// The session, if this person may speak there.
    fn spoken_to(&self, person: &Person, id: SessionId) -> Result<Arc<Agent>, Cannot> {
        match self.may_now(person.asker, Deed::Drive, id) {
            Answer::Allowed => {}
            Answer::Forbidden => return Err(Cannot::Forbidden),
            Answer::Hidden => return Err(Cannot::Over),
        }
        let agent = self.held(id).ok_or(Cannot::Over)?;
        let is_going = {
            let shown = agent.shown();
            shown.ended.is_none() && shown.ending.is_none()
        };
        is_going.then_some(agent).ok_or(Cannot::Over)
    }
}

fn check(content: &str) -> Result<(), Cannot> {
    match content.trim().is_empty() {
        true => Err(Cannot::Invalid("content", "say something")),
        false if content.len() > LONGEST => {
            Err(Cannot::Invalid("content", "longer than 100000 bytes"))
        }
        false => Ok(()),
    }
}

fn state(state: InputState) -> MessageState {
    match state {
        InputState::Kept | InputState::Queued => MessageState::Queued,
        InputState::Sent => MessageState::Sent,
        InputState::Cancelled => MessageState::Cancelled,
        InputState::Refused => MessageState::Refused,
    }
}

fn gone(error: StoreError) -> Cannot {
    tracing::error!(%error, "the store does not answer");
    Cannot::Store
}
