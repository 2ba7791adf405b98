//! A session that this runner holds: what it has to say, its lease, and what it can be told.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::ids::SessionId;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::CommandId;
use sojourn_core::wire::relay::Epoch;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::Running;
use sojourn_core::wire::shim::WindowSize;
use tokio::sync::mpsc;
use tokio::sync::watch;

use super::clock::Clock;
use super::leash::Leash;
use super::outbox::Outbox;
use super::record::Record;
use crate::agent::Gone;
use crate::agent::Later;
use crate::agent::Sink;

/// The most commands that wait for a session's agent.
pub(super) const INBOX: usize = 64;

/// What was printed since it was last written down is worth writing down, in bytes.
const WORTH_NOTING: u64 = 1 << 20;

/// Why a session is to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// The reason.
    pub(super) reason: EndReason,
    /// Whether anybody is to hear of it: not when the gateway knows nothing of it.
    pub(super) quietly: bool,
    /// What is put on record beside the reason.
    pub(super) message: Option<&'static str>,
}

/// What a terminal is told.
#[derive(Debug)]
pub(super) enum Key {
    /// Somebody typed.
    Input(Vec<u8>),
    /// It has another size.
    Resize(WindowSize),
}

/// How what is not an agent's business reaches a session.
pub(super) struct Held {
    pub(super) session: SessionId,
    pub(super) epoch: Epoch,
    pub(super) directory: PathBuf,
    pub(super) outbox: Arc<Outbox>,
    pub(super) leash: Leash,
    pub(super) clock: Arc<dyn Clock>,
    /// Commands for its agent; none for one that is over.
    pub(super) inbox: Option<mpsc::Sender<(CommandId, Command)>>,
    /// What its terminal is told, where it has one.
    pub(super) keys: Option<mpsc::Sender<Key>>,
    ending: watch::Sender<Option<Ending>>,
    record: Mutex<Record>,
    /// It printed more than it may.
    flooded: AtomicBool,
}

impl Held {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            session: parts.record.session,
            epoch: parts.record.epoch,
            directory: parts.directory,
            outbox: parts.outbox,
            leash: parts.leash,
            clock: parts.clock,
            inbox: parts.inbox,
            keys: parts.keys,
            ending: watch::Sender::new(None),
            record: Mutex::new(parts.record),
            flooded: AtomicBool::new(false),
        }
    }

    /// What is kept of it beside its events.
    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes down what has to outlive this runner.
    pub(super) fn save(&self) {
        let taken = self.leash.taken();
        let record = {
            let mut record = self.record();
            if taken != super::leash::Taken::default() {
                record.took(taken);
            }
            record.head = self.outbox.head().0;
            record.clone()
        };
        if let Err(error) = record.save(&self.directory) {
            tracing::error!(session = %self.session, %error, "a session is not written down");
        }
    }

    /// Tells it to end; the first reason is the reason.
    pub(super) fn end(&self, reason: EndReason) {
        self.ask_to_end(Ending { reason, quietly: false, message: None });
    }

    /// Ends it because somebody at this machine wants that.
    pub(super) fn end_from_here(&self) {
        let message = Some("on the desktop of the runner");
        self.ask_to_end(Ending { reason: EndReason::EndedBy, quietly: false, message });
    }

    /// Ends it, and nobody is to hear of it.
    pub(super) fn disown(&self) {
        self.ask_to_end(Ending { reason: EndReason::RunnerLost, quietly: true, message: None });
    }

    fn ask_to_end(&self, ending: Ending) {
        self.ending.send_if_modified(|now| {
            let is_first = now.is_none();
            if is_first {
                *now = Some(ending);
            }
            is_first
        });
        self.outbox.ending();
    }

    /// Waits until it is to end.
    pub(super) async fn ending(&self) -> Ending {
        let mut ending = self.ending.subscribe();
        let told = ending.wait_for(Option::is_some).await.map(|ending| ending.clone());
        match told {
            Ok(Some(ending)) => ending,
            // The sender is ours and lives as long as we do.
            _ => std::future::pending().await,
        }
    }

    /// Whether its end was told.
    pub(super) fn is_over(&self) -> bool {
        self.record().over
    }

    /// As hello tells of it.
    pub(super) fn running(&self) -> Running {
        let (head, offset) = self.outbox.head();
        let record = self.record();
        Running {
            session: self.session,
            epoch: record.epoch,
            head,
            offset,
            status: record.status,
            asks: record.asks.clone(),
        }
    }

    /// Notes what an event says of the session.
    fn hear(&self, event: &Event) {
        let (changed, asks) = {
            let mut record = self.record();
            let asked = record.asks.len();
            let changed = record.hear(event);
            (changed, (asked != record.asks.len()).then(|| !record.asks.is_empty()))
        };
        if let Some(waits) = asks {
            self.leash.waits_for_person(waits);
        }
        if changed {
            self.save();
        }
    }

    /// Tells an event. An event is noted before anybody can see it: after a crash at any point, what
    /// was shown is known.
    pub(super) async fn tell(&self, event: Event) -> Result<(), Gone> {
        let spent = match &event {
            Event::Usage(usage) => usage.cost_micros,
            _ => None,
        };
        // Before it is noted; what ends it for that is told after it.
        if let Some(cost) = spent {
            self.leash.spent(cost);
        }
        self.hear(&event);
        self.outbox.put(self.epoch, self.clock.wall(), event).await
    }

    /// Keeps what its terminal printed. Waits while there is no room.
    pub(super) async fn print(&self, bytes: &[u8]) -> Result<(), Gone> {
        match self.flooded.load(Ordering::Relaxed) {
            true => Err(Gone),
            false => self.outbox.print(bytes).await,
        }
    }

    /// Tells the end, once.
    pub(super) fn tell_end(&self, reason: EndReason, exit: Option<Exit>, message: Option<String>) {
        let taken = self.leash.taken();
        let recovery = self.record().recovery.clone();
        let before = self.record().taken().output;
        let output_bytes = taken.output.max(before);
        let event = Event::Ended { reason, exit, output_bytes, message, recovery };
        let wall = self.clock.wall();
        if let Err(error) = self.outbox.put_last(self.epoch, wall, event.clone()) {
            tracing::error!(session = %self.session, %error, "a session's end is not kept");
        }
        self.hear(&event);
        self.save();
    }
}

/// What a [`Held`] is made of.
pub(super) struct Parts {
    pub(super) record: Record,
    pub(super) directory: PathBuf,
    pub(super) outbox: Arc<Outbox>,
    pub(super) leash: Leash,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) inbox: Option<mpsc::Sender<(CommandId, Command)>>,
    pub(super) keys: Option<mpsc::Sender<Key>>,
}

impl Sink for Held {
    fn emit(&self, event: Event) -> Later<'_, Result<(), Gone>> {
        Box::pin(async move {
            let is_output = matches!(
                event,
                Event::Update { .. }
                    | Event::Stderr { .. }
                    | Event::Cut { .. }
                    | Event::Diff { .. }
            );
            if is_output && self.flooded.load(Ordering::Relaxed) {
                return Err(Gone);
            }
            self.tell(event).await
        })
    }

    fn printed(&self, bytes: u64) {
        if !self.leash.printed(bytes) {
            // What comes beyond the limit is not taken any more; the end is on its way.
            self.flooded.store(true, Ordering::Relaxed);
            self.outbox.ending();
        }
        let printed = self.leash.taken().output;
        if printed / WORTH_NOTING != printed.saturating_sub(bytes) / WORTH_NOTING {
            self.save();
        }
    }
}

/// What is said to commands for a session that is over.
pub(super) fn gone() -> Receipt {
    rejected("GONE", "the session is over; resume it, or start another one")
}

/// A refusal.
pub(super) fn rejected(code: &str, message: &str) -> Receipt {
    Receipt::Rejected { code: code.to_owned(), message: message.to_owned() }
}
