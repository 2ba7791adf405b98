//! An agent's conversation in a browser: what there was, what comes, and what is said.
//!
//! As for a terminal there are two halves, one that hears and one that tells; a browser that does not
//! read holds up its own half alone, and after a while it is closed.

use std::sync::atomic::Ordering;

use axum::extract::ws::Message;
use axum::extract::ws::WebSocket;
use futures_util::SinkExt;
use futures_util::StreamExt;
use futures_util::stream::SplitStream;
use sojourn_core::authz::Deed;
use sojourn_core::ids::SessionId;
use sojourn_core::scope::Scope;
use sojourn_core::wire::relay::RequestId;
use sojourn_engine::agents::Attending;
use sojourn_engine::agents::Message as Words;
use sojourn_engine::agents::Reply;
use sojourn_engine::agents::Seen;
use sojourn_engine::agents::Told;
use sojourn_engine::door::Refusal;
use sojourn_engine::login::Reminders;
use sojourn_engine::presence::Present;
use sojourn_engine::presence::Seat;
use sojourn_engine::visiting::Person;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Mode;
use super::Out;
use super::Over;
use super::Shared;
use super::agent_frames::Said;
use super::agent_frames::Tell;
use super::agent_frames::frames as seen_frames;
use super::agent_frames::status;
use super::frames;
use super::hearing::WAITING;
use super::telling::Ended;
use super::telling::LEASE_EVERY;
use super::telling::PATIENCE;
use super::telling::PING_EVERY;
use super::telling::SILENT_FOR;
use super::telling::remind;
use crate::caller::Caller;
use crate::caller::Who;
use crate::gate::Gate;

/// So much that makes no sense is answered; then it is the end.
const MOST_FAULTS: usize = 32;

/// Somebody at an agent's conversation.
pub(super) struct Visit {
    pub(super) gate: Gate,
    pub(super) caller: Caller,
    pub(super) person: Person,
    pub(super) id: SessionId,
    /// The first event that they want.
    pub(super) from: u64,
    /// As they asked; none: as it is theirs to do.
    pub(super) mode: Option<Mode>,
}

impl Visit {
    pub(super) async fn run(self, socket: WebSocket) {
        let _counted = self.gate.engine().metrics().web_socket();
        let (sink, stream) = socket.split();
        let (mut out, shared) = (Out { sink }, Shared::default());
        let over = {
            let (todo, told) = mpsc::channel(WAITING);
            let telling = self.tell(&mut out, &shared, told);
            let hearing = self.hear(stream, &shared, todo);
            tokio::select! {
                biased;
                over = telling => over,
                over = hearing => over,
            }
        };
        tracing::debug!(session = %self.id, ?over, "a visit is over");
        out.last_words(over).await;
    }

    /// Whether they may speak: their own session, not by a token that only reads, and not to watch.
    fn drives(&self) -> bool {
        let may = match self.caller.who() {
            Who::Token(token) => token.has(Scope::Sessions),
            Who::Login(_) | Who::Local { .. } => true,
        };
        let agents = self.gate.engine().agents();
        let own = agents.may_now(self.caller.asker(), Deed::Drive, self.id).is_allowed();
        may && own && self.mode != Some(Mode::Watch)
    }

    async fn tell(&self, out: &mut Out, shared: &Shared, todo: mpsc::Receiver<Message>) -> Over {
        let agents = self.gate.engine().agents();
        let is_live = agents.snapshot(self.id).is_some();
        if is_live && self.mode == Some(Mode::Drive) && !self.drives() {
            return Over::Refused(Refusal::MayNotType);
        }
        if let Err(refusal) = agents.came(&self.person, self.id, self.drives()).await {
            return Over::Refused(refusal);
        }
        let attending = match agents.attend(self.id, self.from).await {
            Ok(Some(attending)) => attending,
            Ok(None) => return Over::Refused(Refusal::Over),
            Err(_) => return Over::Refused(Refusal::Store),
        };
        shared.settled.send_replace(true);
        let ended: Ended<'_> = Box::pin(self.gate.ended(&self.caller));
        let name = self.person.who.name();
        let seat = self.gate.engine().presence().enter(self.id, name, self.drives());
        let lease_at = Instant::now();
        let mut telling = Telling { visit: self, out, shared, ended, attending, lease_at, seat };
        match telling.run(todo).await {
            Ok(never) => match never {},
            Err(over) => over,
        }
    }

    /// Hears until the browser is gone.
    async fn hear(
        &self,
        mut stream: SplitStream<WebSocket>,
        shared: &Shared,
        todo: mpsc::Sender<Message>,
    ) -> Over {
        let mut faults = 0;
        let _gone = shared.settled.subscribe().wait_for(|settled| *settled).await.map(drop);
        let beat = self.gate.engine().pulse();
        while let Some(Ok(message)) = stream.next().await {
            shared.heard.store(*beat.borrow(), Ordering::Release);
            shared.busy.store(true, Ordering::Release);
            // What was on its way when the login ended has come too late.
            if self.caller.login().is_some_and(|login| login.is_over().is_some()) {
                return std::future::pending().await;
            }
            if super::is_too_long(&message) {
                return Over::TooLong;
            }
            let answer = match message {
                Message::Text(text) => match serde_json::from_str(&text) {
                    Ok(said) => self.heed(said).await,
                    Err(_) => Some(Tell::error("MALFORMED", "not a message of this protocol")),
                },
                Message::Binary(_) => {
                    Some(Tell::error("INVALID", "this session is an agent's: say user_message"))
                }
                Message::Close(_) => return Over::Gone,
                // Answered by the library, or an answer to ours.
                Message::Ping(_) | Message::Pong(_) => None,
            };
            if matches!(&answer, Some(Tell::Error { code: "MALFORMED" | "INVALID", .. })) {
                faults += 1;
                if faults > MOST_FAULTS {
                    return Over::Faults;
                }
            }
            if let Some(answer) = answer {
                let _over = todo.send(answer.message()).await;
            }
            shared.busy.store(false, Ordering::Release);
        }
        Over::Gone
    }

    /// Does what was said. What there is to answer to it at once.
    async fn heed(&self, said: Said) -> Option<Tell> {
        let engine = self.gate.engine();
        let agents = engine.agents();
        match said {
            // A page says this by itself.
            Said::Ping {} => return Some(Tell::Pong),
            Said::TakeOver {} | Said::Resize {} => {
                return Some(Tell::error("INVALID", "this session has no terminal"));
            }
            Said::End { reason } => {
                let may = engine.agents().may_now(self.caller.asker(), Deed::End, self.id);
                if !may.is_allowed() || self.is_reader() {
                    return Some(Tell::error("FORBIDDEN", "you may not end this session"));
                }
                let by = self.caller.ended_by(reason.as_deref());
                engine.end(self.id, by, &self.caller.actor()).await;
                self.is_active();
                return None;
            }
            Said::Interrupt {} => {
                let may = agents.may_now(self.caller.asker(), Deed::Interrupt, self.id);
                if !may.is_allowed() || self.is_reader() {
                    return Some(Tell::error("FORBIDDEN", "you may not interrupt this session"));
                }
                self.is_active();
                let is_told = agents.interrupt(&self.person, self.id);
                return (!is_told).then(|| Tell::error("CONFLICT", "the agent cannot be reached"));
            }
            _ if !self.drives() => {
                return Some(Tell::error("FORBIDDEN", "you look on here, and no more"));
            }
            _ => self.is_active(),
        }
        match said {
            Said::UserMessage { content, client_msg_id } => {
                let words = Words { client_msg_id: client_msg_id.clone(), content };
                let said = agents.say(&self.person, self.id, words).await;
                return Some(match said {
                    Ok(state) => Tell::Message {
                        client_msg_id,
                        state,
                        content: None,
                        code: None,
                        message: None,
                        retry_after_ms: None,
                    },
                    Err(cannot) => Tell::refused(client_msg_id, &cannot),
                });
            }
            Said::MessageEdit { client_msg_id, content } => {
                let words = Words { client_msg_id, content };
                if let Err(cannot) = agents.edit(&self.person, self.id, words).await {
                    return Some(Tell::error(cannot.code(), cannot.to_string()));
                }
            }
            Said::MessageCancel { client_msg_id } => {
                if let Err(cannot) = agents.cancel(&self.person, self.id, &client_msg_id).await {
                    return Some(Tell::error(cannot.code(), cannot.to_string()));
                }
            }
            Said::PermissionResponse { request_id, input_hash, allow, remember, reason } => {
                let (input_hash, remember) = (Some(input_hash), remember.unwrap_or(false));
                let reply = Reply { input_hash, allow, remember, reason, answer: None };
                return self.answer(request_id, reply).await;
            }
            Said::QuestionResponse { request_id, answer, input_hash } => {
                let allow = answer.as_ref().is_some_and(|answer| !answer.is_null());
                let reply = Reply { input_hash, allow, answer, ..Reply::default() };
                return self.answer(request_id, reply).await;
            }
            Said::End { .. }
            | Said::Interrupt {}
            | Said::Ping {}
            | Said::TakeOver {}
            | Said::Resize {} => {}
        }
        None
    }

    async fn answer(&self, request: RequestId, reply: Reply) -> Option<Tell> {
        let agents = self.gate.engine().agents();
        let answered = agents.answer(&self.person, self.id, request, &reply).await;
        // Everybody is told, this one too.
        answered.err().map(|error| Tell::unanswered(request, &error))
    }

    /// Whether they came by a token that only reads.
    fn is_reader(&self) -> bool {
        matches!(self.caller.who(), Who::Token(token) if !token.has(Scope::Sessions))
    }

    /// A person did something.
    fn is_active(&self) {
        if let Some(login) = self.caller.login() {
            self.gate.logins().touch(login);
        }
    }
}

/// Nothing comes of it but its end.
enum Never {}

/// The half that sends.
struct Telling<'a> {
    visit: &'a Visit,
    out: &'a mut Out,
    shared: &'a Shared,
    ended: Ended<'a>,
    attending: Attending,
    lease_at: Instant,
    seat: Seat,
}

impl Telling<'_> {
    async fn run(&mut self, mut todo: mpsc::Receiver<Message>) -> Result<Never, Over> {
        let visit = self.visit;
        let engine = visit.gate.engine();
        let mut pulse = engine.pulse();
        let mut reminders: Option<Reminders> = visit.caller.login().map(|login| login.reminders());
        self.shared.heard.store(*pulse.borrow_and_update(), Ordering::Release);
        self.send(status(&self.attending.snapshot()).message()).await?;
        self.tell_lease().await?;
        let mut people = self.seat.people();
        let here = people.borrow_and_update().clone();
        let mut alone = self.tell_here(&here, true).await?;
        loop {
            tokio::select! {
                biased;
                why = &mut self.ended => return Err(Over::Login(why)),
                () = engine.shutdown().cancelled() => return Err(Over::Shutdown),
                Some(message) = todo.recv() => self.send(message).await?,
                Ok(()) = pulse.changed() => {
                    let beat = *pulse.borrow_and_update();
                    self.look_after(beat).await?;
                }
                Ok(()) = people.changed() => {
                    let here = people.borrow_and_update().clone();
                    alone = self.tell_here(&here, alone).await?;
                }
                left = remind(&mut reminders) => {
                    let seconds = left.as_secs();
                    self.send(frames::Tell::LoginExpiring { seconds }.message()).await?;
                }
                seen = self.attending.next() => match seen {
                    Ok(Some(seen)) => self.see(seen).await?,
                    Ok(None) => return Err(Over::Ended),
                    Err(_) => return Err(Over::Refused(Refusal::Store)),
                },
            }
        }
    }

    async fn see(&mut self, seen: Seen) -> Result<(), Over> {
        let is_end = matches!(&seen, Seen::Told(Told::Ended { .. }));
        match &seen {
            Seen::Told(Told::Status(_)) => {
                self.send(status(&self.attending.snapshot()).message()).await?;
                self.tell_lease().await?;
            }
            Seen::Told(Told::Lease) => self.tell_lease().await?,
            _ => {}
        }
        for frame in seen_frames(seen) {
            self.send(frame).await?;
        }
        if is_end { Err(Over::Ended) } else { Ok(()) }
    }

    async fn tell_lease(&mut self) -> Result<(), Over> {
        self.lease_at = Instant::now();
        match self.visit.gate.engine().agents().lease(self.visit.id) {
            Some(lease) => self.send(Tell::Lease(lease).message()).await,
            None => Ok(()),
        }
    }

    /// Tells who is here, unless nobody else is and was. Whether nobody else is.
    async fn tell_here(&mut self, people: &[Present], was_alone: bool) -> Result<bool, Over> {
        let alone = people.len() <= 1;
        if !(alone && was_alone) {
            self.send(frames::Tell::here(people, self.seat.number()).message()).await?;
        }
        Ok(alone)
    }

    /// Looks whether the browser is still there, and tells the lease now and then.
    async fn look_after(&mut self, beat: u64) -> Result<(), Over> {
        let silent = beat.saturating_sub(self.shared.heard.load(Ordering::Acquire));
        if silent > SILENT_FOR && !self.shared.busy.load(Ordering::Acquire) {
            return Err(Over::Gone);
        }
        if self.lease_at.elapsed() >= LEASE_EVERY {
            self.tell_lease().await?;
        }
        if beat.is_multiple_of(PING_EVERY) {
            self.send(Message::Ping(Vec::new().into())).await?;
        }
        Ok(())
    }

    async fn send(&mut self, message: Message) -> Result<(), Over> {
        tokio::select! {
            biased;
            why = &mut self.ended => Err(Over::Login(why)),
            sent = self.out.sink.send(message) => sent.map_err(|_| Over::Gone),
            () = tokio::time::sleep(PATIENCE) => Err(Over::Slow),
        }
    }
}
