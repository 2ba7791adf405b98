//! What an agent asks and a person answers: permissions and questions.
//!
//! Each has an id of ours, whatever numbers the agent gives, and its own responder: an answer reaches
//! the request it was given for, once, or nothing. It counts only with the hash of what was shown. An
//! option is chosen by its kind, and only ever one that holds for this once.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use agent_client_protocol::RequestCancellation;
use agent_client_protocol::v1::Responder;
use agent_client_protocol::v1::schema::CreateElicitationRequest;
use agent_client_protocol::v1::schema::CreateElicitationResponse;
use agent_client_protocol::v1::schema::ElicitationAcceptAction;
use agent_client_protocol::v1::schema::ElicitationAction;
use agent_client_protocol::v1::schema::ElicitationContentValue;
use agent_client_protocol::v1::schema::ElicitationMode;
use agent_client_protocol::v1::schema::PermissionOption;
use agent_client_protocol::v1::schema::PermissionOptionId;
use agent_client_protocol::v1::schema::PermissionOptionKind;
use agent_client_protocol::v1::schema::RequestPermissionOutcome;
use agent_client_protocol::v1::schema::RequestPermissionRequest;
use agent_client_protocol::v1::schema::RequestPermissionResponse;
use agent_client_protocol::v1::schema::SelectedPermissionOutcome;
use serde_json::Map;
use serde_json::Value;
use sojourn_core::wire::relay::Answer;
use sojourn_core::wire::relay::Decision;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::MAX_PROMPTS;
use sojourn_core::wire::relay::Outcome;
use sojourn_core::wire::relay::PermissionMode;
use sojourn_core::wire::relay::Prompt;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::RequestId;
use sojourn_core::wire::relay::Rule;
use sojourn_term::escape::escape;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::conversation::Conversation;
use super::conversation::Over;
use super::conversation::rejected;
use super::rules;
use super::shown;
use super::updates;
use super::wire::Said;

/// So many settled ids are remembered, to tell "answered" from "unknown".
const MAX_SETTLED: usize = 256;

/// The longest reason of a denial, in characters.
const MAX_REASON: usize = 4000;

/// The longest question with its form, as JSON.
const MAX_QUESTION: usize = 128 << 10;

/// Something that waits for a person.
struct Ask {
    /// Of exactly what the person was shown.
    input_hash: String,
    /// When it is denied.
    due: Instant,
    /// Waits for the agent to withdraw it.
    watcher: AbortHandle,
    what: What,
}

enum What {
    Permission { prompt: Box<Prompt>, call: Map<String, Value>, permission: Permission },
    Question { schema: Value, responder: Responder<CreateElicitationResponse> },
}

/// A request for permission that has to be answered.
struct Permission {
    /// The options that hold for this once, where the agent offers them.
    allow: Option<PermissionOptionId>,
    reject: Option<PermissionOptionId>,
    responder: Responder<RequestPermissionResponse>,
}

impl Permission {
    fn answer(self, decision: Decision) {
        let option = match decision {
            Decision::Allow => self.allow,
            Decision::Deny => self.reject,
        };
        // Without an option for it, a denial is that nothing was chosen.
        let outcome = option.map_or(RequestPermissionOutcome::Cancelled, |option| {
            RequestPermissionOutcome::Selected(SelectedPermissionOutcome::new(option))
        });
        // An agent that is gone does not hear it.
        let _ = self.responder.respond(RequestPermissionResponse::new(outcome));
    }

    fn cancel(self) {
        let cancelled = RequestPermissionResponse::new(RequestPermissionOutcome::Cancelled);
        let _ = self.responder.respond(cancelled);
    }
}

impl What {
    fn cancel(self) {
        match self {
            Self::Permission { permission, .. } => permission.cancel(),
            Self::Question { responder, .. } => {
                let cancelled = CreateElicitationResponse::new(ElicitationAction::Cancel);
                let _ = responder.respond(cancelled);
            }
        }
    }

    fn deny(self) {
        match self {
            Self::Permission { permission, .. } => permission.answer(Decision::Deny),
            Self::Question { responder, .. } => {
                let declined = CreateElicitationResponse::new(ElicitationAction::Decline);
                let _ = responder.respond(declined);
            }
        }
    }
}

/// What waits for a person.
pub(super) struct Asks {
    open: BTreeMap<RequestId, Ask>,
    settled: VecDeque<RequestId>,
    /// The same ids, for others to look at.
    shown: watch::Sender<Vec<RequestId>>,
}

impl Asks {
    pub(super) fn new(shown: watch::Sender<Vec<RequestId>>) -> Self {
        Self { open: BTreeMap::new(), settled: VecDeque::new(), shown }
    }

    /// When the first of them is denied unanswered.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.open.values().map(|ask| ask.due).min()
    }

    fn insert(&mut self, request: RequestId, ask: Ask) {
        self.open.insert(request, ask);
        self.show();
    }

    /// Takes one out: from here on nothing else answers it.
    fn take(&mut self, request: RequestId) -> Option<Ask> {
        let ask = self.open.remove(&request)?;
        ask.watcher.abort();
        if self.settled.len() >= MAX_SETTLED {
            self.settled.pop_front();
        }
        self.settled.push_back(request);
        self.show();
        Some(ask)
    }

    fn show(&self) {
        self.shown.send_replace(self.open.keys().copied().collect());
    }

    /// Gives up all of them: nobody answers any more.
    pub(super) fn lose(&mut self) -> Vec<RequestId> {
        let requests: Vec<RequestId> = self.open.keys().copied().collect();
        for request in &requests {
            if let Some(ask) = self.take(*request) {
                ask.what.cancel();
            }
        }
        requests
    }
}

impl Conversation {
    /// The agent wants to do something.
    pub(super) async fn permission(
        &mut self,
        asked: RequestPermissionRequest,
        responder: Responder<RequestPermissionResponse>,
    ) -> Result<(), Over> {
        let allow = option(&asked.options, PermissionOptionKind::AllowOnce);
        let reject = option(&asked.options, PermissionOptionKind::RejectOnce);
        let can_allow = allow.is_some();
        let withdrawn = responder.cancellation();
        let permission = Permission { allow, reject, responder };
        if self.is_full().await? {
            permission.cancel();
            return Ok(());
        }
        let request = RequestId::new();
        let call = self.calls.asked(&asked.tool_call);
        let (mut prompt, is_whole) = shown::prompt(request, &call);
        let makes_rules = is_whole && can_allow;
        if makes_rules && self.launch.permission_mode == PermissionMode::Relay {
            prompt.rule = Some(rules::offered(&prompt, &call, &self.cwd));
        }
        self.emit(Event::Prompt(Box::new(prompt.clone()))).await?;
        let rule = if makes_rules {
            self.rules.matching(&prompt, &call, &self.cwd).cloned()
        } else {
            None
        };
        let decision = match self.launch.permission_mode {
            PermissionMode::Auto if can_allow => Some(Decision::Allow),
            PermissionMode::Auto | PermissionMode::Deny => Some(Decision::Deny),
            PermissionMode::Relay => rule.as_ref().map(|_| Decision::Allow),
        };
        if let Some(decision) = decision {
            let rule = rule.filter(|_| self.launch.permission_mode == PermissionMode::Relay);
            let outcome = Outcome::Settled { decision, rule };
            self.emit(Event::Resolved { request, outcome }).await?;
            permission.answer(decision);
            return Ok(());
        }
        let watcher = self.watch(request, withdrawn);
        let input_hash = prompt.input_hash.clone();
        let what = What::Permission { prompt: Box::new(prompt), call, permission };
        let due = Instant::now() + self.times.answer;
        self.asks.insert(request, Ask { input_hash, due, watcher, what });
        Ok(())
    }

    /// The agent wants to know something.
    pub(super) async fn question(
        &mut self,
        asked: CreateElicitationRequest,
        responder: Responder<CreateElicitationResponse>,
    ) -> Result<(), Over> {
        let withdrawn = responder.cancellation();
        let form = match &asked.mode {
            ElicitationMode::Form(form) => serde_json::to_value(&form.requested_schema).ok(),
            // Nobody is sent to an address that an agent made up.
            _ => None,
        };
        let form = form.filter(|form| updates::length(form) + asked.message.len() <= MAX_QUESTION);
        let is_refused = form.is_none() || self.launch.permission_mode != PermissionMode::Relay;
        let Some(schema) = form.filter(|_| !is_refused) else {
            // Nobody is there who could answer.
            let declined = CreateElicitationResponse::new(ElicitationAction::Decline);
            let _ = responder.respond(declined);
            let question = escape(&asked.message, 200);
            let message =
                format!("a question that cannot be put to a person was declined: {question}");
            return self.notice("question_declined", message).await;
        };
        if self.is_full().await? {
            let cancelled = CreateElicitationResponse::new(ElicitationAction::Cancel);
            let _ = responder.respond(cancelled);
            return Ok(());
        }
        let request = RequestId::new();
        let question = shown::question(request, asked.message, schema.clone());
        let input_hash = question.input_hash.clone();
        self.emit(Event::Question(Box::new(question))).await?;
        let watcher = self.watch(request, withdrawn);
        let what = What::Question { schema, responder };
        let due = Instant::now() + self.times.answer;
        self.asks.insert(request, Ask { input_hash, due, watcher, what });
        Ok(())
    }

    /// Whether so much is asked that nothing more can be.
    async fn is_full(&mut self) -> Result<bool, Over> {
        if self.asks.open.len() < MAX_PROMPTS {
            return Ok(false);
        }
        let message = format!("the agent asks more than {MAX_PROMPTS} things at once; answer some");
        self.notice("too_many_prompts", message).await?;
        Ok(true)
    }

    /// Waits beside the conversation for the agent to withdraw something.
    fn watch(&self, request: RequestId, withdrawn: RequestCancellation) -> AbortHandle {
        let inbox = self.wire.to_inbox.clone();
        let watching = tokio::spawn(async move {
            withdrawn.cancelled().await;
            // A conversation that is over has nothing open.
            let _ = inbox.send(Said::Withdrawn(request).into()).await;
        });
        watching.abort_handle()
    }

    /// The agent does not want to know any more.
    pub(super) async fn withdrawn(&mut self, request: RequestId) -> Result<(), Over> {
        let Some(ask) = self.asks.take(request) else { return Ok(()) };
        self.emit(Event::Resolved { request, outcome: Outcome::Withdrawn }).await?;
        ask.what.cancel();
        Ok(())
    }

    /// Nothing that is open is wanted any more.
    pub(super) async fn settle_all(&mut self, outcome: Outcome) -> Result<(), Over> {
        for request in self.asks.lose() {
            self.emit(Event::Resolved { request, outcome: outcome.clone() }).await?;
        }
        Ok(())
    }

    /// Denies what nobody answered in time.
    pub(super) async fn expire(&mut self, now: Instant) -> Result<(), Over> {
        let due = self.asks.open.iter().filter(|(_, ask)| ask.due <= now);
        let due: Vec<RequestId> = due.map(|(request, _)| *request).collect();
        for request in due {
            let Some(ask) = self.asks.take(request) else { continue };
            self.emit(Event::Resolved { request, outcome: Outcome::Expired }).await?;
            ask.what.deny();
        }
        Ok(())
    }

    /// A person answers.
    pub(super) async fn answer(&mut self, answer: Answer) -> Result<Receipt, Over> {
        let request = answer.request;
        let Some(ask) = self.asks.open.get(&request) else {
            return Ok(match self.asks.settled.contains(&request) {
                true => rejected("CONFLICT", "this is settled already".to_owned()),
                false => rejected("GONE", "nothing waits for this answer any more".to_owned()),
            });
        };
        if ask.input_hash != answer.input_hash {
            let message = "the answer is to something else than what is asked; look again";
            return Ok(rejected("CONFLICT", message.to_owned()));
        }
        if let Err(message) = self.check(ask, &answer) {
            return Ok(rejected("INVALID", message));
        }
        if let Some(rule) = &answer.rule
            && !self.rules.add(rule.clone())
        {
            let message = "this session has too many rules; answer without one";
            return Ok(rejected("LIMIT_REACHED", message.to_owned()));
        }
        let Some(ask) = self.asks.take(request) else {
            return Ok(rejected("GONE", "nothing waits for this answer any more".to_owned()));
        };
        let Answer { decision, rule, reason, fields, by, .. } = answer;
        // On record before it has an effect. When that fails nobody is answered: never allowed.
        let outcome = Outcome::Answered { decision, by: by.clone() };
        self.emit(Event::Resolved { request, outcome }).await?;
        match (ask.what, decision) {
            (What::Permission { prompt, permission, .. }, _) => {
                permission.answer(decision);
                let reason = reason.filter(|reason| !reason.trim().is_empty());
                if let Some(reason) = reason.filter(|_| decision == Decision::Deny) {
                    // The protocol has no place for it in the answer.
                    let reason: String = reason.chars().take(MAX_REASON).collect();
                    let content = format!("I did not allow {}: {reason}", prompt.tool);
                    self.say_first(format!("denied-{}", request.0), content, by);
                    self.say_if_idle().await?;
                }
            }
            (What::Question { responder, .. }, Decision::Allow) => {
                let content = fields.and_then(|fields| content(&fields));
                let accepted = ElicitationAcceptAction::new().content(content);
                let accepted = CreateElicitationResponse::new(ElicitationAction::Accept(accepted));
                let _ = responder.respond(accepted);
            }
            (question, Decision::Deny) => question.deny(),
        }
        if rule.is_some() {
            self.apply_rules().await?;
        }
        Ok(Receipt::Accepted)
    }

    /// Whether an answer is one to what is asked.
    fn check(&self, ask: &Ask, answer: &Answer) -> Result<(), String> {
        let allows = answer.decision == Decision::Allow;
        match &ask.what {
            What::Permission { permission, prompt, .. } => {
                if allows && permission.allow.is_none() {
                    return Err("the agent does not offer to be allowed this once; deny it, or \
                                interrupt the turn"
                        .to_owned());
                }
                if answer.rule.is_some() && (!allows || answer.rule != prompt.rule) {
                    return Err(
                        "only the rule that was offered can be made, and only to allow".to_owned()
                    );
                }
                Ok(())
            }
            What::Question { schema, .. } => {
                if answer.rule.is_some() {
                    return Err("a question makes no rule".to_owned());
                }
                match (&answer.fields, allows) {
                    (Some(fields), true) => filled_in(schema, fields),
                    (None, true) => Err("fill in the form, or decline".to_owned()),
                    (_, false) => Ok(()),
                }
            }
        }
    }

    /// Answers what else is open and allowed by a rule now.
    async fn apply_rules(&mut self) -> Result<(), Over> {
        let mut allowed: Vec<(RequestId, Rule)> = Vec::new();
        for (request, ask) in &self.asks.open {
            if let What::Permission { prompt, call, .. } = &ask.what
                && prompt.rule.is_some()
                && let Some(rule) = self.rules.matching(prompt, call, &self.cwd)
            {
                allowed.push((*request, rule.clone()));
            }
        }
        for (request, rule) in allowed {
            let Some(ask) = self.asks.take(request) else { continue };
            let decision = Decision::Allow;
            let outcome = Outcome::Settled { decision, rule: Some(rule) };
            self.emit(Event::Resolved { request, outcome }).await?;
            if let What::Permission { permission, .. } = ask.what {
                permission.answer(decision);
            }
        }
        Ok(())
    }
}

/// The option of this kind, whatever it is called and wherever it stands.
fn option(options: &[PermissionOption], kind: PermissionOptionKind) -> Option<PermissionOptionId> {
    options.iter().find(|option| option.kind == kind).map(|option| option.option_id.clone())
}

/// Whether a form is filled in: nothing missing, nothing that it does not ask for.
fn filled_in(schema: &Value, fields: &Map<String, Value>) -> Result<(), String> {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required.filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            return Err(format!("the field {} is missing", escape(name, 64)));
        }
    }
    let asked = schema.get("properties").and_then(Value::as_object);
    for name in fields.keys() {
        if asked.is_none_or(|asked| !asked.contains_key(name)) {
            return Err(format!("the form has no field {}", escape(name, 64)));
        }
    }
    match content(fields) {
        Some(_) => Ok(()),
        None => Err("a field is a text, a number, yes or no, or a list of texts".to_owned()),
    }
}

/// What was filled in, as the protocol has it.
fn content(fields: &Map<String, Value>) -> Option<BTreeMap<String, ElicitationContentValue>> {
    serde_json::from_value(Value::Object(fields.clone())).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_chosen_by_kind_whatever_agents_call_them() {
        // As the four agents name them, with the one that lasts in first place.
        let flavours = [
            ("allow-always", "allow-once", "reject"),
            ("accept_execpolicy_amendment", "allow_once", "cancel"),
            ("proceed_always", "proceed_once", "cancel"),
            ("always", "once", "reject"),
        ];
        for (always, once, reject) in flavours {
            let options: Vec<PermissionOption> = serde_json::from_value(json!([
                {"optionId": always, "name": "Allow", "kind": "allow_always"},
                {"optionId": reject, "name": "allow_once", "kind": "reject_once"},
                {"optionId": once, "name": "No", "kind": "allow_once"},
            ]))
            .unwrap();
            let chosen = |kind| option(&options, kind).unwrap().0.to_string();
            assert_eq!(chosen(PermissionOptionKind::AllowOnce), once);
            assert_eq!(chosen(PermissionOptionKind::RejectOnce), reject);
            let lasting: Vec<PermissionOption> = options[..1].to_vec();
            assert_eq!(option(&lasting, PermissionOptionKind::AllowOnce), None);
        }
    }

    #[test]
    fn flaw_23_a_form_is_filled_in_or_refused() {
        let schema = json!({"properties": {"which": {}, "why": {}}, "required": ["which"]});
        let check = |fields: Value| filled_in(&schema, fields.as_object().unwrap());
        assert_eq!(check(json!({"which": "a", "why": ["b", "c"]})), Ok(()));
        for wrong in [json!({}), json!({"which": "a", "x": 1}), json!({"which": {"a": 1}})] {
            assert!(check(wrong.clone()).is_err(), "{wrong}");
        }
    }
}
