//! Where time comes from. Everything else is handed a clock, so that tests move time themselves.
//!
//! Whoever waits for a time does so with [`until`], which also wakes when the clock is moved by hand.

#[cfg(feature = "test-clock")]
mod moved;

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::time::ClockId;
use rustix::time::Timespec;
use sojourn_core::time::Mono;
use sojourn_core::time::Wall;
use sojourn_core::time::micros;
use tokio::sync::watch;

/// The longest that a timer of the runtime is trusted: it does not go on while the machine sleeps.
const LOOK: Duration = Duration::from_secs(60);

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Time that never jumps and goes on while the machine sleeps.
    fn mono(&self) -> Mono;

    /// The time people have.
    fn wall(&self) -> Wall;

    /// Changes whenever the clock is moved by hand; none for a clock that nobody moves.
    fn moves(&self) -> Option<watch::Receiver<u64>> {
        None
    }
}

/// Resolves when it is `at` by this clock, also when it is moved there.
pub async fn until(clock: &dyn Clock, at: Mono) {
    let mut moves = clock.moves();
    loop {
        let now = clock.mono();
        if now >= at {
            return;
        }
        let nap = tokio::time::sleep(at.since(now).min(LOOK));
        match &mut moves {
            None => nap.await,
            // A clock that is gone is moved no more: then the nap is what is left.
            Some(moves) => tokio::select! {
                () = nap => {}
                Ok(()) = moves.changed() => {}
            },
        }
    }
}

/// The clock this process goes by: the machine's, or one that a test moves.
///
/// # Errors
/// As [`moved_by_a_test`].
pub fn from_environment() -> std::io::Result<Arc<dyn Clock>> {
    Ok(moved_by_a_test()?.unwrap_or_else(|| Arc::new(SystemClock)))
}

/// The clock that a test moves: there is none in a program that is no test's.
///
/// # Errors
/// Never.
#[cfg(not(feature = "test-clock"))]
pub fn moved_by_a_test() -> std::io::Result<Option<Arc<dyn Clock>>> {
    Ok(None)
}

/// The clock that a test moves, where the environment names one.
///
/// # Errors
/// When the socket by which it is to be moved cannot be made.
#[cfg(feature = "test-clock")]
pub fn moved_by_a_test() -> std::io::Result<Option<Arc<dyn Clock>>> {
    moved::from_environment()
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn mono(&self) -> Mono {
        let micros = in_micros(rustix::time::clock_gettime(ClockId::Boottime));
        Mono(u64::try_from(micros).unwrap_or(0))
    }

    fn wall(&self) -> Wall {
        Wall(in_micros(rustix::time::clock_gettime(ClockId::Realtime)))
    }
}

fn in_micros(time: Timespec) -> i64 {
    time.tv_sec.saturating_mul(1_000_000).saturating_add(time.tv_nsec / 1000)
}

/// A clock that moves only when it is told to.
#[derive(Debug)]
pub struct ManualClock {
    mono: AtomicU64,
    wall: AtomicI64,
    moves: watch::Sender<u64>,
}

impl ManualClock {
    /// A clock that stands at some morning in 2026, an hour after boot.
    #[must_use]
    pub fn new() -> Self {
        Self {
            mono: AtomicU64::new(3_600_000_000),
            wall: AtomicI64::new(1_795_345_331_532_000),
            moves: watch::Sender::new(0),
        }
    }

    /// Moves both times on.
    pub fn advance(&self, by: Duration) {
        let by = micros(by);
        self.mono.fetch_add(by, Ordering::SeqCst);
        self.wall.fetch_add(i64::try_from(by).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.moves.send_modify(|count| *count += 1);
    }

    /// Turns back the time people have, as somebody does who sets a clock.
    pub fn set_back(&self, by: Duration) {
        self.wall.fetch_sub(i64::try_from(micros(by)).unwrap_or(i64::MAX), Ordering::SeqCst);
        self.moves.send_modify(|count| *count += 1);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn mono(&self) -> Mono {
        Mono(self.mono.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Wall {
        Wall(self.wall.load(Ordering::SeqCst))
    }

    fn moves(&self) -> Option<watch::Receiver<u64>> {
        Some(self.moves.subscribe())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_a_time_wakes_when_the_clock_is_moved_there() {
        let clock = Arc::new(ManualClock::new());
        let at = clock.mono().after(Duration::from_secs(3600));
        let there = clock.clone();
        let mut waiting = tokio::spawn(async move { until(there.as_ref(), at).await });
        clock.advance(Duration::from_secs(3599));
        let early = tokio::time::timeout(Duration::from_millis(20), &mut waiting).await;
        assert!(early.is_err(), "a second is missing");
        clock.advance(Duration::from_secs(1));
        tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    }
}
