//! Somebody who is signed in proves once more who they are.
//!
//! Their failures count to the account, but not to what strangers at the door are held up by: guesses
//! from elsewhere keep nobody from changing their password.

use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::ids::UserId;
use sojourn_store::User;

use super::Identity;
use super::MAX_PASSWORD_BYTES;
use super::Unavailable;
use super::claim::Browser;
use super::claim::may_use_password;
use super::claim::store_gone;
use super::factors::Proof;
use super::hash::Permit;
use super::hash::Queue;
use super::hash::Verified;
use super::signed_in::Client;
use super::signed_in::Method;
use super::signed_in::Methods;
use super::signed_in::SignedIn;

/// What comes of it.
#[derive(Debug)]
pub enum Again {
    /// It is them.
    Proved(SignedIn),
    /// The password is right, and a code has to come with it.
    CodeNeeded,
    /// No.
    Wrong,
    /// Too many failures of somebody who is signed in as them.
    Throttled {
        /// When a try may count again.
        retry_after: Duration,
    },
    /// It cannot be told just now, which is a no.
    Unavailable(Unavailable),
}

impl Identity {
    /// Somebody signed in as `user` proves it again: by password, and by a code of their
    /// authenticator, or a recovery code, where there is one.
    ///
    /// A success is not on record here: the login that gets a new token by it says so.
    pub async fn prove_again(
        &self,
        user: UserId,
        password: &str,
        code: Option<&str>,
        client: &Client,
    ) -> Again {
        let came = self.try_again(user, password, code, client).await;
        came.unwrap_or_else(Again::Unavailable)
    }

    async fn try_again(
        &self,
        user: UserId,
        password: &str,
        code: Option<&str>,
        client: &Client,
    ) -> Result<Again, Unavailable> {
        let bucket = self.seal.hide(&["signed in", &user.to_string()]);
        let origin = self.origin(client.address());
        let found = self.store.user_by_id(user).await.map_err(|error| store_gone(&error))?;
        let name = found.as_ref().map(|user| user.name.clone()).unwrap_or_default();
        if let Some(retry_after) = self.wait(&bucket).await? {
            let event = self.at_web(Action::LoginThrottled, &name, client);
            self.audit.record_soon(event.detail("retry_after", retry_after.as_secs()));
            return Ok(Again::Throttled { retry_after });
        }
        let (matches, _counted) = self.matches(found.as_ref(), password).await?;
        let failed = |why: &str| {
            let event = self.at_web(Action::LoginFailed, &name, client);
            event.detail("reason", why).detail("again", true)
        };
        let Some(user) = found.filter(|_| matches) else {
            let user = self.store.user_by_id(user).await.map_err(|error| store_gone(&error))?;
            self.fail(user.as_ref(), Some(&bucket), &origin, &failed("password")).await?;
            return Ok(Again::Wrong);
        };
        if !self.audit.is_writable() {
            return Err(Unavailable::Audit);
        }
        let mut methods = Methods::default().with(Method::Password);
        if self.has_second_factor(user.id).await.map_err(|error| store_gone(&error))? {
            let Some(code) = code else { return Ok(Again::CodeNeeded) };
            let proof = self.prove_either(&user, code, &client.actor(&user.name)).await?;
            if proof != Proof::Yes {
                self.fail(Some(&user), Some(&bucket), &origin, &failed("code")).await?;
                return Ok(Again::Wrong);
            }
            methods = methods.with(Method::Totp);
        }
        self.succeed(&user, &bucket, client.address(), Browser::None).await?;
        Ok(Again::Proved(SignedIn::new(&user, methods)))
    }

    /// Whether this is the account's password, after the same work in any case. The permit is to be
    /// kept until a no is counted.
    pub(super) async fn matches(
        &self,
        user: Option<&User>,
        password: &str,
    ) -> Result<(bool, Permit), Unavailable> {
        let permit = self.hasher.permit(Queue::Own).await.map_err(|_| Unavailable::Busy)?;
        let length_fits = !password.is_empty() && password.len() <= MAX_PASSWORD_BYTES;
        let usable = user.filter(|user| length_fits && may_use_password(user));
        let stored = usable.and_then(|user| user.password.clone());
        let tried = if length_fits { password } else { "" };
        let verified = self.hasher.verify(permit, tried.as_bytes(), stored).await;
        let (verified, permit) = verified.map_err(|_| Unavailable::Busy)?;
        Ok((verified != Verified::No, permit))
    }
}
