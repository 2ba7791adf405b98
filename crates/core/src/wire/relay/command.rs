//! What a gateway asks a runner to do in a session.

use std::time::Duration;

use serde::Deserialize;
use serde::Serialize;

use super::Epoch;
use super::RequestId;
use super::Seq;
use crate::ids::SessionId;
use crate::limits::Limits;
use crate::wire::shim::WindowSize;

/// Whose doing something is, as the gateway knows it; never what a client says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// The account's name.
    pub user: String,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

/// What becomes of an agent's requests for permission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PermissionMode {
    /// A person is asked.
    #[default]
    Relay,
    /// Each is allowed.
    Auto,
    /// Each is denied.
    Deny,
}

/// What a session has taken of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Since it was first live, whether its agent ran or not.
    pub runtime: Duration,
    /// Bytes that it printed.
    pub output: u64,
    /// What its agent spent, in millionths.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub cost: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_nothing(number: &u64) -> bool {
    *number == 0
}

/// A session to start, or to take up again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Launch {
    /// What runs in it.
    pub harness: String,
    /// The profile of the runner's own configuration; none is its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Where it works, as the person wrote it; the runner resolves and checks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// The model, where the harness has a choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What becomes of requests for permission.
    #[serde(default)]
    pub permission_mode: PermissionMode,
    /// The first message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// What the session may take over its whole life; the runner's own limits are never exceeded.
    pub limits: Limits,
    /// What it has taken of that before.
    #[serde(default)]
    pub used: Used,
    /// The terminal's size, for a shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<WindowSize>,
    /// What is known of the agent's conversation, to take it up again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resume: Option<String>,
    /// Which start of the session's agent this is.
    pub epoch: Epoch,
    /// The last event that is stored: the runner's numbers go on from there, whatever it remembers.
    #[serde(default)]
    pub head: Seq,
    /// Who wants it.
    pub by: Person,
}

/// Allowed or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// This once.
    Allow,
    /// Not.
    Deny,
}

/// A person's rule for the rest of a session: what is exactly like this is allowed unasked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "match", rename_all = "snake_case")]
pub enum Rule {
    /// The same tool with the very same input.
    Exact {
        /// The tool's kind, as the agent names it.
        kind: String,
        /// What was shown, hashed.
        input_hash: String,
    },
    /// The same kind of tool on files below a directory.
    Below {
        /// The tool's kind.
        kind: String,
        /// The directory, absolute.
        directory: String,
    },
}

/// An answer to what an agent asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What was asked.
    pub request: RequestId,
    /// The hash of exactly what the person was shown.
    pub input_hash: String,
    /// Allowed or not.
    pub decision: Decision,
    /// The rule that is to hold from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<Rule>,
    /// Why not: the agent is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The answer to a question, field by field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fields: Option<serde_json::Map<String, serde_json::Value>>,
    /// Whose it is.
    pub by: Person,
}

/// Something to do in a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Command {
    /// Start it. Answered by steps, and `started` or `ended`.
    Start(Box<Launch>),
    /// Take it up again: its agent is gone, its conversation is not.
    Resume(Box<Launch>),
    /// Say something to the agent, after what is queued.
    Message {
        /// The client's own id of it.
        client_msg_id: String,
        /// What.
        content: String,
        /// Whose it is.
        by: Person,
    },
    /// Say something else than what is queued under this id.
    EditMessage {
        /// Which.
        client_msg_id: String,
        /// What, now.
        content: String,
    },
    /// Take back what is queued under this id.
    CancelMessage {
        /// Which.
        client_msg_id: String,
    },
    /// Answer a prompt or a question.
    Answer(Box<Answer>),
    /// Stop the turn; the session goes on.
    Interrupt {
        /// Whose doing it is.
        by: Person,
    },
    /// End it.
    End {
        /// A reason as the audit log has it.
        reason: crate::end::EndReason,
        /// Who.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Person>,
        /// Why.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// Its deadline is later by this.
    Extend {
        /// By how much.
        by: Duration,
    },
    /// Its terminal has another size.
    Resize {
        /// Which.
        size: WindowSize,
    },
    /// Its end is on record: what is kept of it may go.
    Forget {
        /// Named again, so that a mistake forgets nothing else.
        session: SessionId,
    },
}
