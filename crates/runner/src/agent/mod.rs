//! An agent and its conversation: the client's side of the Agent Client Protocol, over the pipes of a
//! program that somebody else started and will end.
//!
//! Everything the agent says becomes an event for a [`Sink`], in the order in which it said it; when
//! the sink waits, nothing more is read from the agent. Everything a person says comes as a command
//! and is answered by a receipt. Nothing here knows of gateways, sockets or process trees.
//!
//! ```text
//!   program ──stdout──▶ lines ──▶ wire ──▶ conversation ──▶ sink (numbered, on disk, sent)
//!           ◀──stdin───────────── wire ◀── conversation ◀── commands
//!           ──stderr──▶ stderr ──────────────────────────▶ sink
//! ```

mod asks;
mod changes;
mod conversation;
#[cfg(feature = "fuzz")]
pub(crate) mod fuzz;
mod lines;
mod modes;
mod owner;
mod queue;
mod rules;
mod shown;
mod speech;
mod stderr;
mod steps;
mod updates;
mod wire;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sojourn_core::end::Exit;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Launch;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::Recovery;
use sojourn_core::wire::relay::RequestId;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::asks::Asks;
use self::conversation::Conversation;
use self::conversation::Order;
use self::conversation::Parts;

/// The most commands that wait for the conversation.
const MAX_ORDERS: usize = 64;

/// What an async function of a trait that is used as an object gives.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Where an agent's events go: numbered, written to disk, sent.
pub trait Sink: Send + Sync + 'static {
    /// Keeps an event. Waits while there is no room, which stops reading from the agent.
    fn emit(&self, event: Event) -> Later<'_, Result<(), Gone>>;

    /// So many bytes came from the program, on standard output or standard error, whatever they are.
    /// Called for every read, before anything is made of it.
    fn printed(&self, bytes: u64);
}

/// The session takes no more events: it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session takes no more events")]
pub struct Gone;

/// A running program that speaks the protocol. Its tree is its starter's: nothing here ends it.
pub struct Program {
    /// The process to name as the owner of the conversation.
    pub pid: u32,
    /// What it reads.
    pub stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// What it says to us.
    pub stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// What it says to nobody.
    pub stderr: Box<dyn AsyncRead + Send + Unpin>,
    /// How it ended; none while it runs.
    pub exit: watch::Receiver<Option<Exit>>,
}

/// A conversation to begin or to take up again: everything is resolved and allowed.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// What was asked for. `launch.resume` is the agent's own id of a conversation to take up.
    pub launch: Launch,
    /// Where the agent works, resolved.
    pub cwd: PathBuf,
    /// A directory of the runner's own, the same one for all its sessions: which conversation is
    /// owned by whom.
    pub state_dir: PathBuf,
    /// A directory of this session's own, that goes with it: what its working directory was like.
    pub kept_dir: PathBuf,
    /// The mode the agent is put in, where its owner configured one; none: the preset's.
    pub mode: Option<String>,
    /// Whether the agent may be in a mode in which it never asks.
    pub allow_bypass: bool,
    /// How long things may take.
    pub times: Times,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Until the agent says what it is.
    pub initialize: Duration,
    /// Until a conversation is begun, or taken up again with all its history.
    pub conversation: Duration,
    /// Until its mode is set.
    pub mode: Duration,
    /// Until a person is told that the agent ignores an interrupt.
    pub interrupt: Duration,
    /// Until what nobody answers is denied.
    pub answer: Duration,
    /// How long a working directory is left alone before it is compared.
    pub quiet: Duration,
    /// Until a comparison is given up.
    pub compare: Duration,
    /// Until an agent that is told to end its conversation is left alone.
    pub close: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            initialize: Duration::from_secs(60),
            conversation: Duration::from_secs(120),
            mode: Duration::from_secs(30),
            interrupt: Duration::from_secs(15),
            answer: Duration::from_secs(4 * 60 * 60),
            quiet: Duration::from_secs(2),
            compare: Duration::from_secs(10),
            close: Duration::from_secs(2),
        }
    }
}

/// Why there is no conversation. The step that failed was told already.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StartError(pub String);

/// A conversation that has begun.
pub struct Agent {
    orders: mpsc::Sender<Order>,
    asks: watch::Receiver<Vec<RequestId>>,
    recovery: Recovery,
    closing: CancellationToken,
    over: CancellationToken,
}

/// Begins a conversation, or takes one up again. Tells each step, then `started`; then the first
/// message is sent, if there is one.
///
/// # Errors
/// When it cannot be begun; the failed step is told, and the program is the caller's to end.
pub async fn start(
    prepared: Prepared,
    program: Program,
    sink: Arc<dyn Sink>,
) -> Result<Agent, StartError> {
    let closing = CancellationToken::new();
    // A start that is given up leaves nothing behind.
    let given_up = closing.clone().drop_guard();
    let last = stderr::Last::default();
    let wire = wire::connect(program.stdin, program.stdout, Arc::clone(&sink)).await;
    let wire = wire.map_err(|error| StartError(error.to_string()))?;
    let hang_up = wire.hang_up.clone();
    let hung_up = hang_up.clone().drop_guard();
    tokio::spawn(stderr::read(program.stderr, Arc::clone(&sink), last.clone(), hang_up));
    let kept = prepared.kept_dir.clone();
    let base = tokio::spawn(changes::base(prepared.cwd.clone(), kept, prepared.times));
    let touch = changes::touch();
    let (show, asks) = watch::channel(Vec::new());
    let parts = Parts {
        sink: Arc::clone(&sink),
        wire,
        exit: program.exit,
        asks: Asks::new(show),
        touch: touch.clone(),
        closing: closing.clone(),
    };
    let mut conversation = Conversation::new(&prepared, parts);
    let begun = conversation.begin(&prepared, program.pid, &last).await?;
    // Before the agent may change anything.
    if let Ok(Some(base)) = base.await {
        let (sink, closing) = (Arc::clone(&sink), closing.clone());
        tokio::spawn(changes::watch(base, touch, prepared.times, sink, closing));
    }
    let recovery = begun.recovery;
    let started = Event::Started { agent: begun.agent, recovery: Some(recovery.clone()) };
    let gone = |_| StartError("the session takes no more events".to_owned());
    conversation.emit(started).await.map_err(gone)?;
    if let Some(prompt) = prepared.launch.prompt.filter(|prompt| !prompt.trim().is_empty()) {
        let id = format!("start-{}", prepared.launch.epoch);
        conversation.say_first(id, prompt, prepared.launch.by);
    }
    conversation.go_on().await.map_err(gone)?;
    let (orders, ordered) = mpsc::channel(MAX_ORDERS);
    let over = CancellationToken::new();
    let tell = over.clone();
    let stop = closing.clone();
    tokio::spawn(async move {
        let why = conversation.run(ordered).await;
        tracing::debug!(?why, "a conversation is over");
        // The conversation may be another process' from here on.
        drop(begun.owned);
        // Whatever works for it, stops.
        stop.cancel();
        tell.cancel();
    });
    given_up.disarm();
    hung_up.disarm();
    Ok(Agent { orders, asks, recovery, closing, over })
}

impl Agent {
    /// Does what a person wants: `message`, `edit_message`, `cancel_message`, `answer`, `interrupt`.
    /// Everything else is somebody else's and rejected.
    pub async fn command(&self, command: Command) -> Receipt {
        let gone = || {
            let message = "the agent is gone; resume the session".to_owned();
            Receipt::Rejected { code: "GONE".to_owned(), message }
        };
        let (tell, receipt) = oneshot::channel();
        match self.orders.send((command, tell)).await {
            Ok(()) => receipt.await.unwrap_or_else(|_| gone()),
            Err(_) => gone(),
        }
    }

    /// What waits for a person. While there is something, a session is not idle.
    #[must_use]
    pub fn asks(&self) -> Vec<RequestId> {
        self.asks.borrow().clone()
    }

    /// Waits until the conversation is over: the agent ended, closed its output, or was told to end.
    /// What it still asked is told to be lost by then, and a turn under way to be cut.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// Ends the conversation as politely as there is time for: `session/cancel`, `session/close`, end
    /// of input. What is still asked is told to be lost. The program's tree is the caller's to end,
    /// also when this took its time.
    pub async fn close(&self) {
        self.closing.cancel();
        self.over.cancelled().await;
    }

    /// How to take it up again.
    #[must_use]
    pub const fn recovery(&self) -> &Recovery {
        &self.recovery
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}
