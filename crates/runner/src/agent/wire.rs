//! The pipes of an agent, as messages. What it says is read line by line, counted before anything is
//! made of it, and handed on in order; nothing is read while those before it wait.
//!
//! The protocol crate keeps requests and answers together. It has queues without a bound, so what
//! could fill them never reaches it: updates go straight to the conversation, and requests are counted
//! until they are answered.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use agent_client_protocol::Agent;
use agent_client_protocol::Client;
use agent_client_protocol::Lines;
use agent_client_protocol::v1::ConnectionTo;
use agent_client_protocol::v1::Responder;
use agent_client_protocol::v1::schema::CreateElicitationRequest;
use agent_client_protocol::v1::schema::CreateElicitationResponse;
use agent_client_protocol::v1::schema::RequestPermissionRequest;
use agent_client_protocol::v1::schema::RequestPermissionResponse;
use futures_util::sink;
use futures_util::stream;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sojourn_core::wire::relay::Held;
use sojourn_core::wire::relay::RequestId;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Sink;
use super::lines::Line;
use super::lines::MAX_LINE;
use super::lines::Splitter;
use super::updates;

/// What is read at once, in bytes.
const READ: usize = 64 << 10;

/// What was read and is not dealt with yet takes at most so many bytes of lines.
const ROOM: usize = 2 * MAX_LINE;

/// The most requests of the agent's that are not answered; reading waits beyond.
const MAX_OWED: usize = 64;

/// The most messages that wait for the conversation.
const MAX_SAID: usize = 64;

/// What a conversation consists of; everything else is about now.
const HISTORY: [&str; 6] = [
    "user_message_chunk",
    "agent_message_chunk",
    "agent_thought_chunk",
    "tool_call",
    "tool_call_update",
    "plan",
];

/// What the agent said, and the room it takes until it is dealt with.
pub(super) struct Inbound {
    pub(super) said: Said,
    _room: Option<OwnedSemaphorePermit>,
}

/// What an agent says.
pub(super) enum Said {
    /// A `SessionUpdate`.
    Update(Value),
    /// Something that was left out.
    Cut { what: Held, bytes: u64 },
    /// It wants to do something.
    Permission(Box<RequestPermissionRequest>, Responder<RequestPermissionResponse>),
    /// It wants to know something.
    Question(Box<CreateElicitationRequest>, Responder<CreateElicitationResponse>),
    /// It does not want to any more.
    Withdrawn(RequestId),
    /// Its output has ended.
    Over,
}

impl From<Said> for Inbound {
    fn from(said: Said) -> Self {
        Self { said, _room: None }
    }
}

/// An agent's end of the pipes, while the connection lives.
pub(super) struct Wire {
    /// Requests and notifications go here.
    pub(super) connection: ConnectionTo<Agent>,
    /// What it says comes from here.
    pub(super) inbox: mpsc::Receiver<Inbound>,
    /// For what belongs between what it says.
    pub(super) to_inbox: mpsc::Sender<Inbound>,
    /// While set, what the agent says of the conversation is history that is told again, and dropped.
    /// Some tell it before they answer that it is loaded, some after: it is so until the next message.
    pub(super) replaying: Arc<AtomicBool>,
    /// Ends the connection: what is under way is written, then the agent's input is closed.
    pub(super) hang_up: CancellationToken,
}

/// Connects to an agent.
///
/// # Errors
/// When the protocol's own tasks cannot begin.
pub(super) async fn connect(
    stdin: Box<dyn AsyncWrite + Send + Unpin>,
    stdout: Box<dyn AsyncRead + Send + Unpin>,
    sink: Arc<dyn Sink>,
) -> io::Result<Wire> {
    let (to_inbox, inbox) = mpsc::channel(MAX_SAID);
    // One line at a time: the crate takes it at once.
    let (to_protocol, lines) = mpsc::channel::<String>(1);
    let owed = Arc::new(Owed::new());
    let replaying = Arc::new(AtomicBool::new(false));
    let hang_up = CancellationToken::new();
    let reader = Reader {
        sink,
        inbox: to_inbox.clone(),
        to_protocol,
        room: Arc::new(Semaphore::new(ROOM)),
        owed: Arc::clone(&owed),
        replaying: Arc::clone(&replaying),
    };
    let stop_reading = hang_up.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = reader.read(stdout) => {}
            () = stop_reading.cancelled() => {}
        }
    });
    let outgoing = sink::unfold(stdin, move |mut stdin, line: String| {
        owed.written(&line);
        async move {
            stdin.write_all(line.as_bytes()).await?;
            stdin.write_all(b"\n").await?;
            stdin.flush().await?;
            Ok::<_, io::Error>(stdin)
        }
    });
    let incoming = stream::unfold(lines, async |mut lines| {
        let line = lines.recv().await?;
        Some((Ok::<_, io::Error>(line), lines))
    });
    let (give, given) = oneshot::channel();
    let until = hang_up.clone();
    let permissions = to_inbox.clone();
    let questions = to_inbox.clone();
    // Handlers hold up everything that comes after: they only hand on. What they spawn is bounded by
    // the requests that may be owed.
    let serving = Client
        .v1()
        .name("sojourn")
        .on_receive_request(
            async move |request: RequestPermissionRequest, responder, _connection| {
                hand_on(&permissions, Said::Permission(Box::new(request), responder));
                Ok(())
            },
            agent_client_protocol::on_receive_request!(),
        )
        .on_receive_request(
            async move |request: CreateElicitationRequest, responder, _connection| {
                hand_on(&questions, Said::Question(Box::new(request), responder));
                Ok(())
            },
            agent_client_protocol::on_receive_request!(),
        )
        .connect_with(
            Lines::new(Box::pin(outgoing), Box::pin(incoming)),
            async move |connection| {
                // Nobody to give it to: nobody needs the connection.
                if give.send(connection).is_ok() {
                    until.cancelled().await;
                }
                Ok(())
            },
        );
    tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::debug!(%error, "the connection to an agent broke");
        }
    });
    let connection = given.await.map_err(|_| io::Error::other("the protocol did not begin"))?;
    Ok(Wire { connection, inbox, to_inbox, replaying, hang_up })
}

fn hand_on(inbox: &mpsc::Sender<Inbound>, said: Said) {
    let inbox = inbox.clone();
    tokio::spawn(async move {
        // A conversation that is over answers nothing; the responder says so by being dropped.
        let _ = inbox.send(said.into()).await;
    });
}

/// Reads what the agent says.
struct Reader {
    sink: Arc<dyn Sink>,
    inbox: mpsc::Sender<Inbound>,
    to_protocol: mpsc::Sender<String>,
    room: Arc<Semaphore>,
    owed: Arc<Owed>,
    replaying: Arc<AtomicBool>,
}

/// Nobody listens any more.
struct Deaf;

/// As much of a message as has to be known to hand it on.
#[derive(Deserialize)]
struct Envelope<'a> {
    jsonrpc: Cow<'a, str>,
    #[serde(default)]
    method: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Update {
    update: Value,
}

impl Reader {
    async fn read(self, mut stdout: Box<dyn AsyncRead + Send + Unpin>) {
        let mut splitter = Splitter::new(MAX_LINE);
        let mut buffer = vec![0; READ];
        loop {
            let count = match stdout.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => count,
            };
            self.sink.printed(count as u64);
            let lines = splitter.push(buffer.get(..count).unwrap_or_default());
            if self.hand_on(lines).await.is_err() {
                return;
            }
        }
        if self.hand_on(splitter.end().into_iter().collect()).await.is_ok() {
            let _ = self.inbox.send(Said::Over.into()).await;
        }
    }

    async fn hand_on(&self, lines: Vec<Line>) -> Result<(), Deaf> {
        // Lines that are no messages are told together: they may be many and short.
        let mut noise = 0;
        for line in lines {
            let line = match line {
                Line::Whole(line) => line,
                Line::Long(bytes) => {
                    self.cut(Held::LongLine, bytes).await?;
                    continue;
                }
            };
            let room = self.room(line.len()).await?;
            let bytes = line.len() as u64;
            let is_message = match String::from_utf8(line) {
                Ok(line) => self.message(line, room).await?,
                Err(_) => false,
            };
            if !is_message {
                noise += bytes;
            }
        }
        match noise {
            0 => Ok(()),
            bytes => self.cut(Held::NotJson, bytes).await,
        }
    }

    async fn cut(&self, what: Held, bytes: u64) -> Result<(), Deaf> {
        self.inbox.send(Said::Cut { what, bytes }.into()).await.map_err(|_| Deaf)
    }

    async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Deaf> {
        let bytes = u32::try_from(bytes.clamp(1, MAX_LINE)).unwrap_or(u32::MAX);
        Arc::clone(&self.room).acquire_many_owned(bytes).await.map_err(|_| Deaf)
    }

    /// Hands on one message. False when it is none.
    async fn message(&self, line: String, room: OwnedSemaphorePermit) -> Result<bool, Deaf> {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(&line) else { return Ok(false) };
        if envelope.jsonrpc != "2.0" {
            return Ok(false);
        }
        match (envelope.method.as_deref(), envelope.id) {
            (Some("session/update"), None) => {
                let params = envelope.params.map_or("null", RawValue::get);
                let Ok(update) = serde_json::from_str::<Update>(params) else { return Ok(false) };
                let is_history = HISTORY.contains(&updates::kind(&update.update));
                if !(is_history && self.replaying.load(Ordering::Acquire)) {
                    let said = Said::Update(update.update);
                    let inbound = Inbound { said, _room: Some(room) };
                    self.inbox.send(inbound).await.map_err(|_| Deaf)?;
                }
            }
            (Some("$/cancel_request"), None) => self.pass(line).await?,
            // Nothing else that needs no answer is of interest.
            (Some(_), None) => {}
            (Some(_), Some(id)) => {
                self.owed.wait(id, room).await?;
                self.pass(line).await?;
            }
            (None, Some(_)) => self.pass(line).await?,
            (None, None) => return Ok(false),
        }
        Ok(true)
    }

    async fn pass(&self, line: String) -> Result<(), Deaf> {
        self.to_protocol.send(line).await.map_err(|_| Deaf)
    }
}

/// The agent's requests that nobody has answered, by id. Only so many are let in.
struct Owed {
    free: Arc<Semaphore>,
    open: Mutex<HashMap<String, Vec<[OwnedSemaphorePermit; 2]>>>,
}

impl Owed {
    fn new() -> Self {
        Self { free: Arc::new(Semaphore::new(MAX_OWED)), open: Mutex::default() }
    }

    /// Waits until one more may be asked.
    async fn wait(&self, id: &RawValue, room: OwnedSemaphorePermit) -> Result<(), Deaf> {
        let place = Arc::clone(&self.free).acquire_owned().await.map_err(|_| Deaf)?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.entry(name(id)).or_default().push([place, room]);
        Ok(())
    }

    /// Takes note of a line that goes to the agent: it may be an answer.
    fn written(&self, line: &str) {
        let Ok(envelope) = serde_json::from_str::<Envelope<'_>>(line) else { return };
        let (None, Some(id)) = (envelope.method, envelope.id) else { return };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let id = name(id);
        if let Some(places) = open.get_mut(&id) {
            places.pop();
            if places.is_empty() {
                open.remove(&id);
            }
        }
    }
}

/// An id in the one form that both ways of writing it have.
fn name(id: &RawValue) -> String {
    serde_json::from_str::<Value>(id.get())
        .map_or_else(|_| id.get().to_owned(), |id| id.to_string())
}
