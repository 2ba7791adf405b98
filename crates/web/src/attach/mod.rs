//! `GET /api/sessions/{id}/attach`: a terminal in a browser, to look at or to type into.
//!
//! Two halves of one task: [`hearing`] takes what the browser says, [`telling`] sends what it is to
//! know. A browser that does not read holds up its own half alone, so that Ctrl-C gets through.

mod agent;
mod agent_frames;
mod frames;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod hearing;
mod shapes;
mod telling;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::State;
use axum::extract::ws::CloseFrame;
use axum::extract::ws::Message;
use axum::extract::ws::WebSocket;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::response::Response;
use futures_util::SinkExt;
use futures_util::StreamExt;
use futures_util::stream::SplitSink;
use sojourn_core::authz::Answer;
use sojourn_core::authz::Deed;
use sojourn_core::ids::SessionId;
use sojourn_core::scope::Scope;
use sojourn_engine::channel::ChannelInput;
use sojourn_engine::door::Refusal;
use sojourn_engine::login::LoginEnd;
use sojourn_engine::records::SHELL;
use sojourn_engine::visiting::Person;
use sojourn_engine::watching::Driving;
use sojourn_engine::watching::Stays;
use sojourn_engine::watching::Watching;

use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::Who;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Asked;
use crate::request::Named;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;
use frames::Tell;

/// Bytes that are read at once. A browser types little, and there may be thousands of them.
const READ_BUFFER: usize = 8 << 10;

/// The longest frame that we send: a screen. A larger one is not sent.
const LONGEST_TOLD: usize = 8 << 20;

/// The longest frame that is read to its end, to be refused by a code. One that is longer is hung up on:
/// what was not read would take the code back.
const LONGEST_READ: usize = 4 * frames::LONGEST;

/// How long the last frames may take.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The same for a browser that did not read: it may just have begun to.
const SLOW_WORDS: Duration = Duration::from_secs(10);

/// Close codes.
const OVER: u16 = 1000;
const GOING_DOWN: u16 = 1001;
const TOO_LONG: u16 = 1009;
const AGAIN_LATER: u16 = 1013;
const LOGIN_ENDED: u16 = 4401;
const NOT_ALLOWED: u16 = 4403;
const TOO_SLOW: u16 = 4429;

/// The routes of this file.
pub(crate) fn routes() -> Vec<Route> {
    vec![Route::get(
        "/api/sessions/{id}/attach",
        Access::Scope(Scope::Read),
        Activity::Counts,
        attach,
        Doc::of("attachSession", "A WebSocket to the session's terminal, or to its agent.")
            .query::<u64>("from", "What is wanted next: of a terminal's output, or of events.")
            .query::<String>("mode", "`drive` or `watch`; the owner drives where it is left out.")
            .query::<u16>("channel", "Which terminal; the first where it is left out.")
            .gives_nothing(101, "The connection is a WebSocket from now on.")
            .tells::<frames::Said>()
            .tells::<frames::Tell>()
            .tells::<agent_frames::Said>()
            .tells::<agent_frames::Tell>()
            .tells::<shapes::EventShape>()
            .refuses(&[Code::Malformed, Code::NotFound, Code::Conflict, Code::Invalid]),
    )]
}

/// What somebody comes for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Drive,
    Watch,
}

/// Somebody at a terminal.
struct Visit {
    gate: Gate,
    caller: Caller,
    person: Person,
    id: SessionId,
    from: Option<u64>,
    /// As they asked; none: as it is theirs to do.
    mode: Option<Mode>,
    channel: Option<u16>,
}

/// What both halves share.
#[derive(Clone, Default)]
struct Shared {
    /// Into the terminal, while this is the one who drives.
    typing: Arc<Mutex<Option<ChannelInput>>>,
    /// The beat at which something was last heard.
    heard: Arc<AtomicU64>,
    /// Whether what was heard is still being passed on.
    busy: Arc<AtomicBool>,
    /// Whether it is settled who types: until then nothing is heard.
    settled: Arc<tokio::sync::watch::Sender<bool>>,
    /// How much of the output they say was shown to them; none: they do not say.
    seen: Arc<tokio::sync::watch::Sender<Option<u64>>>,
}

/// What the sending half has.
struct Out {
    sink: SplitSink<WebSocket, Message>,
}

/// How a visit ends.
#[derive(Debug)]
enum Over {
    /// The browser is gone.
    Gone,
    /// The session ended; all is told.
    Ended,
    /// The right to be here did.
    Login(LoginEnd),
    /// The browser does not read.
    Slow,
    /// It may not do this, or said too much that makes no sense.
    Refused(Refusal),
    /// The same, with too many.
    Faults,
    /// It said more at once than is taken.
    TooLong,
    /// The gateway goes down.
    Shutdown,
}

async fn attach(
    State(gate): State<Gate>,
    caller: Caller,
    Named(typed): Named,
    asked: Asked,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Refused> {
    let mode = match asked.get("mode") {
        None => None,
        Some("drive") => Some(Mode::Drive),
        Some("watch") => Some(Mode::Watch),
        Some(_) => return Err(Refused::invalid("mode", "drive or watch")),
    };
    let from = asked.parsed("from")?;
    let channel = asked.parsed("channel")?;
    let session = gate.admit(&caller, Deed::Watch, &typed).await?;
    let upgrade = upgrade
        .map_err(|_| Refused::Malformed("this is a WebSocket: ask for an upgrade".to_owned()))?;
    let person = caller.person();
    if session.harness != SHELL {
        let from = from.unwrap_or(0);
        let visit = agent::Visit { gate, caller, person, id: session.id, from, mode };
        return Ok(upgraded(upgrade).on_upgrade(|socket| visit.run(socket)));
    }
    let visit = Visit { gate, caller, person, id: session.id, from, mode, channel };
    Ok(upgraded(upgrade).on_upgrade(|socket| visit.run(socket)))
}

fn upgraded(upgrade: WebSocketUpgrade) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * LONGEST_TOLD)
        .max_frame_size(LONGEST_READ)
        .max_message_size(LONGEST_READ)
}

impl Visit {
    async fn run(self, socket: WebSocket) {
        let _counted = self.gate.engine().metrics().web_socket();
        let (sink, stream) = socket.split();
        let (mut out, shared) = (Out { sink }, Shared::default());
        let mut driving = None;
        let over = {
            let (tell, told) = tokio::sync::mpsc::channel(hearing::WAITING);
            let telling = self.tell(&mut out, &mut driving, &shared, told);
            let hearing = self.hear(stream, &shared, tell);
            tokio::select! {
                biased;
                over = telling => over,
                over = hearing => over,
            }
        };
        shared.let_type(None);
        tracing::debug!(session = %self.id, ?over, "a visit is over");
        let stays = match &over {
            Over::Login(_) | Over::Shutdown => Stays::ForLease,
            _ => Stays::ForGrace,
        };
        // First of all: a browser that does not read must not hold a terminal.
        if let Some(driving) = driving.take() {
            driving.leave(stays).await;
        }
        out.last_words(over).await;
    }

    /// Whether it is a program whose token lets it read, and no more.
    fn is_reader(&self) -> bool {
        matches!(self.caller.who(), Who::Token(token) if !token.has(Scope::Sessions))
    }

    /// Whether they may type, and what there is to it.
    fn may_type(&self) -> Answer {
        let may = |deed| self.gate.engine().may_now(self.caller.asker(), deed, self.id);
        match (may(Deed::Drive), may(Deed::TakeOver)) {
            _ if self.is_reader() => Answer::Forbidden,
            (Answer::Allowed, _) | (_, Answer::Allowed) => Answer::Allowed,
            (answer, _) => answer,
        }
    }

    /// Whether the terminal is theirs at once: their own session, and nobody else types there.
    fn drives_at_once(&self, watching: &Watching) -> Result<bool, Over> {
        let own = self.gate.engine().may_now(self.caller.asker(), Deed::Drive, self.id);
        let may = self.may_type().is_allowed();
        let wants = match self.mode {
            Some(Mode::Drive) if !may => return Err(Over::Refused(Refusal::MayNotType)),
            Some(Mode::Drive) => true,
            Some(Mode::Watch) => false,
            None => own.is_allowed() && may,
        };
        let by_others = watching
            .driver()
            .borrow()
            .as_ref()
            .is_some_and(|driver| driver.user != self.person.who.name());
        Ok(wants && !by_others)
    }

    /// Takes the keyboard.
    async fn take(&self, watching: &Watching, shared: &Shared) -> Result<Driving, Refusal> {
        if !self.may_type().is_allowed() {
            return Err(Refusal::MayNotType);
        }
        let driving = self.gate.engine().take_keyboard(&self.person, watching).await?;
        shared.let_type(Some(driving.input.clone()));
        Ok(driving)
    }
}

impl Shared {
    fn let_type(&self, input: Option<ChannelInput>) {
        *self.typing.lock().unwrap_or_else(PoisonError::into_inner) = input;
    }

    fn typing(&self) -> Option<ChannelInput> {
        self.typing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Out {
    /// Says why, and closes.
    async fn last_words(&mut self, over: Over) {
        let (tell, code, patience) = match over {
            Over::Gone => return,
            Over::Ended => (None, OVER, LAST_WORDS),
            Over::Login(why) => {
                (Some(Tell::LoginEnded { reason: why.name() }), LOGIN_ENDED, LAST_WORDS)
            }
            Over::Slow => (None, TOO_SLOW, SLOW_WORDS),
            Over::Refused(refusal) => (Some(error(&refusal)), code(&refusal), LAST_WORDS),
            Over::Faults => (None, NOT_ALLOWED, LAST_WORDS),
            Over::TooLong => (None, TOO_LONG, LAST_WORDS),
            Over::Shutdown => (None, GOING_DOWN, LAST_WORDS),
        };
        let close = CloseFrame { code, reason: "".into() };
        let words = async {
            if let Some(tell) = tell {
                self.sink.send(tell.message()).await?;
            }
            self.sink.send(Message::Close(Some(close))).await?;
            self.sink.close().await
        };
        let _late = tokio::time::timeout(patience, words).await;
    }
}

/// Whether a browser said more at once than is taken.
fn is_too_long(message: &Message) -> bool {
    let length = match message {
        Message::Text(text) => text.len(),
        Message::Binary(bytes) => bytes.len(),
        Message::Ping(_) | Message::Pong(_) | Message::Close(_) => 0,
    };
    length > frames::LONGEST
}

/// A refusal, as a browser reads it.
fn error(refusal: &Refusal) -> Tell {
    let code = match refusal {
        Refusal::MayNotType => "FORBIDDEN",
        Refusal::Watchers(_) => "LIMIT_REACHED",
        Refusal::Audit => "AUDIT_UNAVAILABLE",
        Refusal::Store => "STORE_UNAVAILABLE",
        _ => "CONFLICT",
    };
    Tell::Error { code, message: refusal.to_string() }
}

fn code(refusal: &Refusal) -> u16 {
    match refusal {
        Refusal::MayNotType => NOT_ALLOWED,
        Refusal::Watchers(_) | Refusal::Audit | Refusal::Store => AGAIN_LATER,
        _ => OVER,
    }
}
