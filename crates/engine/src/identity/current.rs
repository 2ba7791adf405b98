//! The password somebody who is signed in has, and the one they want to have.

use sojourn_core::audit::Event;
use sojourn_core::ids::UserId;
use sojourn_store::User;

use super::Client;
use super::Identity;
use super::Unavailable;
use super::claim::store_gone;
use super::hash::HashError;
use super::policy::BadPassword;

/// Whether a password is somebody's own.
pub(crate) enum Current {
    /// It is. The account as it was when that was checked.
    Right(Box<User>),
    /// It is not, which is counted and on record.
    Wrong,
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
    /// Whether this is the password of somebody who is signed in. A wrong one counts to the account
    /// and the address, and goes on record as `wrong`; how often a login may try is the caller's, so
    /// that guesses from elsewhere keep nobody from changing their password.
    pub(crate) async fn current_password(
        &self,
        user: UserId,
        password: &str,
        client: &Client,
        wrong: &Event,
    ) -> Current {
        let came = self.try_current(user, password, client, wrong).await;
        came.unwrap_or_else(Current::Unavailable)
    }

    async fn try_current(
        &self,
        user: UserId,
        password: &str,
        client: &Client,
        wrong: &Event,
    ) -> Result<Current, Unavailable> {
        let found = self.store.user_by_id(user).await.map_err(|error| store_gone(&error))?;
        let (matches, _counted) = self.matches(found.as_ref(), password).await?;
        match found {
            Some(user) if matches => Ok(Current::Right(Box::new(user))),
            found => {
                self.fail(found.as_ref(), None, &self.origin(client.address()), wrong).await?;
                Ok(Current::Wrong)
            }
        }
    }

    /// The hash of a password that somebody wants to have.
    pub(crate) async fn new_password(&self, user: &User, new: &str) -> Result<String, NotTaken> {
        let has_second_factor = self.has_second_factor(user.id).await;
        let has_second_factor =
            has_second_factor.map_err(|error| NotTaken::Unavailable(store_gone(&error)))?;
        let policy = self.rules.policy();
        policy.check(new, &user.name, has_second_factor).await.map_err(NotTaken::Bad)?;
        self.hasher.hash(new).await.map_err(|error| match error {
            HashError::Busy | HashError::Broken => NotTaken::Unavailable(Unavailable::Busy),
        })
    }
}
