//! What everybody else holds of the audit log.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::ActorKind;
use sojourn_core::audit::Event;
use sojourn_core::time::Mono;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::disk;
use super::few::Few;
use crate::metrics::Metrics;

/// The longest wait for a line to be durable. A disk that takes longer counts as one that fails.
const DEADLINE: Duration = Duration::from_secs(10);

/// The log could not be written, so what should have been on record first must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit log cannot be written")]
pub struct AuditUnavailable;

/// What happens while the log cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// Nothing new begins.
    #[default]
    Refuse,
    /// All goes on; what could not be kept is counted.
    Continue,
}

pub(super) type Answer = oneshot::Sender<Result<(), AuditUnavailable>>;

/// What the writer is told.
#[derive(Debug)]
pub(super) enum Command {
    /// Write, then answer.
    Record(Event, Answer),
    /// Write when there is time.
    Soon(Event),
    /// Fetch what changes have left in the outbox, write it, then answer.
    Settle(Answer),
}

/// What handles and writer share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) on_failure: OnFailure,
    pub(super) degraded: AtomicBool,
    /// Events for which there was no room, not yet on record as such.
    pub(super) lost: AtomicU64,
    /// When the log was last synced, in microseconds of the monotonic clock.
    pub(super) synced: AtomicU64,
    /// The log's directory, where it is on a disk.
    pub(super) dir: OnceLock<PathBuf>,
    /// Where it is counted what is on record.
    pub(super) metrics: OnceLock<Metrics>,
    /// What was told of whom of late.
    pub(super) few: Few,
}

/// A way to the audit log. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AuditHandle {
    pub(super) queue: mpsc::Sender<Command>,
    pub(super) shared: Arc<Shared>,
}

impl AuditHandle {
    /// Writes an event. When this returns it is durable.
    ///
    /// # Errors
    /// When it is not: then what it tells of must not happen.
    pub async fn record(&self, event: Event) -> Result<(), AuditUnavailable> {
        self.ask(|answer| Command::Record(event, answer)).await
    }

    /// Writes an event soon, without a wait. When there is no room for it, that is counted and the
    /// gap goes on record.
    pub fn record_soon(&self, event: Event) {
        if let Err(refused) = self.queue.try_send(Command::Soon(event)) {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
            if let Command::Soon(event) = refused.into_inner() {
                tracing::error!(action = event.action.name(), "audit event lost");
            }
        }
    }

    /// Writes an event soon that its person can have happen as often as they like: of a kind and person
    /// at most twenty in a minute. The next one that is told says in `count` how many it stands for.
    ///
    /// Visitors of a honeypot, who have any name they like, are all told of.
    pub fn record_few(&self, event: Event, now: Mono) {
        if event.actor.kind == ActorKind::Honeypot {
            return self.record_soon(event);
        }
        let person = event.actor.user.as_deref().unwrap_or_default();
        match self.due(event.action, person, now) {
            Some(1) => self.record_soon(event),
            Some(count) => self.record_soon(event.detail("count", count)),
            None => {}
        }
    }

    /// The same for who says more of it: how many there are to be told of, this one included; none when
    /// it is not this one's turn.
    #[must_use]
    pub fn due(&self, action: Action, person: &str, now: Mono) -> Option<u64> {
        self.shared.few.due(action, person, now)
    }

    /// Waits until every event that a finished change left in the outbox is in the log.
    ///
    /// # Errors
    /// When the log cannot be written; the events stay in the outbox until it can.
    pub async fn settled(&self) -> Result<(), AuditUnavailable> {
        self.ask(Command::Settle).await
    }

    /// Whether something new may begin, as far as the log is concerned.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.shared.on_failure == OnFailure::Continue || !self.is_degraded()
    }

    /// Whether the log cannot be written just now.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.shared.degraded.load(Ordering::Relaxed) || self.queue.is_closed()
    }

    /// The file that is written, or why there is none; nothing where the log is on no disk.
    pub(crate) fn newest_file(&self) -> Option<io::Result<PathBuf>> {
        let dir = self.shared.dir.get()?;
        let newest = disk::numbers(dir).and_then(|numbers| {
            numbers.last().copied().ok_or_else(|| io::Error::other("its files are gone"))
        });
        Some(newest.map(|number| dir.join(disk::name(number))))
    }

    /// From now on what is written is counted.
    pub(crate) fn counted_by(&self, metrics: &Metrics) {
        // A second engine on one log counts nothing.
        let _first = self.shared.metrics.set(metrics.clone());
    }

    /// Says how the log stands.
    pub(crate) fn measure(&self, metrics: &Metrics, now: Mono) {
        let waiting = self.queue.max_capacity() - self.queue.capacity();
        let synced = now.since(Mono(self.shared.synced.load(Ordering::Relaxed)));
        let lost = self.shared.lost.load(Ordering::Relaxed);
        metrics.audit(waiting, synced, self.is_degraded(), lost);
        metrics.queue("audit", waiting, self.queue.max_capacity());
    }

    async fn ask(&self, command: impl FnOnce(Answer) -> Command) -> Result<(), AuditUnavailable> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.queue.send(command(answer)).await.map_err(|_| AuditUnavailable)?;
            answered.await.map_err(|_| AuditUnavailable)?
        };
        let result = timeout(DEADLINE, asked).await.unwrap_or_else(|_| {
            // Until the next append that succeeds, so that others need not wait as long.
            self.shared.degraded.store(true, Ordering::Relaxed);
            Err(AuditUnavailable)
        });
        match self.shared.on_failure {
            OnFailure::Refuse => result,
            OnFailure::Continue => Ok(()),
        }
    }
}
