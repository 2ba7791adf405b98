//! What happens in a session on a runner.

use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

use super::Decision;
use super::Epoch;
use super::MAX_EVENT;
use super::Person;
use super::RequestId;
use super::Rule;
use super::Seq;
use crate::end::EndReason;
use crate::end::Exit;
use crate::end::Limit;
use crate::ids::SessionId;
use crate::status::Status;
use crate::time::Wall;
use crate::wire::WireError;

/// An event with its place in its session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sequenced {
    /// Which session.
    pub session: SessionId,
    /// Which start of its agent.
    pub epoch: Epoch,
    /// Its number.
    pub seq: Seq,
    /// When, by the runner's clock: for people, never to order by.
    pub at: Wall,
    /// What.
    pub event: Event,
}

impl Sequenced {
    pub(super) fn check(&self) -> Result<(), WireError> {
        match self.seq {
            0 => Err(WireError::Malformed("events count from 1".to_owned())),
            _ => Ok(()),
        }
    }
}

/// A step of a session's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The directory is found and allowed.
    Directory,
    /// The sandbox is made.
    Sandbox,
    /// The program is started.
    Program,
    /// The agent says what it is and can.
    Initialize,
    /// A conversation is begun, or taken up again.
    Conversation,
    /// The agent's mode is set.
    Mode,
}

/// How a step stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepState {
    /// It is being done.
    Begun,
    /// It is done.
    Done,
    /// It failed, and with it the start.
    Failed,
}

/// Where a message to the agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MessageState {
    /// The agent is at work; it waits.
    Queued,
    /// The agent has it.
    Sent,
    /// It was taken back.
    Cancelled,
    /// It will not be sent.
    Refused,
}

/// What an agent wants to do and may not unasked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prompt {
    /// Tells it from others.
    pub request: RequestId,
    /// The tool's name, as the agent has it.
    pub tool: String,
    /// Its kind: `execute`, `edit`, `fetch`, …
    pub kind: String,
    /// One line.
    pub description: String,
    /// What will happen: command, path and whatever else the agent gives, whole.
    pub details: Map<String, Value>,
    /// What would change, as a unified diff.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    /// SHA-256 of kind, tool, details and diff as they are shown.
    pub input_hash: String,
    /// The rule a person may make of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
}

/// What an agent wants to know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Tells it from others.
    pub request: RequestId,
    /// What it asks.
    pub question: String,
    /// The form to fill in, as JSON Schema.
    pub schema: Value,
    /// SHA-256 of question and schema as they are shown.
    pub input_hash: String,
}

/// How something that was asked ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Outcome {
    /// Somebody answered.
    Answered {
        /// How.
        decision: Decision,
        /// Who.
        by: Person,
    },
    /// A rule, or the session's mode, answered.
    Settled {
        /// How.
        decision: Decision,
        /// By which rule; none: the mode.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rule: Option<Rule>,
    },
    /// The agent does not want to know any more.
    Withdrawn,
    /// The agent that asked is gone.
    Lost,
    /// Nobody answered in time: denied.
    Expired,
}

/// Tokens and money so far, as the agent reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Tokens written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// The part of the context that is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_used: Option<u64>,
    /// Its size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context_size: Option<u64>,
    /// Cost in micro-units of the currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micros: Option<u64>,
}

/// What a conversation is taken up again with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The agent's own id of it.
    pub agent_session_id: String,
    /// Where it works, resolved.
    pub cwd: String,
    /// Whether the agent can.
    pub can_resume: bool,
}

/// Something of an agent's that is not passed on whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// An update longer than an event may be.
    LongUpdate,
    /// A line longer than one may be.
    LongLine,
    /// A line that is no message.
    NotJson,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A step of the start.
    Step {
        /// Which.
        step: Step,
        /// How it stands.
        state: StepState,
        /// What it found, or what went wrong and what to do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    /// It is live: the lease begins at the first of these.
    Started {
        /// The agent's name and version, as it says them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<String>,
        /// How to take it up again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovery: Option<Recovery>,
    },
    /// It stands elsewhere now: running, waiting or ending.
    Status {
        /// Where.
        status: Status,
    },
    /// What a person said, at its place in the conversation.
    UserMessage {
        /// The client's id of it.
        client_msg_id: String,
        /// What.
        content: String,
        /// Who.
        by: Person,
    },
    /// A message stands elsewhere now.
    Message {
        /// Which.
        client_msg_id: String,
        /// Where.
        state: MessageState,
        /// What is queued, after it was put there or changed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<String>,
        /// Why it was refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<String>,
    },
    /// What the agent says or does, as the Agent Client Protocol has it.
    Update {
        /// A `SessionUpdate`.
        update: Value,
    },
    /// Something of the agent's was left out.
    Cut {
        /// What.
        what: Held,
        /// How many bytes it had.
        bytes: u64,
    },
    /// The agent's mode is another one.
    Mode {
        /// Which, as it calls it.
        mode: String,
        /// Whether the agent changed it by itself.
        by_agent: bool,
    },
    /// It wants to do something.
    Prompt(Box<Prompt>),
    /// It wants to know something.
    Question(Box<Question>),
    /// What it asked is settled.
    Resolved {
        /// What.
        request: RequestId,
        /// How.
        outcome: Outcome,
    },
    /// Tokens and money so far.
    Usage(Usage),
    /// What changed in its working directory since the start: replaces what was said before.
    Diff {
        /// The files, by path below it.
        files: Vec<String>,
        /// A unified diff.
        patch: String,
        /// Whether something was left out.
        truncated: bool,
    },
    /// What its program says on standard error.
    Stderr {
        /// Escaped.
        text: String,
    },
    /// Something that a person should know: what it is, and what to do.
    Notice {
        /// A stable word: `interrupt_ignored`, `no_mode`, …
        code: String,
        /// A line for people.
        message: String,
    },
    /// The turn was cut off: by whom or what.
    TurnCut {
        /// `interrupted`, `agent_died`, `runner_died`, …
        why: String,
    },
    /// A turn is over.
    TurnEnded {
        /// Why, as the agent says it.
        stop_reason: String,
    },
    /// A limit is near.
    LimitWarned {
        /// Which.
        limit: Limit,
        /// Seconds that are left.
        seconds: u64,
    },
    /// A limit is reached: the end begins.
    LimitExceeded {
        /// Which.
        limit: Limit,
        /// What it is.
        configured: u64,
        /// What was reached.
        reached: u64,
    },
    /// The terminal has another size.
    Resized {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// It is over, and nothing of it runs. The last event of an epoch.
    Ended {
        /// Why.
        reason: EndReason,
        /// How its program ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit: Option<Exit>,
        /// What it printed, in bytes, over its whole life.
        output_bytes: u64,
        /// A line that says what went wrong and what to do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// How to take it up again.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        recovery: Option<Recovery>,
    },
}

impl Event {
    /// Whether it is as short as an event has to be.
    #[must_use]
    pub fn fits(&self) -> bool {
        serde_json::to_vec(self).is_ok_and(|json| json.len() <= MAX_EVENT)
    }
}
