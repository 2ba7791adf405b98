//! Wrong current passwords of one login: somebody who found an open browser shall not guess on.

use std::collections::VecDeque;
use std::time::Duration;

use sojourn_core::time::Wall;

/// Over which wrong ones count.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// So many are looked at.
const FREE: usize = 5;
/// At so many the login ends.
const MOST: usize = 10;

/// What a try is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Try {
    /// It is looked at.
    Free,
    /// It is not looked at before so long.
    Later(Duration),
    /// The login is not theirs to keep.
    TooMany,
}

/// When they were.
#[derive(Debug, Default)]
pub(super) struct WrongPasswords(VecDeque<Wall>);

impl WrongPasswords {
    /// Somebody tries. One that is not looked at counts as wrong.
    pub(super) fn attempt(&mut self, now: Wall) -> Try {
        while self.0.front().is_some_and(|at| at.after(WINDOW) <= now) {
            self.0.pop_front();
        }
        if self.0.len() < FREE {
            return Try::Free;
        }
        self.failed(now);
        if self.0.len() >= MOST {
            return Try::TooMany;
        }
        let free_again = self.0.get(self.0.len() - FREE).map_or(now, |at| at.after(WINDOW));
        let wait = u64::try_from(free_again.0.saturating_sub(now.0)).unwrap_or(0);
        Try::Later(Duration::from_micros(wait))
    }

    /// It was wrong.
    pub(super) fn failed(&mut self, now: Wall) {
        self.0.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_are_looked_at_and_the_tenth_is_the_end() {
        let mut wrong = WrongPasswords::default();
        let noon = Wall(1_795_345_331_532_000);
        for n in 0..5 {
            assert_eq!(wrong.attempt(noon), Try::Free, "{n}");
            wrong.failed(noon);
        }
        for _ in 6..10 {
            assert_eq!(wrong.attempt(noon), Try::Later(WINDOW));
        }
        assert_eq!(wrong.attempt(noon), Try::TooMany);
        let later = noon.after(WINDOW);
        assert_eq!(wrong.attempt(later), Try::Free, "forgotten after a quarter of an hour");
    }
}
