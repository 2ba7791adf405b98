//! Answers to what agents ask. The first one counts, for exactly what was shown; the store decides
//! which that is, and the audit log has it before the runner does.

use std::sync::Arc;

use serde_json::Map;
use serde_json::Value;
use sojourn_core::authz::Deed;
use sojourn_core::ids::SessionId;
use sojourn_core::wire::relay::Answer;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::Decision;
use sojourn_core::wire::relay::Person as By;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::RequestId;
use sojourn_store::AgentPrompt;
use sojourn_store::NewAnswer;
use sojourn_store::PromptState;

use super::Agents;
use super::session::Agent;
use super::session::Ask;
use super::session::Asked;
use super::session::Told;
use super::session::decision;
use crate::visiting::Person;

/// The longest reason for a no, in bytes.
const LONGEST_REASON: usize = 2000;

/// The longest answer to a question, in bytes of JSON.
const LONGEST_ANSWER: usize = 64 << 10;

/// What somebody answers.
#[derive(Clone, Debug, Default)]
pub struct Reply {
    /// The hash of what they were shown; none only for a question.
    pub input_hash: Option<String>,
    /// Allowed or not. For a question: answered or declined.
    pub allow: bool,
    /// Whether the same is allowed for the rest of the session.
    pub remember: bool,
    /// Why not; the agent is told.
    pub reason: Option<String>,
    /// The answer to a question: a text, or fields by name.
    pub answer: Option<Value>,
}

/// Why an answer does not count.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// No such session, or none that they may know of.
    #[error("there is no such session")]
    Unknown,
    /// They may know of it, and not answer there.
    #[error("only the owner of the runner answers what an agent asks there")]
    Forbidden,
    /// Nothing was asked under this id.
    #[error("this session has no such prompt")]
    NoPrompt,
    /// Somebody was first.
    #[error("{by} was first: {decision}")]
    Answered {
        /// Who, or what.
        by: String,
        /// `allow` or `deny`.
        decision: String,
    },
    /// Nobody wants to know any more.
    #[error("this prompt is {0}: nothing comes of an answer")]
    Gone(&'static str),
    /// A part of it cannot be.
    #[error("{1}")]
    Invalid(&'static str, &'static str),
    /// Nothing is allowed off the record.
    #[error("the audit log cannot be written, so nothing is allowed; tell the operator")]
    Audit,
    /// The store does not answer.
    #[error("the store does not answer; see the gateway's log")]
    Store,
}

impl Agents {
    /// Answers what an agent asked, in a person's name.
    ///
    /// # Errors
    /// [`AnswerError`]: then this answer does nothing.
    pub async fn answer(
        &self,
        person: &Person,
        id: SessionId,
        request: RequestId,
        reply: &Reply,
    ) -> Result<(), AnswerError> {
        match self.may_now(person.asker, Deed::Drive, id) {
            sojourn_core::authz::Answer::Allowed => {}
            sojourn_core::authz::Answer::Forbidden => return Err(AnswerError::Forbidden),
            // It may be over: then what was asked says so.
            sojourn_core::authz::Answer::Hidden => {
                return Err(self.what_became(id, request).await);
            }
        }
        let agent = self.held(id).ok_or(AnswerError::Unknown)?;
        let ask = agent.shown().ask(request).cloned();
        let Some(ask) = ask else { return Err(self.what_became(id, request).await) };
        let answer = answer(person, &ask, reply)?;
        let how = answer.decision;
        // No always works; yes is on record, or is not.
        if how == Decision::Allow && !self.kit.audit.is_writable() {
            return Err(AnswerError::Audit);
        }
        let event = self.decided(&agent, &ask, how, answer.rule.is_some(), &person.actor);
        let by = person.who.name().to_owned();
        let new = NewAnswer {
            request: request.0.to_string(),
            decision: decision(how).to_owned(),
            by: by.clone(),
            answer: serde_json::to_string(&answer).map_err(|_| AnswerError::Store)?,
            at: self.kit.clock.wall(),
        };
        match self.kit.records.store().answer_prompt(id, &new, &event).await {
            Ok(true) => {}
            Ok(false) => return Err(self.what_became(id, request).await),
            Err(error) => {
                tracing::error!(session = %id, %error, "an answer is not kept");
                return Err(AnswerError::Store);
            }
        }
        // In the outbox it is on record in any case; the log has it in a moment.
        if how == Decision::Allow && self.kit.audit.settled().await.is_err() {
            tracing::warn!(session = %id, "an answer is in the outbox, and not yet in the log");
        }
        tracing::info!(
            session = %id, user = by, tool = ask.what.tool(), decision = decision(how),
            event = "prompt_answered", "an agent's prompt is answered",
        );
        let now = self.kit.clock.mono();
        agent.show(|shown, told| {
            if shown.take_ask(request, now).is_some() {
                shown.lease.touch_input(now);
                told.push(Told::Resolved { request, by, decision: decision(how) });
            }
        });
        let agents = self.clone();
        self.kit.tasks.spawn(async move { agents.send_answer(&agent, answer).await });
        Ok(())
    }

    /// Brings an answer to the runner. Where it is out of reach, it has it when it comes.
    async fn send_answer(&self, agent: &Arc<Agent>, answer: Answer) {
        let command = Command::Answer(Box::new(answer));
        match self.kit.remote.command(agent.runner, agent.id, command).await {
            Ok(Receipt::Accepted | Receipt::Duplicate) => {}
            Ok(Receipt::Rejected { code, message }) => {
                tracing::warn!(session = %agent.id, code, message, "an answer came too late");
            }
            Err(error) => tracing::debug!(session = %agent.id, %error, "an answer waits"),
        }
    }

    /// Brings a runner the answers that it does not have: those to what it still asks.
    pub(super) async fn answer_again(&self, agent: &Arc<Agent>, asks: &[RequestId]) {
        let prompts = match self.kit.records.store().agent_prompts(agent.id).await {
            Ok(prompts) => prompts,
            Err(error) => {
                tracing::error!(session = %agent.id, %error, "answers cannot be read");
                return;
            }
        };
        for prompt in prompts {
            let is_asked = asks.iter().any(|request| request.0.to_string() == prompt.request);
            let answer = prompt.answer.as_deref().filter(|_| is_asked);
            if let Some(Ok(answer)) = answer.map(serde_json::from_str::<Answer>) {
                self.send_answer(agent, answer).await;
            }
        }
    }

    /// Why there is nothing to answer.
    async fn what_became(&self, id: SessionId, request: RequestId) -> AnswerError {
        let kept = self.kit.records.store().agent_prompt(id, &request.0.to_string()).await;
        match kept {
            Err(_) => AnswerError::Store,
            Ok(None) => AnswerError::NoPrompt,
            Ok(Some(AgentPrompt { state, decision, by, .. })) => match state {
                PromptState::Answered => AnswerError::Answered {
                    by: by.unwrap_or_else(|| "somebody".to_owned()),
                    decision: decision.unwrap_or_default(),
                },
                PromptState::Withdrawn => AnswerError::Gone("withdrawn"),
                PromptState::Expired => AnswerError::Gone("expired"),
                // Open, and of an agent that is gone.
                PromptState::Lost | PromptState::Pending => AnswerError::Gone("lost"),
            },
        }
    }
}

/// The answer as it goes to the runner, if it fits what was asked.
fn answer(person: &Person, ask: &Ask, reply: &Reply) -> Result<Answer, AnswerError> {
    let invalid = |field, why| Err(AnswerError::Invalid(field, why));
    match (&ask.what, &reply.input_hash) {
        (what, Some(hash)) if hash != what.input_hash() => {
            return invalid("input_hash", "this is not what is asked; look again");
        }
        (Asked::Permission(_), None) => {
            return invalid("input_hash", "say what is answered: the hash of what was shown");
        }
        _ => {}
    }
    if reply.reason.as_ref().is_some_and(|reason| reason.len() > LONGEST_REASON) {
        return invalid("reason", "longer than 2000 bytes");
    }
    let decision = if reply.allow { Decision::Allow } else { Decision::Deny };
    let rule = match (&ask.what, reply.remember && reply.allow) {
        (_, false) => None,
        (Asked::Permission(prompt), true) => match &prompt.rule {
            Some(rule) => Some(rule.clone()),
            None => return invalid("remember", "this cannot be remembered; allow it once"),
        },
        (Asked::Question(_), true) => return invalid("remember", "answers are not remembered"),
    };
    let fields = match &ask.what {
        Asked::Permission(_) if reply.answer.is_some() => {
            return invalid("answer", "this is no question: say whether it is allowed");
        }
        Asked::Permission(_) => None,
        Asked::Question(_) if !reply.allow => None,
        Asked::Question(question) => match &reply.answer {
            None => return invalid("answer", "say what the answer is"),
            Some(answer) if answer.to_string().len() > LONGEST_ANSWER => {
                return invalid("answer", "longer than 64 KB");
            }
            Some(answer) => Some(fields(answer, &question.schema)?),
        },
    };
    Ok(Answer {
        request: ask.request,
        input_hash: ask.what.input_hash().to_owned(),
        decision,
        rule,
        reason: reply.reason.clone().filter(|reason| !reason.trim().is_empty()),
        fields,
        by: by(person),
    })
}

/// An answer field by field. A bare value answers the only field, or the first that has to be there.
fn fields(answer: &Value, schema: &Value) -> Result<Map<String, Value>, AnswerError> {
    if let Value::Object(fields) = answer {
        return Ok(fields.clone());
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    let needed = schema.get("required").and_then(|it| it.get(0)).and_then(Value::as_str);
    let first = || properties.and_then(|it| it.keys().next()).map(String::as_str);
    let name = needed.or_else(first).ok_or(AnswerError::Invalid(
        "answer",
        "this question has a form: answer it field by field",
    ))?;
    Ok(Map::from_iter([(name.to_owned(), answer.clone())]))
}

/// Somebody, as a runner knows them.
pub(super) fn by(person: &Person) -> By {
    By { user: person.who.name().to_owned(), address: Some(person.address.to_string()) }
}
