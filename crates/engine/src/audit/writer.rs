//! The one task that appends: group commit, the outbox, checkpoints, and what happens when the disk
//! says no.

use std::collections::HashSet;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Checkpoint;
use sojourn_core::audit::Event;
use sojourn_core::ids::EventId;
use sojourn_core::time::Wall;
use sojourn_store::Store;
use sojourn_store::Untold;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::AuditHandle;
use super::AuditOpenError;
use super::AuditOptions;
use super::AuditUnavailable;
use super::LockError;
use super::OnFailure;
use super::Syslog;
use super::appender::Appender;
use super::appender::Batch;
use super::disk;
use super::handle::Answer;
use super::handle::Command;
use super::handle::Shared;
use super::keys;
use super::opening;
use crate::clock::Clock;

/// Commands that wait for the writer; who comes then waits, or is counted as lost.
const QUEUE: usize = 1024;
/// Events in one commit from the queue.
const BATCH: usize = QUEUE;
/// Events in one commit from the outbox.
const PAGE: usize = 256;
/// Events that are left in the outbox until the next tick although the log has them.
const UNSWEPT: usize = 64;
/// Events kept in memory while the log cannot be written.
const BACKLOG: usize = 1024;
/// How often the outbox is looked at for other processes' events and swept, and a broken log tried.
const TICK: Duration = Duration::from_secs(1);
/// A checkpoint comes after so long, when there was a line.
const CHECKPOINT_AGE: Duration = Duration::from_secs(600);

/// Opens the log, repairs what a crash left of it, and makes its writer, which does nothing until it
/// is run.
///
/// # Errors
/// When another process writes the log, or it cannot be read.
pub async fn start(
    options: &AuditOptions,
    store: Store,
    clock: Arc<dyn Clock>,
) -> Result<(AuditHandle, AuditWriter), AuditOpenError> {
    let data_dir = options.data_dir.clone();
    let dir = data_dir.join(disk::DIR);
    let log = dir.clone();
    let open = move || Ok((keys::load_or_make(&data_dir)?, opening::open(&log)?));
    let opened: Result<_, AuditOpenError> = spawn_blocking(open).await.map_err(io::Error::other)?;
    let (key, opened) = opened?;
    let written = opening::already_written(&dir, &opened.disk, &store).await?;
    let appender = Appender::new(Box::new(opened.disk), opened.head, key);
    let (handle, mut writer) = writer(appender, options.on_failure, store, clock);
    // It is this handle's alone until now.
    let _first = handle.shared.dir.set(dir.clone());
    writer.written = written;
    writer.first = opened.torn.map(|torn| Arc::new(opening::repaired(&torn, writer.clock.wall())));
    Ok((handle, writer))
}

/// Writes what is in the outbox, unless some gateway is there to do it. For commands that open the
/// data directory themselves.
///
/// # Errors
/// When the log cannot be written; the events stay in the outbox.
pub async fn drain(
    options: &AuditOptions,
    store: Store,
    clock: Arc<dyn Clock>,
) -> Result<(), AuditOpenError> {
    match start(options, store, clock).await {
        Ok((_, writer)) => {
            let over = CancellationToken::new();
            over.cancel();
            writer.run(over).await;
            Ok(())
        }
        Err(AuditOpenError::Lock(LockError::Held(_))) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The log cannot be written.
struct Outage {
    since: Wall,
    cause: String,
    /// Events that wait for its end.
    backlog: VecDeque<Arc<Event>>,
    /// Callers that were refused, who then let be what they were about to do.
    refused: usize,
}

/// The task that appends.
pub struct AuditWriter {
    queue: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    /// Elsewhere while an append is under way.
    appender: Option<Appender>,
    store: Store,
    clock: Arc<dyn Clock>,
    /// Events that are in the log and perhaps still in the outbox.
    written: HashSet<EventId>,
    /// To be written before all else.
    first: Option<Arc<Event>>,
    outage: Option<Outage>,
    checkpoint_at: Instant,
    /// Where checkpoints go besides.
    syslog: Option<Syslog>,
}

pub(super) fn writer(
    appender: Appender,
    on_failure: OnFailure,
    store: Store,
    clock: Arc<dyn Clock>,
) -> (AuditHandle, AuditWriter) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let synced = clock.mono().0.into();
    let shared = Arc::new(Shared { on_failure, synced, ..Shared::default() });
    let writer = AuditWriter {
        queue,
        shared: Arc::clone(&shared),
        appender: Some(appender),
        store,
        clock,
        written: HashSet::new(),
        first: None,
        outage: None,
        checkpoint_at: Instant::now() + CHECKPOINT_AGE,
        syslog: None,
    };
    (AuditHandle { queue: sender, shared }, writer)
}

/// What callers want of the next commit.
#[derive(Default)]
struct Asked {
    /// Events whose callers wait, and those callers.
    recorded: Vec<Arc<Event>>,
    answers: Vec<Answer>,
    /// Events for which nobody waits.
    soon: Vec<Arc<Event>>,
    /// Callers that wait for the outbox.
    settled: Vec<Answer>,
}

impl Asked {
    fn of(commands: impl IntoIterator<Item = Command>) -> Self {
        let mut asked = Self::default();
        for command in commands {
            match command {
                Command::Record(event, answer) => {
                    asked.recorded.push(Arc::new(event));
                    asked.answers.push(answer);
                }
                Command::Soon(event) => asked.soon.push(Arc::new(event)),
                Command::Settle(answer) => asked.settled.push(answer),
            }
        }
        asked
    }
}

/// The oldest events in the outbox.
#[derive(Default)]
struct Page {
    /// Those that are not in the log.
    fresh: Vec<Arc<Event>>,
    /// There may be more.
    more: bool,
    /// The store did not answer.
    failed: bool,
}

impl AuditWriter {
    /// Sends checkpoints there as well.
    #[must_use]
    pub fn telling(mut self, syslog: Option<Syslog>) -> Self {
        self.syslog = syslog;
        self
    }

    /// Writes until `over`, then what is left, and a last checkpoint.
    pub async fn run(mut self, over: CancellationToken) {
        let told = self.store.told();
        let mut tick = tokio::time::interval_at(Instant::now() + TICK, TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut commands = Vec::new();
        // What the writer before this one had no time for.
        self.sweep().await;
        self.write(Asked::default(), true, false).await;
        loop {
            let mut look = true;
            tokio::select! {
                biased;
                () = over.cancelled() => break,
                _ = tick.tick() => {
                    self.recover().await;
                    self.sweep().await;
                }
                () = told.notified() => {}
                count = self.queue.recv_many(&mut commands, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    self.gather(&mut commands).await;
                    look = false;
                }
            }
            let checkpoint = Instant::now() >= self.checkpoint_at;
            self.write(Asked::of(commands.drain(..)), look, checkpoint).await;
        }
        self.queue.close();
        while let Ok(command) = self.queue.try_recv() {
            commands.push(command);
        }
        self.recover().await;
        self.write(Asked::of(commands), true, true).await;
        self.sweep().await;
    }

    /// Takes what is just about to be asked as well: many go on when a commit has answered them, and ask
    /// again at once. The first of them alone would cost as long a sync as all of them.
    async fn gather(&mut self, commands: &mut Vec<Command>) {
        let mut before = 0;
        while before < commands.len() && commands.len() < BATCH {
            before = commands.len();
            tokio::task::yield_now().await;
            while commands.len() < BATCH
                && let Ok(command) = self.queue.try_recv()
            {
                commands.push(command);
            }
        }
    }

    /// Writes what was asked for, and with `look` what the outbox has.
    async fn write(&mut self, mut asked: Asked, look: bool, checkpoint: bool) {
        if self.outage.is_some() {
            return self.refuse(asked);
        }
        let mut look = look || !asked.settled.is_empty();
        loop {
            let page = if look { self.outbox().await } else { Page::default() };
            if let Err(error) = self.commit(&asked, &page.fresh, checkpoint).await {
                self.begin_outage(&error);
                return self.refuse(asked);
            }
            self.written.extend(page.fresh.iter().map(|event| event.event_id));
            reply(asked.answers.drain(..), Ok(()));
            asked.recorded.clear();
            asked.soon.clear();
            if !page.more {
                let result = if page.failed { Err(AuditUnavailable) } else { Ok(()) };
                reply(asked.settled, result);
                // Each look at the outbox passes over what is written, so that stays short.
                if self.written.len() >= UNSWEPT {
                    self.sweep().await;
                }
                return;
            }
            // Full of what the log has: there is no way on until that is swept.
            if !self.sweep().await {
                return reply(asked.settled, Err(AuditUnavailable));
            }
            look = true;
        }
    }

    async fn outbox(&self) -> Page {
        let limit = u32::try_from(PAGE).unwrap_or(u32::MAX);
        match self.store.untold_but(limit, &self.written).await {
            Ok(Untold { events, more }) => {
                Page { fresh: events.into_iter().map(Arc::new).collect(), more, failed: false }
            }
            Err(error) => {
                tracing::error!(%error, "the audit outbox cannot be read");
                Page { failed: true, ..Page::default() }
            }
        }
    }

    /// Forgets in the outbox what the log has. Not at once, for nobody waits for it.
    async fn sweep(&mut self) -> bool {
        let ids: Vec<_> = self.written.iter().copied().collect();
        if ids.is_empty() {
            return true;
        }
        match self.store.forget_told(&ids).await {
            Ok(()) => self.written.clear(),
            Err(error) => tracing::warn!(%error, "the audit outbox cannot be swept yet"),
        }
        self.written.is_empty()
    }

    /// Appends events in the order in which they happened.
    async fn commit(
        &mut self,
        asked: &Asked,
        told: &[Arc<Event>],
        checkpoint: bool,
    ) -> io::Result<()> {
        let events = [&asked.recorded, &asked.soon, told];
        let mut events: Vec<_> = events.into_iter().flatten().cloned().collect();
        events.sort_by_key(|event| event.timestamp);
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let now = self.clock.wall();
            events.push(Arc::new(gap(now, now, "the queue was full").detail("lost", lost)));
        }
        let result = self.append(events, checkpoint).await;
        if result.is_err() {
            self.shared.lost.fetch_add(lost, Ordering::Relaxed);
        }
        result
    }

    async fn append(&mut self, mut events: Vec<Arc<Event>>, checkpoint: bool) -> io::Result<()> {
        events.splice(0..0, self.first.clone());
        if events.is_empty() && !checkpoint {
            return Ok(());
        }
        let Some(mut appender) = self.appender.take() else {
            return Err(io::Error::other("the thread that appends has panicked"));
        };
        let may_rotate = self.written.is_empty();
        let batch = Arc::new(Batch { events, checkpoint, may_rotate, now: self.clock.wall() });
        let appended = batch.clone();
        let done = spawn_blocking(move || {
            let result = appender.append(&appended);
            (appender, result)
        });
        let (appender, result) = done.await.map_err(io::Error::other)?;
        self.appender = Some(appender);
        let signed = result?;
        self.first = None;
        self.shared.degraded.store(false, Ordering::Relaxed);
        self.shared.synced.store(self.clock.mono().0, Ordering::Relaxed);
        if let Some(metrics) = self.shared.metrics.get() {
            batch.events.iter().for_each(|event| metrics.on_record(event));
        }
        if checkpoint || signed.is_some() {
            self.checkpoint_at = Instant::now() + CHECKPOINT_AGE;
        }
        if let (Some(syslog), Some(checkpoint)) = (&mut self.syslog, &signed) {
            syslog.send(checkpoint);
        }
        if let Some(Checkpoint { seq, hash, key, signature }) = signed {
            tracing::info!(seq, %hash, key, signature, "audit checkpoint");
        }
        Ok(())
    }

    fn begin_outage(&mut self, error: &io::Error) {
        tracing::error!(%error, "the audit log cannot be written");
        self.shared.degraded.store(true, Ordering::Relaxed);
        let (since, cause) = (self.clock.wall(), error.to_string());
        self.outage = Some(Outage { since, cause, backlog: VecDeque::new(), refused: 0 });
    }

    /// Tells callers no, and keeps what is to go on record all the same.
    fn refuse(&mut self, asked: Asked) {
        let Some(outage) = &mut self.outage else { return };
        let (mut later, refused) = match self.shared.on_failure {
            OnFailure::Refuse => (asked.soon, asked.recorded.len()),
            OnFailure::Continue => ([asked.recorded, asked.soon].concat(), 0),
        };
        outage.refused += refused;
        let room = BACKLOG - outage.backlog.len();
        let lost = later.len().saturating_sub(room);
        later.truncate(room);
        outage.backlog.extend(later);
        self.shared.lost.fetch_add(u64::try_from(lost).unwrap_or(u64::MAX), Ordering::Relaxed);
        reply(asked.answers.into_iter().chain(asked.settled), Err(AuditUnavailable));
    }

    /// Tries a broken log again. The gap goes on record, then what was kept of it.
    async fn recover(&mut self) {
        let Some(outage) = &self.outage else { return };
        let lost = self.shared.lost.swap(0, Ordering::Relaxed);
        let gap = gap(outage.since, self.clock.wall(), &outage.cause)
            .detail("lost", lost)
            .detail("refused", outage.refused);
        let events = [Arc::new(gap)].into_iter().chain(outage.backlog.iter().cloned()).collect();
        if self.append(events, false).await.is_ok() {
            self.outage = None;
            tracing::warn!(lost, "the audit log is written again");
        } else {
            self.shared.lost.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

fn gap(since: Wall, until: Wall, cause: &str) -> Event {
    Event::new(until, Action::AuditGap, Actor::SYSTEM)
        .detail("since", since.to_rfc3339())
        .detail("until", until.to_rfc3339())
        .detail("cause", cause)
}

fn reply(answers: impl IntoIterator<Item = Answer>, result: Result<(), AuditUnavailable>) {
    for answer in answers {
        // Whoever asked may have given up waiting.
        let _gave_up = answer.send(result);
    }
}

impl Drop for AuditWriter {
    /// Whoever holds a handle of a dead writer must not think that it writes.
    fn drop(&mut self) {
        self.shared.degraded.store(true, Ordering::Relaxed);
    }
}
