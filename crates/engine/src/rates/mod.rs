//! How often somebody may do what.
//!
//! Starts and messages are counted exactly, in windows that slide: never more than so many in any
//! minute. What only has to be kept from running wild, tries to sign in and requests of nobody we
//! know, is paced. A key is a user, a session, or the address that the kernel or a trusted proxy
//! names: never anything that a client chooses. The number of keys is bounded.
//!
//! Every refusal is counted; for one key, one a minute is put on record, so that whoever is refused
//! cannot fill the log.

mod pace;

#[cfg(test)]
mod tests;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::Event;
use sojourn_core::ids::SessionId;
use sojourn_core::ids::UserId;
use sojourn_core::rate::Full;
use sojourn_core::rate::Origin;
use sojourn_core::rate::Windows;
use sojourn_core::time::Mono;

use crate::audit::AuditHandle;
use crate::clock::Clock;
use crate::engine::lock;
use crate::metrics::Metrics;
use pace::Pace;

/// Over which is counted.
const MINUTE: Duration = Duration::from_secs(60);

/// The most keys of a window. Only those with a login or a session get so far as to be one.
const KEYS: usize = 16 * 1024;

/// How often; 0 is as often as one likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Sessions started or resumed at the web door in any minute, by user and by address.
    pub starts_per_minute: u32,
    /// Messages to an agent in any minute, by session.
    pub messages_per_minute: u32,
    /// Tries to sign in at the web door, by address.
    pub sign_ins_per_minute: u32,
    /// Requests with a token or cookie that is nobody's, by address.
    pub unknown_tokens_per_minute: u32,
    /// Requests without a login or a token, by address.
    pub requests_per_minute: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            starts_per_minute: 5,
            messages_per_minute: 60,
            sign_ins_per_minute: 600,
            unknown_tokens_per_minute: 60,
            requests_per_minute: 6000,
        }
    }
}

/// Too often; nothing was spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too often: {limit} is {configured}; try again in {} s", .retry_after.as_millis().div_ceil(1000))]
pub struct Refused {
    /// The limit, by its name in the configuration.
    pub limit: &'static str,
    /// What it is.
    pub configured: u32,
    /// When it may be tried again.
    pub retry_after: Duration,
}

/// Whose tries are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    User(UserId),
    Origin(Origin),
    Session(SessionId),
}

/// All rates of a gateway. Cheap to clone.
#[derive(Clone)]
pub struct Rates {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    audit: AuditHandle,
    metrics: Metrics,
    limits: Mutex<RateLimits>,
    starts: Mutex<Windows<Key>>,
    messages: Mutex<Windows<Key>>,
    sign_ins: Pace,
    unknown_tokens: Pace,
    requests: Pace,
    /// Refusals that are on record.
    told: Mutex<Windows<(&'static str, Key)>>,
}

/// The right to start a session. It is spent when this is dropped.
#[must_use]
pub struct Start {
    rates: Rates,
    keys: [Option<Key>; 2],
    at: Mono,
}

impl Rates {
    pub(crate) fn new(clock: Arc<dyn Clock>, audit: AuditHandle, metrics: Metrics) -> Self {
        let limits = RateLimits::default();
        let windows = |most: u32| Mutex::new(Windows::new(number(most), MINUTE, KEYS));
        let inner = Inner {
            starts: windows(limits.starts_per_minute),
            messages: windows(limits.messages_per_minute),
            sign_ins: Pace::new(limits.sign_ins_per_minute, clock.clone()),
            unknown_tokens: Pace::new(limits.unknown_tokens_per_minute, clock.clone()),
            requests: Pace::new(limits.requests_per_minute, clock.clone()),
            told: Mutex::new(Windows::new(1, MINUTE, KEYS)),
            limits: Mutex::new(limits),
            clock,
            audit,
            metrics,
        };
        Self { inner: Arc::new(inner) }
    }

    /// From now on these count. What was admitted stays counted.
    pub fn set(&self, limits: RateLimits) {
        let inner = &self.inner;
        lock(&inner.starts).set_limit(number(limits.starts_per_minute));
        lock(&inner.messages).set_limit(number(limits.messages_per_minute));
        inner.sign_ins.set(limits.sign_ins_per_minute);
        inner.unknown_tokens.set(limits.unknown_tokens_per_minute);
        inner.requests.set(limits.requests_per_minute);
        *lock(&inner.limits) = limits;
    }

    /// What counts now.
    #[must_use]
    pub fn limits(&self) -> RateLimits {
        *lock(&self.inner.limits)
    }

    /// One more session of this user, asked for from this address: both admit it, or neither counts
    /// it. Nobody is counted where there is neither, as on the local socket.
    ///
    /// # Errors
    /// When there were as many in the last minute as there may be.
    pub fn start(
        &self,
        user: Option<UserId>,
        address: Option<IpAddr>,
        actor: &Actor,
    ) -> Result<Start, Refused> {
        let most = self.limits().starts_per_minute;
        let at = self.inner.clock.mono();
        let keys = [user.map(Key::User), address.map(|address| Key::Origin(address.into()))];
        let start = Start { rates: self.clone(), keys, at };
        if most == 0 {
            return Ok(Start { keys: [None, None], ..start });
        }
        let refused = {
            let mut starts = lock(&self.inner.starts);
            let full =
                start.keys().filter_map(|key| starts.check(&key, at).err().map(|f| (key, f)));
            let full = full.max_by_key(|(_, full)| full.retry_after);
            if full.is_none() {
                for key in start.keys() {
                    // It was admitted a moment ago, under the same lock.
                    let _admitted = starts.admit(key, at);
                }
            }
            full
        };
        match refused {
            None => Ok(start),
            Some((key, Full { retry_after })) => {
                Err(self.refuse("starts_per_minute", most, key, retry_after, actor))
            }
        }
    }

    /// One more message to this session's agent.
    ///
    /// # Errors
    /// When there were as many in the last minute as there may be.
    pub fn message(&self, session: SessionId, actor: &Actor) -> Result<(), Refused> {
        let most = self.limits().messages_per_minute;
        if most == 0 {
            return Ok(());
        }
        let key = Key::Session(session);
        let admitted = lock(&self.inner.messages).admit(key, self.inner.clock.mono());
        admitted
            .map_err(|full| self.refuse("messages_per_minute", most, key, full.retry_after, actor))
    }

    /// One more try to sign in from this address, whatever comes of it.
    ///
    /// # Errors
    /// When there were too many.
    pub fn sign_in(&self, address: IpAddr, actor: &Actor) -> Result<(), Refused> {
        self.paced(&self.inner.sign_ins, "sign_ins_per_minute", address, actor)
    }

    /// One more request from this address with a token or cookie that is nobody's.
    ///
    /// # Errors
    /// When there were too many.
    pub fn unknown_token(&self, address: IpAddr, actor: &Actor) -> Result<(), Refused> {
        self.paced(&self.inner.unknown_tokens, "unknown_tokens_per_minute", address, actor)
    }

    /// One more request from this address without a login or a token.
    ///
    /// # Errors
    /// When there were too many.
    pub fn request(&self, address: IpAddr, actor: &Actor) -> Result<(), Refused> {
        self.paced(&self.inner.requests, "requests_per_minute", address, actor)
    }

    fn paced(
        &self,
        pace: &Pace,
        limit: &'static str,
        address: IpAddr,
        actor: &Actor,
    ) -> Result<(), Refused> {
        let origin = Origin::from(address);
        let kept = pace.keep(origin);
        kept.map_err(|(most, wait)| self.refuse(limit, most, Key::Origin(origin), wait, actor))
    }

    fn refuse(
        &self,
        limit: &'static str,
        configured: u32,
        key: Key,
        retry_after: Duration,
        actor: &Actor,
    ) -> Refused {
        let inner = &self.inner;
        inner.metrics.limit_hit(limit);
        let first = lock(&inner.told).admit((limit, key), inner.clock.mono()).is_ok();
        if first {
            tracing::warn!(
                limit, configured, user = actor.user, address = ?actor.ip_address,
                event = "rate_limited", "too often",
            );
            let event = Event::new(inner.clock.wall(), Action::LimitExceeded, actor.clone())
                .detail("limit", limit)
                .detail("configured", configured);
            let event = match key {
                Key::Session(session) => event.session(session),
                Key::User(_) | Key::Origin(_) => event,
            };
            // The refusal stands whether or not it can be written.
            inner.audit.record_soon(event);
        }
        Refused { limit, configured, retry_after }
    }
}

impl Start {
    /// Nothing was started after all: it is as if it had never been asked for.
    pub fn give_back(self) {
        let mut starts = lock(&self.rates.inner.starts);
        for key in self.keys() {
            starts.take_back(&key, self.at);
        }
    }

    fn keys(&self) -> impl Iterator<Item = Key> + use<> {
        self.keys.into_iter().flatten()
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rates").field("limits", &self.limits()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Start").field("at", &self.at).finish_non_exhaustive()
    }
}

fn number(most: u32) -> usize {
    usize::try_from(most).unwrap_or(usize::MAX)
}
