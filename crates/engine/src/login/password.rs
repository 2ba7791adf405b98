//! Changing one's own password: everything that the old one opened ends with it, the login that asks
//! for it too.

use std::sync::Arc;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::login::LoginEnd;
use sojourn_store::PasswordChange;
use sojourn_store::User;

use super::Inner;
use super::Logins;
use super::end::EndError;
use super::login::Login;
use super::login::Standing;
use super::wrong::Try;
use crate::engine::lock;
use crate::identity::BadPassword;
use crate::identity::Client;
use crate::identity::Current;
use crate::identity::NotTaken;
use crate::identity::Unavailable;
use crate::identity::forget_after;

/// What ended with the old password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Logins.
    pub logins: usize,
    /// Sessions, which are told and ended now.
    pub sessions: usize,
}

/// Why a password was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// The current password is not that.
    #[error("the current password is wrong")]
    Wrong,
    /// Too many wrong ones.
    #[error("too many wrong passwords; try again later")]
    Throttled {
        /// When a try may count again.
        retry_after: Duration,
    },
    /// So many wrong ones that the login has ended.
    #[error("too many wrong passwords; sign in again")]
    LoginOver,
    /// The new password is not good enough.
    #[error(transparent)]
    Bad(#[from] BadPassword),
    /// The new password is the current one.
    #[error("the new password is the one you have; choose another")]
    Same,
    /// The password was changed, or the account closed, by somebody else meanwhile.
    #[error("the account was changed meanwhile; sign in again")]
    Stale,
    /// It cannot be done just now.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Logins {
    /// Changes the password of whoever has this login, if they know the one they have. When this
    /// returns, none of their logins is good for anything.
    ///
    /// # Errors
    /// Why not. Nothing has changed then, but that wrong passwords count.
    pub async fn change_password(
        &self,
        login: &Login,
        current: &str,
        new: &str,
        from: &Client,
    ) -> Result<Changed, ChangeError> {
        let inner = self.inner.clone();
        let login = inner.shelf.by_id(login.id()).ok_or(ChangeError::Stale)?;
        let (current, new, from) = (current.to_owned(), new.to_owned(), from.clone());
        let work = async move { inner.change_password(&login, &current, &new, &from).await };
        self.to_its_end(work).await.unwrap_or(Err(Unavailable::Store.into()))
    }
}

impl Inner {
    async fn change_password(
        &self,
        login: &Arc<Login>,
        current: &str,
        new: &str,
        from: &Client,
    ) -> Result<Changed, ChangeError> {
        let attempt = lock(&login.wrong).attempt(self.now.get());
        match attempt {
            Try::Free => {}
            Try::Later(retry_after) => {
                self.wrong(login, from, "throttled");
                return Err(ChangeError::Throttled { retry_after });
            }
            Try::TooMany => {
                self.wrong(login, from, "too many");
                let by = Actor::SYSTEM;
                self.end(login, LoginEnd::Revoked, by)
                    .await
                    .map_err(|EndError::Unavailable(why)| ChangeError::Unavailable(why))?;
                return Err(ChangeError::LoginOver);
            }
        }
        let wrong = self.wrong_event(login, from, "password");
        let checked = self.identity.current_password(login.user(), current, from, &wrong).await;
        let user = match checked {
            Current::Right(user) => user,
            Current::Wrong => {
                lock(&login.wrong).failed(self.now.get());
                return Err(ChangeError::Wrong);
            }
            Current::Unavailable(why) => return Err(why.into()),
        };
        if new == current {
            return Err(ChangeError::Same);
        }
        let hash = match self.identity.new_password(&user, new).await {
            Ok(hash) => hash,
            Err(NotTaken::Bad(why)) => return Err(why.into()),
            Err(NotTaken::Unavailable(why)) => return Err(why.into()),
        };
        self.set_password(login, *user, &hash, from).await
    }

    async fn set_password(
        &self,
        login: &Login,
        user: User,
        hash: &str,
        from: &Client,
    ) -> Result<Changed, ChangeError> {
        let person = &login.person;
        let _turn = person.turn.lock().await;
        let event = |logins: usize, sessions: usize| {
            let action = Action::PasswordChangedAllSessionsInvalidated;
            Event::new(self.wall(), action, login.actor(from))
                .detail("user", user.name.as_str())
                .detail("login", login.id().to_string())
                .detail("logins_ended", logins)
                .detail("sessions_ended", sessions)
        };
        let change = PasswordChange { user: user.id, epoch: user.epoch, hash, event: &event };
        let ended = self.store.change_password(&change).await;
        let ended = ended.map_err(|error| self.store_failed(&error))?.ok_or(ChangeError::Stale)?;
        let standing = Standing { epoch: user.epoch + 1, must_change: false, ..person.standing() };
        *lock(&person.standing) = standing;
        for theirs in self.shelf.of(user.id) {
            self.gone(theirs.id(), LoginEnd::PasswordChange);
        }
        self.moved.notify_one();
        forget_after(&user, &self.data_dir);
        self.identity.password_is_new(&user).await;
        // It is done and on disk: that the log has it as well is what may take longer.
        let _late = self.audit.settled().await;
        Ok(Changed { logins: ended.logins, sessions: ended.sessions })
    }

    fn wrong(&self, login: &Login, from: &Client, why: &'static str) {
        self.audit.record_soon(self.wrong_event(login, from, why));
    }

    fn wrong_event(&self, login: &Login, from: &Client, why: &'static str) -> Event {
        Event::new(self.wall(), Action::InvalidCurrentPassword, login.actor(from))
            .detail("login", login.id().to_string())
            .detail("user", login.name())
            .detail("reason", why)
    }
}
