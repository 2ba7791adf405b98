//! How often something may happen: so many times at once, and then one more a while. Who comes too
//! early waits; nothing is lost.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

/// One pace.
#[derive(Debug)]
pub(crate) struct Pace {
    burst: u32,
    every: Duration,
    /// When the next one is due; what is in the past is what may come at once.
    due: Mutex<Option<Instant>>,
}

impl Pace {
    pub(crate) const fn new(burst: u32, every: Duration) -> Self {
        Self { burst, every, due: Mutex::new(None) }
    }

    /// Waits until it is one's turn.
    pub(crate) async fn turn(&self) {
        let at = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let earliest = now.checked_sub(self.every * self.burst).unwrap_or(now);
            let at = due.map_or(earliest, |due| due.max(earliest)) + self.every;
            *due = Some(at);
            at
        };
        tokio::time::sleep_until(at).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn some_at_once_and_then_one_a_while() {
        // Time that has not been cannot be saved up.
        tokio::time::advance(Duration::from_secs(60)).await;
        let pace = Pace::new(10, Duration::from_millis(100));
        let start = Instant::now();
        for _ in 0..10 {
            pace.turn().await;
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        for _ in 0..5 {
            pace.turn().await;
        }
        assert_eq!(start.elapsed(), Duration::from_millis(500));
    }
}
