//! Terminals on other machines.
//!
//! To the rest of the engine such a terminal is a session like any other: its task speaks to what
//! stands where a shim stands ([`stand_in`]), so that coming back to it, looking on, taking over,
//! leases and ends are the same. The runner enforces its limits; what it prints is recorded here
//! ([`book`]) before the runner may forget it.
//!
//! ```text
//!   session's task ◀──frames of a shim──▶ stand-in ◀──events, bytes── connection ◀── runner
//!                                            │   └──commands, input──▶ registry ──▶ runner
//!                                            └── recording: written, synced, then acknowledged
//! ```

mod asked;
pub(crate) mod book;
mod stand_in;
mod starting;
mod typing;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use sojourn_core::ids::RunnerId;
use sojourn_core::ids::SessionId;
use sojourn_core::wire::relay::Hello;
use sojourn_core::wire::relay::Receipt;
use sojourn_core::wire::relay::Sequenced;
use sojourn_core::wire::relay::Stored;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::Closing;
use super::Unreachable;
use crate::engine::lock;

pub use starting::TerminalWish;

/// Things from the runner that wait for one terminal. A runner sends no more than a window ahead.
const WAITING: usize = 256;

/// How long a connection waits for one terminal.
const PATIENCE: Duration = Duration::from_secs(15);

/// Something for a terminal.
#[derive(Debug)]
pub(super) enum Item {
    /// Something happened.
    Event(Box<Sequenced>),
    /// It printed this, after so many bytes.
    Bytes { offset: u64, bytes: Bytes },
    /// Its runner is there, and has it.
    Linked,
    /// Its runner is there and knows nothing of it.
    Missing,
    /// Its runner will not come any more.
    Removed,
    /// What became of its start.
    Launched(Result<Receipt, Unreachable>),
}

/// All terminals on other machines that are not over.
#[derive(Debug, Default)]
pub(super) struct Terminals {
    held: Mutex<HashMap<SessionId, Arc<Handle>>>,
}

/// A way to one of them.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) runner: RunnerId,
    items: mpsc::Sender<Item>,
    /// What is durable of it.
    stored: Mutex<Stored>,
}

impl Terminals {
    fn add(&self, session: SessionId, handle: Arc<Handle>) {
        lock(&self.held).insert(session, handle);
    }

    fn remove(&self, session: SessionId) {
        lock(&self.held).remove(&session);
    }

    /// A terminal of this runner's.
    fn of(&self, runner: RunnerId, session: SessionId) -> Option<Arc<Handle>> {
        lock(&self.held).get(&session).filter(|handle| handle.runner == runner).cloned()
    }

    /// Whether a session is a terminal on this runner.
    pub(super) fn has(&self, runner: RunnerId, session: SessionId) -> bool {
        self.of(runner, session).is_some()
    }

    fn all_of(&self, runner: RunnerId) -> Vec<(SessionId, Arc<Handle>)> {
        let held = lock(&self.held);
        let theirs = held.iter().filter(|(_, handle)| handle.runner == runner);
        theirs.map(|(session, handle)| (*session, handle.clone())).collect()
    }

    /// A runner is there: what is stored of those terminals that it told of. The others hear that they
    /// are not there any more.
    pub(super) async fn hello(&self, runner: RunnerId, hello: &Hello) -> Vec<Stored> {
        let mut have = Vec::new();
        for (session, handle) in self.all_of(runner) {
            let told = hello.sessions.iter().any(|running| running.session == session);
            let item = if told { Item::Linked } else { Item::Missing };
            if told {
                have.push(*lock(&handle.stored));
            }
            let _late = timeout(PATIENCE, handle.items.send(item)).await;
        }
        have
    }

    /// Passes something on. False: it is no terminal of this runner's.
    pub(super) async fn pass(
        &self,
        runner: RunnerId,
        session: SessionId,
        item: Item,
    ) -> Result<bool, Closing> {
        let Some(handle) = self.of(runner, session) else { return Ok(false) };
        match timeout(PATIENCE, handle.items.send(item)).await {
            Ok(Ok(())) => Ok(true),
            Ok(Err(_)) => Ok(false),
            Err(_) => Err(Closing::Slow),
        }
    }

    /// A runner will not come any more.
    pub(super) fn removed(&self, runner: RunnerId) {
        for (_, handle) in self.all_of(runner) {
            tokio::spawn(async move { handle.items.send(Item::Removed).await });
        }
    }
}
