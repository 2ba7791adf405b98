//! The password somebody who is signed in has, and the one they want to have.

use std::time::Duration;

use sojourn_core::ids::UserId;
use sojourn_store::User;

use super::Client;
use super::Identity;
use super::MAX_PASSWORD_BYTES;
use super::Unavailable;
use super::cut;
use super::hash::HashError;
use super::hash::Hasher;
use super::is_open;
use super::policy;
use super::policy::BadPassword;

/// Whether a password is somebody's own.
pub(crate) enum Current {
    /// It is. The account as it was when that was checked.
    Right(Box<User>),
    /// It is not, which counts as a refused sign-in does.
    Wrong,
    /// Not even tried, after too many wrong ones.
    Throttled(Duration),
    /// It cannot be told just now.
    Unavailable(Unavailable),
}

/// Why a password is not taken.
pub(crate) enum NotTaken {
    /// It is not good enough.
    Bad(BadPassword),
    /// It cannot be hashed just now.
    Unavailable(Unavailable),
}

impl Identity {
    /// Whether this is the password of somebody who is signed in.
    pub(crate) async fn current_password(
        &self,
        user: UserId,
        name: &str,
        password: &str,
        client: &Client,
    ) -> Current {
        let wait = || self.throttle().wait(cut(name), client.address(), self.clock.mono());
        // Before the queue and after it, as at a sign-in.
        if let Some(wait) = wait() {
            return Current::Throttled(wait);
        }
        let Ok(permit) = self.hasher.permit().await else {
            return Current::Unavailable(Unavailable::Busy);
        };
        if let Some(wait) = wait() {
            return Current::Throttled(wait);
        }
        let user = match self.store.user_by_id(user).await {
            Ok(user) => user.filter(is_open),
            Err(error) => {
                tracing::error!(%error, "accounts cannot be read");
                return Current::Unavailable(Unavailable::Store);
            }
        };
        let fits = password.len() <= MAX_PASSWORD_BYTES;
        let stored = user.as_ref().filter(|_| fits).and_then(|user| user.password.clone());
        let tried = if fits { password } else { "" };
        match (Hasher::verify(permit, tried.as_bytes(), stored).await, user) {
            (Err(_), _) => Current::Unavailable(Unavailable::Busy),
            (Ok(true), Some(user)) => Current::Right(Box::new(user)),
            _ => {
                self.throttle().failed(cut(name), client.address(), self.clock.mono());
                Current::Wrong
            }
        }
    }

    /// The hash of a password that somebody wants to have.
    pub(crate) async fn new_password(&self, name: &str, new: &str) -> Result<String, NotTaken> {
        policy::check(new, name).map_err(NotTaken::Bad)?;
        self.hasher.hash(new).await.map_err(|error| match error {
            HashError::Busy | HashError::Broken => NotTaken::Unavailable(Unavailable::Busy),
        })
    }
}
