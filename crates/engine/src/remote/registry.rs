//! Which runners there are, which connection of each counts, who has a slot where, and what is on its
//! way to whom.
//!
//! Everything about one runner is under one lock: of many who want the last slot one gets it, and a
//! connection that was replaced can change nothing of the one in its place.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;

use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Mono;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::CommandId;
use sojourn_core::wire::relay::Hello;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::Running;
use sojourn_core::wire::relay::Stored;
use sojourn_core::wire::relay::ToRunner;
use sojourn_store::Runner;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Closing;
use super::NoSlot;
use super::RunnerView;
use super::Unreachable;
use crate::engine::lock;

/// The most commands to one runner that have no receipt yet.
pub(super) const MAX_COMMANDS: usize = 64;

/// The most frames that wait to be sent to one runner. All its commands fit, sent twice.
pub(super) const MAX_ORDERS: usize = 256;

/// All runners that were there since the start.
#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    max: usize,
    runners: HashMap<RunnerId, Known>,
}

/// What is known of one.
#[derive(Debug, Default)]
struct Known {
    /// How many connections it has had.
    generation: u64,
    /// The connection that counts.
    line: Option<Line>,
    /// Whether there is one, for those who look on at its sessions.
    link: watch::Sender<bool>,
    /// Since when there is none.
    gone_at: Option<Mono>,
    /// Whether it will not come any more, for all that is known.
    is_removed: bool,
    paused: bool,
    /// Sessions that have a slot here.
    held: HashSet<SessionId>,
    /// Sessions that it runs, by its own word.
    told: HashSet<SessionId>,
    /// Commands without a receipt, in the order in which they were given.
    commands: Vec<Waiting>,
}

#[derive(Debug)]
struct Line {
    orders: mpsc::Sender<Order>,
    closer: Closer,
}

#[derive(Debug)]
struct Waiting {
    id: CommandId,
    session: SessionId,
    body: Command,
    sent: bool,
    answer: oneshot::Sender<Receipt>,
}

/// What a connection is to send.
#[derive(Debug)]
pub(super) enum Order {
    /// A message.
    Tell(ToRunner),
    /// Bytes for a terminal, as they travel.
    Type(Vec<u8>),
}

/// Ends a connection from elsewhere; the first reason counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Closer {
    why: Arc<OnceLock<Closing>>,
    told: CancellationToken,
}

impl Closer {
    pub(super) fn close(&self, why: Closing) {
        let _first = self.why.set(why);
        self.told.cancel();
    }

    pub(super) async fn closed(&self) -> Closing {
        self.told.cancelled().await;
        self.why.get().copied().unwrap_or(Closing::Broken)
    }
}

/// A connection's place.
#[derive(Debug)]
pub(super) struct Entered {
    /// Which connection of its runner it is.
    pub(super) generation: u64,
    /// What it is to send. Commands that wait are in it.
    pub(super) orders: mpsc::Receiver<Order>,
    /// Ends it.
    pub(super) closer: Closer,
    /// The most sessions of its runner.
    pub(super) max_sessions: usize,
}

/// A command on its way. Dropped, it is not sent again.
#[derive(Debug)]
pub(super) struct Posted {
    registry: Arc<Registry>,
    runner: RunnerId,
    id: CommandId,
    pub(super) answer: oneshot::Receiver<Receipt>,
}

/// The right to one session on a runner; given back when dropped.
#[derive(Debug)]
pub(crate) struct Slot {
    registry: Arc<Registry>,
    runner: RunnerId,
    session: SessionId,
}

impl Registry {
    pub(super) fn new(max: usize) -> Self {
        Self { state: Mutex::new(State { max, runners: HashMap::new() }) }
    }

    pub(super) fn set_max(&self, max: usize) {
        lock(&self.state).max = max;
    }

    pub(super) fn connected(&self) -> usize {
        lock(&self.state).runners.values().filter(|known| known.line.is_some()).count()
    }

    /// Whether this runner is connected.
    pub(super) fn is_connected(&self, runner: RunnerId) -> bool {
        lock(&self.state).runners.get(&runner).is_some_and(|known| known.line.is_some())
    }

    /// Whether this runner is connected, as it changes.
    pub(super) fn link(&self, runner: RunnerId) -> watch::Receiver<bool> {
        lock(&self.state).runners.entry(runner).or_default().link.subscribe()
    }

    /// A runner as it is now.
    pub(super) fn view(&self, row: Runner) -> RunnerView {
        let state = lock(&self.state);
        let known = state.runners.get(&row.id);
        RunnerView {
            id: row.id,
            name: row.name,
            owner: row.owner,
            owner_name: row.owner_name,
            connected: known.is_some_and(|known| known.line.is_some()),
            paused: row.paused,
            hello: row.hello.and_then(|hello| serde_json::from_str(&hello).ok()),
            created_at: row.created_at,
            seen_at: row.seen_at,
            seen_from: row.seen_from,
            sessions: known.map_or(0, Known::sessions),
            max_sessions: state.max,
        }
    }

    /// A runner said hello: from now on this connection counts, and the one before ends. What it
    /// holds is as it says, and not what was known of it.
    pub(super) fn enter(&self, runner: RunnerId, hello: &Hello, paused: bool) -> Entered {
        let mut state = lock(&self.state);
        let max_sessions = state.max;
        let known = state.runners.entry(runner).or_default();
        known.generation += 1;
        known.paused = paused;
        known.gone_at = None;
        known.is_removed = false;
        let goes_on = hello.sessions.iter().filter(|running| !running.status.is_over());
        known.told = goes_on.map(|running: &Running| running.session).collect();
        let (sender, orders) = mpsc::channel(MAX_ORDERS);
        let closer = Closer::default();
        let line = Line { orders: sender, closer: closer.clone() };
        for waiting in &mut known.commands {
            waiting.sent |= line.orders.try_send(waiting.order()).is_ok();
        }
        if let Some(before) = known.line.replace(line) {
            before.closer.close(Closing::Replaced);
        }
        known.link.send_if_modified(|there| !std::mem::replace(there, true));
        Entered { generation: known.generation, orders, closer, max_sessions }
    }

    /// What is on record of the sessions that a runner told of: it ends the others.
    pub(super) fn settle(&self, runner: RunnerId, generation: u64, have: &[Stored]) {
        self.of(runner, generation, |known| {
            known.told.retain(|session| have.iter().any(|stored| stored.session == *session));
        });
    }

    /// A session on this runner is over.
    pub(super) fn over(&self, runner: RunnerId, generation: u64, session: SessionId) {
        self.of(runner, generation, |known| known.told.remove(&session));
    }

    /// A connection is gone. False when it was replaced, and so nothing changes.
    pub(super) fn leave(&self, runner: RunnerId, generation: u64, now: Mono) -> bool {
        let left = self.of(runner, generation, |known| {
            known.line = None;
            known.gone_at = Some(now);
            known.link.send_if_modified(|there| std::mem::replace(there, false));
        });
        left.is_some()
    }

    /// Ends the connection of a runner, if it has one.
    pub(super) fn close(&self, runner: RunnerId, why: Closing) {
        if let Some(line) = lock(&self.state).runners.get(&runner).and_then(|k| k.line.as_ref()) {
            line.closer.close(why);
        }
    }

    /// A runner will not come any more, until it does.
    pub(super) fn remove(&self, runner: RunnerId) {
        lock(&self.state).runners.entry(runner).or_default().is_removed = true;
    }

    /// Whether a runner will not come any more.
    pub(super) fn is_removed(&self, runner: RunnerId) -> bool {
        lock(&self.state).runners.get(&runner).is_some_and(|known| known.is_removed)
    }

    /// Ends all connections.
    pub(super) fn close_all(&self, why: Closing) {
        for line in lock(&self.state).runners.values().filter_map(|known| known.line.as_ref()) {
            line.closer.close(why);
        }
    }

    /// New sessions may start on a runner, or not.
    pub(super) fn pause(&self, runner: RunnerId, paused: bool) {
        let mut state = lock(&self.state);
        let Some(known) = state.runners.get_mut(&runner) else { return };
        known.paused = paused;
        known.send(Order::Tell(ToRunner::Pause { paused }));
    }

    /// Puts a command on its way: now, and with each connection that follows.
    pub(super) fn post(
        this: &Arc<Self>,
        runner: RunnerId,
        session: SessionId,
        body: Command,
        away_since: Mono,
    ) -> Result<Posted, Unreachable> {
        let mut state = lock(&this.state);
        let known = state.runners.get_mut(&runner).ok_or(Unreachable::Away)?;
        if known.line.is_none() && known.gone_at.is_none_or(|at| at < away_since) {
            return Err(Unreachable::Away);
        }
        if known.commands.len() >= MAX_COMMANDS {
            return Err(Unreachable::Busy);
        }
        let (sender, answer) = oneshot::channel();
        let id = CommandId::new();
        let mut waiting = Waiting { id, session, body, sent: false, answer: sender };
        waiting.sent = known.send(waiting.order());
        known.commands.push(waiting);
        Ok(Posted { registry: this.clone(), runner, id, answer })
    }

    /// Tells a runner something, if it is there.
    pub(super) fn tell(&self, runner: RunnerId, message: ToRunner) {
        if let Some(known) = lock(&self.state).runners.get(&runner) {
            known.send(Order::Tell(message));
        }
    }

    /// The queue to a runner, if it is there, for who can wait.
    pub(super) fn orders(&self, runner: RunnerId) -> Option<mpsc::Sender<Order>> {
        let state = lock(&self.state);
        let line = state.runners.get(&runner)?.line.as_ref()?;
        Some(line.orders.clone())
    }

    /// Commands to a runner that have no receipt.
    #[cfg(test)]
    pub(super) fn waiting(&self, runner: RunnerId) -> usize {
        lock(&self.state).runners.get(&runner).map_or(0, |known| known.commands.len())
    }

    /// A runner says what became of a command. One that nobody waits for is nothing.
    pub(super) fn receipt(&self, runner: RunnerId, id: CommandId, outcome: Receipt) {
        let mut state = lock(&self.state);
        let Some(known) = state.runners.get_mut(&runner) else { return };
        if let Some(at) = known.commands.iter().position(|waiting| waiting.id == id) {
            let _gone = known.commands.remove(at).answer.send(outcome);
        }
    }

    /// Takes a slot: under one lock, so that of many who come at once only so many get one.
    pub(super) fn take(
        this: &Arc<Self>,
        runner: RunnerId,
        session: SessionId,
    ) -> Result<Slot, NoSlot> {
        let mut state = lock(&this.state);
        let max = state.max;
        let known = state.runners.get_mut(&runner).filter(|known| known.line.is_some());
        let known = known.ok_or(NoSlot::Away)?;
        if known.paused {
            return Err(NoSlot::Paused);
        }
        if known.sessions() >= max {
            return Err(NoSlot::Full { max });
        }
        known.held.insert(session);
        Ok(Slot { registry: this.clone(), runner, session })
    }

    /// A slot for a session that has one already.
    pub(super) fn keep(this: &Arc<Self>, runner: RunnerId, session: SessionId) -> Slot {
        lock(&this.state).runners.entry(runner).or_default().held.insert(session);
        Slot { registry: this.clone(), runner, session }
    }

    /// Changes what is known of a runner, if this connection still counts.
    fn of<T>(
        &self,
        runner: RunnerId,
        generation: u64,
        change: impl FnOnce(&mut Known) -> T,
    ) -> Option<T> {
        let mut state = lock(&self.state);
        let known = state.runners.get_mut(&runner)?;
        (known.generation == generation && known.line.is_some()).then(|| change(known))
    }
}

impl Known {
    fn sessions(&self) -> usize {
        self.held.union(&self.told).count()
    }

    /// Sends something, if there is a connection. One whose queue is full does not read: it ends, and
    /// what matters is sent again over the next.
    fn send(&self, order: Order) -> bool {
        let Some(line) = &self.line else { return false };
        match line.orders.try_send(order) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                line.closer.close(Closing::Slow);
                false
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

impl Waiting {
    fn order(&self) -> Order {
        let Self { id, session, body, .. } = self;
        let body = Box::new(body.clone());
        Order::Tell(ToRunner::Command { command: *id, session: *session, body })
    }
}

impl Posted {
    /// Nobody waits any more: why there is no receipt.
    pub(super) fn given_up(&self) -> Unreachable {
        let state = lock(&self.registry.state);
        let known = state.runners.get(&self.runner);
        let waiting = known.and_then(|k| k.commands.iter().find(|waiting| waiting.id == self.id));
        match waiting {
            Some(waiting) if !waiting.sent => Unreachable::Away,
            _ => Unreachable::Silent,
        }
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        let mut state = lock(&self.registry.state);
        if let Some(known) = state.runners.get_mut(&self.runner) {
            known.commands.retain(|waiting| waiting.id != self.id);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut state = lock(&self.registry.state);
        if let Some(known) = state.runners.get_mut(&self.runner) {
            known.held.remove(&self.session);
            known.told.remove(&self.session);
        }
    }
}
