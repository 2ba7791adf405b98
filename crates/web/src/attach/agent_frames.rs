//! The frames of an attach socket of an agent's session. Text alone: JSON with a `type`.
//!
//! An event is `{"type":"event","seq":N,"epoch":E,"at":…,"event":{"type":…}}`; `event` is one of the
//! relay's, as in the recording. Prompts that are open are told beside it, and only while they are.

use axum::extract::ws::Message;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::status::Status;
use sojourn_core::wire::relay::MessageState;
use sojourn_core::wire::relay::RequestId;
use sojourn_core::wire::relay::Usage;
use sojourn_engine::agents::AnswerError;
use sojourn_engine::agents::Asked;
use sojourn_engine::agents::Cannot;
use sojourn_engine::agents::Seen;
use sojourn_engine::agents::Snapshot;
use sojourn_engine::agents::Told;
use sojourn_engine::agents::event_view;
use sojourn_engine::view::LeaseView;
use sojourn_engine::view::RecoveryView;
use utoipa::ToSchema;

use super::shapes::LimitShape;
use super::shapes::MessageStateShape;
use super::shapes::RuleShape;
use super::shapes::UsageShape;
use crate::shapes::EndReasonShape;
use crate::shapes::ExitShape;
use crate::shapes::LeaseShape;
use crate::shapes::RecoveryShape;
use crate::shapes::StatusShape;

/// What a browser says to an agent.
#[derive(Clone, Debug, PartialEq, Deserialize, ToSchema)]
#[schema(as = AgentSaid)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said {
    /// Say this to the agent.
    UserMessage {
        /// What.
        content: String,
        /// The client's own id of it.
        client_msg_id: String,
    },
    /// Say something else than what waits under this id.
    MessageEdit {
        /// Which.
        client_msg_id: String,
        /// What.
        content: String,
    },
    /// Take back what waits under this id.
    MessageCancel {
        /// Which.
        client_msg_id: String,
    },
    /// The answer to a permission prompt.
    PermissionResponse {
        /// To which.
        #[schema(value_type = String)]
        request_id: RequestId,
        /// The hash of what was shown.
        input_hash: String,
        /// Whether it may be.
        allow: bool,
        /// Whether the same may be for the rest of the session.
        #[serde(default)]
        remember: Option<bool>,
        /// Why not.
        #[serde(default)]
        reason: Option<String>,
    },
    /// The answer to a question. Without an answer it is declined.
    QuestionResponse {
        /// To which.
        #[schema(value_type = String)]
        request_id: RequestId,
        /// A text, or fields by name.
        #[serde(default)]
        answer: Option<Value>,
        /// The hash of what was shown.
        #[serde(default)]
        input_hash: Option<String>,
    },
    /// Stop the turn; the session goes on.
    Interrupt {},
    /// End the session.
    End {
        /// What its people are told.
        #[serde(default)]
        reason: Option<String>,
    },
    /// Are you there?
    Ping {},
    /// For a terminal, which an agent is not.
    TakeOver {},
    /// The same.
    Resize {},
}

/// What a browser is told of an agent's session.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = AgentTold)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Tell {
    /// How it stands.
    Status {
        /// So.
        #[schema(value_type = StatusShape, inline = false)]
        status: Status,
        /// How it is taken up again, where that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<RecoveryShape>)]
        recovery: Option<RecoveryView>,
        /// The agent's mode.
        #[serde(skip_serializing_if = "Option::is_none")]
        mode: Option<String>,
        /// Tokens and money.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<UsageShape>)]
        usage: Option<Usage>,
    },
    /// The agent wants to do something.
    PermissionPrompt {
        #[schema(value_type = String)]
        request_id: RequestId,
        tool: String,
        kind: String,
        description: String,
        #[schema(value_type = std::collections::BTreeMap<String, Value>)]
        details: Value,
        #[serde(skip_serializing_if = "Option::is_none")]
        diff: Option<String>,
        input_hash: String,
        /// What "remember" would allow.
        #[serde(skip_serializing_if = "Value::is_null")]
        #[schema(value_type = Option<RuleShape>)]
        rule: Value,
    },
    /// The agent wants to know something.
    QuestionPrompt {
        #[schema(value_type = String)]
        request_id: RequestId,
        question: String,
        /// The answers it offers, where it does.
        #[serde(skip_serializing_if = "Option::is_none")]
        options: Option<Vec<String>>,
        /// The form, as JSON Schema.
        schema: Value,
        input_hash: String,
    },
    /// What it asked is settled.
    PromptResolved {
        #[schema(value_type = String)]
        request_id: RequestId,
        by: String,
        decision: &'static str,
    },
    /// A message stands elsewhere.
    Message {
        client_msg_id: String,
        #[schema(value_type = MessageStateShape, inline = false)]
        state: MessageState,
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<String>,
        /// Why it was refused.
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
        /// When it may be said again.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// The runner is out of reach; its agent goes on.
    RunnerDisconnected,
    /// It is there again.
    RunnerReconnected,
    /// How the lease stands.
    #[schema(value_type = LeaseShape)]
    Lease(LeaseView),
    /// A limit comes near.
    LimitWarned {
        #[schema(value_type = LimitShape, inline = false)]
        limit: Limit,
        seconds: u64,
    },
    /// A limit was reached.
    LimitExceeded {
        #[schema(value_type = LimitShape, inline = false)]
        limit: Limit,
        configured: u64,
        message: String,
    },
    /// It is over.
    Ended {
        #[schema(value_type = EndReasonShape, inline = false)]
        reason: EndReason,
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<ExitShape>)]
        exit: Option<Exit>,
    },
    /// We are there.
    Pong,
    /// Something that was said cannot be done.
    Error {
        code: &'static str,
        message: String,
        /// What was answered.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        request_id: Option<RequestId>,
        /// Who was first, and how.
        #[serde(skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        decision: Option<String>,
    },
}

impl Tell {
    /// As a frame.
    pub(super) fn message(&self) -> Message {
        // None of these has anything that JSON cannot say.
        Message::Text(serde_json::to_string(self).unwrap_or_default().into())
    }

    pub(super) fn error(code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Error { code, message, request_id: None, by: None, decision: None }
    }

    /// A message that was not taken.
    pub(super) fn refused(client_msg_id: String, cannot: &Cannot) -> Self {
        let retry_after_ms = match cannot {
            Cannot::TooOften(refused) => u64::try_from(refused.retry_after.as_millis()).ok(),
            _ => None,
        };
        Self::Message {
            client_msg_id,
            state: MessageState::Refused,
            content: None,
            code: Some(cannot.code().to_owned()),
            message: Some(cannot.to_string()),
            retry_after_ms,
        }
    }

    /// An answer that does not count.
    pub(super) fn unanswered(request: RequestId, error: &AnswerError) -> Self {
        let (code, by, decision) = match error {
            AnswerError::Unknown | AnswerError::NoPrompt => ("NOT_FOUND", None, None),
            AnswerError::Forbidden => ("FORBIDDEN", None, None),
            AnswerError::Answered { by, decision } => {
                ("CONFLICT", Some(by.clone()), Some(decision.clone()))
            }
            AnswerError::Gone(_) => ("GONE", None, None),
            AnswerError::Invalid(..) => ("INVALID", None, None),
            AnswerError::Audit => ("AUDIT_UNAVAILABLE", None, None),
            AnswerError::Store => ("STORE_UNAVAILABLE", None, None),
        };
        let (message, request_id) = (error.to_string(), Some(request));
        Self::Error { code, message, request_id, by, decision }
    }
}

/// What somebody learned, as frames.
pub(super) fn frames(seen: Seen) -> Vec<Message> {
    match seen {
        Seen::Event(event) => match event_view(&event) {
            Ok(mut view) => {
                view["type"] = json!("event");
                vec![Message::Text(view.to_string().into())]
            }
            Err(error) => {
                tracing::error!(seq = event.seq, %error, "an event is no JSON");
                Vec::new()
            }
        },
        Seen::TruncatedBefore(seq) => {
            let event = json!({"type": "truncated_before", "seq": seq});
            let frame = json!({"type": "event", "seq": seq, "event": event});
            vec![Message::Text(frame.to_string().into())]
        }
        Seen::Now(now) => {
            let mut frames = vec![status(&now).message()];
            frames.extend(now.inputs.into_iter().map(|input| {
                let tell = Tell::Message {
                    client_msg_id: input.client_msg_id,
                    state: MessageState::Queued,
                    content: Some(input.content),
                    code: None,
                    message: None,
                    retry_after_ms: None,
                };
                tell.message()
            }));
            frames.extend(now.asks.iter().map(|(id, what)| prompt(*id, what).message()));
            frames
        }
        Seen::Asked(request, what) => vec![prompt(request, &what).message()],
        Seen::Told(told) => tell(told).map(|tell| tell.message()).into_iter().collect(),
    }
}

/// How a session stands.
pub(super) fn status(now: &Snapshot) -> Tell {
    Tell::Status {
        status: now.status,
        recovery: now.recovery.as_ref().map(|it| RecoveryView {
            agent_session_id: it.agent_session_id.clone(),
            cwd: it.cwd.clone(),
            can_resume: it.can_resume,
        }),
        mode: now.mode.clone(),
        usage: now.usage,
    }
}

fn tell(told: Told) -> Option<Tell> {
    Some(match told {
        // Told with what belongs to it, by whoever reads the snapshot.
        Told::Status(_) | Told::Asked(_) | Told::Lease => return None,
        Told::Resolved { request, by, decision } => {
            Tell::PromptResolved { request_id: request, by, decision }
        }
        Told::Message { client_msg_id, state, content, code } => Tell::Message {
            client_msg_id,
            state,
            content,
            code,
            message: None,
            retry_after_ms: None,
        },
        Told::Warned(limit, seconds) => Tell::LimitWarned { limit, seconds },
        Told::Exceeded { limit, configured, message } => {
            Tell::LimitExceeded { limit, configured, message }
        }
        Told::Runner(true) => Tell::RunnerReconnected,
        Told::Runner(false) => Tell::RunnerDisconnected,
        Told::Ended { reason, exit } => Tell::Ended { reason, exit },
    })
}

fn prompt(request_id: RequestId, what: &Asked) -> Tell {
    match what {
        Asked::Permission(prompt) => Tell::PermissionPrompt {
            request_id,
            tool: prompt.tool.clone(),
            kind: prompt.kind.clone(),
            description: prompt.description.clone(),
            details: Value::Object(prompt.details.clone()),
            diff: prompt.diff.clone(),
            input_hash: prompt.input_hash.clone(),
            rule: prompt.rule.as_ref().map_or(Value::Null, |rule| json!(rule)),
        },
        Asked::Question(question) => Tell::QuestionPrompt {
            request_id,
            question: question.question.clone(),
            options: options(&question.schema),
            schema: question.schema.clone(),
            input_hash: question.input_hash.clone(),
        },
    }
}

/// The answers that a form with one field of choice offers: of its first such field.
fn options(schema: &Value) -> Option<Vec<String>> {
    let properties = schema.get("properties")?.as_object()?;
    properties.values().find_map(|field| {
        let field = field.get("items").unwrap_or(field);
        let named = |list: &Value, key: &str| -> Option<Vec<String>> {
            let items = list.as_array()?.iter();
            items.map(|item| Some(item.get(key)?.as_str()?.to_owned())).collect()
        };
        let plain = |list: &Value| -> Option<Vec<String>> {
            list.as_array()?.iter().map(|item| Some(item.as_str()?.to_owned())).collect()
        };
        let choices = field.get("oneOf").or_else(|| field.get("anyOf"));
        field.get("enum").and_then(plain).or_else(|| named(choices?, "const"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_says_to_an_agent_is_read_strictly() {
        let id = "01932b5e-7c1a-7f00-8000-00003f2a91c0";
        let read = |text: &str| serde_json::from_str::<Said>(text);
        let allow = format!(
            r#"{{"type":"permission_response","request_id":"{id}","input_hash":"x","allow":true}}"#
        );
        assert!(matches!(read(&allow), Ok(Said::PermissionResponse { allow: true, .. })));
        assert!(read(&allow.replace("true", "\"yes\"")).is_err());
        assert!(read(&allow.replace(id, "7")).is_err());
        assert!(read(r#"{"type":"user_message","content":"hi"}"#).is_err(), "it has no id");
        assert!(read(r#"{"type":"exec"}"#).is_err());
    }

    #[test]
    fn a_question_offers_the_choices_of_its_form() {
        let form = json!({"properties": {"pick": {"enum": ["a", "b"]}, "other": {}}});
        assert_eq!(options(&form), Some(vec!["a".to_owned(), "b".to_owned()]));
        let form = json!({"properties": {"pick": {"oneOf": [{"const": "x", "title": "X"}]}}});
        assert_eq!(options(&form), Some(vec!["x".to_owned()]));
        assert_eq!(options(&json!({"properties": {"free": {"type": "string"}}})), None);
        assert_eq!(options(&json!(7)), None);
    }
}
