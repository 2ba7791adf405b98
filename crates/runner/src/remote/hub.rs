//! The sessions of this runner: what the gateway wants of which, how many there may be, and what of
//! them goes to the gateway.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use sojourn_core::end::EndReason;
use sojourn_core::ids::SessionId;
use sojourn_core::wire::relay::Command;
use sojourn_core::wire::relay::CommandId;
use sojourn_core::wire::relay::Launch;
use sojourn_core::wire::relay::MAX_SESSIONS;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::Running;
use sojourn_core::wire::relay::Stored;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;

use super::allowed::Allowed;
use super::chambers::Places;
use super::held::Held;
use super::held::INBOX;
use super::held::Key;
use super::held::Parts;
use super::held::gone;
use super::held::rejected;
use super::leash::Leash;
use super::leash::Taken;
use super::options::Kind;
use super::options::Options;
use super::outbox::Outbox;
use super::receipts::Known;
use super::receipts::Receipts;
use super::record::Record;
use super::session;
use super::state::State;

/// The most of a terminal's input that waits, in messages.
const KEYS: usize = 256;

/// So many sessions that are over are remembered, to be taken up again.
const REMEMBERED: usize = 256;

/// Beyond the longest grace: what the end of all sessions may take.
const SLACK: Duration = Duration::from_secs(20);

/// Receipts on their way to the gateway.
pub(super) type Receipted = mpsc::Sender<(CommandId, Receipt)>;

/// How many sessions there may be.
#[derive(Debug)]
struct Gate {
    max_sessions: u32,
    paused: bool,
    stopping: bool,
    /// Where receipts go; none while there is no connection. One that is lost is asked for again.
    receipts: Option<Receipted>,
}

/// All sessions.
pub(super) struct Hub {
    pub(super) options: Options,
    pub(super) state: State,
    pub(super) allowed: Allowed,
    pub(super) places: Places,
    sessions: Mutex<BTreeMap<SessionId, Arc<Held>>>,
    receipts: Mutex<Receipts>,
    gate: Mutex<Gate>,
    work: Arc<Notify>,
    tasks: TaskTracker,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hub {
    pub(super) fn new(
        options: Options,
        state: State,
        allowed: Allowed,
        receipts: Receipts,
        work: Arc<Notify>,
    ) -> Arc<Self> {
        let gate = Gate { max_sessions: 0, paused: false, stopping: false, receipts: None };
        Arc::new(Self {
            options,
            state,
            allowed,
            places: Places::default(),
            sessions: Mutex::new(BTreeMap::new()),
            receipts: Mutex::new(receipts),
            gate: Mutex::new(gate),
            work,
            tasks: TaskTracker::new(),
        })
    }

    /// Resolves when there may be something for the gateway.
    pub(super) fn work(&self) -> &Notify {
        &self.work
    }

    /// A session, if it is held.
    pub(super) fn find(&self, session: SessionId) -> Option<Arc<Held>> {
        lock(&self.sessions).get(&session).cloned()
    }

    /// All sessions that are held.
    pub(super) fn all(&self) -> Vec<Arc<Held>> {
        lock(&self.sessions).values().cloned().collect()
    }

    /// Holds what an earlier runner left.
    pub(super) fn hold(&self, held: Arc<Held>) {
        lock(&self.sessions).insert(held.session, held);
    }

    /// The sessions as hello tells of them.
    pub(super) fn running(&self) -> Vec<Running> {
        self.all().iter().take(MAX_SESSIONS).map(|held| held.running()).collect()
    }

    /// A gateway is there. What it does not know is ended; what it has not stored goes again.
    pub(super) fn welcome(
        &self,
        told: &[SessionId],
        have: &[Stored],
        max_sessions: u32,
        paused: bool,
        receipts: Receipted,
    ) {
        {
            let mut gate = lock(&self.gate);
            (gate.max_sessions, gate.paused) = (max_sessions, paused);
            gate.receipts = Some(receipts);
        }
        for session in told {
            match have.iter().find(|stored| stored.session == *session) {
                Some(stored) => {
                    if let Some(held) = self.find(*session) {
                        held.outbox.reset(*stored);
                        self.retire_if_done(&held);
                    }
                }
                None => self.disown(*session),
            }
        }
        self.work.notify_one();
    }

    /// The gateway is away.
    pub(super) fn alone(&self) {
        lock(&self.gate).receipts = None;
    }

    /// No new session, or new ones again.
    pub(super) fn pause(&self, paused: bool) {
        lock(&self.gate).paused = paused;
    }

    /// The gateway knows nothing of a session: it ends, and nothing of it is kept.
    fn disown(&self, session: SessionId) {
        let Some(held) = self.find(session) else { return };
        if held.is_over() {
            self.drop_all(&held);
        } else {
            tracing::warn!(%session, "the gateway does not know this session; it is ended");
            held.disown();
        }
    }

    /// The gateway has all of this.
    pub(super) fn acknowledge(&self, stored: Stored) {
        if let Some(held) = self.find(stored.session) {
            held.outbox.acknowledge(stored);
            self.retire_if_done(&held);
        }
    }

    /// The end of a session is on record at the gateway: only what is needed to take it up again is
    /// kept.
    fn retire_if_done(&self, held: &Arc<Held>) {
        if !held.is_over() || !held.outbox.is_done() {
            return;
        }
        if self.let_go(held) {
            held.save();
            for part in ["events", "bytes"] {
                let directory = held.directory.join(part);
                if let Err(error) = fs::remove_dir_all(&directory) {
                    tracing::warn!(session = %held.session, %error, "old events stay");
                }
            }
            self.forget_the_oldest();
        }
    }

    /// Nothing of a session is kept.
    pub(super) fn drop_all(&self, held: &Arc<Held>) {
        if self.let_go(held)
            && let Err(error) = fs::remove_dir_all(&held.directory)
        {
            tracing::warn!(session = %held.session, %error, "a session's files stay");
        }
    }

    /// Takes it out of the table, unless another start of it is there now.
    fn let_go(&self, held: &Arc<Held>) -> bool {
        let mut sessions = lock(&self.sessions);
        let is_it = sessions.get(&held.session).is_some_and(|now| Arc::ptr_eq(now, held));
        if is_it {
            sessions.remove(&held.session);
        }
        is_it
    }

    fn forget_the_oldest(&self) {
        let kept = self.state.sessions();
        let held: Vec<SessionId> = lock(&self.sessions).keys().copied().collect();
        let over: Vec<_> = kept.into_iter().filter(|session| !held.contains(session)).collect();
        for old in over.iter().take(over.len().saturating_sub(REMEMBERED)) {
            let _stays = fs::remove_dir_all(self.state.session(*old));
        }
    }

    /// Does what the gateway wants, once. The receipt goes its own way.
    pub(super) fn command(self: &Arc<Self>, id: CommandId, session: SessionId, body: Command) {
        let known = lock(&self.receipts).begin(id);
        match known {
            Ok(Known::New) => {}
            // Its receipt comes when it is done, on whatever connection there is then.
            Ok(Known::Begun) => return,
            Ok(Known::Done(receipt)) => return self.answer(id, receipt),
            Err(error) => {
                tracing::error!(%error, "commands cannot be written down");
                let message = "the runner's disk does not take anything; look there";
                return self.answer(id, rejected("OVERLOADED", message));
            }
        }
        if let Some(receipt) = self.dispatch(id, session, body) {
            self.receipt(id, receipt);
        }
    }

    /// Writes down and sends what became of a command.
    pub(super) fn receipt(&self, id: CommandId, receipt: Receipt) {
        lock(&self.receipts).done(id, &receipt);
        self.answer(id, receipt);
    }

    fn answer(&self, id: CommandId, receipt: Receipt) {
        let out = lock(&self.gate).receipts.clone();
        // Without a connection, or behind too many others: the command comes again and finds it.
        let _later = out.map(|out| out.try_send((id, receipt)));
    }

    /// The receipt, unless it comes later.
    fn dispatch(
        self: &Arc<Self>,
        id: CommandId,
        session: SessionId,
        body: Command,
    ) -> Option<Receipt> {
        let held = self.find(session);
        let body = match body {
            Command::Start(launch) => return Some(self.start(session, *launch)),
            Command::Resume(launch) => return Some(self.resume(session, *launch)),
            Command::Forget { session: named } => {
                return Some(match held {
                    _ if named != session => rejected("INVALID", "the two sessions are not one"),
                    Some(held) if held.is_over() => {
                        self.drop_all(&held);
                        Receipt::Accepted
                    }
                    Some(_) => rejected("CONFLICT", "it runs; end it first"),
                    None => Receipt::Accepted,
                });
            }
            body => body,
        };
        let Some(held) = held.filter(|held| !held.is_over()) else { return Some(gone()) };
        match body {
            Command::End { reason, .. } => {
                held.end(reason);
                Some(Receipt::Accepted)
            }
            Command::Extend { by } => Some(match held.leash.extend(by) {
                true => Receipt::Accepted,
                false => rejected("LIMIT_REACHED", "this runner lets no session run longer"),
            }),
            Command::Resize { size } => Some(match &held.keys {
                Some(keys) if keys.try_send(Key::Resize(size)).is_ok() => Receipt::Accepted,
                _ => rejected("INVALID", "there is no terminal in this session"),
            }),
            body => {
                // A person did something: the session is not idle.
                held.leash.touch();
                let Some(inbox) = &held.inbox else { return Some(gone()) };
                match inbox.try_send((id, body)) {
                    Ok(()) => None,
                    Err(mpsc::error::TrySendError::Full(_)) => {
                        Some(rejected("OVERLOADED", "too much waits for this agent; try again"))
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => Some(gone()),
                }
            }
        }
    }

    /// Somebody typed into a terminal.
    pub(super) fn typed(&self, session: SessionId, bytes: &[u8]) {
        let Some(held) = self.find(session) else { return };
        held.leash.touch();
        if let Some(keys) = &held.keys
            && keys.try_send(Key::Input(bytes.to_vec())).is_err()
        {
            tracing::warn!(%session, "a program does not read; what was typed is dropped");
        }
    }

    fn start(self: &Arc<Self>, session: SessionId, launch: Launch) -> Receipt {
        let directory = self.state.session(session);
        if self.find(session).is_some() || Record::load(&directory).is_some() {
            return rejected("CONFLICT", "this session was started before; resume it");
        }
        self.begin(Record::new(session, &launch.harness, launch.epoch), None, launch)
    }

    fn resume(self: &Arc<Self>, session: SessionId, launch: Launch) -> Receipt {
        let before = self.find(session);
        if before.as_ref().is_some_and(|held| !held.is_over()) {
            return rejected("CONFLICT", "the session runs; attach to it");
        }
        let record = match &before {
            Some(held) => Some(held.record().clone()),
            None => Record::load(&self.state.session(session)),
        };
        if record.as_ref().is_some_and(|record| record.epoch >= launch.epoch) {
            return rejected("CONFLICT", "this start of the session is over");
        }
        let record = match record {
            Some(record) => record.again(launch.epoch),
            // Forgotten here; its agent may remember, and the gateway does.
            None => Record::new(session, &launch.harness, launch.epoch),
        };
        self.begin(record, before.map(|held| held.outbox.clone()), launch)
    }

    /// Takes a slot and starts a session. What comes of it are its events.
    fn begin(
        self: &Arc<Self>,
        record: Record,
        outbox: Option<Arc<Outbox>>,
        launch: Launch,
    ) -> Receipt {
        let Some(harness) = self.options.harnesses.get(&launch.harness).cloned() else {
            let message = format!("this runner has no harness {:?}", launch.harness);
            return rejected("INVALID", &message);
        };
        let mut record = record;
        record.head = record.head.max(launch.head);
        let (own, known) = (record.taken(), launch.used);
        record.took(Taken {
            runtime: own.runtime.max(known.runtime),
            output: own.output.max(known.output),
            cost: own.cost.max(known.cost),
        });
        let session = record.session;
        let directory = self.state.session(session);
        let opened = match outbox {
            Some(outbox) => Ok(outbox),
            None => fs::create_dir_all(&directory).and_then(|()| {
                let (most, work) = (self.options.spool, self.work.clone());
                Outbox::open(&directory, session, record.head, most, work).map(Arc::new)
            }),
        };
        let outbox = match opened {
            Ok(outbox) => outbox,
            Err(error) => {
                let message = format!("the runner cannot keep it: {}", crate::tls::plain(&error));
                return rejected("OVERLOADED", &message);
            }
        };
        let (inbox, commands) = mpsc::channel(INBOX);
        let (keys, typed) = mpsc::channel(KEYS);
        let is_terminal = harness.kind == Kind::Terminal;
        let held = Arc::new(Held::new(Parts {
            record,
            directory,
            outbox,
            leash: Leash::new(self.options.clock.clone(), self.options.limits.max_runtime),
            clock: self.options.clock.clone(),
            inbox: (!is_terminal).then_some(inbox),
            keys: is_terminal.then_some(keys),
        }));
        // The slot is taken here, in one step with looking whether there is one.
        let mut sessions = lock(&self.sessions);
        if let Some(refused) = self.refusal(&sessions) {
            return refused;
        }
        held.outbox.reopen();
        sessions.insert(session, held.clone());
        drop(sessions);
        held.save();
        let start = session::Start { hub: self.clone(), held, launch, harness, commands, typed };
        self.tasks.spawn(session::live(start));
        Receipt::Accepted
    }

    fn refusal(&self, sessions: &BTreeMap<SessionId, Arc<Held>>) -> Option<Receipt> {
        let gate = lock(&self.gate);
        if gate.stopping {
            return Some(rejected("RUNNER_UNAVAILABLE", "the runner is being stopped"));
        }
        if gate.paused {
            return Some(rejected("PAUSED", "the runner is paused; \"sojourn runners resume\""));
        }
        let running = sessions.values().filter(|held| !held.is_over()).count();
        let max = usize::try_from(gate.max_sessions).unwrap_or(usize::MAX).min(MAX_SESSIONS / 2);
        if running >= max {
            let message = format!("the runner has {running} sessions; end one, and try again");
            return Some(rejected("LIMIT_REACHED", &message));
        }
        if sessions.len() >= MAX_SESSIONS {
            return Some(rejected("OVERLOADED", "too many ends wait to be stored; try again"));
        }
        None
    }

    /// Ends all sessions and waits until nothing of them lives.
    pub(super) async fn stop(&self) {
        lock(&self.gate).stopping = true;
        self.tasks.close();
        let mut longest = Duration::ZERO;
        for held in self.all() {
            longest = longest.max(held.leash.grace());
            held.end(EndReason::Shutdown);
        }
        if tokio::time::timeout(longest + SLACK, self.tasks.wait()).await.is_err() {
            tracing::error!("some session does not end; its warden is left to it");
        }
    }

    /// Whether the gateway has everything there is.
    pub(super) fn is_told(&self) -> bool {
        self.all().iter().all(|held| held.outbox.is_done())
    }
}
