//! Agents' sessions: conversations on runners that dial in, governed here.
//!
//! ```text
//!   runner ──events──▶ storing: recording, store, then shown ──▶ watching: everybody who looks on
//!                         │
//!                       state: where the session stands, made of its events alone
//!                         ▲
//!   people ──▶ starting, saying, answering, ending ──commands──▶ runner
//! ```
//!
//! A session's agent goes on without the gateway, and the runner keeps what happens. So whatever is
//! needed after a crash is in the store before anybody was shown it, and [`Agents::load`] makes of it
//! what was there.

mod answering;
mod coming;
mod ending;
mod leases;
pub(crate) mod recording;
mod records;
mod saying;
mod session;
mod starting;
mod state;
mod storing;
mod watching;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;

use sojourn_core::authz::Answer;
use sojourn_core::authz::Asker;
use sojourn_core::authz::Deed;
use sojourn_core::authz::Ownership;
use sojourn_core::authz::may;
use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::audit::AuditHandle;
use crate::clock::Clock;
use crate::door::Refusal;
use crate::engine::lock;
use crate::identity::Principal;
use crate::metrics::HARNESSES;
use crate::metrics::Metrics;
use crate::push::Opened;
use crate::rates::Rates;
use crate::records::Records;
use crate::remote::Remote;
use crate::remote::RunnerView;
use recording::Recordings;
use session::Agent;

pub use answering::AnswerError;
pub use answering::Reply;
pub use records::view as event_view;
pub use saying::Cannot;
pub use saying::Message;
pub use session::Asked;
pub use session::Input;
pub use session::Told;
pub use session::decision;
pub use starting::AgentWish;
pub use starting::CannotResume;
pub(crate) use starting::no_slot;
pub use watching::Attending;
pub use watching::Seen;
pub use watching::Snapshot;

/// All sessions of agents that are not over. Cheap to clone.
#[derive(Clone)]
pub struct Agents {
    kit: Arc<Kit>,
}

/// What they share.
pub(crate) struct Kit {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) records: Records,
    pub(crate) audit: AuditHandle,
    pub(crate) metrics: Metrics,
    pub(crate) rates: Rates,
    pub(crate) admission: Admission,
    pub(crate) remote: Remote,
    pub(crate) recordings: Arc<dyn Recordings>,
    pub(crate) tasks: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    pub(crate) held: Mutex<HashMap<SessionId, Arc<Agent>>>,
    /// What agents ask, for whoever tells people who do not look.
    pub(crate) opened: broadcast::Sender<Opened>,
}

impl Agents {
    pub(crate) fn new(kit: Kit) -> Self {
        Self { kit: Arc::new(kit) }
    }

    /// What agents ask, from now on.
    pub(crate) fn opened(&self) -> broadcast::Receiver<Opened> {
        self.kit.opened.subscribe()
    }

    /// A session that is not over.
    pub(crate) fn held(&self, id: SessionId) -> Option<Arc<Agent>> {
        lock(&self.kit.held).get(&id).cloned()
    }

    fn hold(&self, agent: &Arc<Agent>) {
        lock(&self.kit.held).insert(agent.id, agent.clone());
    }

    /// A session is over.
    fn let_go(&self, agent: &Agent) {
        lock(&self.kit.held).remove(&agent.id);
    }

    fn all(&self) -> Vec<Arc<Agent>> {
        let mut all: Vec<_> = lock(&self.kit.held).values().cloned().collect();
        all.sort_by_key(|agent| agent.id);
        all
    }

    /// Sessions that are not over, by id.
    #[must_use]
    pub fn live(&self) -> Vec<SessionId> {
        self.all().iter().map(|agent| agent.id).collect()
    }

    /// Those of them on this runner.
    #[must_use]
    pub fn on(&self, runner: RunnerId) -> Vec<SessionId> {
        self.all().iter().filter(|agent| agent.runner == runner).map(|agent| agent.id).collect()
    }

    /// How many of them have a place here.
    pub(crate) fn places(&self) -> usize {
        self.all().iter().filter(|agent| agent.shown().slots.is_some()).count()
    }

    /// Those of them whose opener is known, and who that is.
    pub(crate) fn principals(&self) -> Vec<(SessionId, Principal)> {
        let known = self.all().into_iter();
        known.filter_map(|agent| Some((agent.id, agent.principal.clone()?))).collect()
    }

    /// Whether somebody may do this to a session that is not over.
    #[must_use]
    pub fn may_now(&self, asker: Asker, deed: Deed, id: SessionId) -> Answer {
        match self.held(id) {
            Some(agent) => may(asker, deed, Ownership { owner: agent.new.user, remote: true }),
            None => Answer::Hidden,
        }
    }
}

/// Whether a harness is one that is known: to us, or to a runner of theirs.
fn heard_of(harness: &str, runners: &[RunnerView]) -> Result<(), Refusal> {
    if HARNESSES.contains(&harness) || runners.iter().any(|runner| runner.has(harness)) {
        return Ok(());
    }
    Err(Refusal::Harness(format!(
        "no runner of yours has {harness:?}, and it is none of {}; another program is told to its \
         runner under [runner.harness.NAME]",
        HARNESSES.join(", ")
    )))
}
