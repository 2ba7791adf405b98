//! Somebody claims an account: whose failures theirs count to, whether they may try now, and what a
//! try costs.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::ids::UserId;
use sojourn_core::time::Wall;
use sojourn_store::Failure;
use sojourn_store::StoreError;
use sojourn_store::Success;
use sojourn_store::User;

use super::Identity;
use super::MAX_PASSWORD_BYTES;
use super::Unavailable;
use super::cut;
use super::hash::Permit;
use super::hash::Queue;
use super::hash::Verified;
use super::is_open;
use super::throttle;
use crate::secret;
use crate::secret::NoRandomness;
use crate::secret::Secret;

/// What the cookie of a known browser begins with.
const DEVICE: &str = "sjd1_";

/// After so many failures it is looked whether there are too many to keep.
const SWEEP: u32 = 256;

/// An account somebody claims, and whose failures theirs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The account, if there is one.
    pub(super) user: Option<User>,
    /// Whose failures in a row these are, hidden.
    pub(super) bucket: String,
    /// From where, hidden.
    pub(super) origin: String,
    /// The cookie of a browser that is known for this account, by its hash.
    device: Option<String>,
}

/// What comes of a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// It is theirs.
    Right,
    /// It is not, which is not counted yet.
    Wrong(&'static str),
    /// It was not looked at: too many failures at this account. Nobody is to see that.
    Held(Duration),
    /// It was not looked at: too many failures from this address.
    Throttled(Duration),
}

impl Identity {
    /// Finds out what a claim to `name` counts to. The same work for a name that nobody has.
    pub(super) async fn claim(
        &self,
        name: &str,
        address: IpAddr,
        device: Option<&str>,
    ) -> Result<Claim, Unavailable> {
        let name = cut(name);
        let found = async {
            let user = self.find(name).await?;
            let id = user.as_ref().map(|user| user.id);
            let now = self.clock.wall();
            let place = self.place(name, address);
            let is_known_place = self.store.knows_device(id, &place, now).await?;
            let device = self.known_device(id, device, now).await?;
            let bucket = match (&device, is_known_place) {
                (Some(device), _) => self.seal.hide(&["device", device]),
                (None, true) => place,
                (None, false) => self.name_bucket(name),
            };
            Ok::<_, StoreError>(Claim { user, bucket, origin: self.origin(address), device })
        };
        found.await.map_err(|error| store_gone(&error))
    }

    /// Checks a password. What comes of it is not counted yet; until it is, the permit is to be kept.
    pub(super) async fn check(
        &self,
        claim: &Claim,
        password: &[u8],
        queue: Queue,
    ) -> Result<(Checked, Option<Permit>), Unavailable> {
        // Before the queue, so that who is throttled takes no place in it; and after it, so that a
        // hundred tries at once are not a hundred tries before the first counts.
        if let Some(wait) = self.wait_of_origin(claim).await? {
            return Ok((Checked::Throttled(wait), None));
        }
        let permit = self.hasher.permit(queue).await.map_err(|_| Unavailable::Busy)?;
        if let Some(wait) = self.wait_of_origin(claim).await? {
            return Ok((Checked::Throttled(wait), None));
        }
        if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
            return Ok((Checked::Wrong("length"), Some(permit)));
        }
        let held = self.wait(&claim.bucket).await?;
        let usable = claim.user.as_ref().filter(|user| held.is_none() && may_use_password(user));
        let stored = usable.and_then(|user| user.password.clone());
        let verified = self.hasher.verify(permit, password, stored).await;
        let (verified, permit) = verified.map_err(|_| Unavailable::Busy)?;
        let checked = match (held, verified) {
            (Some(wait), _) => Checked::Held(wait),
            (None, Verified::No) => Checked::Wrong(match &claim.user {
                None => "unknown user",
                Some(user) if !is_open(user) => "disabled",
                Some(user) if user.password.is_none() => "no password",
                Some(user) if !may_use_password(user) => "password disabled",
                Some(_) => "password",
            }),
            (None, Verified::Yes { better }) => {
                if let (Some(user), Some(better)) = (&claim.user, better) {
                    self.rehash(user, &better).await;
                }
                Checked::Right
            }
        };
        Ok((checked, Some(permit)))
    }

    /// Counts a failure, and puts it on the record.
    pub(super) async fn fail(
        &self,
        user: Option<&User>,
        bucket: Option<&str>,
        origin: &str,
        event: &Event,
    ) -> Result<(), Unavailable> {
        let at = event.timestamp;
        let failure = Failure { user: user.map(|user| user.id), bucket, origin, at };
        let name = user.map_or("", |user| user.name.as_str());
        let disabled = Event::new(at, Action::UserPasswordDisabled, event.actor.clone())
            .detail("user", name)
            .detail("failures", throttle::RULES.disable_at);
        let counted = self.store.count_failure(&failure, &throttle::RULES, event, &disabled).await;
        if counted.map_err(|error| store_gone(&error))? {
            tracing::warn!(user = name, "password disabled after too many failures in a row");
        }
        if self.failures.fetch_add(1, Ordering::Relaxed) % SWEEP == SWEEP - 1 {
            let swept = self.store.forget_failures(at).await;
            swept.map_err(|error| store_gone(&error))?;
        }
        Ok(())
    }

    /// Counts a try that was held. It counts to its address alone: to the account it is none.
    pub(super) async fn hold(&self, origin: &str, event: &Event) -> Result<(), Unavailable> {
        self.fail(None, None, origin, event).await
    }

    /// Somebody has proved all that is asked for: the failures in a row are over, and the address and
    /// the browser are known from now on. The cookie for a browser that was not, where one is wanted.
    pub(super) async fn succeed(
        &self,
        user: &User,
        bucket: &str,
        address: IpAddr,
        browser: Browser<'_>,
    ) -> Result<Option<Secret>, Unavailable> {
        let now = self.clock.wall();
        let place = self.place(&user.name, address);
        let given = match browser {
            Browser::None => None,
            Browser::Cookie(cookie) => self
                .known_device(Some(user.id), cookie, now)
                .await
                .map_err(|error| store_gone(&error))?,
        };
        let new = match (browser, &given) {
            (Browser::Cookie(_), None) => {
                Some(Secret::random(DEVICE).map_err(|NoRandomness| Unavailable::Store)?)
            }
            _ => None,
        };
        let hash = given.or_else(|| new.as_ref().map(Secret::hash));
        let known: Vec<&str> = std::iter::once(place.as_str()).chain(hash.as_deref()).collect();
        let until = now.after(throttle::KNOWN);
        let success = Success { user: user.id, bucket, known: &known, until };
        let counted = self.store.count_success(&success).await;
        counted.map_err(|error| store_gone(&error))?;
        Ok(new)
    }

    /// How long those have to wait whose failures these are.
    pub(super) async fn wait(&self, bucket: &str) -> Result<Option<Duration>, Unavailable> {
        let now = self.clock.wall();
        let failures = self.store.failures(bucket, now).await;
        Ok(throttle::wait(&failures.map_err(|error| store_gone(&error))?, now))
    }

    async fn wait_of_origin(&self, claim: &Claim) -> Result<Option<Duration>, Unavailable> {
        // Whoever brings a cookie that only the owner's browser has is counted by that alone.
        if claim.device.is_some() {
            return Ok(None);
        }
        let now = self.clock.wall();
        let failures = self.store.failures(&claim.origin, now).await;
        Ok(throttle::wait_of_origin(&failures.map_err(|error| store_gone(&error))?, now))
    }

    /// The same, for whoever is past their password.
    pub(super) async fn wait_at(&self, origin: &str) -> Result<Option<Duration>, Unavailable> {
        let now = self.clock.wall();
        let failures = self.store.failures(origin, now).await;
        Ok(throttle::wait_of_origin(&failures.map_err(|error| store_gone(&error))?, now))
    }

    /// The hash of a cookie, if it is one of a browser that is known for this account.
    async fn known_device(
        &self,
        user: Option<UserId>,
        cookie: Option<&str>,
        now: Wall,
    ) -> Result<Option<String>, StoreError> {
        let Some(cookie) = cookie.filter(|cookie| secret::is_formed(cookie, DEVICE)) else {
            return Ok(None);
        };
        let hash = secret::hash_of(cookie);
        Ok(self.store.knows_device(user, &hash, now).await?.then_some(hash))
    }

    async fn rehash(&self, user: &User, better: &str) {
        let Some(old) = &user.password else { return };
        if let Err(error) = self.store.rehash(user.id, old, better).await {
            tracing::warn!(user = user.name, %error, "a password keeps its cheaper hash");
        }
    }

    pub(super) fn origin(&self, address: IpAddr) -> String {
        self.seal.hide(&["origin", &throttle::origin(address)])
    }

    pub(super) fn name_bucket(&self, name: &str) -> String {
        self.seal.hide(&["name", name])
    }

    fn place(&self, name: &str, address: IpAddr) -> String {
        self.seal.hide(&["place", name, &throttle::origin(address)])
    }
}

/// What is remembered of a browser.
#[derive(Clone, Copy, Debug)]
pub(super) enum Browser<'a> {
    /// There is none.
    None,
    /// Its cookie, if it sent one.
    Cookie(Option<&'a str>),
}

/// Whether this account's password opens anything.
pub(super) const fn may_use_password(user: &User) -> bool {
    is_open(user) && user.password_disabled_at.is_none()
}

pub(super) fn store_gone(error: &StoreError) -> Unavailable {
    tracing::error!(%error, "nobody can sign in: the store does not answer");
    Unavailable::Store
}
