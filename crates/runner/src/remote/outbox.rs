//! What a session has to say: numbered, on disk, and from there to the gateway, as often as it takes.
//!
//! Whoever puts something in waits while there is no room, and so does the program behind it. The link
//! takes out in order; what was sent and is not acknowledged goes again after a break.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use sojourn_core::ids::SessionId;
use sojourn_core::time::Wall;
use sojourn_core::wire::relay::Epoch;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Held;
use sojourn_core::wire::relay::MAX_BYTES;
use sojourn_core::wire::relay::Seq;
use sojourn_core::wire::relay::Sequenced;
use sojourn_core::wire::relay::Stored;
use tokio::sync::Notify;

use super::bytes::Bytes;
use super::spool::Spool;
use super::spool::SpoolError;
use crate::agent::Gone;

/// The most events that are sent and not acknowledged.
const WINDOW: Seq = 512;

/// The most bytes of a terminal that are sent and not acknowledged.
const BYTES_WINDOW: u64 = 1 << 20;

/// The most events that are taken out at once, so that sessions take turns.
const BATCH: usize = 32;

/// Between two tries to write to a disk that does not want.
const DISK: Duration = Duration::from_secs(1);

/// Something for the gateway.
#[derive(Debug)]
pub(super) enum Out {
    /// An event.
    Event(Box<Sequenced>),
    /// What a terminal printed.
    Bytes {
        /// Where the first of them stands.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
}

/// How much a session still takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// All of it.
    Open,
    /// What there is room for: nobody waits any more.
    Ending,
    /// Nothing.
    Closed,
}

struct Inner {
    events: Spool,
    bytes: Bytes,
    sent: Seq,
    sent_bytes: u64,
    phase: Phase,
    /// The number of the event that ends it, once there is one.
    last: Option<Seq>,
}

/// A session's outbox.
pub(super) struct Outbox {
    session: SessionId,
    inner: Mutex<Inner>,
    /// Something was acknowledged, or the phase is another one.
    room: Notify,
    /// There is something for the link to do.
    work: Arc<Notify>,
}

impl Outbox {
    /// Opens the outbox in a session's directory, or begins it, with numbers behind `head`.
    pub(super) fn open(
        directory: &Path,
        session: SessionId,
        head: Seq,
        most: u64,
        work: Arc<Notify>,
    ) -> io::Result<Self> {
        let mut events = Spool::open(&directory.join("events"), session, most)?;
        events.skip_to(head)?;
        let bytes = Bytes::open(&directory.join("bytes"), most)?;
        let (sent, sent_bytes) = (events.acked(), bytes.acked());
        let inner = Inner { events, bytes, sent, sent_bytes, phase: Phase::Open, last: None };
        Ok(Self { session, inner: Mutex::new(inner), room: Notify::new(), work })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of its last event, and how many bytes its terminal printed.
    pub(super) fn head(&self) -> (Seq, u64) {
        let inner = self.inner();
        (inner.events.head(), inner.bytes.head())
    }

    /// Keeps an event. Waits while there is no room, unless the session is ending.
    pub(super) async fn put(&self, epoch: Epoch, at: Wall, event: Event) -> Result<(), Gone> {
        let mut event = event;
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let (phase, kept) = {
                let mut inner = self.inner();
                if inner.phase == Phase::Closed {
                    return Err(Gone);
                }
                (inner.phase, inner.events.append(epoch, at, event.clone()))
            };
            match kept {
                Ok(_) => {
                    self.work.notify_one();
                    return Ok(());
                }
                Err(SpoolError::Long) => {
                    let bytes = serde_json::to_vec(&event).map_or(0, |json| json.len() as u64);
                    event = Event::Cut { what: Held::LongUpdate, bytes };
                }
                Err(SpoolError::Full(_)) if phase == Phase::Open => room.await,
                Err(SpoolError::Full(_)) => return Err(Gone),
                Err(SpoolError::Disk(error)) if phase == Phase::Open => {
                    tracing::error!(session = %self.session, %error, "a session cannot be written");
                    tokio::time::sleep(DISK).await;
                }
                Err(SpoolError::Disk(_)) => return Err(Gone),
            }
        }
    }

    /// Keeps the last event, for which there is always room, and takes nothing more.
    pub(super) fn put_last(&self, epoch: Epoch, at: Wall, event: Event) -> Result<(), SpoolError> {
        let mut inner = self.inner();
        inner.phase = Phase::Closed;
        let kept = inner.events.append(epoch, at, event)?;
        inner.last = Some(kept.seq);
        drop(inner);
        self.room.notify_waiters();
        self.work.notify_one();
        Ok(())
    }

    /// Keeps what a terminal printed. Waits while there is no room, unless the session is ending.
    pub(super) async fn print(&self, bytes: &[u8]) -> Result<(), Gone> {
        for part in bytes.chunks(MAX_BYTES) {
            loop {
                let room = self.room.notified();
                tokio::pin!(room);
                room.as_mut().enable();
                let (phase, kept) = {
                    let mut inner = self.inner();
                    if inner.phase == Phase::Closed {
                        return Err(Gone);
                    }
                    (inner.phase, inner.bytes.append(part))
                };
                match kept {
                    Ok(Some(_)) => break self.work.notify_one(),
                    Ok(None) if phase == Phase::Open => room.await,
                    Err(error) if phase == Phase::Open => {
                        tracing::error!(session = %self.session, %error, "cannot be written");
                        tokio::time::sleep(DISK).await;
                    }
                    Ok(None) | Err(_) => return Err(Gone),
                }
            }
        }
        Ok(())
    }

    /// From now on nobody waits: what has no room is lost with the program that printed it.
    pub(super) fn ending(&self) {
        let mut inner = self.inner();
        inner.phase = inner.phase.max(Phase::Ending);
        drop(inner);
        self.room.notify_waiters();
    }

    /// The session was over before: the last event that there is ends it.
    pub(super) fn close_at_head(&self) {
        let mut inner = self.inner();
        inner.phase = Phase::Closed;
        inner.last = Some(inner.events.head());
    }

    /// The session goes on, in another start of its program.
    pub(super) fn reopen(&self) {
        let mut inner = self.inner();
        (inner.phase, inner.last) = (Phase::Open, None);
    }

    /// The gateway has all of this.
    pub(super) fn acknowledge(&self, stored: Stored) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let freed = inner.events.acknowledge(stored.seq);
        let freed_bytes = inner.bytes.acknowledge(stored.offset);
        inner.sent = inner.sent.max(inner.events.acked());
        inner.sent_bytes = inner.sent_bytes.max(inner.bytes.acked());
        for error in freed.err().into_iter().chain(freed_bytes.err()) {
            tracing::warn!(session = %self.session, %error, "what was acknowledged stays");
        }
        self.room.notify_waiters();
        self.work.notify_one();
    }

    /// A new connection: what is not stored goes again.
    pub(super) fn reset(&self, have: Stored) {
        {
            let mut inner = self.inner();
            if have.seq > inner.events.head()
                && let Err(error) = inner.events.skip_to(have.seq)
            {
                tracing::warn!(session = %self.session, %error, "old events stay");
            }
        }
        self.acknowledge(have);
        let mut inner = self.inner();
        (inner.sent, inner.sent_bytes) = (have.seq, have.offset.max(inner.bytes.acked()));
    }

    /// The gateway misses something.
    pub(super) fn resend(&self, from: Seq) {
        let mut inner = self.inner();
        inner.sent = from.saturating_sub(1).max(inner.events.acked()).min(inner.sent);
        drop(inner);
        self.work.notify_one();
    }

    /// Takes out what comes next; nothing when all is sent, or the gateway has to catch up first.
    pub(super) fn take(&self) -> Vec<Out> {
        let mut inner = self.inner();
        inner.take().unwrap_or_else(|error| {
            tracing::error!(session = %self.session, %error, "a session cannot be read");
            Vec::new()
        })
    }

    /// Whether its end is told and acknowledged.
    pub(super) fn is_done(&self) -> bool {
        let inner = self.inner();
        inner.last.is_some_and(|last| inner.events.acked() >= last)
    }
}

impl Inner {
    fn take(&mut self) -> io::Result<Vec<Out>> {
        let mut out = Vec::new();
        let bytes_left = (self.bytes.acked() + BYTES_WINDOW).saturating_sub(self.sent_bytes);
        if bytes_left > 0 {
            let most = usize::try_from(bytes_left).unwrap_or(MAX_BYTES).min(MAX_BYTES);
            let bytes = self.bytes.from(self.sent_bytes, most)?;
            if !bytes.is_empty() {
                let offset = self.sent_bytes;
                self.sent_bytes += bytes.len() as u64;
                out.push(Out::Bytes { offset, bytes });
            }
        }
        let left = (self.events.acked() + WINDOW).saturating_sub(self.sent);
        let most = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
        if most > 0 && self.sent < self.events.head() {
            let all_bytes = self.sent_bytes == self.bytes.head();
            for event in self.events.from(self.sent + 1, most)? {
                // What a terminal printed comes before its end.
                if !all_bytes && matches!(event.event, Event::Ended { .. }) {
                    break;
                }
                self.sent = event.seq;
                out.push(Out::Event(Box::new(event)));
            }
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use sojourn_core::end::EndReason;

    use super::*;

    fn outbox(directory: &Path, most: u64) -> Arc<Outbox> {
        let work = Arc::new(Notify::new());
        Arc::new(Outbox::open(directory, SessionId::new(), 0, most, work).unwrap())
    }

    fn said(length: usize) -> Event {
        Event::Stderr { text: "x".repeat(length) }
    }

    fn ended() -> Event {
        Event::Ended {
            reason: EndReason::Exited,
            exit: None,
            output_bytes: 0,
            message: None,
            recovery: None,
        }
    }

    fn stored(outbox: &Outbox, seq: Seq, offset: u64) -> Stored {
        Stored { session: outbox.session, seq, offset }
    }

    fn numbers(outbox: &Outbox) -> Vec<Seq> {
        let number = |out: Out| match out {
            Out::Event(event) => Some(event.seq),
            Out::Bytes { .. } => None,
        };
        outbox.take().into_iter().filter_map(number).collect()
    }

    #[tokio::test]
    async fn case_02_a_full_outbox_makes_its_session_wait_and_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = outbox(dir.path(), 3 << 20);
        let writer = tokio::spawn({
            let outbox = outbox.clone();
            async move {
                for _ in 0..40 {
                    outbox.put(1, Wall(0), said(200_000)).await.unwrap();
                }
            }
        });
        let mut seen: Vec<Seq> = Vec::new();
        while seen.len() < 40 {
            tokio::task::yield_now().await;
            let taken = numbers(&outbox);
            if let Some(last) = taken.last() {
                assert!(outbox.head().0 - last < 20, "no more than fits is taken");
                seen.extend(&taken);
                outbox.acknowledge(stored(&outbox, *last, 0));
            }
        }
        writer.await.unwrap();
        assert_eq!(seen, (1..=40).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn after_a_break_what_is_not_stored_goes_again() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = outbox(dir.path(), 64 << 20);
        for _ in 0..5 {
            outbox.put(1, Wall(0), said(1)).await.unwrap();
        }
        assert_eq!(numbers(&outbox), [1, 2, 3, 4, 5]);
        assert!(numbers(&outbox).is_empty());
        outbox.reset(stored(&outbox, 2, 0));
        assert_eq!(numbers(&outbox), [3, 4, 5]);
        outbox.resend(4);
        assert_eq!(numbers(&outbox), [4, 5]);
        outbox.resend(1);
        assert_eq!(numbers(&outbox), [3, 4, 5], "what is stored is stored");
        outbox.put_last(1, Wall(0), ended()).unwrap();
        assert_eq!(outbox.put(1, Wall(0), said(1)).await, Err(Gone));
        assert_eq!(numbers(&outbox), [6]);
        assert!(!outbox.is_done());
        outbox.acknowledge(stored(&outbox, 6, 0));
        assert!(outbox.is_done());
    }

    #[tokio::test]
    async fn the_end_of_a_terminal_comes_after_all_it_printed() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = outbox(dir.path(), 64 << 20);
        outbox.print(&vec![b'x'; 200_000]).await.unwrap();
        outbox.put_last(1, Wall(0), ended()).unwrap();
        let mut printed = 0;
        loop {
            let mut events = 0;
            for out in outbox.take() {
                match out {
                    Out::Bytes { offset, bytes } => {
                        assert_eq!(offset, printed);
                        printed += bytes.len() as u64;
                    }
                    Out::Event(_) => events += 1,
                }
            }
            if events > 0 {
                break;
            }
        }
        assert_eq!(printed, 200_000);
    }

    #[tokio::test]
    async fn a_session_that_is_ending_waits_for_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = outbox(dir.path(), 2 << 20);
        let writer = tokio::spawn({
            let outbox = outbox.clone();
            async move { while outbox.put(1, Wall(0), said(200_000)).await.is_ok() {} }
        });
        tokio::task::yield_now().await;
        assert!(!writer.is_finished());
        outbox.ending();
        writer.await.unwrap();
        outbox.put_last(1, Wall(0), ended()).unwrap();
    }
}
