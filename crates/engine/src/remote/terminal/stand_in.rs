//! What stands where a shim stands, for a terminal that a runner has on another machine.
//!
//! It keeps the contract of a shim: bytes are recorded before they are passed on, output costs credit,
//! the end comes last. Bytes that are passed on more slowly than they come are held, and no more of
//! them is acknowledged: then the runner sends no more, and its program waits.

mod ending;
mod passing;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::lease::Effect;
use sojourn_core::lease::Lease;
use sojourn_core::time::Mono;
use sojourn_core::time::Wall;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::Event;
use sojourn_core::wire::relay::Launch;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::Sequenced;
use sojourn_core::wire::relay::StepState;
use sojourn_core::wire::relay::Stored;
use sojourn_core::wire::relay::ToRunner;
use sojourn_core::wire::runner::Sealing;
use sojourn_core::wire::shim::Attached;
use sojourn_core::wire::shim::FRAME_COST;
use sojourn_core::wire::shim::FromShim;
use sojourn_core::wire::shim::INPUT_WINDOW;
use sojourn_core::wire::shim::LeaseState;
use sojourn_core::wire::shim::ShimHello;
use sojourn_core::wire::shim::VERSION;
use sojourn_core::wire::shim::WindowSize;
use sojourn_core::wire::shim::cost;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio::time::timeout;

use super::Handle;
use super::Item;
use super::asked::Asked;
use super::asked::read;
use super::book::Book;
use super::typing::Typed;
use super::typing::Typing;
use crate::agents::recording::Recordings;
use crate::clock::Clock;
use crate::remote::Remote;
use crate::remote::Slot;
use crate::seqpacket::SeqPacket;

/// So much is held for somebody who reads slowly before no more is acknowledged.
const HELD: usize = 512 << 10;

/// The longest frame of output.
const CHUNK: usize = 16 << 10;

/// Things of the runner that are taken at once, and synced together.
const BATCH: usize = 16;

/// How much later than the runner this looks at limits: its word counts, when it comes.
const SLACK: Duration = Duration::from_secs(15);

/// How long whoever reads slowly may take for the last bytes.
const LAST_BYTES: Duration = Duration::from_secs(5);

/// How long the session's task may take to put the end on record.
const LAST_WORD: Duration = Duration::from_secs(60);

/// Frames of the session's task that may wait: as many as its credit allows.
const FRAMES: usize = (INPUT_WINDOW / FRAME_COST) as usize + 64;

/// How far it is.
#[derive(Clone, Debug, PartialEq)]
enum Phase {
    /// Nobody has asked for its program yet.
    New,
    /// The runner was asked to start it.
    Launching,
    /// It runs.
    Running,
    /// The runner says that it is over, or nobody is there to say it.
    Over { reason: EndReason, exit: Option<Exit>, output: u64, message: Option<String> },
}

/// What one is made with.
pub(super) struct Parts {
    pub(super) remote: Remote,
    pub(super) recordings: Arc<dyn Recordings>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) pulse: watch::Receiver<u64>,
    pub(super) id: SessionId,
    pub(super) runner: RunnerId,
    pub(super) link: Arc<SeqPacket>,
    pub(super) book: Book,
    /// The recording's file, below `recordings/`.
    pub(super) name: String,
    pub(super) size: WindowSize,
    pub(super) launch: Launch,
    /// For the end: what is not known before it is filled in then.
    pub(super) sealing: Sealing,
    /// When its program started, for one that was there before.
    pub(super) started: Option<(Wall, Mono)>,
    /// Its end, where the recording has it already.
    pub(super) ended: Option<Event>,
    /// Whether the gateway before this one had it.
    pub(super) adopted: bool,
    pub(super) _slot: Slot,
}

/// One of them.
pub(super) struct StandIn {
    parts: Parts,
    handle: Arc<Handle>,
    link: Arc<SeqPacket>,
    typist: mpsc::Sender<Typed>,
    /// What of the credit for input is not given back yet.
    spent: Arc<AtomicU32>,
    phase: Phase,
    lease: Lease,
    /// Why it is ending.
    ending: Option<EndReason>,
    /// Credit of whoever reads; none: nobody does.
    credit: Option<u32>,
    held: VecDeque<Bytes>,
    held_bytes: usize,
    /// What is durable and not acknowledged.
    owed: Option<Stored>,
    /// What went wrong at a step of the start.
    failed: Option<String>,
    /// Since when its runner is away.
    away_since: Option<Mono>,
}

/// The session's task is gone.
#[derive(Debug)]
struct Gone;

impl From<io::Error> for Gone {
    fn from(_: io::Error) -> Self {
        Self
    }
}

impl StandIn {
    /// One that is known from now on, and the way things from its runner come to it.
    pub(super) fn new(parts: Parts) -> (Self, mpsc::Receiver<Item>) {
        let (items, incoming) = mpsc::channel(super::WAITING);
        let stored =
            Stored { session: parts.id, seq: parts.book.seq(), offset: parts.book.printed() };
        let handle = Arc::new(Handle { runner: parts.runner, items, stored: stored.into() });
        parts.remote.terminals().add(parts.id, handle.clone());
        let (typist, typed) = mpsc::channel(FRAMES);
        let link = parts.link.clone();
        let now = parts.clock.mono();
        let mut lease = Lease::start(parts.launch.limits.clone(), now);
        let phase = match parts.started {
            Some((_, started)) => {
                if let Some(most) = parts.launch.limits.max_runtime {
                    lease.move_deadline(started.after(most));
                }
                lease.count_output(parts.book.printed(), now);
                Phase::Running
            }
            None => Phase::New,
        };
        let spent = Arc::new(AtomicU32::new(0));
        let typing = Typing {
            remote: parts.remote.clone(),
            runner: parts.runner,
            session: parts.id,
            link: link.clone(),
            spent: spent.clone(),
        };
        tokio::spawn(typing.run(typed));
        let mut parts = parts;
        let ended = parts.ended.take();
        let mut stand_in = Self {
            handle,
            link,
            typist,
            spent,
            phase,
            lease,
            ending: None,
            credit: None,
            held: VecDeque::new(),
            held_bytes: 0,
            owed: None,
            failed: None,
            away_since: None,
            parts,
        };
        if let Some(Event::Ended { reason, exit, message, .. }) = ended {
            stand_in.over(reason, exit, message);
        }
        (stand_in, incoming)
    }

    /// Stands in until the session is over and on record.
    pub(super) async fn run(mut self, mut items: mpsc::Receiver<Item>) {
        let (tell, mut asked) = mpsc::channel(FRAMES);
        let reading = tokio::spawn(read(self.link.clone(), tell));
        let followed = self.follow(&mut items, &mut asked).await;
        if followed.is_ok() {
            // Its end is on record when the session's task lets go; until then the runner keeps it.
            let over = async { while asked.recv().await.is_some() {} };
            let _late = timeout(LAST_WORD, over).await;
            if let Some(stored) = self.owed.take() {
                self.tell(ToRunner::Ack(stored));
            }
        }
        reading.abort();
        self.parts.remote.terminals().remove(self.parts.id);
    }

    async fn follow(
        &mut self,
        items: &mut mpsc::Receiver<Item>,
        asked: &mut mpsc::Receiver<Asked>,
    ) -> Result<(), Gone> {
        let mut batch = Vec::with_capacity(BATCH);
        let mut pulse = self.parts.pulse.clone();
        let mut last_bytes = None;
        loop {
            if let Phase::Over { .. } = self.phase {
                let until = *last_bytes.get_or_insert_with(|| Instant::now() + LAST_BYTES);
                if self.held.is_empty() || self.credit.is_none() || Instant::now() >= until {
                    return self.finish().await;
                }
            }
            let wait = last_bytes.unwrap_or_else(|| Instant::now() + LAST_WORD);
            tokio::select! {
                biased;
                frame = asked.recv() => match frame {
                    Some(frame) => self.heed(frame).await?,
                    None => return Err(Gone),
                },
                count = items.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return Err(Gone);
                    }
                    for item in batch.drain(..) {
                        self.take(item).await?;
                    }
                    self.keep().await;
                }
                Ok(()) = pulse.changed() => {
                    self.look_at_runner().await?;
                    self.look_at_limits();
                }
                () = tokio::time::sleep_until(wait) => {}
            }
            self.deliver().await?;
            self.acknowledge();
        }
    }

    /// Does what the session's task asks.
    async fn heed(&mut self, asked: Asked) -> Result<(), Gone> {
        let now = self.parts.clock.mono();
        match asked {
            Asked::Hello => {
                let runs = self.phase == Phase::Running;
                let channels = if runs { vec![0] } else { Vec::new() };
                let hello = ShimHello {
                    version: VERSION,
                    session: self.parts.id,
                    terminals: channels.clone(),
                    channels,
                    next_channel: u16::from(runs),
                    lease: runs.then(|| self.lease_state(now)),
                    ending: None,
                };
                self.send(&FromShim::Hello(Box::new(hello))).await?;
            }
            Asked::Start(0, true, size, credit) if self.phase == Phase::New => {
                self.credit = Some(credit);
                self.launch(size);
            }
            Asked::Start(channel, ..) => {
                let line = "a terminal on a runner is one program and no more".to_owned();
                self.send(&FromShim::StartFailed(channel, line)).await?;
            }
            Asked::Input(bytes) => {
                self.lease.touch_input(now);
                self.spent.fetch_add(cost(bytes.len()), Ordering::AcqRel);
                // There is room for as much as there is credit.
                let _full = self.typist.try_send(Typed::Input(bytes));
            }
            Asked::Interrupt => {
                let _full = self.typist.try_send(Typed::Interrupt);
            }
            Asked::Credit(more) => {
                self.credit = self.credit.map(|credit| credit.saturating_add(more));
            }
            Asked::Resize(size) => self.order(Command::Resize { size }),
            Asked::Close => self.end(EndReason::Closed).await?,
            Asked::End(reason) => self.end(reason).await?,
            Asked::Move(left) => {
                let more = left.saturating_sub(self.lease.deadline().since(now));
                if !more.is_zero() {
                    self.lease.move_deadline(now.after(left));
                    self.order(Command::Extend { by: more });
                }
            }
            Asked::Query => {
                let state = self.lease_state(now);
                self.send(&FromShim::Lease(Box::new(state))).await?;
            }
            Asked::Attach(channel, credit) => match (channel, &self.phase) {
                (0, Phase::Running) => {
                    let place = self.place();
                    self.send(&FromShim::Attached(0, Box::new(place))).await?;
                    self.credit = Some(credit);
                    self.drop_held();
                    let half = Bytes::copy_from_slice(self.parts.book.held());
                    self.hold(half);
                    let spent = self.spent.load(Ordering::Acquire);
                    let anew = INPUT_WINDOW.saturating_sub(spent);
                    self.send(&FromShim::InputCredit(0, anew)).await?;
                }
                _ => self.send(&FromShim::NotAttached(channel)).await?,
            },
            Asked::Detach => {
                self.credit = None;
                self.drop_held();
            }
            Asked::Locate(channel) => {
                let place =
                    (channel == 0 && self.phase == Phase::Running).then(|| Box::new(self.place()));
                self.send(&FromShim::Located(channel, place)).await?;
            }
            Asked::Listen(listener) => {
                let line = "nothing is forwarded to a runner".to_owned();
                self.send(&FromShim::ListenFailed(listener, line)).await?;
            }
            Asked::Nothing => {}
        }
        Ok(())
    }

    /// Takes what comes from the runner.
    async fn take(&mut self, item: Item) -> Result<(), Gone> {
        match item {
            Item::Bytes { offset, bytes } => {
                let now = self.parts.clock.wall();
                match self.parts.book.output(now, offset, &bytes) {
                    Ok(Ok(0)) => {}
                    Ok(Ok(new)) => {
                        self.lease.count_output(new as u64, self.parts.clock.mono());
                        if self.credit.is_some() && self.ending.is_none() {
                            self.hold(bytes.slice(bytes.len() - new..));
                        }
                    }
                    // It goes on from what is stored when it comes again.
                    Ok(Err(_gap)) => self.parts.remote.send_away(self.parts.runner),
                    Err(error) => self.unrecorded(&error).await?,
                }
            }
            Item::Event(event) => {
                let written = self.parts.book.event(self.parts.clock.wall(), &event);
                match written {
                    Ok(true) => self.happened(*event).await?,
                    Ok(false) => {}
                    Err(error) => self.unrecorded(&error).await?,
                }
            }
            Item::Launched(Ok(Receipt::Accepted | Receipt::Duplicate)) => {}
            Item::Launched(Ok(Receipt::Rejected { message, .. })) => self.not_started(message),
            Item::Launched(Err(error)) => {
                self.order_end(EndReason::Failed);
                self.not_started(error.to_string());
            }
            Item::Linked => {
                if let Some(reason) = self.ending {
                    self.order_end(reason);
                } else if self.is_stray() {
                    self.order_end(EndReason::Failed);
                }
            }
            Item::Missing => {
                if self.phase == Phase::Running || self.is_stray() {
                    self.lost("its runner knows nothing of it any more").await?;
                }
            }
            Item::Removed => self.lost("its runner was removed").await?,
        }
        Ok(())
    }

    /// Whether the gateway before this one was about to start it: nobody waits for it any more.
    fn is_stray(&self) -> bool {
        self.parts.adopted && self.phase == Phase::New
    }

    /// Nothing will be heard of it any more.
    async fn lost(&mut self, why: &str) -> Result<(), Gone> {
        if self.phase == Phase::Running {
            self.expired(EndReason::RunnerLost, 0, 0).await?;
        }
        self.over(EndReason::RunnerLost, None, Some(why.to_owned()));
        Ok(())
    }

    /// A runner that does not come back does not keep its sessions for ever.
    async fn look_at_runner(&mut self) -> Result<(), Gone> {
        let (remote, runner) = (&self.parts.remote, self.parts.runner);
        if remote.is_connected(runner) {
            self.away_since = None;
            return Ok(());
        }
        let now = self.parts.clock.mono();
        let since = *self.away_since.get_or_insert(now);
        match (remote.is_removed(runner), remote.is_lost(since, now)) {
            (true, _) => self.lost("its runner was removed").await,
            (false, true) => self.lost("its runner did not come back").await,
            (false, false) => Ok(()),
        }
    }

    async fn happened(&mut self, event: Sequenced) -> Result<(), Gone> {
        match event.event {
            Event::Step { state: StepState::Failed, message, .. } => self.failed = message,
            Event::Started { .. } if self.phase == Phase::Launching => {
                let now = self.parts.clock.mono();
                self.lease = Lease::start(self.parts.launch.limits.clone(), now);
                self.parts.sealing.started_at = Some(self.parts.clock.wall());
                self.phase = Phase::Running;
                self.send(&FromShim::Started(0)).await?;
            }
            Event::Resized { cols, rows } => {
                self.parts.size = WindowSize { cols, rows, ..WindowSize::default() };
            }
            Event::LimitWarned { limit, seconds } => {
                let left = Duration::from_secs(seconds);
                self.send(&FromShim::Warned { limit, left }).await?;
            }
            Event::LimitExceeded { limit, configured, reached } => {
                self.expired(limit.reason(), reached, configured).await?;
            }
            Event::Ended { reason, exit, output_bytes, message, .. } => {
                let _printed = output_bytes;
                let by_itself = matches!(reason, EndReason::Exited | EndReason::Signalled);
                if self.phase == Phase::Running && !by_itself {
                    self.expired(reason, 0, 0).await?;
                }
                self.over(reason, exit, message);
            }
            _ => {}
        }
        Ok(())
    }

    /// Asks the runner for its program.
    fn launch(&mut self, size: WindowSize) {
        self.phase = Phase::Launching;
        // A client without a terminal of its own gives none.
        let given = size.cols > 0 && size.rows > 0;
        let size = if given { size } else { self.parts.size };
        let launch = Launch { size: Some(size), ..self.parts.launch.clone() };
        let (remote, runner, id) = (self.parts.remote.clone(), self.parts.runner, self.parts.id);
        let items = self.handle.items.clone();
        tokio::spawn(async move {
            let receipt = remote.command(runner, id, Command::Start(Box::new(launch))).await;
            let _over = items.send(Item::Launched(receipt)).await;
        });
    }

    fn not_started(&mut self, message: String) {
        if self.phase == Phase::Launching {
            self.over(EndReason::Failed, None, Some(message));
        }
    }

    /// Somebody, or a limit, ends it.
    async fn end(&mut self, reason: EndReason) -> Result<(), Gone> {
        match self.phase {
            Phase::New => self.over(reason, None, None),
            Phase::Over { .. } => {}
            Phase::Launching | Phase::Running => {
                self.order_end(reason);
                self.expired(reason, 0, 0).await?;
            }
        }
        Ok(())
    }

    fn order_end(&self, reason: EndReason) {
        self.order(Command::End { reason, by: None, why: None });
    }

    /// It is ending: nothing that is printed from now on is shown.
    async fn expired(
        &mut self,
        reason: EndReason,
        reached: u64,
        configured: u64,
    ) -> Result<(), Gone> {
        if self.ending.is_some() {
            return Ok(());
        }
        self.ending = Some(reason);
        self.drop_held();
        self.send(&FromShim::Expired { reason, reached, configured }).await
    }

    /// The recording cannot be written: what cannot be recorded ends.
    async fn unrecorded(&mut self, error: &io::Error) -> Result<(), Gone> {
        tracing::error!(session = %self.parts.id, %error, "a terminal cannot be recorded");
        self.end(EndReason::Failed).await
    }

    fn over(&mut self, reason: EndReason, exit: Option<Exit>, message: Option<String>) {
        if !matches!(self.phase, Phase::Over { .. }) {
            let started = self.phase == Phase::Running;
            let message = message.or_else(|| self.failed.take());
            let why = "it ended before it began; look at the runner's log".to_owned();
            let message = (!started).then(|| message.unwrap_or(why));
            let output = self.parts.book.printed();
            self.phase =
                Phase::Over { reason: self.ending.unwrap_or(reason), exit, output, message };
        }
    }

    /// Looks at the limits as well, a little later than the runner, which keeps them.
    fn look_at_limits(&mut self) {
        if self.phase != Phase::Running || self.ending.is_some() {
            return;
        }
        let late = self.parts.clock.mono().before(SLACK);
        let mut lease = self.lease.clone();
        while let Some(effect) = lease.poll(late) {
            if let Effect::Expire(reason) = effect
                && Limit::of(reason) != Some(Limit::MaxOutput)
            {
                self.order_end(reason);
                return;
            }
        }
    }

    fn lease_state(&self, now: Mono) -> LeaseState {
        let limits = self.lease.limits().clone();
        let idle = now.since(self.lease.last_activity());
        LeaseState {
            remaining: (self.lease.deadline() != Mono::NEVER)
                .then(|| self.lease.deadline().since(now)),
            idle_remaining: limits.idle_timeout.map(|most| most.saturating_sub(idle)),
            idle,
            output_bytes: self.parts.book.printed(),
            limits,
        }
    }

    fn place(&self) -> Attached {
        Attached {
            file: self.parts.name.clone(),
            offset: self.parts.book.length(),
            size: self.parts.size,
            printed: self.parts.book.printed(),
        }
    }

    /// Has the runner do something; nobody waits for it.
    fn order(&self, command: Command) {
        let posted = self.parts.remote.order(self.parts.runner, self.parts.id, command);
        if let Err(error) = posted {
            tracing::debug!(session = %self.parts.id, %error, "a runner is not told");
        }
    }

    fn tell(&self, message: ToRunner) {
        self.parts.remote.tell(self.parts.runner, message);
    }

    async fn send(&self, frame: &FromShim<'_>) -> Result<(), Gone> {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        Ok(self.link.send(&bytes).await?)
    }
}
