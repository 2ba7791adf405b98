//! Runners on other machines: who is connected, what can be asked of them, and what they tell.
//!
//! A runner is an enrolment token: its name, its owner and whether it may come are the token's. It
//! dials in, and each connection is one task here. Of two connections of one runner the later one
//! counts; what the earlier one still has to say, its end too, changes nothing any more.
//!
//! ```text
//!   door ──frames──▶ connection (a task) ──events──▶ Hears: stored, then acknowledged
//!                      │      ▲
//!                 registry    └── commands, again after a break until there is a receipt
//!                 who, which connection, slots
//! ```

mod connection;
mod registry;
pub(crate) mod terminal;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::time::Duration;

use sojourn_core::audit::Actor;
use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::ids::TokenId;
use sojourn_core::ids::UserId;
use sojourn_core::time::Mono;
use sojourn_core::time::Wall;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::Hello;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::Seq;
use sojourn_core::wire::relay::Sequenced;
use sojourn_core::wire::relay::Stored;
use sojourn_core::wire::relay::ToRunner;
use sojourn_store::Store;
use sojourn_store::StoreError;
use tokio::sync::watch;

use crate::audit::AuditHandle;
use crate::clock::Clock;
use crate::clock::until;
use crate::engine::Engine;
use crate::engine::lock;
use crate::tokens::TokenError;
use crate::tokens::Tokens;
use registry::Registry;

pub use connection::Coming;
pub use connection::FRAMES;
pub use connection::Frame;
pub use connection::Wire;
pub(crate) use registry::Slot;
pub use terminal::TerminalWish;
use terminal::Terminals;

/// The most sessions of one runner, until something else is said.
const MAX_SESSIONS: usize = 3;

/// How long a runner may be away, until something else is said.
const LOST_AFTER: Duration = Duration::from_secs(86_400);

/// How long a command waits for its receipt, over all connections.
const WAIT: Duration = Duration::from_secs(30);

/// What an asynchronous method of a trait object gives.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What the sessions of remote runners want to hear.
pub(crate) trait Hears: Send + Sync + 'static {
    /// A runner is there: what is stored of each session it tells of. A session that is unknown, over
    /// here, or not this runner's is left out, and the runner ends it.
    ///
    /// An error sends the runner away for now: nothing is ended because the store is gone.
    fn hello<'a>(
        &'a self,
        runner: &'a RunnerView,
        hello: &'a Hello,
    ) -> Later<'a, Result<Vec<Stored>, StoreError>>;

    /// Events of a runner, in the order in which they came; several sessions' may be among them. One
    /// answer for each session. What is answered as stored is durable.
    fn events(&self, runner: RunnerId, events: Vec<Sequenced>) -> Later<'_, Vec<Heard>>;

    /// A runner's connection is gone, and no other is in its place.
    fn lost(&self, runner: RunnerId);

    /// A runner will not come any more: its token is nobody's.
    fn removed(&self, runner: RunnerId);
}

/// What became of a session's events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// They are stored up to there.
    Stored(Stored),
    /// Something is missing before them: to be sent again from there.
    Gap {
        /// In which session.
        session: SessionId,
        /// The first that is wanted.
        from: Seq,
    },
    /// The session is not this runner's, or is over.
    NotTheirs(SessionId),
    /// The store does not answer: the runner is to come again.
    Unavailable,
}

/// A runner, as its owner and admins see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerView {
    /// Its id, which is its token's.
    pub id: RunnerId,
    /// What its owner calls it.
    pub name: String,
    /// Whose it is.
    pub owner: UserId,
    /// Their name.
    pub owner_name: String,
    /// Whether it is connected now.
    pub connected: bool,
    /// Whether no new session may start there.
    pub paused: bool,
    /// What it said when it came last.
    pub hello: Option<Hello>,
    /// When it was enrolled.
    pub created_at: Wall,
    /// When it was last heard of, give or take a minute.
    pub seen_at: Option<Wall>,
    /// From where.
    pub seen_from: Option<String>,
    /// Sessions that have a slot there.
    pub sessions: usize,
    /// The most it may have.
    pub max_sessions: usize,
}

impl RunnerView {
    /// Whether it said that it can run this.
    #[must_use]
    pub fn has(&self, harness: &str) -> bool {
        let harnesses = self.hello.iter().flat_map(|hello| &hello.harnesses);
        harnesses.into_iter().any(|found| found.available && found.name == harness)
    }
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoSlot {
    /// The runner has as many sessions as it may have.
    #[error(
        "the runner has its {max} sessions, which is the most it may have; end one and try again"
    )]
    Full {
        /// The limit.
        max: usize,
    },
    /// Somebody paused it.
    #[error("the runner is paused; resume it with \"sojourn runners resume\"")]
    Paused,
    /// It is not connected.
    #[error("the runner is not connected; start \"sojourn runner\" on its machine")]
    Away,
}

/// Why a command has no receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreachable {
    /// The runner is not connected, and did not come back in time. The command was not sent.
    #[error("the runner is not connected; start \"sojourn runner\" on its machine")]
    Away,
    /// It did not say in time what became of the command: it may be done or not.
    #[error("the runner does not answer")]
    Silent,
    /// Too many commands are on their way to it.
    #[error("the runner is busy; try again in a moment")]
    Busy,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// It broke, or the runner closed it.
    Broken,
    /// Nothing was heard for too long.
    Silent,
    /// It does not read what it is sent.
    Slow,
    /// The same runner came again.
    Replaced,
    /// Its token is revoked or expired, or its owner's account closed.
    Revoked,
    /// It speaks a version that is too old.
    Version,
    /// It says what makes no sense.
    Malformed,
    /// The store does not answer.
    Store,
    /// Something is missing in between.
    Behind,
    /// The gateway goes down.
    Shutdown,
}

impl Closing {
    /// A stable word for the audit log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Silent => "silent",
            Self::Slow => "slow",
            Self::Replaced => "replaced",
            Self::Revoked => "revoked",
            Self::Version => "version",
            Self::Malformed => "malformed",
            Self::Store => "store",
            Self::Behind => "behind",
            Self::Shutdown => "shutdown",
        }
    }

    /// What the runner is told, where it may still hear it.
    fn told(self) -> Option<ToRunner> {
        let (message, for_good) = match self {
            Self::Broken => return None,
            Self::Silent => ("nothing was heard from here for too long", false),
            Self::Slow => ("what is sent here is not read", false),
            Self::Replaced => ("the same runner has connected again", false),
            Self::Revoked => (
                "this runner's token is revoked or expired; make another with \"sojourn token create\"",
                true,
            ),
            Self::Version => ("this runner is too old for the gateway; update it", true),
            Self::Malformed => ("what is said here makes no sense to the gateway", false),
            Self::Behind => ("something is missing in between; come again", false),
            Self::Store => ("the gateway's store does not answer; come again", false),
            Self::Shutdown => ("the gateway is going down; come again", false),
        };
        Some(ToRunner::Refused {
            code: self.name().to_owned(),
            message: message.to_owned(),
            for_good,
        })
    }
}

impl Engine {
    /// Revokes a token, of one user or whosever it is: see [`Tokens::revoke`]. A runner that came with
    /// it is disconnected at once.
    ///
    /// # Errors
    /// When there is none, or the store does not answer.
    pub async fn revoke_token(
        &self,
        id: TokenId,
        of: Option<UserId>,
        by: &Actor,
    ) -> Result<bool, TokenError> {
        let revoked = self.tokens().revoke(id, of, by).await?;
        self.remote().revoked(id.into());
        Ok(revoked)
    }
}

/// What this is made with.
pub(crate) struct Parts {
    pub(crate) store: Store,
    pub(crate) tokens: Tokens,
    pub(crate) audit: AuditHandle,
    pub(crate) clock: Arc<dyn Clock>,
}

/// All remote runners. Cheap to clone.
#[derive(Clone)]
pub struct Remote {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    tokens: Tokens,
    audit: AuditHandle,
    clock: Arc<dyn Clock>,
    registry: Arc<Registry>,
    hears: OnceLock<Arc<dyn Hears>>,
    terminals: Terminals,
    /// How long a runner may be away before its sessions are lost; none: for ever.
    lost_after: Mutex<Option<Duration>>,
}

impl Remote {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { store, tokens, audit, clock } = parts;
        let registry = Arc::new(Registry::new(MAX_SESSIONS));
        let inner = Inner {
            store,
            tokens,
            audit,
            clock,
            registry,
            hears: OnceLock::new(),
            terminals: Terminals::default(),
            lost_after: Mutex::new(Some(LOST_AFTER)),
        };
        Self { inner: Arc::new(inner) }
    }

    /// From now on this hears what runners tell. Given once, before a door is open.
    pub(crate) fn heard_by(&self, hears: Arc<dyn Hears>) {
        let _second = self.inner.hears.set(hears);
    }

    /// The runner of this owner and name.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn find(&self, owner: UserId, name: &str) -> Result<Option<RunnerView>, StoreError> {
        let all = self.list(Some(owner)).await?;
        Ok(all.into_iter().find(|runner| runner.name == name))
    }

    /// Runners: of one user or of all, by owner and name.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(&self, owner: Option<UserId>) -> Result<Vec<RunnerView>, StoreError> {
        let rows = self.inner.store.runners(owner).await?;
        Ok(rows.into_iter().map(|row| self.inner.registry.view(row)).collect())
    }

    /// One runner.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn get(&self, id: RunnerId) -> Result<Option<RunnerView>, StoreError> {
        let row = self.inner.store.runner(id).await?;
        Ok(row.map(|row| self.inner.registry.view(row)))
    }

    /// How many are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.inner.registry.connected()
    }

    /// Whether this one is connected.
    #[must_use]
    pub fn is_connected(&self, runner: RunnerId) -> bool {
        self.inner.registry.is_connected(runner)
    }

    /// The same, as it changes.
    #[must_use]
    pub fn link(&self, runner: RunnerId) -> watch::Receiver<bool> {
        self.inner.registry.link(runner)
    }

    /// New sessions may start on a runner, or not. False when there is no such runner.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn pause(&self, id: RunnerId, paused: bool) -> Result<bool, StoreError> {
        let known = self.inner.store.pause_runner(id, paused).await?;
        self.inner.registry.pause(id, paused);
        Ok(known)
    }

    /// A runner's token was revoked: its connection ends now, and so do its sessions.
    pub fn revoked(&self, id: RunnerId) {
        self.inner.registry.close(id, Closing::Revoked);
        self.remove(id);
    }

    /// A runner will not come any more: whatever it had is lost.
    fn remove(&self, id: RunnerId) {
        self.inner.registry.remove(id);
        self.inner.terminals.removed(id);
        if let Some(hears) = self.inner.hears.get() {
            hears.removed(id);
        }
    }

    /// Whether a runner will not come any more.
    pub(crate) fn is_removed(&self, id: RunnerId) -> bool {
        self.inner.registry.is_removed(id)
    }

    /// Finds out whether a runner whose sessions were taken up may still come.
    pub(crate) async fn look_for(&self, id: RunnerId) {
        match self.inner.tokens.still_stands(id.into()).await {
            Ok(false) if !self.is_connected(id) => self.remove(id),
            // A store that does not answer is no reason to end anything.
            _ => {}
        }
    }

    /// How long a runner may be away before its sessions are lost; none: for ever.
    pub fn set_lost_after(&self, most: Option<Duration>) {
        *lock(&self.inner.lost_after) = most;
    }

    /// Whether a runner that is away since then has been away too long.
    pub(crate) fn is_lost(&self, since: Mono, now: Mono) -> bool {
        lock(&self.inner.lost_after).is_some_and(|most| now >= since.after(most))
    }

    /// Something a runner sent does not follow what was stored: it is to come again, and go on from
    /// there.
    fn send_away(&self, id: RunnerId) {
        self.inner.registry.close(id, Closing::Behind);
    }

    /// The gateway goes down: all connections end.
    pub(crate) fn shut_down(&self) {
        self.inner.registry.close_all(Closing::Shutdown);
    }

    /// Takes a slot for a session, before anything is sent. It is given back when it is dropped.
    pub(crate) fn take_slot(&self, runner: RunnerId, session: SessionId) -> Result<Slot, NoSlot> {
        Registry::take(&self.inner.registry, runner, session)
    }

    /// A slot for a session that has been there before, however full the runner is.
    pub(crate) fn keep_slot(&self, runner: RunnerId, session: SessionId) -> Slot {
        Registry::keep(&self.inner.registry, runner, session)
    }

    /// Has a runner do something in a session. Sent again, under the same number, over connections
    /// that follow, until it says what became of it or a bounded wait is over. Whoever does not want
    /// to know any more drops this, and nothing is sent again.
    pub(crate) async fn command(
        &self,
        runner: RunnerId,
        session: SessionId,
        command: Command,
    ) -> Result<Receipt, Unreachable> {
        let (registry, clock) = (&self.inner.registry, self.inner.clock.as_ref());
        let now = clock.mono();
        let mut posted = Registry::post(registry, runner, session, command, now.before(WAIT))?;
        tokio::select! {
            biased;
            answer = &mut posted.answer => answer.map_err(|_| Unreachable::Silent),
            () = until(clock, now.after(WAIT)) => Err(posted.given_up()),
        }
    }

    /// Fewer or more sessions on each runner from now on.
    pub fn set_max_sessions(&self, max: usize) {
        self.inner.registry.set_max(max);
    }

    /// Has a runner do something, and waits for nothing.
    fn order(
        &self,
        runner: RunnerId,
        session: SessionId,
        command: Command,
    ) -> Result<(), Unreachable> {
        let (registry, clock) = (&self.inner.registry, self.inner.clock.clone());
        let now = clock.mono();
        let mut posted = Registry::post(registry, runner, session, command, now.before(WAIT))?;
        tokio::spawn(async move {
            tokio::select! {
                _ = &mut posted.answer => {}
                () = until(clock.as_ref(), now.after(WAIT)) => {}
            }
        });
        Ok(())
    }

    /// Tells a runner something, if it is there.
    fn tell(&self, runner: RunnerId, message: ToRunner) {
        self.inner.registry.tell(runner, message);
    }

    /// Sends bytes for a terminal, as they travel, when there is room for them. Those for a runner that
    /// is away are lost.
    async fn type_in(&self, runner: RunnerId, frame: Vec<u8>) {
        if let Some(orders) = self.inner.registry.orders(runner) {
            let _away = tokio::time::timeout(WAIT, orders.send(registry::Order::Type(frame))).await;
        }
    }

    fn terminals(&self) -> &Terminals {
        &self.inner.terminals
    }

    /// What is stored of the sessions a runner tells of.
    async fn have(&self, runner: &RunnerView, hello: &Hello) -> Result<Vec<Stored>, StoreError> {
        let mut have = match self.inner.hears.get() {
            Some(hears) => hears.hello(runner, hello).await?,
            None => Vec::new(),
        };
        have.extend(self.inner.terminals.hello(runner.id, hello).await);
        Ok(have)
    }

    /// What became of events.
    async fn hear(&self, runner: RunnerId, events: Vec<Sequenced>) -> Vec<Heard> {
        match self.inner.hears.get() {
            Some(hears) => {
                // What has begun is done whole, also when the connection is replaced meanwhile.
                let hears = hears.clone();
                let heard = tokio::spawn(async move { hears.events(runner, events).await });
                heard.await.unwrap_or_else(|_| vec![Heard::Unavailable])
            }
            None => events.iter().map(|event| Heard::NotTheirs(event.session)).collect(),
        }
    }

    fn lost(&self, runner: RunnerId) {
        if let Some(hears) = self.inner.hears.get() {
            hears.lost(runner);
        }
    }
}

#[cfg(test)]
mod tests;
