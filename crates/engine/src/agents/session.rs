//! One session of an agent, as it is held while it is not over.
//!
//! Two locks, and each is for one thing. The *book* is held by whoever stores events, across the wait
//! for the store, so that a session's events are kept one batch after the other. What is *shown* is
//! changed and read at once, never across a wait: whoever looks on learns what there is and hears of
//! what comes in one step, so nothing falls between and nothing comes twice.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;

use serde::Deserialize;
use serde::Serialize;
use sojourn_core::end::EndReason;
use sojourn_core::end::Exit;
use sojourn_core::end::Limit;
use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::lease::Lease;
use sojourn_core::limits::Limits;
use sojourn_core::status::Status;
use sojourn_core::time::Mono;
use sojourn_core::time::Wall;
use sojourn_core::wire::relay::Decision;
use sojourn_core::wire::relay::MessageState;
use sojourn_core::wire::relay::Prompt;
use sojourn_core::wire::relay::Question;
use sojourn_core::wire::relay::RequestId;
use sojourn_core::wire::relay::Seq;
use sojourn_store::AgentEvent;
use sojourn_store::InputState;
use sojourn_store::NewSession;
use tokio::sync::broadcast;
use tokio::sync::watch;

use super::recording::Recorder;
use super::state::Standing;
use crate::admission;
use crate::ending::EndedBy;
use crate::engine::lock;
use crate::identity::Principal;
use crate::metrics::Meter;
use crate::remote;

/// What is told beside events and may wait for one who looks on; more, and they are told all anew.
const TOLD: usize = 256;

/// The newest events that are at hand without the store, by number and by bytes.
const RECENT: usize = 512;
const RECENT_BYTES: usize = 1 << 20;

/// A session of an agent.
pub(crate) struct Agent {
    pub(crate) id: SessionId,
    pub(crate) new: NewSession,
    pub(crate) runner: RunnerId,
    /// Who started it, as far as it is on record.
    pub(crate) principal: Option<Principal>,
    pub(crate) book: Arc<tokio::sync::Mutex<Book>>,
    shown: Mutex<Shown>,
    news: broadcast::Sender<Told>,
    heads: watch::Sender<Seq>,
    /// Held while messages are brought to the runner, one after the other.
    pub(crate) delivering: tokio::sync::Mutex<()>,
}

/// What is written of a session, held by whoever writes.
#[derive(Default)]
pub(crate) struct Book {
    pub(crate) standing: Standing,
    pub(crate) recorder: Option<Recorder>,
    /// Its end is on record: nothing is written any more.
    pub(crate) is_closed: bool,
}

/// What is shown of a session.
pub(crate) struct Shown {
    pub(crate) standing: Standing,
    pub(crate) asks: BTreeMap<Seq, Ask>,
    pub(crate) inputs: Vec<Input>,
    /// Whether its runner is there and has told of it.
    pub(crate) linked: bool,
    /// Whether its runner is being asked to start it.
    pub(crate) launching: bool,
    /// Since when its agent is being started.
    pub(crate) starting_since: Option<Mono>,
    /// Since when its runner is away.
    pub(crate) away_since: Option<Mono>,
    /// Since when it has spent what it may.
    pub(crate) spent_since: Option<Mono>,
    /// Whose wish its end is.
    pub(crate) ending: Option<Ending>,
    pub(crate) started_at: Option<Wall>,
    pub(crate) lease: Lease,
    pub(crate) ended: Option<(EndReason, Option<Exit>)>,
    pub(crate) slots: Option<Slots>,
    pub(crate) meter: Option<Meter>,
    recent: Recent,
}

/// Its places, here and on its runner.
pub(crate) struct Slots {
    pub(crate) _here: admission::Slot,
    pub(crate) _there: remote::Slot,
}

/// An end that somebody, or something here, has asked for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub(crate) reason: EndReason,
    pub(crate) by: Option<EndedBy>,
}

/// Something that an agent asks.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) request: RequestId,
    pub(crate) epoch: u32,
    pub(crate) what: Asked,
}

/// What it asks.
#[derive(Clone, Debug)]
pub enum Asked {
    /// Whether it may do something.
    Permission(Arc<Prompt>),
    /// Something it wants to know.
    Question(Arc<Question>),
}

impl Asked {
    /// The hash of exactly what is shown.
    #[must_use]
    pub fn input_hash(&self) -> &str {
        match self {
            Self::Permission(prompt) => &prompt.input_hash,
            Self::Question(question) => &question.input_hash,
        }
    }

    /// The tool it is about.
    #[must_use]
    pub fn tool(&self) -> &str {
        match self {
            Self::Permission(prompt) => &prompt.tool,
            Self::Question(_) => "question",
        }
    }
}

/// A message that no agent has yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The client's id of it.
    pub client_msg_id: String,
    /// What.
    pub content: String,
    /// Whether the runner has it.
    pub is_there: bool,
    /// Whose it is, as JSON.
    pub(crate) by: String,
}

/// What is told beside events.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// It stands elsewhere.
    Status(Status),
    /// The agent asks this.
    Asked(RequestId),
    /// What it asked is settled.
    Resolved {
        /// What.
        request: RequestId,
        /// By whom or what.
        by: String,
        /// `allow`, `deny`, `withdrawn`, `lost`, `expired`.
        decision: &'static str,
    },
    /// A message stands elsewhere.
    Message {
        /// Which.
        client_msg_id: String,
        /// Where.
        state: MessageState,
        /// What it says.
        content: Option<String>,
        /// Why it was refused.
        code: Option<String>,
    },
    /// A limit comes near.
    Warned(Limit, u64),
    /// A limit was reached.
    Exceeded {
        /// Which.
        limit: Limit,
        /// What it is.
        configured: u64,
        /// The line for people.
        message: String,
    },
    /// The deadline was moved.
    Lease,
    /// Its runner is there, or not.
    Runner(bool),
    /// It is over.
    Ended {
        /// Why.
        reason: EndReason,
        /// How its program ended.
        exit: Option<Exit>,
    },
}

/// The newest events.
#[derive(Default)]
struct Recent {
    events: VecDeque<Arc<AgentEvent>>,
    bytes: usize,
}

impl Recent {
    fn push(&mut self, event: Arc<AgentEvent>) {
        self.bytes += event.event.len();
        self.events.push_back(event);
        while self.events.len() > RECENT || self.bytes > RECENT_BYTES {
            let Some(oldest) = self.events.pop_front() else { return };
            self.bytes -= oldest.event.len();
        }
    }

    /// Events from this one on; none when the first of them is not here any more.
    fn from(&self, from: Seq, most: usize) -> Option<Vec<Arc<AgentEvent>>> {
        let first = self.events.front()?.seq;
        let skipped = usize::try_from(from.checked_sub(first)?).ok()?;
        Some(self.events.iter().skip(skipped).take(most).cloned().collect())
    }
}

impl Shown {
    /// As it is shown.
    pub(crate) fn status(&self) -> Status {
        self.standing.shown(self.linked, !self.asks.is_empty(), self.ending.is_some())
    }

    /// What is open under this id.
    pub(crate) fn ask(&self, request: RequestId) -> Option<&Ask> {
        self.asks.values().find(|ask| ask.request == request)
    }

    /// Takes what was asked away.
    pub(crate) fn take_ask(&mut self, request: RequestId, now: Mono) -> Option<Ask> {
        let seq = *self.asks.iter().find(|(_, ask)| ask.request == request)?.0;
        let ask = self.asks.remove(&seq);
        self.rest(now);
        ask
    }

    /// Waiting for a person is not idle.
    pub(crate) fn rest(&mut self, now: Mono) {
        self.lease.set_busy(!self.asks.is_empty() || self.standing.phase.is_at_rest(), now);
    }

    /// Takes over what its agent spent.
    pub(crate) fn spent(&mut self, now: Mono) {
        self.lease.spent(self.standing.spend.total());
        if self.lease.is_spent() {
            self.spent_since.get_or_insert(now);
        }
    }

    /// A message stands elsewhere. What it said, and false when that was known.
    pub(crate) fn move_input(
        &mut self,
        client_msg_id: &str,
        state: InputState,
        content: Option<&String>,
    ) {
        let at = self.inputs.iter().position(|input| input.client_msg_id == client_msg_id);
        match (at, state) {
            (Some(at), InputState::Kept | InputState::Queued) => {
                if let Some(input) = self.inputs.get_mut(at) {
                    input.is_there = state == InputState::Queued;
                    if let Some(content) = content {
                        input.content.clone_from(content);
                    }
                }
            }
            (Some(at), _) => {
                self.inputs.remove(at);
            }
            (None, _) => {}
        }
    }
}

/// What a session is held with.
pub(crate) struct Held {
    pub(crate) new: NewSession,
    pub(crate) runner: RunnerId,
    pub(crate) principal: Option<Principal>,
    pub(crate) standing: Standing,
    pub(crate) started_at: Option<Wall>,
    pub(crate) asks: BTreeMap<Seq, Ask>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) ended: Option<(EndReason, Option<Exit>)>,
    pub(crate) slots: Option<Slots>,
    pub(crate) meter: Option<Meter>,
    pub(crate) linked: bool,
}

impl Agent {
    pub(crate) fn new(held: Held, (now, wall): (Mono, Wall)) -> Arc<Self> {
        let Held { new, runner, principal, standing, started_at, asks, inputs, .. } = held;
        let mut shown = Shown {
            lease: lease(&new.limits, &standing, started_at, (now, wall)),
            standing: standing.clone(),
            asks,
            inputs,
            linked: held.linked,
            launching: false,
            starting_since: None,
            away_since: None,
            spent_since: None,
            ending: standing.wished.clone(),
            started_at,
            ended: held.ended,
            slots: held.slots,
            meter: held.meter,
            recent: Recent::default(),
        };
        shown.rest(now);
        shown.spent(now);
        let head = standing.head;
        let is_closed = shown.ended.is_some();
        Arc::new(Self {
            id: new.id,
            new,
            runner,
            principal,
            book: Arc::new(tokio::sync::Mutex::new(Book { standing, recorder: None, is_closed })),
            shown: Mutex::new(shown),
            news: broadcast::channel(TOLD).0,
            heads: watch::Sender::new(head),
            delivering: tokio::sync::Mutex::new(()),
        })
    }

    /// What is shown.
    pub(crate) fn shown(&self) -> MutexGuard<'_, Shown> {
        lock(&self.shown)
    }

    /// Changes what is shown, and tells everybody what changed: in one step.
    pub(crate) fn show<T>(&self, change: impl FnOnce(&mut Shown, &mut Vec<Told>) -> T) -> T {
        let mut shown = lock(&self.shown);
        let before = shown.status();
        let mut told = Vec::new();
        let result = change(&mut shown, &mut told);
        let after = shown.status();
        if before != after {
            told.insert(0, Told::Status(after));
        }
        if let Some(meter) = &mut shown.meter {
            meter.is(after == Status::Ending, after != Status::Disconnected);
        }
        self.heads.send_if_modified(|head| {
            std::mem::replace(head, shown.standing.head) != shown.standing.head
        });
        for told in told {
            // An error: nobody looks on.
            let _nobody = self.news.send(told);
        }
        result
    }

    /// Adds events to what is at hand; only together with the head that says so, in [`Agent::show`].
    pub(crate) fn add(shown: &mut Shown, events: Vec<AgentEvent>) {
        for event in events {
            shown.recent.push(Arc::new(event));
        }
    }

    /// What there is, and a way to what comes, in one step.
    pub(crate) fn look<T>(
        &self,
        read: impl FnOnce(&Shown) -> T,
    ) -> (T, broadcast::Receiver<Told>, watch::Receiver<Seq>) {
        let shown = lock(&self.shown);
        (read(&shown), self.news.subscribe(), self.heads.subscribe())
    }

    /// Whether anybody looks on.
    pub(crate) fn is_attached(&self) -> bool {
        self.news.receiver_count() > 0
    }

    /// The newest events from this one on, without the store.
    pub(crate) fn recent(&self, from: Seq, most: usize) -> Option<Vec<Arc<AgentEvent>>> {
        lock(&self.shown).recent.from(from, most)
    }
}

/// The lease of a session that was started then: over its whole life, whatever happened to gateway,
/// runner and agent meanwhile.
pub(crate) fn lease(
    limits: &Limits,
    standing: &Standing,
    started_at: Option<Wall>,
    (now, wall): (Mono, Wall),
) -> Lease {
    let mut lease = Lease::start(limits.clone(), now);
    if let (Some(started), Some(most)) = (started_at, limits.max_runtime) {
        let elapsed = u64::try_from(wall.0.saturating_sub(started.0)).unwrap_or(0);
        let whole = sojourn_core::time::micros(most).saturating_add(standing.extended);
        lease.move_deadline(Mono(now.0.saturating_add(whole.saturating_sub(elapsed))));
    } else {
        // It begins when the agent is live.
        lease.move_deadline(Mono::NEVER);
    }
    lease.count_output(standing.output, now);
    lease
}

/// What people read as the answer to what an agent asked.
#[must_use]
pub const fn decision(decision: Decision) -> &'static str {
    match decision {
        Decision::Allow => "allow",
        Decision::Deny => "deny",
    }
}
