//! The two ends of a channel that a door holds: input with credit, output that gives it back.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use sojourn_core::wire::MAX_PAYLOAD;
use sojourn_core::wire::shim::FRAME_COST;
use sojourn_core::wire::shim::OUTPUT_WINDOW;
use sojourn_core::wire::shim::ToShim;
use sojourn_core::wire::shim::WindowSize;
use sojourn_core::wire::shim::cost;
use tokio::sync::Mutex;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

use crate::door::ChannelEvent;
use crate::seqpacket::SeqPacket;
use crate::session::Command;

/// How many events may wait in a channel: what its credit allows, and room for what costs none.
pub(crate) const QUEUE: usize = (OUTPUT_WINDOW / FRAME_COST) as usize + 16;

/// A running channel.
#[derive(Debug)]
pub struct Channel {
    /// Into it.
    pub input: ChannelInput,
    /// Out of it.
    pub output: ChannelOutput,
}

/// The program takes no more input: it closed it, or it is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the program takes no more input")]
pub struct InputClosed;

/// What the session's task and whoever holds a channel share: their hand on it.
#[derive(Debug)]
pub(crate) struct Hand {
    /// Credit in bytes; closed when the program takes no more.
    pub(crate) credit: Semaphore,
    /// Whether its client closed the channel.
    pub(crate) left: AtomicBool,
    /// Whether it still is theirs. Held while something about the channel is sent to the shim, so that
    /// nothing follows once it was taken away.
    theirs: Mutex<bool>,
}

impl Hand {
    pub(crate) fn new(credit: u32) -> Self {
        Self {
            credit: Semaphore::new(credit as usize),
            left: AtomicBool::new(false),
            theirs: Mutex::new(true),
        }
    }

    /// The program takes no more input.
    pub(crate) fn close(&self) {
        self.credit.close();
    }

    /// Takes the channel away: whoever held it has no more effect on it when this returns.
    pub(crate) async fn take_away(&self) {
        *self.theirs.lock().await = false;
        self.credit.close();
    }

    /// Sends something about the channel, if it still is theirs.
    async fn send(&self, link: &SeqPacket, frame: &[u8]) -> Result<(), InputClosed> {
        let theirs = self.theirs.lock().await;
        if !*theirs {
            return Err(InputClosed);
        }
        // A broken link is the session's end, which the session's task finds out by itself.
        link.send(frame).await.map_err(|_| InputClosed)
    }
}

/// Into a channel. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ChannelInput {
    number: u16,
    link: Arc<SeqPacket>,
    hand: Arc<Hand>,
    /// The session's task, which those ask who look on.
    session: Option<mpsc::Sender<Command>>,
}

impl ChannelInput {
    pub(crate) fn new(number: u16, link: Arc<SeqPacket>, hand: Arc<Hand>) -> Self {
        Self { number, link, hand, session: None }
    }

    /// The same, which tells the session's task of sizes.
    pub(crate) fn told_to(self, session: mpsc::Sender<Command>) -> Self {
        Self { session: Some(session), ..self }
    }

    /// The channel's number in its session.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// Passes bytes to the program, waiting while it does not take any.
    ///
    /// # Errors
    /// When it will never take more.
    pub async fn send(&self, bytes: &[u8]) -> Result<(), InputClosed> {
        let mut frame = Vec::new();
        for part in bytes.chunks(MAX_PAYLOAD) {
            let credit = self.hand.credit.acquire_many(cost(part.len())).await;
            credit.map_err(|_| InputClosed)?.forget();
            ToShim::Input(self.number, part).encode(&mut frame);
            self.hand.send(&self.link, &frame).await?;
        }
        Ok(())
    }

    /// The client sends no more.
    pub async fn eof(&self) {
        self.tell(&ToShim::InputEof(self.number)).await;
    }

    /// The terminal has another size.
    pub async fn resize(&self, size: WindowSize) {
        let is_theirs = self.tell(&ToShim::Resize(self.number, size)).await;
        if let Some(session) = self.session.as_ref().filter(|_| is_theirs) {
            let _over = session.send(Command::Resized(self.number, size)).await;
        }
    }

    /// A signal to the programs, named without `SIG`.
    pub async fn signal(&self, name: String) {
        self.tell(&ToShim::Signal(self.number, name)).await;
    }

    /// The client closed the channel.
    pub async fn close(&self) {
        self.hand.left.store(true, Ordering::Release);
        self.tell(&ToShim::Close(self.number)).await;
    }

    /// Says something about the channel. Whether it still is theirs.
    async fn tell(&self, what: &ToShim<'_>) -> bool {
        let mut frame = Vec::new();
        what.encode(&mut frame);
        self.hand.send(&self.link, &frame).await.is_ok()
    }
}

/// Out of a channel.
#[derive(Debug)]
pub struct ChannelOutput {
    number: u16,
    link: Arc<SeqPacket>,
    hand: Arc<Hand>,
    /// What comes before everything else, and costs no credit.
    first: Option<ChannelEvent>,
    events: mpsc::Receiver<ChannelEvent>,
    owed: u32,
}

impl ChannelOutput {
    pub(crate) fn new(
        number: u16,
        link: Arc<SeqPacket>,
        hand: Arc<Hand>,
        events: mpsc::Receiver<ChannelEvent>,
    ) -> Self {
        Self { number, link, hand, first: None, events, owed: 0 }
    }

    /// The same, with something that comes before everything else.
    pub(crate) fn after(self, first: ChannelEvent) -> Self {
        Self { first: Some(first), ..self }
    }

    /// The next thing that comes out; none when nothing will. Taking one says that the one before it
    /// has been passed on, and so gives its credit back.
    pub async fn next(&mut self) -> Option<ChannelEvent> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        if self.owed >= OUTPUT_WINDOW / 4 {
            let mut frame = Vec::new();
            ToShim::Credit(self.number, self.owed).encode(&mut frame);
            // Whole or not at all: whoever gives up waiting here has given nothing back yet.
            let _gone = self.hand.send(&self.link, &frame).await;
            self.owed = 0;
        }
        let event = self.events.recv().await?;
        if let ChannelEvent::Output(_, bytes) = &event {
            self.owed += cost(bytes.len());
        }
        Some(event)
    }
}
