//! Conversations with agents: their events as they came, what agents asked, what people said.
//!
//! A runner's events are kept in order and once, in one transaction with everything that follows from
//! them: what was kept can be shown and acknowledged, and what was not comes again.

use sojourn_core::audit::Event as AuditEvent;
use sojourn_core::ids::SessionId;
use sojourn_core::status::Status;
use sojourn_core::time::Wall;

use crate::Change;
use crate::SessionEnd;
use crate::Store;
use crate::StoreError;
use crate::db::Row;
use crate::db::args;
use crate::row::bounded;
use crate::row::size;
use crate::sql;

/// The longest event, as JSON: a little more than a runner may send.
const LONGEST_EVENT: usize = 512 << 10;

/// The most events of one page.
pub const MAX_EVENTS: u32 = 1000;

/// The most messages of one session that are remembered, sent ones too.
const MAX_INPUTS: i64 = 10_000;

/// An event of an agent's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentEvent {
    /// Its number, from 1.
    pub seq: u64,
    /// Which start of the agent it belongs to.
    pub epoch: u32,
    /// When, by the runner's clock.
    pub at: Wall,
    /// What, as JSON.
    pub event: String,
}

/// Where something that an agent asked stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PromptState {
    /// Nobody has answered.
    Pending,
    /// Somebody, or a rule, has.
    Answered,
    /// The agent does not want to know any more.
    Withdrawn,
    /// The agent that asked is gone.
    Lost,
    /// Nobody answered in time.
    Expired,
}

impl PromptState {
    /// Its name in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Answered => "answered",
            Self::Withdrawn => "withdrawn",
            Self::Lost => "lost",
            Self::Expired => "expired",
        }
    }

    fn read(name: &str) -> Result<Self, StoreError> {
        let all = [Self::Pending, Self::Answered, Self::Withdrawn, Self::Lost, Self::Expired];
        all.into_iter().find(|state| state.name() == name).ok_or(StoreError::Impossible("state"))
    }
}

/// Something that an agent asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPrompt {
    /// Its id.
    pub request: String,
    /// The event that asks it.
    pub seq: u64,
    /// Which start of the agent asked it.
    pub epoch: u32,
    /// Where it stands.
    pub state: PromptState,
    /// How it was answered: `allow` or `deny`.
    pub decision: Option<String>,
    /// By whom.
    pub by: Option<String>,
    /// What goes to the runner, as JSON.
    pub answer: Option<String>,
}

/// An answer that is to be the only one.
#[derive(Clone, Debug)]
pub struct NewAnswer {
    /// To what.
    pub request: String,
    /// `allow` or `deny`.
    pub decision: String,
    /// Whose it is.
    pub by: String,
    /// What goes to the runner, as JSON.
    pub answer: String,
    /// Now.
    pub at: Wall,
}

/// Where a message to an agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputState {
    /// The runner does not have it yet.
    Kept,
    /// The runner has it, and the agent is at work.
    Queued,
    /// The agent has it.
    Sent,
    /// It was taken back.
    Cancelled,
    /// It will not be sent.
    Refused,
}

impl InputState {
    /// Its name in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Queued => "queued",
            Self::Sent => "sent",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
        }
    }

    fn read(name: &str) -> Result<Self, StoreError> {
        let all = [Self::Kept, Self::Queued, Self::Sent, Self::Cancelled, Self::Refused];
        all.into_iter().find(|state| state.name() == name).ok_or(StoreError::Impossible("state"))
    }
}

/// A message to an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentInput {
    /// The client's id of it.
    pub client_msg_id: String,
    /// What.
    pub content: String,
    /// Whose it is, as JSON.
    pub by: String,
    /// Where it stands.
    pub state: InputState,
    /// Why it was refused.
    pub code: Option<String>,
}

/// Something that follows from events.
#[derive(Clone, Debug)]
pub enum AgentChange {
    /// The agent asks something.
    Asked {
        /// Its id.
        request: String,
        /// The event that asks it.
        seq: u64,
        /// Which start of the agent asks.
        epoch: u32,
    },
    /// What it asked is settled, if nobody had answered.
    Settled {
        /// What.
        request: String,
        /// How it stands.
        state: PromptState,
        /// How it was answered.
        decision: Option<String>,
        /// By whom or what.
        by: Option<String>,
    },
    /// A message stands elsewhere.
    Input {
        /// Which.
        client_msg_id: String,
        /// Where.
        state: InputState,
        /// What it says now, when that was changed.
        content: Option<String>,
        /// Why it was refused.
        code: Option<String>,
    },
    /// The session stands elsewhere, and is not over.
    Status(Status),
    /// It is live for the first time.
    Started(Wall),
    /// It is over; the first end stands.
    Ended(Box<SessionEnd>),
    /// It was over, and goes on: its conversation is taken up again.
    Reopened,
    /// For the audit log.
    Told(Box<AuditEvent>),
}

/// Events of one session, in order, and what follows from them.
#[derive(Clone, Debug)]
pub struct AgentBatch {
    /// Which session.
    pub session: SessionId,
    /// The last event before these.
    pub before: u64,
    /// The events; their numbers follow on that.
    pub events: Vec<AgentEvent>,
    /// What is made of all events up to here, as JSON.
    pub state: String,
    /// What follows from them.
    pub changes: Vec<AgentChange>,
}

impl Store {
    /// Keeps a session whose conversation begins, with what is made of it so far.
    ///
    /// # Errors
    /// When a text is too long.
    pub async fn add_agent(
        &self,
        new: &crate::NewSession,
        state: &str,
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        change.add_session(new).await?;
        change.tx.run(sql::ADD_AGENT, args![new.id.to_string(), state]).await?;
        change.tell(event).await?;
        change.commit().await
    }

    /// Keeps events of some sessions and what follows from them: all of it, or nothing.
    ///
    /// # Errors
    /// Also when events do not follow on those that are kept.
    pub async fn keep_events(&self, batches: &[AgentBatch]) -> Result<(), StoreError> {
        let mut change = self.change().await?;
        for batch in batches {
            change.keep(batch).await?;
        }
        change.commit().await
    }

    /// What is made of a session's events, and how many there are; none where it is no agent's.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn agent(&self, session: SessionId) -> Result<Option<(u64, String)>, StoreError> {
        let row = self.read().one(sql::AGENT, args![session.to_string()]).await?;
        row.map(|row| Ok((row.size("head")?.unwrap_or(0), row.text("state")?))).transpose()
    }

    /// Events from this one on, at most so many.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn agent_events(
        &self,
        session: SessionId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<AgentEvent>, StoreError> {
        let limit = i64::from(limit.min(MAX_EVENTS));
        let args = args![session.to_string(), size(from), limit];
        self.read().all(sql::AGENT_EVENTS, args).await?.iter().map(event).collect()
    }

    /// Something that an agent asked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn agent_prompt(
        &self,
        session: SessionId,
        request: &str,
    ) -> Result<Option<AgentPrompt>, StoreError> {
        let args = args![session.to_string(), request];
        self.read().one(sql::AGENT_PROMPT, args).await?.as_ref().map(prompt).transpose()
    }

    /// What an agent asked and nobody has answered, the oldest first; and what was answered, and the
    /// agent has not said that it knows.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn agent_prompts(&self, session: SessionId) -> Result<Vec<AgentPrompt>, StoreError> {
        let rows = self.read().all(sql::AGENT_PROMPTS, args![session.to_string()]).await?;
        rows.iter().map(prompt).collect()
    }

    /// Answers what an agent asked, if nobody has; the one place where that is decided. `event` goes
    /// on record with it. False: it was settled before.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn answer_prompt(
        &self,
        session: SessionId,
        answer: &NewAnswer,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let NewAnswer { request, decision, by, answer, at } = answer;
        let args = args![session.to_string(), request, decision, by, at.0, answer];
        if change.tx.run(sql::ANSWER_PROMPT, args).await? == 0 {
            return Ok(false);
        }
        change.tell(event).await?;
        change.commit().await?;
        Ok(true)
    }

    /// Keeps a message to an agent. False: there is one under this id.
    ///
    /// # Errors
    /// When the session has had too many.
    pub async fn add_input(
        &self,
        session: SessionId,
        input: &AgentInput,
        at: Wall,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let id = session.to_string();
        let row = change.tx.one(sql::COUNT_INPUTS, args![&id]).await?;
        let (count, last) = match row {
            Some(row) => (row.number("inputs")?, row.maybe_number("last")?.unwrap_or(0)),
            None => (0, 0),
        };
        if count >= MAX_INPUTS {
            return Err(StoreError::TooMany { what: "messages", limit: 10_000 });
        }
        let AgentInput { client_msg_id, content, by, state, code: _ } = input;
        let args = args![&id, client_msg_id, last + 1, content, by, state.name(), at.0];
        if change.tx.run(sql::ADD_INPUT, args).await? == 0 {
            return Ok(false);
        }
        change.tell(event).await?;
        change.commit().await?;
        Ok(true)
    }

    /// A message stands elsewhere, if it stands where it may do so from: it was not sent, taken back
    /// or refused.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn move_input(
        &self,
        session: SessionId,
        client_msg_id: &str,
        state: InputState,
        content: Option<&str>,
        code: Option<&str>,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let args = args![session.to_string(), client_msg_id, state.name(), content, code];
        let moved = change.tx.run(sql::MOVE_INPUT, args).await? > 0;
        change.commit().await?;
        Ok(moved)
    }

    /// A person changes a message, or takes it back; that is told. False when there is none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn change_input(
        &self,
        session: SessionId,
        client_msg_id: &str,
        state: InputState,
        content: Option<&str>,
        event: &AuditEvent,
    ) -> Result<bool, StoreError> {
        let mut change = self.change().await?;
        let code = None::<&str>;
        let args = args![session.to_string(), client_msg_id, state.name(), content, code];
        if change.tx.run(sql::MOVE_INPUT, args).await? == 0 {
            return Ok(false);
        }
        change.tell(event).await?;
        change.commit().await?;
        Ok(true)
    }

    /// A message by its id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn input(
        &self,
        session: SessionId,
        client_msg_id: &str,
    ) -> Result<Option<AgentInput>, StoreError> {
        let args = args![session.to_string(), client_msg_id];
        self.read().one(sql::INPUT, args).await?.as_ref().map(input).transpose()
    }

    /// Messages that no agent has yet, in order.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn waiting_inputs(&self, session: SessionId) -> Result<Vec<AgentInput>, StoreError> {
        let rows = self.read().all(sql::WAITING_INPUTS, args![session.to_string()]).await?;
        rows.iter().map(input).collect()
    }
}

impl Change {
    async fn keep(&mut self, batch: &AgentBatch) -> Result<(), StoreError> {
        let id = batch.session.to_string();
        let head = batch.before + batch.events.len() as u64;
        let args = args![&id, size(head), &batch.state, size(batch.before)];
        if self.tx.run(sql::MOVE_AGENT, args).await? == 0 {
            return Err(StoreError::Impossible("head"));
        }
        for event in &batch.events {
            bounded("an event", &event.event, LONGEST_EVENT)?;
            let args =
                args![&id, size(event.seq), i64::from(event.epoch), event.at.0, &event.event];
            self.tx.run(sql::ADD_EVENT, args).await?;
        }
        for change in &batch.changes {
            self.follow(&id, change).await?;
        }
        Ok(())
    }

    async fn follow(&mut self, id: &str, change: &AgentChange) -> Result<(), StoreError> {
        match change {
            AgentChange::Asked { request, seq, epoch } => {
                let args = args![id, request, size(*seq), i64::from(*epoch)];
                self.tx.run(sql::ADD_PROMPT, args).await?;
            }
            AgentChange::Settled { request, state, decision, by } => {
                let args = args![id, request, state.name(), decision, by];
                self.tx.run(sql::SETTLE_PROMPT, args).await?;
                self.tx.run(sql::FORGET_ANSWER, args![id, request]).await?;
            }
            AgentChange::Input { client_msg_id, state, content, code } => {
                let args = args![id, client_msg_id, state.name(), content, code];
                self.tx.run(sql::MOVE_INPUT, args).await?;
            }
            AgentChange::Status(status) => {
                self.tx.run(sql::SET_STATUS, args![id, status.name()]).await?;
            }
            AgentChange::Started(at) => {
                let args = args![id, Status::Running.name(), at.0];
                self.tx.run(sql::START_SESSION, args).await?;
            }
            AgentChange::Ended(end) => self.end_session(id, end).await.map(drop)?,
            AgentChange::Reopened => {
                self.tx.run(sql::REOPEN_SESSION, args![id, Status::Starting.name()]).await?;
                // More will be said.
                self.tx.run(sql::FORGET_WORDS, args![id]).await?;
            }
            AgentChange::Told(event) => self.tell(event).await?,
        }
        Ok(())
    }
}

fn event(row: &Row) -> Result<AgentEvent, StoreError> {
    Ok(AgentEvent {
        seq: row.size("seq")?.unwrap_or(0),
        epoch: epoch(row)?,
        at: row.time("at")?,
        event: row.text("event")?,
    })
}

fn prompt(row: &Row) -> Result<AgentPrompt, StoreError> {
    Ok(AgentPrompt {
        request: row.text("request_id")?,
        seq: row.size("seq")?.unwrap_or(0),
        epoch: epoch(row)?,
        state: PromptState::read(&row.text("state")?)?,
        decision: row.maybe_text("decision")?,
        by: row.maybe_text("decided_by")?,
        answer: row.maybe_text("answer")?,
    })
}

fn input(row: &Row) -> Result<AgentInput, StoreError> {
    Ok(AgentInput {
        client_msg_id: row.text("client_msg_id")?,
        content: row.text("content")?,
        by: row.text("said_by")?,
        state: InputState::read(&row.text("state")?)?,
        code: row.maybe_text("code")?,
    })
}

fn epoch(row: &Row) -> Result<u32, StoreError> {
    u32::try_from(row.number("epoch")?).map_err(|_| StoreError::Impossible("epoch"))
}
