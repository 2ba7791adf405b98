//! Where time comes from. Everything else is handed a clock, so that tests move time themselves.

use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::time::ClockId;
use rustix::time::Timespec;
use sojourn_core::time::Mono;
use sojourn_core::time::Wall;
use sojourn_core::time::micros;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Time that never jumps and goes on while the machine sleeps.
    fn mono(&self) -> Mono;

    /// The time people have.
    fn wall(&self) -> Wall;
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
}

impl ManualClock {
    /// A clock that stands at some morning in 2026, an hour after boot.
    #[must_use]
    pub const fn new() -> Self {
        Self { mono: AtomicU64::new(3_600_000_000), wall: AtomicI64::new(1_795_345_331_532_000) }
    }

    /// Moves both times on.
    pub fn advance(&self, by: Duration) {
        let by = micros(by);
        self.mono.fetch_add(by, Ordering::SeqCst);
        self.wall.fetch_add(i64::try_from(by).unwrap_or(i64::MAX), Ordering::SeqCst);
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
}
