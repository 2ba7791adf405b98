//! Signing in at the web door: password, then the second factor where there is one.
//!
//! A success is not on record here: the login that is begun with it writes `login_succeeded` in the
//! transaction that makes it.

use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_store::NewCeremony;
use sojourn_store::User;

use super::Identity;
use super::Unavailable;
use super::claim::Browser;
use super::claim::Checked;
use super::claim::Claim;
use super::claim::may_use_password;
use super::claim::store_gone;
use super::cut;
use super::factors::Proof;
use super::hash::Queue;
use super::is_open;
use super::signed_in::Client;
use super::signed_in::Method;
use super::signed_in::Methods;
use super::signed_in::SignedIn;
use crate::secret;
use crate::secret::NoRandomness;
use crate::secret::Secret;

/// What a ceremony's secret begins with.
const CEREMONY: &str = "sjp1_";
/// What it is for.
const SIGN_IN: &str = "sign_in";
/// How long it may take.
pub const CEREMONY_LIFETIME: Duration = Duration::from_secs(300);
/// Tries at the second factor in one.
const TRIES: i64 = 5;

/// What comes of a step of signing in.
#[derive(Debug)]
pub enum SignIn {
    /// It is them. With a cookie for a browser that is not known yet: it selects whose failures are
    /// counted at the next sign-in, and opens nothing.
    Done(SignedIn, Option<Secret>),
    /// The password is right, and a second factor is asked for. The secret names the ceremony, opens
    /// nothing else, and is good for a few tries and minutes.
    SecondFactor(Secret),
    /// No; nobody is told why. In a ceremony: the code was wrong, and there are tries left.
    Refused,
    /// The ceremony is unknown, used up or too old: sign in again from the password on.
    Over,
    /// Too many failures from this address, or in this ceremony's account.
    Throttled {
        /// When a try may count again.
        retry_after: Duration,
    },
    /// It cannot be told just now, which is a no.
    Unavailable(Unavailable),
}

impl From<Unavailable> for SignIn {
    fn from(why: Unavailable) -> Self {
        Self::Unavailable(why)
    }
}

/// A code of one kind or the other.
#[derive(Clone, Copy)]
enum Code<'a> {
    Totp(&'a str),
    Recovery(&'a str),
}

impl Identity {
    /// Somebody signs in by name and password. `device` is the cookie that an earlier
    /// [`SignIn::Done`] gave their browser.
    pub async fn sign_in(
        &self,
        name: &str,
        password: &str,
        client: &Client,
        device: Option<&str>,
    ) -> SignIn {
        let came = self.try_sign_in(name, password, client, device).await;
        came.unwrap_or_else(|why| self.unavailable_at_web(name, client, why))
    }

    /// Somebody in a ceremony gives the code of the moment.
    pub async fn second_factor(
        &self,
        ceremony: &str,
        code: &str,
        client: &Client,
        device: Option<&str>,
    ) -> SignIn {
        let came = self.try_code(ceremony, Code::Totp(code), client, device).await;
        came.unwrap_or_else(|why| self.unavailable_at_web("", client, why))
    }

    /// Somebody in a ceremony gives one of their recovery codes.
    pub async fn recovery(
        &self,
        ceremony: &str,
        code: &str,
        client: &Client,
        device: Option<&str>,
    ) -> SignIn {
        let came = self.try_code(ceremony, Code::Recovery(code), client, device).await;
        came.unwrap_or_else(|why| self.unavailable_at_web("", client, why))
    }

    async fn try_sign_in(
        &self,
        name: &str,
        password: &str,
        client: &Client,
        device: Option<&str>,
    ) -> Result<SignIn, Unavailable> {
        let claim = self.claim(name, client.address(), device).await?;
        let (checked, _counted) = self.check(&claim, password.as_bytes(), Queue::Web).await?;
        let user = match (checked, &claim.user) {
            (Checked::Right, Some(user)) => user,
            (Checked::Throttled(retry_after), _) => {
                let event = self.at_web(Action::LoginThrottled, name, client);
                self.audit.record_soon(event.detail("retry_after", retry_after.as_secs()));
                return Ok(SignIn::Throttled { retry_after });
            }
            (Checked::Held(wait), _) => {
                let event = self.at_web(Action::LoginThrottled, name, client);
                let event = event.detail("retry_after", wait.as_secs());
                self.hold(&claim.origin, &event).await?;
                return Ok(SignIn::Refused);
            }
            (Checked::Wrong(why), user) => {
                return self.fail_at_web(user.as_ref(), &claim, name, client, why).await;
            }
            (Checked::Right, None) => {
                return self.fail_at_web(None, &claim, name, client, "unknown user").await;
            }
        };
        if !self.audit.is_writable() {
            return Err(Unavailable::Audit);
        }
        let methods = Methods::default().with(Method::Password);
        if self.has_second_factor(user.id).await.map_err(|error| store_gone(&error))? {
            return self.begin_ceremony(user, &claim.bucket).await;
        }
        let browser = Browser::Cookie(device);
        let cookie = self.succeed(user, &claim.bucket, client.address(), browser).await?;
        Ok(SignIn::Done(SignedIn::new(user, methods), cookie))
    }

    async fn begin_ceremony(&self, user: &User, bucket: &str) -> Result<SignIn, Unavailable> {
        let at = self.clock.wall();
        let secret = Secret::random(CEREMONY).map_err(|NoRandomness| Unavailable::Store)?;
        let new = NewCeremony {
            id_hash: &secret.hash(),
            user: user.id,
            epoch: user.epoch,
            purpose: SIGN_IN,
            bucket,
            at,
            expires_at: at.after(CEREMONY_LIFETIME),
        };
        let begun = self.store.begin_ceremony(&new).await;
        begun.map_err(|error| store_gone(&error))?;
        Ok(SignIn::SecondFactor(secret))
    }

    async fn try_code(
        &self,
        ceremony: &str,
        code: Code<'_>,
        client: &Client,
        device: Option<&str>,
    ) -> Result<SignIn, Unavailable> {
        if !secret::is_formed(ceremony, CEREMONY) {
            return Ok(SignIn::Over);
        }
        let id = secret::hash_of(ceremony);
        let now = self.clock.wall();
        let tried = self.store.try_ceremony(&id, SIGN_IN, TRIES, now).await;
        let Some(tried) = tried.map_err(|error| store_gone(&error))? else {
            return Ok(SignIn::Over);
        };
        let user = self.store.user_by_id(tried.user).await.map_err(|error| store_gone(&error))?;
        // What the password proved is proved no more.
        let is_same = |user: &User| user.epoch == tried.epoch && may_use_password(user);
        let Some(user) = user.filter(is_same) else {
            return Ok(SignIn::Over);
        };
        let origin = self.origin(client.address());
        let waits = [self.wait_at(&origin).await?, self.wait(&tried.bucket).await?];
        if let Some(retry_after) = waits.into_iter().flatten().max() {
            let event = self.at_web(Action::LoginThrottled, &user.name, client);
            self.audit.record_soon(event.detail("retry_after", retry_after.as_secs()));
            return Ok(SignIn::Throttled { retry_after });
        }
        if !self.audit.is_writable() {
            return Err(Unavailable::Audit);
        }
        let actor = client.actor(&user.name);
        let (method, proof) = match code {
            Code::Totp(code) => (Method::Totp, self.prove_totp(&user, code, &actor).await?),
            Code::Recovery(code) => {
                (Method::Recovery, self.prove_recovery(&user, code, &actor).await?)
            }
        };
        let why = match proof {
            Proof::Yes => None,
            Proof::Replayed => Some("code used before"),
            Proof::No => Some("code"),
        };
        if let Some(why) = why {
            let event = self.at_web(Action::LoginFailed, &user.name, client);
            let event = event.detail("reason", why).detail("method", method.name());
            self.fail(Some(&user), Some(&tried.bucket), &origin, &event).await?;
            return Ok(SignIn::Refused);
        }
        if !self.store.end_ceremony(&id).await.map_err(|error| store_gone(&error))? {
            return Ok(SignIn::Over);
        }
        let browser = Browser::Cookie(device);
        let cookie = self.succeed(&user, &tried.bucket, client.address(), browser).await?;
        let methods = Methods::default().with(Method::Password).with(method);
        Ok(SignIn::Done(SignedIn::new(&user, methods), cookie))
    }

    async fn fail_at_web(
        &self,
        user: Option<&User>,
        claim: &Claim,
        name: &str,
        client: &Client,
        why: &'static str,
    ) -> Result<SignIn, Unavailable> {
        let event = self.at_web(Action::LoginFailed, name, client).detail("reason", why);
        // A closed account's failures in a row are nobody's.
        let user = user.filter(|user| is_open(user));
        self.fail(user, Some(&claim.bucket), &claim.origin, &event).await?;
        Ok(SignIn::Refused)
    }

    fn unavailable_at_web(&self, name: &str, client: &Client, why: Unavailable) -> SignIn {
        let event = self.at_web(Action::LoginFailed, name, client);
        self.audit.record_soon(event.detail("reason", why.to_string()));
        SignIn::Unavailable(why)
    }

    pub(super) fn at_web(&self, action: Action, name: &str, client: &Client) -> Event {
        let event = Event::new(self.clock.wall(), action, client.actor(name));
        event.detail("user", cut(name))
    }
}
