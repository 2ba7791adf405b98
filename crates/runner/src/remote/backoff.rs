//! How long until the next try to reach the gateway: 1, 2, 4 … 30 seconds, each more or less, so that
//! a thousand runners do not come back at the same moment. It never gives up.

use std::time::Duration;

/// The longest pause, in first ones.
const LONGEST: u32 = 30;

/// Counts the tries that came to nothing.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    tries: u32,
}

impl Backoff {
    /// The first pause is so long.
    pub(super) const fn new(first: Duration) -> Self {
        Self { first, tries: 0 }
    }

    /// The gateway is there: the next pause is a short one.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }

    /// The next pause. `chance` is any number.
    pub(super) fn next(&mut self, chance: u64) -> Duration {
        let whole = self.first * (1 << self.tries.min(5)).min(LONGEST);
        self.tries = self.tries.saturating_add(1);
        // Between three quarters of it and all of it.
        let quarter = u64::try_from((whole / 4).as_micros()).unwrap_or(u64::MAX);
        whole - Duration::from_micros(chance % quarter.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_thirty_seconds_and_never_end() {
        let mut backoff = Backoff::new(Duration::from_secs(1));
        let seconds: Vec<_> = (0..7).map(|_| backoff.next(0).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30]);
        for chance in 0..10_000 {
            let pause = backoff.next(chance);
            let range = Duration::from_millis(22_500)..=Duration::from_secs(30);
            assert!(range.contains(&pause), "{pause:?}");
        }
        backoff.reset();
        assert_eq!(backoff.next(0), Duration::from_secs(1));
    }
}
