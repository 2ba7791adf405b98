//! How many channels one connection may have open, and in its life.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use sojourn_core::wire::shim::MAX_CHANNELS;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;

/// How many channels one connection may open in its life: the library keeps about 3 KB of each that
/// we closed first.
const MOST_EVER: usize = 10_000;

/// One connection's places. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    open: Arc<Semaphore>,
    ever: Arc<AtomicUsize>,
}

/// One channel's place; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _open: OwnedSemaphorePermit,
    ever: Arc<AtomicUsize>,
}

impl Places {
    pub(crate) fn new() -> Self {
        Self { open: Arc::new(Semaphore::new(MAX_CHANNELS)), ever: Arc::default() }
    }

    /// A place, if there is one now.
    pub(crate) fn try_take(&self) -> Option<Place> {
        let open = self.open.clone().try_acquire_owned().ok()?;
        self.count(open)
    }

    /// A place, when there is one; none, if there never will be.
    pub(crate) async fn take(&self) -> Option<Place> {
        let open = self.open.clone().acquire_owned().await.ok()?;
        self.count(open)
    }

    /// Resolves when no place is taken.
    pub(crate) async fn all_free(&self) {
        let all = u32::try_from(MAX_CHANNELS).unwrap_or(u32::MAX);
        // It is never closed.
        let _all = self.open.acquire_many(all).await;
    }

    fn count(&self, open: OwnedSemaphorePermit) -> Option<Place> {
        let more = |ever: usize| (ever < MOST_EVER).then_some(ever + 1);
        self.ever.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Place { _open: open, ever: self.ever.clone() })
    }
}

impl Place {
    /// Its channel left nothing behind: the client closed it first, or it was never opened.
    pub(crate) fn left_nothing(self) {
        self.ever.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_at_a_time_and_for_life() {
        let places = Places::new();
        let all: Vec<Place> = (0..MAX_CHANNELS).map(|_| places.try_take().unwrap()).collect();
        assert!(places.try_take().is_none());
        drop(all);
        for _ in 0..2 * MOST_EVER {
            places.try_take().unwrap().left_nothing();
        }
        for _ in MAX_CHANNELS..MOST_EVER {
            drop(places.try_take().unwrap());
        }
        assert!(places.try_take().is_none());
    }
}
