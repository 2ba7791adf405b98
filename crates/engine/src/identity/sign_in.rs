//! Signing in at the web door: password, then the second factor where there is one.
//!
//! A success is not on record here: the login that is begun with it writes `login_succeeded` in the
//! transaction that makes it.

use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Event;

use super::Identity;
use super::MAX_PASSWORD_BYTES;
use super::Unavailable;
use super::cut;
use super::hash::Hasher;
use super::is_open;
use super::signed_in::Client;
use super::signed_in::Method;
use super::signed_in::Methods;
use super::signed_in::SignedIn;
use crate::secret::Secret;

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
    /// Too many failures from this address.
    Throttled {
        /// When a try may count again.
        retry_after: Duration,
    },
    /// It cannot be told just now, which is a no.
    Unavailable(Unavailable),
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
        let _later = device;
        let now = self.clock.mono();
        let wait = self.throttle().wait(cut(name), client.address(), now);
        if let Some(retry_after) = wait {
            self.web_record(Action::LoginThrottled, name, client, "throttled");
            return SignIn::Throttled { retry_after };
        }
        let Ok(permit) = self.hasher.permit().await else {
            return SignIn::Unavailable(Unavailable::Busy);
        };
        let Ok(user) = self.find(name).await else {
            return SignIn::Unavailable(Unavailable::Store);
        };
        let tried = if password.len() > MAX_PASSWORD_BYTES { "" } else { password };
        let stored = user.as_ref().filter(|user| is_open(user)).and_then(|u| u.password.clone());
        match (Hasher::verify(permit, tried.as_bytes(), stored).await, user) {
            (Err(_), _) => SignIn::Unavailable(Unavailable::Busy),
            (Ok(true), Some(user)) => {
                if !self.audit.is_writable() {
                    return SignIn::Unavailable(Unavailable::Audit);
                }
                self.throttle().succeeded(name, client.address(), now);
                let methods = Methods::default().with(Method::Password);
                SignIn::Done(SignedIn::new(&user, methods), None)
            }
            _ => {
                self.throttle().failed(cut(name), client.address(), now);
                self.web_record(Action::LoginFailed, name, client, "password");
                SignIn::Refused
            }
        }
    }

    /// Somebody in a ceremony gives the code of the moment.
    pub async fn second_factor(
        &self,
        _ceremony: &str,
        _code: &str,
        _client: &Client,
        _device: Option<&str>,
    ) -> SignIn {
        SignIn::Over
    }

    /// Somebody in a ceremony gives one of their recovery codes.
    pub async fn recovery(
        &self,
        _ceremony: &str,
        _code: &str,
        _client: &Client,
        _device: Option<&str>,
    ) -> SignIn {
        SignIn::Over
    }

    fn web_record(&self, action: Action, name: &str, client: &Client, why: &'static str) {
        let event = Event::new(self.clock.wall(), action, client.actor(name));
        self.audit.record_soon(event.detail("user", cut(name)).detail("reason", why));
    }
}
