//! Where the runner's time comes from. Tests bring their own.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use rustix::time::ClockId;
use rustix::time::Timespec;
use sojourn_core::time::Mono;
use sojourn_core::time::Wall;

/// The longest that a timer of the runtime is trusted: it does not go on while the machine sleeps.
const LOOK: Duration = Duration::from_secs(5);

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Time that never jumps: what limits are measured by.
    fn mono(&self) -> Mono;

    /// The time people have.
    fn wall(&self) -> Wall;

    /// Resolves when it is `at`, or a little earlier: whoever waits looks again.
    fn nap(&self, at: Mono) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(tokio::time::sleep(at.since(self.mono()).min(LOOK)))
    }
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Whether a time in which the machine sleeps counts: else a session's limits wait with it.
    pub sleep_counts: bool,
}

impl Clock for Machine {
    fn mono(&self) -> Mono {
        let clock = if self.sleep_counts { ClockId::Boottime } else { ClockId::Monotonic };
        let Timespec { tv_sec, tv_nsec } = rustix::time::clock_gettime(clock);
        let micros = tv_sec.saturating_mul(1_000_000).saturating_add(tv_nsec / 1000);
        Mono(u64::try_from(micros).unwrap_or(0))
    }

    fn wall(&self) -> Wall {
        sojourn_shim::clock::wall()
    }
}
