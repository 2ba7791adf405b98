//! Sessions whose ground is gone: their user was disabled, or the password they came by was changed.

use std::time::Duration;

use sojourn_core::end::EndReason;
use tokio::time::MissedTickBehavior;

use crate::engine::Engine;
use crate::identity::Principal;

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
                () = self.logins().moved() => {
                    self.end_what_does_not_stand().await;
                    continue;
                }
                _ = look.tick() => {}
            }
            // A store that does not answer is no reason to end anything.
            let Ok(version) = self.logins().accounts_version().await else { continue };
            if seen != Some(version) && self.logins().recheck().await.is_ok() {
                seen = Some(version);
                self.end_what_does_not_stand().await;
            }
        }
    }

    pub(crate) async fn end_what_does_not_stand(&self) {
        for (session, principal) in self.inner.principals() {
            let stands = !self.has_lost_login(&principal)
                && !matches!(self.identity().still_stands(&principal).await, Ok(false));
            if !stands {
                let id = session.id();
                tracing::info!(session = %id, user = principal.name, "the right to stay is gone");
                session.request_end(EndReason::LoginEnded).await;
            }
        }
        for (id, principal) in self.inner.agents.principals() {
            let stands = !self.has_lost_login(&principal)
                && !matches!(self.identity().still_stands(&principal).await, Ok(false));
            if !stands {
                tracing::info!(session = %id, user = principal.name, "the right to stay is gone");
                let _kept_later = self.inner.agents.end(id, EndReason::LoginEnded, None);
            }
        }
    }

    /// Whether this is somebody whose login has ended, where sessions end with it.
    fn has_lost_login(&self, principal: &Principal) -> bool {
        let logins = self.logins();
        logins.rules().end_sessions && principal.login.is_some_and(|id| !logins.is_live(id))
    }
}
