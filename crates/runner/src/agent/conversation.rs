//! A conversation with an agent: one task that owns everything about it and is told things.
//!
//! One message is with the agent at a time. What the agent says before the end of a turn is told
//! before that end; commands are taken between two things that it says. When the sink has no room,
//! all of it waits, and with it the agent.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use agent_client_protocol::Error;
use agent_client_protocol::UntypedMessage;
use serde_json::Value;
use serde_json::json;
use sojourn_core::end::Exit;
use sojourn_core::status::Status;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Launch;
use sojourn_core::wire::relay::MessageState;
use sojourn_core::wire::relay::Outcome;
use sojourn_core::wire::relay::Person;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::Usage;
use sojourn_term::escape::escape;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Sink;
use super::Times;
use super::asks::Asks;
use super::changes::Touch;
use super::modes;
use super::modes::Way;
use super::queue::Message;
use super::queue::Queue;
use super::queue::Refusal;
use super::rules::Rules;
use super::shown::Calls;
use super::speech::Speech;
use super::updates;
use super::wire::Inbound;
use super::wire::Said;
use super::wire::Wire;

/// How long is read on after the program ended: something it started may hold its output open.
const DRAIN: Duration = Duration::from_secs(1);

/// The longest line of an agent's that is quoted, in characters.
const MAX_QUOTE: usize = 300;

/// Why a conversation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// The agent is gone.
    Died,
    /// We were told to end it.
    Closed,
    /// Nobody takes its events any more.
    Gone,
}

/// A command, and where its receipt is waited for.
pub(super) type Order = (Command, oneshot::Sender<Receipt>);

/// A message that the agent works on.
struct Turn {
    done: oneshot::Receiver<Result<Value, Error>>,
    interrupted: bool,
    /// When it is said that the agent ignores the interrupt.
    patience: Option<Instant>,
}

/// The mode of the agent that we want and that it has.
pub(super) struct Mode {
    pub(super) way: Way,
    pub(super) wanted: String,
    pub(super) current: String,
}

/// A conversation, from the first byte on.
pub(super) struct Conversation {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) wire: Wire,
    pub(super) exit: watch::Receiver<Option<Exit>>,
    pub(super) launch: Launch,
    pub(super) cwd: PathBuf,
    pub(super) times: Times,
    pub(super) allow_bypass: bool,
    /// The agent's own id of it; empty until it is begun.
    pub(super) id: String,
    /// Whether it can be told to close it.
    pub(super) can_close: bool,
    pub(super) mode: Option<Mode>,
    pub(super) asks: Asks,
    pub(super) rules: Rules,
    pub(super) calls: Calls,
    pub(super) queue: Queue,
    pub(super) touch: Touch,
    pub(super) closing: CancellationToken,
    turn: Option<Turn>,
    usage: Usage,
    /// What it is saying.
    speech: Speech,
    /// When reading on ends, after the program ended.
    drained: Option<Instant>,
}

/// What a conversation is made of.
pub(super) struct Parts {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) wire: Wire,
    pub(super) exit: watch::Receiver<Option<Exit>>,
    pub(super) asks: Asks,
    pub(super) touch: Touch,
    pub(super) closing: CancellationToken,
}

impl Conversation {
    pub(super) fn new(prepared: &super::Prepared, parts: Parts) -> Self {
        Self {
            sink: parts.sink,
            wire: parts.wire,
            exit: parts.exit,
            launch: prepared.launch.clone(),
            cwd: prepared.cwd.clone(),
            times: prepared.times,
            allow_bypass: prepared.allow_bypass,
            id: String::new(),
            can_close: false,
            mode: None,
            asks: parts.asks,
            rules: Rules::default(),
            calls: Calls::default(),
            queue: Queue::default(),
            touch: parts.touch,
            closing: parts.closing,
            turn: None,
            usage: Usage::default(),
            speech: Speech::default(),
            drained: None,
        }
    }

    /// Tells an event, after what was said before it. Waits while there is no room for it, unless the
    /// end comes first.
    pub(super) async fn emit(&mut self, event: Event) -> Result<(), Over> {
        self.tell_words().await?;
        self.put(event).await
    }

    /// Tells what the agent said and is held to be told together.
    async fn tell_words(&mut self) -> Result<(), Over> {
        match self.speech.release(Instant::now()) {
            Some(words) => self.put_update(words).await,
            None => Ok(()),
        }
    }

    async fn put_update(&mut self, update: Value) -> Result<(), Over> {
        for event in updates::events(update) {
            self.put(event).await?;
        }
        Ok(())
    }

    async fn put(&mut self, event: Event) -> Result<(), Over> {
        tokio::select! {
            biased;
            told = self.sink.emit(event) => told.map_err(|_| Over::Gone),
            () = self.closing.cancelled() => Err(Over::Closed),
        }
    }

    /// Tells a person something that is no other event.
    pub(super) async fn notice(&mut self, code: &str, message: String) -> Result<(), Over> {
        self.emit(Event::Notice { code: code.to_owned(), message }).await
    }

    /// Goes on until it is over.
    pub(super) async fn run(mut self, mut orders: mpsc::Receiver<Order>) -> Over {
        let over = loop {
            if let Err(over) = self.next(&mut orders).await {
                break over;
            }
        };
        // Whoever still orders something is told that nobody does it.
        orders.close();
        self.finish(over).await;
        over
    }

    async fn next(&mut self, orders: &mut mpsc::Receiver<Order>) -> Result<(), Over> {
        let wake = self.wake();
        let done = self.turn.as_mut().map(|turn| &mut turn.done);
        let turn = async {
            match done {
                Some(done) => done.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.closing.cancelled() => Err(Over::Closed),
            inbound = self.wire.inbox.recv() => match inbound {
                Some(inbound) => self.heard(inbound).await,
                None => Err(Over::Died),
            },
            order = orders.recv() => match order {
                Some((command, receipt)) => {
                    let done = self.command(command).await?;
                    // Whoever asked may have gone; what was asked is done.
                    let _ = receipt.send(done);
                    Ok(())
                }
                None => Err(Over::Closed),
            },
            answer = turn => {
                let answer = answer.unwrap_or_else(|_| Err(Error::internal_error()));
                let drained = self.drain().await;
                // An agent may answer and go; one that went without an answer did not end its turn.
                if drained.is_ok() || (drained == Err(Over::Died) && answer.is_ok()) {
                    self.turn_ended(answer).await?;
                }
                drained?;
                self.go_on().await
            }
            changed = self.exit.changed(), if self.drained.is_none() => {
                if changed.is_err() || self.exit.borrow().is_some() {
                    self.drained = Some(Instant::now() + DRAIN);
                }
                Ok(())
            }
            () = until(wake) => self.woke().await,
        }
    }

    /// When something is due.
    fn wake(&self) -> Option<Instant> {
        let patience = self.turn.as_ref().and_then(|turn| turn.patience);
        let due = [patience, self.drained, self.asks.next_due(), self.speech.due()];
        due.into_iter().flatten().min()
    }

    async fn woke(&mut self) -> Result<(), Over> {
        let now = Instant::now();
        if self.drained.is_some_and(|drained| drained <= now) {
            return Err(Over::Died);
        }
        if self.speech.due().is_some_and(|due| due <= now) {
            self.tell_words().await?;
        }
        if let Some(turn) = &mut self.turn
            && turn.patience.is_some_and(|patience| patience <= now)
        {
            turn.patience = None;
            let message = "the agent goes on in spite of the interrupt; end the session if it has \
                           to stop now";
            self.notice("interrupt_ignored", message.to_owned()).await?;
        }
        self.expire(now).await
    }

    /// Deals with everything that was said up to now: what comes before the end of a turn is in the
    /// inbox before that end is known.
    pub(super) async fn drain(&mut self) -> Result<(), Over> {
        for _ in 0..self.wire.inbox.len() {
            let Ok(inbound) = self.wire.inbox.try_recv() else { break };
            self.heard(inbound).await?;
        }
        Ok(())
    }

    pub(super) async fn heard(&mut self, inbound: Inbound) -> Result<(), Over> {
        match inbound.said {
            Said::Update(update) => self.update(update).await,
            Said::Cut { what, bytes } => self.emit(Event::Cut { what, bytes }).await,
            Said::Permission(request, responder) => self.permission(*request, responder).await,
            Said::Question(request, responder) => self.question(*request, responder).await,
            Said::Withdrawn(request) => self.withdrawn(request).await,
            Said::Over => Err(Over::Died),
        }
    }

    async fn update(&mut self, update: Value) -> Result<(), Over> {
        match updates::kind(&update) {
            "current_mode_update" => {
                let mode = update.get("currentModeId").and_then(Value::as_str);
                return self.mode_is(mode.unwrap_or_default().to_owned()).await;
            }
            "usage_update" => return self.used(&update).await,
            // What a person said is told by us, with who it was.
            "user_message_chunk" => return Ok(()),
            "config_option_update" => {
                if let Some(mode) = modes::option(&update, "mode") {
                    self.mode_is(mode.current).await?;
                }
            }
            "tool_call" | "tool_call_update" => {
                let may_have = self.calls.told(&update).is_none_or(may_have_written);
                if may_have {
                    self.touch.touched();
                }
            }
            _ => {}
        }
        for due in self.speech.take(update, Instant::now()) {
            self.put_update(due).await?;
        }
        Ok(())
    }

    /// The agent says which mode it is in.
    async fn mode_is(&mut self, current: String) -> Result<(), Over> {
        let Some(mode) = &mut self.mode else {
            let mode = escape(&current, MAX_QUOTE);
            return self.emit(Event::Mode { mode, by_agent: true }).await;
        };
        if mode.current == current {
            return Ok(());
        }
        mode.current.clone_from(&current);
        let back = (mode.way.clone(), mode.wanted.clone());
        let name = escape(&current, MAX_QUOTE);
        self.emit(Event::Mode { mode: name.clone(), by_agent: true }).await?;
        if modes::is_bypass(&current) && !self.allow_bypass {
            let message =
                format!("the agent went into mode {name:?}, which never asks; it is put back");
            self.notice("bypass_refused", message).await?;
            self.send_detached(self.choose(&back.0, &back.1));
        }
        Ok(())
    }

    /// The request that makes a choice.
    pub(super) fn choose(&self, way: &Way, value: &str) -> (&'static str, Value) {
        let id = &self.id;
        match way {
            Way::Mode => ("session/set_mode", json!({"sessionId": id, "modeId": value})),
            Way::Model => ("session/set_model", json!({"sessionId": id, "modelId": value})),
            Way::Option(option) => (
                "session/set_config_option",
                json!({"sessionId": id, "configId": option, "value": value}),
            ),
        }
    }

    fn send_detached(&self, (method, params): (&str, Value)) {
        if let Ok(request) = UntypedMessage::new(method, params) {
            self.wire.connection.send_request(request).detach();
        }
    }

    fn notify(&self, method: &str) {
        if let Ok(notification) = UntypedMessage::new(method, json!({"sessionId": self.id})) {
            // A connection that broke is noticed by its end.
            let _ = self.wire.connection.send_notification(notification);
        }
    }

    /// Takes over what the agent says of tokens and money.
    async fn used(&mut self, said: &Value) -> Result<(), Over> {
        let number = |name: &str| said.get(name).and_then(Value::as_u64);
        let before = self.usage;
        let usage = &mut self.usage;
        usage.context_used = number("used").or(usage.context_used);
        usage.context_size = number("size").or(usage.context_size);
        usage.input_tokens = number("inputTokens").or(usage.input_tokens);
        usage.output_tokens = number("outputTokens").or(usage.output_tokens);
        let cost = said.pointer("/cost/amount").and_then(Value::as_f64);
        usage.cost_micros = cost.and_then(micros).or(usage.cost_micros);
        if *usage == before {
            return Ok(());
        }
        let usage = *usage;
        self.emit(Event::Usage(usage)).await
    }

    async fn command(&mut self, command: Command) -> Result<Receipt, Over> {
        match command {
            Command::Message { client_msg_id, content, by } => {
                self.message(Message { id: client_msg_id, content, by }).await
            }
            Command::EditMessage { client_msg_id: id, content } => {
                match self.queue.edit(&id, content.clone()) {
                    Ok(()) => self.moved(id, MessageState::Queued, Some(content)).await?,
                    Err(refusal) => return Ok(refused(refusal)),
                }
                Ok(Receipt::Accepted)
            }
            Command::CancelMessage { client_msg_id: id } => match self.queue.cancel(&id) {
                Ok(()) => {
                    self.moved(id, MessageState::Cancelled, None).await?;
                    Ok(Receipt::Accepted)
                }
                Err(refusal) => Ok(refused(refusal)),
            },
            Command::Answer(answer) => self.answer(*answer).await,
            Command::Interrupt { .. } => self.interrupt().await,
            _ => Ok(rejected("INVALID", "an agent cannot do this".to_owned())),
        }
    }

    async fn message(&mut self, message: Message) -> Result<Receipt, Over> {
        let (id, content) = (message.id.clone(), message.content.clone());
        match self.queue.push(message) {
            Ok(()) if self.turn.is_none() => self.go_on().await?,
            Ok(()) => self.moved(id, MessageState::Queued, Some(content)).await?,
            Err(Refusal::Known) => return Ok(Receipt::Duplicate),
            Err(refusal) => return Ok(refused(refusal)),
        }
        Ok(Receipt::Accepted)
    }

    async fn moved(
        &mut self,
        client_msg_id: String,
        state: MessageState,
        content: Option<String>,
    ) -> Result<(), Over> {
        self.emit(Event::Message { client_msg_id, state, content, code: None }).await
    }

    /// Puts something into words for the agent, before everything that waits.
    pub(super) fn say_first(&mut self, id: String, content: String, by: Person) {
        self.queue.push_first(Message { id, content, by });
    }

    /// Gives the agent the next message, if it is not at work.
    pub(super) async fn say_if_idle(&mut self) -> Result<(), Over> {
        match self.turn {
            Some(_) => Ok(()),
            None => self.go_on().await,
        }
    }

    /// Gives the agent the next message, or says that it waits for one.
    pub(super) async fn go_on(&mut self) -> Result<(), Over> {
        let Some(Message { id, content, by }) = self.queue.next() else {
            return self.emit(Event::Status { status: Status::Waiting }).await;
        };
        // Told before it is sent: what an agent works on is on record.
        let said = Event::UserMessage { client_msg_id: id.clone(), content: content.clone(), by };
        self.emit(said).await?;
        self.emit(Event::Status { status: Status::Running }).await?;
        let prompt = json!({
            "sessionId": self.id,
            "prompt": [{"type": "text", "text": content}],
        });
        // From here on it is the present.
        self.wire.replaying.store(false, Ordering::Release);
        let (tell, done) = oneshot::channel();
        if let Ok(request) = UntypedMessage::new("session/prompt", prompt) {
            let sent = self.wire.connection.send_request(request);
            tokio::spawn(async move {
                // A conversation that is over does not want to know.
                let _ = tell.send(sent.block_task().await);
            });
        }
        self.turn = Some(Turn { done, interrupted: false, patience: None });
        self.moved(id, MessageState::Sent, None).await
    }

    async fn turn_ended(&mut self, answer: Result<Value, Error>) -> Result<(), Over> {
        let Some(turn) = self.turn.take() else { return Ok(()) };
        // What a turn asked is nothing after it.
        self.settle_all(Outcome::Withdrawn).await?;
        let stop_reason = match answer {
            Ok(answer) => {
                if let Some(usage) = answer.get("usage") {
                    self.used(usage).await?;
                }
                let reason = answer.get("stopReason").and_then(Value::as_str).unwrap_or("unknown");
                escape(reason, 64)
            }
            Err(error) => {
                let message = format!("the agent broke off: {}", escape(&error.message, MAX_QUOTE));
                self.notice("turn_failed", message).await?;
                "error".to_owned()
            }
        };
        if turn.interrupted || stop_reason == "cancelled" {
            self.emit(Event::TurnCut { why: "interrupted".to_owned() }).await?;
        }
        self.emit(Event::TurnEnded { stop_reason }).await?;
        self.touch.touched();
        Ok(())
    }

    async fn interrupt(&mut self) -> Result<Receipt, Over> {
        let patience = Instant::now() + self.times.interrupt;
        let Some(turn) = &mut self.turn else {
            let message = "the agent is not at work; there is nothing to interrupt";
            return Ok(rejected("CONFLICT", message.to_owned()));
        };
        turn.interrupted = true;
        turn.patience = Some(patience);
        self.notify("session/cancel");
        self.settle_all(Outcome::Withdrawn).await?;
        Ok(Receipt::Accepted)
    }

    /// The end: what is open is marked, and the agent left as politely as there is time for.
    async fn finish(&mut self, over: Over) {
        let until = Instant::now() + self.times.close;
        let words = self.speech.release(Instant::now());
        let marked = async {
            for event in words.map(updates::events).unwrap_or_default() {
                self.sink.emit(event).await?;
            }
            for request in self.asks.lose() {
                self.sink.emit(Event::Resolved { request, outcome: Outcome::Lost }).await?;
            }
            while let Some(message) = self.queue.next() {
                let (client_msg_id, state) = (message.id, MessageState::Refused);
                let code = Some("GONE".to_owned());
                self.sink
                    .emit(Event::Message { client_msg_id, state, content: None, code })
                    .await?;
            }
            if self.turn.is_some() {
                let why = if over == Over::Died { "agent_died" } else { "ended" };
                self.sink.emit(Event::TurnCut { why: why.to_owned() }).await?;
            }
            Ok::<(), super::Gone>(())
        };
        // A full spool must not keep a session from its end; whoever reads the log marks what is open.
        let _ = tokio::time::timeout_at(until, marked).await;
        if over != Over::Died && !self.id.is_empty() {
            let _ = tokio::time::timeout_at(until, self.part()).await;
        }
        self.wire.hang_up.cancel();
    }

    async fn part(&mut self) {
        if let Some(turn) = self.turn.take() {
            self.notify("session/cancel");
            let inbox = &mut self.wire.inbox;
            drop_while(inbox, turn.done).await;
        }
        if self.can_close
            && let Ok(request) = UntypedMessage::new("session/close", json!({"sessionId": self.id}))
        {
            let closed = self.wire.connection.send_request(request).block_task();
            drop_while(&mut self.wire.inbox, closed).await;
        }
    }
}

/// Waits for something, and drops what the agent says meanwhile.
async fn drop_while<T>(inbox: &mut mpsc::Receiver<Inbound>, something: impl Future<Output = T>) {
    let mut something = std::pin::pin!(something);
    loop {
        tokio::select! {
            _ = &mut something => return,
            said = inbox.recv() => if said.is_none_or(|said| matches!(said.said, Said::Over)) { return },
        }
    }
}

async fn until(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

/// Whether a tool call may have changed files, by now.
fn may_have_written(call: &serde_json::Map<String, Value>) -> bool {
    let text = |name: &str| call.get(name).and_then(Value::as_str).unwrap_or_default();
    matches!(text("status"), "completed" | "failed")
        && !matches!(text("kind"), "read" | "search" | "think" | "fetch" | "switch_mode")
}

/// An amount of money in millionths.
fn micros(amount: f64) -> Option<u64> {
    let micros = (amount * 1e6).round();
    // Far beyond any bill, and exact as a whole number.
    (0.0..=9e15).contains(&micros).then_some(micros as u64)
}

pub(super) fn rejected(code: &str, message: String) -> Receipt {
    Receipt::Rejected { code: code.to_owned(), message }
}

fn refused(refusal: Refusal) -> Receipt {
    rejected(refusal.code(), refusal.to_string())
}
