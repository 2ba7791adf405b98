//! A session that the runner may have opened and that nobody holds: its answer was lost, or who wanted it
//! gave up. Nobody sees it or can end it, so it is ended here, and the runner forgets it.

use std::sync::Arc;
use std::time::Duration;

use sojourn_core::ids::SessionId;
use sojourn_core::wire::runner::Request;

use crate::engine::Engine;
use crate::engine::Inner;
use crate::engine::lock;

/// How often it is looked whether it is over.
const LOOK: Duration = Duration::from_millis(200);

/// Until it is settled, nobody knows whether there is one.
pub(crate) struct Unheld {
    inner: Arc<Inner>,
    session: SessionId,
    settled: bool,
}

impl Unheld {
    pub(crate) fn new(inner: Arc<Inner>, session: SessionId) -> Self {
        Self { inner, session, settled: false }
    }

    /// The runner tells of a session that was opened for a gateway before this one, when that was gone.
    pub(crate) fn disown(inner: &Arc<Inner>, session: SessionId) {
        drop(Self::new(inner.clone(), session));
    }

    /// It is held, or there is none.
    pub(crate) fn settled(mut self) {
        self.settled = true;
    }
}

impl Drop for Unheld {
    fn drop(&mut self) {
        if !self.settled {
            let engine = Engine { inner: self.inner.clone() };
            self.inner.tasks.spawn(engine.disown(self.session));
        }
    }
}

impl Engine {
    /// Ends a session that nobody holds, as soon as there is a runner. One that is left when the gateway
    /// goes down is heard of by the next.
    async fn disown(self, session: SessionId) {
        // One is enough; and whoever was there at its end knows more of it.
        if lock(&self.inner.finishing).insert(session) {
            self.until_forgotten(session).await;
            lock(&self.inner.finishing).remove(&session);
        }
    }

    async fn until_forgotten(&self, session: SessionId) {
        let shutdown = self.inner.shutdown.clone();
        loop {
            if let Ok(held) = self.held().await {
                let found = held.into_iter().find(|held| held.session == session);
                let Some(held) = found else { return };
                match &held.ended {
                    None => self.inner.kill(session).await,
                    Some(summary) => {
                        if self.keep_end_of(&held, summary).await {
                            let _gone = self.inner.runner.ask(Request::Forget { session }).await;
                            return;
                        }
                    }
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }
}
