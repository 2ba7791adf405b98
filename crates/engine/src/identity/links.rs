//! One-time links: an admin gives one to somebody, who sets a password with it that no admin sees.

use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::ids::UserId;
use sojourn_core::time::Wall;
use sojourn_store::StoreError;
use sojourn_store::User;

use super::Identity;
use super::Unavailable;
use super::accounts::AccountError;
use super::accounts::Accounts;
use super::claim::store_gone;
use super::current::NotTaken;
use super::first;
use super::hash::HashError;
use super::is_open;
use super::policy::BadPassword;
use super::signed_in::Client;
use crate::secret;
use crate::secret::Secret;

/// What the secret in a link begins with.
const RESET: &str = "sjr1_";
/// How long it is good.
pub const LINK_LIFETIME: Duration = Duration::from_secs(3600);

/// A link that was made: to be shown once.
#[derive(Debug)]
pub struct ResetLink {
    /// Its secret.
    pub token: Secret,
    /// When it is too late.
    pub expires_at: Wall,
}

/// Why a link set no password.
#[derive(Debug, thiserror::Error)]
pub enum ResetError {
    /// Unknown, used or too old.
    #[error("this link is not good any more; ask an admin for a new one")]
    Link,
    /// The two are not the same.
    #[error("the new password and its repetition differ")]
    Confirmation,
    /// The password is not good enough.
    #[error(transparent)]
    Password(#[from] BadPassword),
    /// It cannot be done just now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl From<StoreError> for ResetError {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(store_gone(&error))
    }
}

impl Accounts {
    /// Makes a link by which an account gets a new password, once. Earlier ones are void.
    ///
    /// # Errors
    /// When there is no such account, or it is closed.
    pub async fn issue_reset(&self, name: &str, actor: Actor) -> Result<ResetLink, AccountError> {
        let user = self.get(name).await?;
        if !is_open(&user) {
            return Err(AccountError::Closed(name.to_owned()));
        }
        let event = self.event(Action::UserResetIssued, name, actor);
        let expires_at = event.timestamp.after(LINK_LIFETIME);
        let event = event.detail("expires_at", expires_at.to_rfc3339());
        let token = Secret::random(RESET).map_err(|_| HashError::Broken)?;
        self.store.issue_reset(user.id, &token.hash(), expires_at, &event).await?;
        Ok(ResetLink { token, expires_at })
    }
}

impl Identity {
    /// Somebody uses a link to set their password. Nobody is signed in by it, a second factor is asked
    /// for as ever, and what the old password opened ends. Whose password it is.
    ///
    /// # Errors
    /// When the link is not good, or the password is not.
    pub async fn reset(
        &self,
        token: &str,
        new: &str,
        confirmation: &str,
        client: &Client,
    ) -> Result<UserId, ResetError> {
        if !secret::is_formed(token, RESET) {
            return Err(ResetError::Link);
        }
        let hash = secret::hash_of(token);
        let id = self.store.reset_for(&hash, self.clock.wall()).await?;
        let user = match id {
            Some(id) => self.store.user_by_id(id).await?.filter(is_open),
            None => None,
        };
        let user = user.ok_or(ResetError::Link)?;
        if new != confirmation {
            return Err(ResetError::Confirmation);
        }
        let new = self.new_password(&user, new).await.map_err(|why| match why {
            NotTaken::Bad(why) => ResetError::Password(why),
            NotTaken::Unavailable(why) => ResetError::Unavailable(why),
        })?;
        let event = Event::new(self.clock.wall(), Action::UserResetUsed, client.actor(&user.name))
            .detail("user", user.name.as_str());
        if !self.store.use_reset(user.id, &hash, &new, &event).await? {
            return Err(ResetError::Link);
        }
        self.password_is_new(&user).await;
        Ok(user.id)
    }

    /// Whether a link is good, so that a page need not ask for a password in vain.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn is_reset_good(&self, token: &str) -> Result<bool, StoreError> {
        let hash = secret::hash_of(token);
        let now = self.clock.wall();
        Ok(secret::is_formed(token, RESET) && self.store.reset_for(&hash, now).await?.is_some())
    }

    /// An account got a password just now: what was held against the old one is over, and the file with
    /// a first one goes.
    pub(crate) async fn password_is_new(&self, user: &User) {
        if let Err(error) = self.store.clear_failures(&self.name_bucket(&user.name)).await {
            tracing::warn!(user = user.name, %error, "failures of before still count");
        }
        if let Some(data_dir) = &self.data_dir {
            first::forget_after(user, data_dir);
        }
    }
}
