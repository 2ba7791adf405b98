//! Sessions whose ground is gone: their user was disabled, or the password they came by was changed.

use std::time::Duration;

use sojourn_core::end::EndReason;
use tokio::time::MissedTickBehavior;

use crate::engine::Engine;

/// How often it is looked whether an account has changed, by whichever process.
const LOOK: Duration = Duration::from_millis(500);

impl Engine {
    /// Ends, until the gateway goes down, what was opened by a password that has been changed since, or
    /// by somebody who has been disabled.
    pub async fn watch_accounts(&self) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            tokio::select! {
                () = self.shutdown().cancelled() => return,
                _ = look.tick() => {}
            }
            // A store that does not answer is no reason to end anything.
            let Ok(version) = self.identity().accounts_version().await else { continue };
            if seen.replace(version) != Some(version) {
                self.end_what_does_not_stand().await;
            }
        }
    }

    async fn end_what_does_not_stand(&self) {
        for (session, principal) in self.inner.principals() {
            if let Ok(false) = self.identity().still_stands(&principal).await {
                let id = session.id();
                tracing::info!(session = %id, user = principal.name, "the right to stay is gone");
                session.request_end(EndReason::LoginEnded).await;
            }
        }
    }
}
