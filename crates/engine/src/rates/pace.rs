//! A pace by address: so many at once, and then as many again in each minute, spread over it.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use governor::NotUntil;
use governor::Quota;
use governor::RateLimiter;
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DashMapStateStore;
use sojourn_core::rate::Origin;

use crate::clock::Clock;

/// Addresses that are kept, and a few more until it is next looked: some megabytes. When so many are
/// busy at once, all are forgotten: whoever has as many is not held up by a pace for each.
const MOST: usize = 50_000;

/// It is looked for idle addresses once in so many tries.
const LOOK_EVERY: u32 = 1024;

/// Our clock, as `governor` reads it.
#[derive(Clone)]
struct Ticks(Arc<dyn Clock>);

impl GovernorClock for Ticks {
    type Instant = Duration;

    fn now(&self) -> Duration {
        Duration::from_micros(self.0.mono().0)
    }
}

type Limiter = RateLimiter<Origin, DashMapStateStore<Origin>, Ticks, NoOpMiddleware<Duration>>;

/// One pace.
pub(super) struct Pace {
    ticks: Ticks,
    paced: RwLock<Paced>,
    tries: AtomicU32,
}

#[derive(Clone)]
struct Paced {
    most: u32,
    /// None: as often as one likes.
    limiter: Option<Arc<Limiter>>,
}

impl Pace {
    pub(super) fn new(most: u32, clock: Arc<dyn Clock>) -> Self {
        let ticks = Ticks(clock);
        let paced = RwLock::new(paced(most, &ticks));
        Self { ticks, paced, tries: AtomicU32::new(0) }
    }

    /// Begins another one, unless it is the same.
    pub(super) fn set(&self, most: u32) {
        let mut now = self.paced.write().unwrap_or_else(PoisonError::into_inner);
        if now.most != most {
            *now = paced(most, &self.ticks);
        }
    }

    /// One more; if that is too many, how many there may be and how long to wait.
    pub(super) fn keep(&self, origin: Origin) -> Result<(), (u32, Duration)> {
        let Paced { most, limiter } =
            self.paced.read().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(limiter) = limiter else { return Ok(()) };
        if self.tries.fetch_add(1, Ordering::Relaxed) % LOOK_EVERY == LOOK_EVERY - 1 {
            self.look(&limiter, most);
        }
        let wait = |until: NotUntil<Duration>| (most, until.wait_time_from(self.ticks.now()));
        limiter.check_key(&origin).map_err(wait)
    }

    fn look(&self, limiter: &Limiter, most: u32) {
        limiter.retain_recent();
        limiter.shrink_to_fit();
        if limiter.len() > MOST {
            tracing::warn!(
                addresses = limiter.len(),
                "too many addresses to keep the pace of each"
            );
            *self.paced.write().unwrap_or_else(PoisonError::into_inner) = paced(most, &self.ticks);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let paced = self.paced.read().unwrap_or_else(PoisonError::into_inner);
        paced.limiter.as_ref().map_or(0, |limiter| limiter.len())
    }
}

fn paced(most: u32, ticks: &Ticks) -> Paced {
    let quota = std::num::NonZeroU32::new(most).map(Quota::per_minute);
    let limiter =
        quota.map(|quota| Arc::new(RateLimiter::dashmap_with_clock(quota, ticks.clone())));
    Paced { most, limiter }
}
