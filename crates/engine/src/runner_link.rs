//! The connection to the built-in runner: numbered requests, their answers, and its events.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use sojourn_core::wire::runner::Event;
use sojourn_core::wire::runner::FromRunner;
use sojourn_core::wire::runner::Numbered;
use sojourn_core::wire::runner::Reply;
use sojourn_core::wire::runner::Request;
use sojourn_core::wire::runner::VERSION;
use sojourn_core::wire::runner::decode;
use sojourn_core::wire::runner::encode;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::seqpacket::SeqPacket;

/// Longer than any spawn timeout: beyond it the runner is not slow but stuck.
const ANSWER: Duration = Duration::from_secs(120);

/// The most requests under way at once.
const PENDING: usize = 4096;

/// An answer and the descriptor that came along.
type Answer = (Reply, Option<OwnedFd>);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunnerError {
    /// Nobody is at the other end.
    #[error("the runner is not there; it is being started again")]
    Gone,
    /// It did not answer in time.
    #[error("the runner did not answer")]
    Silent,
    /// The request cannot be sent.
    #[error("the request is too large for the runner")]
    TooLarge,
}

impl RunnerError {
    /// The one behind this error, if there is one.
    pub(crate) fn behind(error: &io::Error) -> Option<&Self> {
        error.get_ref().and_then(|error| error.downcast_ref())
    }
}

/// Requests to the runner. It survives the runner: the next one takes its place.
#[derive(Clone, Debug)]
pub struct RunnerLink {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    line: Mutex<Option<Line>>,
    there: watch::Sender<bool>,
}

/// One connection to one runner.
#[derive(Clone, Debug)]
struct Line {
    socket: Arc<SeqPacket>,
    pending: Arc<Mutex<Pending>>,
}

#[derive(Debug, Default)]
struct Pending {
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Answer>>,
    closed: bool,
}

impl RunnerLink {
    /// A link nobody is at yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared { line: Mutex::new(None), there: watch::Sender::new(false) }),
        }
    }

    /// Takes a new connection, says hello, and reads it until it ends. Events go to `events`.
    ///
    /// # Errors
    /// When the connection is broken, or its end.
    pub async fn serve(
        &self,
        fd: OwnedFd,
        build: &str,
        events: &mpsc::Sender<Event>,
    ) -> io::Result<()> {
        let line = Line {
            socket: Arc::new(SeqPacket::new(fd)?),
            pending: Arc::new(Mutex::new(Pending::default())),
        };
        let reader = read(&line, events);
        tokio::pin!(reader);
        let hello = Request::Hello { version: VERSION, build: build.to_owned() };
        let greeted = line.request(hello);
        tokio::select! {
            ended = &mut reader => return ended,
            greeted = greeted => match greeted {
                Ok((Reply::Hello { version: VERSION, epoch, pid, .. }, _)) => {
                    tracing::info!(epoch, pid, "runner connected");
                }
                other => {
                    return Err(io::Error::other(format!("the runner answered hello with {other:?}")));
                }
            },
        }
        *lock(&self.shared.line) = Some(line.clone());
        self.shared.there.send_replace(true);
        let ended = reader.await;
        *lock(&self.shared.line) = None;
        self.shared.there.send_replace(false);
        let mut pending = lock(&line.pending);
        pending.closed = true;
        pending.waiting.clear();
        ended
    }

    /// Asks the runner, waiting a moment for one when none is there.
    ///
    /// # Errors
    /// When there is none, or no answer.
    pub async fn ask(&self, request: Request) -> Result<Answer, RunnerError> {
        let mut there = self.shared.there.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(5), there.wait_for(|there| *there));
        if waited.await.is_err() {
            return Err(RunnerError::Gone);
        }
        let line = lock(&self.shared.line).clone().ok_or(RunnerError::Gone)?;
        line.request(request).await
    }

    /// Whether a runner is connected.
    #[must_use]
    pub fn is_there(&self) -> bool {
        *self.shared.there.borrow()
    }
}

impl Default for RunnerLink {
    fn default() -> Self {
        Self::new()
    }
}

impl Line {
    async fn request(&self, body: Request) -> Result<Answer, RunnerError> {
        let (answered, answer) = oneshot::channel();
        let id = {
            let mut pending = lock(&self.pending);
            if pending.closed || pending.waiting.len() >= PENDING {
                return Err(RunnerError::Gone);
            }
            pending.next += 1;
            let id = pending.next;
            pending.waiting.insert(id, answered);
            id
        };
        let sent = async {
            let bytes = encode(&Numbered { id, body }).map_err(|_| RunnerError::TooLarge)?;
            self.socket.send(&bytes).await.map_err(|_| RunnerError::Gone)?;
            answer.await.map_err(|_| RunnerError::Gone)
        };
        let result = tokio::time::timeout(ANSWER, sent).await.unwrap_or(Err(RunnerError::Silent));
        if result.is_err() {
            lock(&self.pending).waiting.remove(&id);
        }
        result
    }
}

async fn read(line: &Line, events: &mpsc::Sender<Event>) -> io::Result<()> {
    loop {
        let got = line.socket.recv(|bytes, fd| (decode::<FromRunner>(bytes), fd)).await?;
        let Some((message, fd)) = got else {
            return Ok(());
        };
        match message.map_err(io::Error::other)? {
            FromRunner::Reply(Numbered { id, body }) => {
                if let Some(waiting) = lock(&line.pending).waiting.remove(&id) {
                    // Whoever asked may have given up; then the descriptor closes here.
                    let _gone = waiting.send((body, fd));
                }
            }
            FromRunner::Event { event } => {
                // The engine takes events as long as it lives; a full queue waits, which the runner
                // bears.
                if events.send(event).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
