//! The shapes of what an agent's socket tells, for the document: the page's types are made of it. A
//! runner makes the events and knows nothing of documents; a test holds each shape to what is sent.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::ToSchema;

use crate::shapes::EndReasonShape;
use crate::shapes::ExitShape;
use crate::shapes::RecoveryShape;
use crate::shapes::StatusShape;

/// A limit of a lease.
#[derive(ToSchema)]
#[schema(as = Limit, rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document")]
pub(super) enum LimitShape {
    MaxRuntime,
    IdleTimeout,
    MaxOutput,
    MaxCost,
}

/// Where a message to the agent stands.
#[derive(ToSchema)]
#[schema(as = MessageState, rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document")]
pub(super) enum MessageStateShape {
    Queued,
    Sent,
    Cancelled,
    Refused,
}

/// How a prompt was answered.
#[derive(ToSchema)]
#[schema(as = Decision, rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document")]
pub(super) enum DecisionShape {
    Allow,
    Deny,
}

/// A person's rule for the rest of a session.
#[derive(ToSchema)]
#[schema(as = Rule)]
#[serde(tag = "match", rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document")]
pub(super) enum RuleShape {
    /// The same tool with the very same input.
    Exact { kind: String, input_hash: String },
    /// The same kind of tool on files below a directory.
    Below { kind: String, directory: String },
}

/// Somebody who did something.
#[derive(ToSchema)]
#[schema(as = Person)]
#[expect(dead_code, reason = "for the document")]
pub(super) struct PersonShape {
    user: String,
    address: Option<String>,
}

/// Tokens and money so far, as the agent reports them.
#[derive(ToSchema)]
#[schema(as = Usage)]
#[expect(dead_code, reason = "for the document")]
pub(super) struct UsageShape {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    context_used: Option<u64>,
    context_size: Option<u64>,
    /// In millionths of whatever the agent counts in.
    cost_micros: Option<u64>,
}

/// What an agent wants to do and may not unasked.
#[derive(ToSchema)]
#[schema(as = Prompt)]
#[expect(dead_code, reason = "for the document")]
pub(super) struct PromptShape {
    request: String,
    tool: String,
    kind: String,
    description: String,
    details: BTreeMap<String, Value>,
    diff: Option<String>,
    input_hash: String,
    rule: Option<RuleShape>,
}

/// What an agent wants to know.
#[derive(ToSchema)]
#[schema(as = Question)]
#[expect(dead_code, reason = "for the document")]
pub(super) struct QuestionShape {
    request: String,
    question: String,
    /// The form to fill in, as JSON Schema.
    schema: Value,
    input_hash: String,
}

/// How something that was asked ended.
#[derive(ToSchema)]
#[schema(as = Outcome)]
#[serde(tag = "is", rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document")]
pub(super) enum OutcomeShape {
    Answered {
        #[schema(inline = false)]
        decision: DecisionShape,
        by: PersonShape,
    },
    Settled {
        #[schema(inline = false)]
        decision: DecisionShape,
        rule: Option<RuleShape>,
    },
    Withdrawn,
    Lost,
    Expired,
}

/// How a step of a session's start stands.
#[derive(ToSchema)]
#[schema(as = StepState, rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document")]
pub(super) enum StepStateShape {
    Begun,
    Done,
    Failed,
}

/// Something that happened in an agent's session.
#[derive(ToSchema)]
#[schema(as = Event)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(dead_code, reason = "for the document")]
pub(super) enum EventShape {
    Step {
        step: String,
        #[schema(inline = false)]
        state: StepStateShape,
        message: Option<String>,
    },
    Started {
        agent: Option<String>,
        recovery: Option<RecoveryShape>,
    },
    Status {
        #[schema(inline = false)]
        status: StatusShape,
    },
    UserMessage {
        client_msg_id: String,
        content: String,
        by: PersonShape,
    },
    Message {
        client_msg_id: String,
        #[schema(inline = false)]
        state: MessageStateShape,
        content: Option<String>,
        code: Option<String>,
    },
    /// As the Agent Client Protocol has it.
    Update {
        update: BTreeMap<String, Value>,
    },
    Cut {
        what: String,
        bytes: u64,
    },
    Mode {
        mode: String,
        by_agent: bool,
    },
    Prompt(PromptShape),
    Question(QuestionShape),
    Resolved {
        request: String,
        outcome: OutcomeShape,
    },
    Usage(UsageShape),
    Diff {
        files: Vec<String>,
        patch: String,
        truncated: bool,
    },
    Stderr {
        text: String,
    },
    Notice {
        code: String,
        message: String,
    },
    TurnCut {
        why: String,
    },
    TurnEnded {
        stop_reason: String,
    },
    LimitWarned {
        #[schema(inline = false)]
        limit: LimitShape,
        seconds: u64,
    },
    LimitExceeded {
        #[schema(inline = false)]
        limit: LimitShape,
        configured: u64,
        reached: u64,
    },
    Resized {
        cols: u16,
        rows: u16,
    },
    Ended {
        #[schema(inline = false)]
        reason: EndReasonShape,
        exit: Option<ExitShape>,
        output_bytes: u64,
        message: Option<String>,
        recovery: Option<RecoveryShape>,
    },
    /// What was before is not kept any more. Told by the gateway, in the place of what is gone.
    TruncatedBefore {
        seq: u64,
    },
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;
    use sojourn_core::end::Limit;
    use sojourn_core::wire::relay::Event;
    use sojourn_core::wire::relay::MessageState;
    use utoipa::PartialSchema;

    use super::*;

    /// One of each event, with everything that it can have.
    fn each() -> Value {
        let (by, rule) = (
            json!({"user": "ana", "address": "192.0.2.7"}),
            json!({"match": "below", "kind": "edit", "directory": "/src"}),
        );
        let (request, hash) = ("01a2041c-7c1a-7f00-8000-00001a3ae0f4", "0".repeat(64));
        let recovery = json!({"agent_session_id": "s", "cwd": "/", "can_resume": true});
        json!([
            {"type": "step", "step": "program", "state": "begun", "message": "m"},
            {"type": "started", "agent": "a", "recovery": recovery},
            {"type": "status", "status": "running"},
            {"type": "user_message", "client_msg_id": "1", "content": "c", "by": by},
            {"type": "message", "client_msg_id": "1", "state": "sent", "content": "c", "code": "x"},
            {"type": "update", "update": {}},
            {"type": "cut", "what": "long_line", "bytes": 1},
            {"type": "mode", "mode": "plan", "by_agent": true},
            {"type": "prompt", "request": request, "tool": "t", "kind": "edit", "description": "d",
                "details": {}, "diff": "-", "input_hash": hash, "rule": rule},
            {"type": "question", "request": request, "question": "q", "schema": {}, "input_hash": hash},
            {"type": "resolved", "request": request,
                "outcome": {"is": "answered", "decision": "allow", "by": by}},
            {"type": "usage", "input_tokens": 1, "output_tokens": 1, "context_used": 1,
                "context_size": 1, "cost_micros": 1},
            {"type": "diff", "files": [], "patch": "", "truncated": false},
            {"type": "stderr", "text": "t"},
            {"type": "notice", "code": "c", "message": "m"},
            {"type": "turn_cut", "why": "w"},
            {"type": "turn_ended", "stop_reason": "s"},
            {"type": "limit_warned", "limit": "max_runtime", "seconds": 1},
            {"type": "limit_exceeded", "limit": "max_output", "configured": 1, "reached": 1},
            {"type": "resized", "cols": 1, "rows": 1},
            {"type": "ended", "reason": "exited", "exit": {"code": 0}, "output_bytes": 1,
                "message": "m", "recovery": recovery},
        ])
    }

    /// The fields of each kind, by the document.
    fn documented() -> BTreeMap<String, BTreeSet<String>> {
        let mut named = Vec::new();
        EventShape::schemas(&mut named);
        let named: BTreeMap<String, Value> = named
            .into_iter()
            .map(|(name, schema)| (name, serde_json::to_value(schema).unwrap()))
            .collect();
        let fields = |schema: &Value| -> BTreeSet<String> {
            let parts = schema["allOf"].as_array().cloned().unwrap_or_else(|| vec![schema.clone()]);
            parts
                .iter()
                .map(|part| match part["$ref"].as_str() {
                    Some(name) => named[name.rsplit('/').next().unwrap()].clone(),
                    None => part.clone(),
                })
                .flat_map(|part| {
                    part["properties"].as_object().unwrap().keys().cloned().collect::<Vec<_>>()
                })
                .collect()
        };
        let kind = |schema: &Value| -> String {
            let parts = schema["allOf"].as_array().cloned().unwrap_or_else(|| vec![schema.clone()]);
            let words =
                parts.iter().find_map(|part| part["properties"]["type"]["enum"][0].as_str());
            words.unwrap().to_owned()
        };
        let schema = serde_json::to_value(EventShape::schema()).unwrap();
        schema["oneOf"].as_array().unwrap().iter().map(|one| (kind(one), fields(one))).collect()
    }

    #[test]
    fn events_are_told_as_the_document_has_them() {
        let mut documented = documented();
        assert!(documented.remove("truncated_before").is_some(), "it is the gateway's own");
        for one in each().as_array().unwrap() {
            let kind = one["type"].as_str().unwrap();
            let event: Event = serde_json::from_value(one.clone()).unwrap();
            let sent = serde_json::to_value(event).unwrap();
            let sent: BTreeSet<String> = sent.as_object().unwrap().keys().cloned().collect();
            assert_eq!(documented.remove(kind), Some(sent), "{kind}");
        }
        assert!(documented.is_empty(), "of no event: {documented:?}");
    }

    #[test]
    fn the_words_of_the_document_are_those_that_are_told() {
        let words = |schema: Value| -> Vec<Value> { schema["enum"].as_array().unwrap().clone() };
        for word in words(serde_json::to_value(LimitShape::schema()).unwrap()) {
            assert!(serde_json::from_value::<Limit>(word.clone()).is_ok(), "{word}");
        }
        for word in words(serde_json::to_value(MessageStateShape::schema()).unwrap()) {
            assert!(serde_json::from_value::<MessageState>(word.clone()).is_ok(), "{word}");
        }
    }
}
