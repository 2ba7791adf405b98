//! The clocks, read in one place.

use rustix::time::ClockId;
use rustix::time::Timespec;
use sojourn_core::time::Mono;
use sojourn_core::time::Wall;

/// Monotonic time; a machine's sleep counts.
#[must_use]
pub fn mono() -> Mono {
    Mono(u64::try_from(micros(ClockId::Boottime)).unwrap_or(0))
}

/// Wall time.
#[must_use]
pub fn wall() -> Wall {
    Wall(micros(ClockId::Realtime))
}

fn micros(clock: ClockId) -> i64 {
    let Timespec { tv_sec, tv_nsec } = rustix::time::clock_gettime(clock);
    tv_sec.saturating_mul(1_000_000).saturating_add(tv_nsec / 1000)
}
