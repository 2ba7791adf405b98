//! How often an address connects without ever signing in. Somebody who signs in is not counted,
//! however often they come; a scanner is, and when it has come too often the address has to wait.
//!
//! Counted in steps, so that an address costs little; a step is what the window may be longer than
//! said. What is kept is bounded: when it is full, the address that came longest ago is forgotten.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::lobby::Origin;

/// A step, and how many of them are looked back on: a minute.
const STEP: Duration = Duration::from_secs(5);
const STEPS: usize = 12;

/// Addresses that are remembered: some megabytes.
const MOST: usize = 50_000;

/// Connections without a sign-in, by address.
#[derive(Debug)]
pub(crate) struct Connects {
    /// The most in a minute; 0 is no limit.
    most: u32,
    began: Instant,
    origins: HashMap<Origin, Counts>,
}

/// One address's, by the steps of the last minute.
#[derive(Clone, Copy, Debug)]
struct Counts {
    steps: [u32; STEPS],
    /// The number of the newest step.
    newest: u64,
}

impl Connects {
    pub(crate) fn new(most: u32, now: Instant) -> Self {
        Self { most, began: now, origins: HashMap::new() }
    }

    /// Whether one more connection is taken.
    pub(crate) fn admits(&mut self, origin: Origin, now: Instant) -> bool {
        if self.most == 0 {
            return true;
        }
        let step = self.step(now);
        match self.origins.get_mut(&origin) {
            Some(counts) => counts.at(step).sum() < u64::from(self.most),
            None => true,
        }
    }

    /// One ended without a sign-in.
    pub(crate) fn ended(&mut self, origin: Origin, now: Instant) {
        if self.most == 0 {
            return;
        }
        let step = self.step(now);
        if self.origins.len() >= MOST && !self.origins.contains_key(&origin) {
            self.make_room(step);
        }
        let fresh = Counts { steps: [0; STEPS], newest: step };
        let counts = self.origins.entry(origin).or_insert(fresh).at(step);
        if let Some(newest) = counts.steps.last_mut() {
            *newest = newest.saturating_add(1);
        }
    }

    fn step(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.began).as_secs() / STEP.as_secs()
    }

    /// Forgets what is over and, if nothing is, a part of the oldest.
    fn make_room(&mut self, step: u64) {
        self.origins.retain(|_, counts| counts.at(step).sum() > 0);
        // Much of the table at once: looking through it must not cost every connection.
        if self.origins.len() > MOST / 2 {
            let mut ages: Vec<u64> = self.origins.values().map(Counts::latest).collect();
            let middle = ages.len() / 2;
            let (_, middle, _) = ages.select_nth_unstable(middle);
            let middle = *middle;
            self.origins.retain(|_, counts| counts.latest() > middle);
        }
    }
}

impl Counts {
    /// The same, moved on to this step.
    fn at(&mut self, step: u64) -> &mut Self {
        let passed = usize::try_from(step.saturating_sub(self.newest)).unwrap_or(STEPS).min(STEPS);
        self.steps.rotate_left(passed);
        for forgotten in self.steps.iter_mut().rev().take(passed) {
            *forgotten = 0;
        }
        self.newest = self.newest.max(step);
        self
    }

    fn sum(&self) -> u64 {
        self.steps.iter().map(|count| u64::from(*count)).sum()
    }

    /// The step of the last one counted.
    fn latest(&self) -> u64 {
        let empty = self.steps.iter().rev().take_while(|count| **count == 0).count();
        self.newest.saturating_sub(u64::try_from(empty).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn origin(address: &str) -> Origin {
        Origin::of(address.parse().unwrap())
    }

    fn numbered(n: u32) -> Origin {
        Origin::of(IpAddr::from(n.to_be_bytes()))
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_never_signs_in_has_so_many_a_minute() {
        let began = Instant::now();
        let mut connects = Connects::new(10, began);
        for n in 0..10 {
            let now = began + Duration::from_secs(n);
            assert!(connects.admits(origin("192.0.2.1"), now));
            connects.ended(origin("192.0.2.1"), now);
        }
        let at = |seconds| began + Duration::from_secs(seconds);
        assert!(!connects.admits(origin("192.0.2.1"), at(10)));
        assert!(connects.admits(origin("192.0.2.2"), at(10)), "another's");
        assert!(!connects.admits(origin("192.0.2.1"), at(59)), "a minute is not over");
        assert!(connects.admits(origin("192.0.2.1"), at(60)), "the first are forgotten");
        assert!(connects.admits(origin("192.0.2.1"), at(3600)));
        assert_eq!(connects.origins[&origin("192.0.2.1")].sum(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_of_ipv6_counts_as_one_and_zero_is_no_limit() {
        let now = Instant::now();
        let mut connects = Connects::new(1, now);
        connects.ended(origin("2001:db8::1"), now);
        assert!(!connects.admits(origin("2001:db8::ffff:2"), now));
        let mut connects = Connects::new(0, now);
        connects.ended(origin("2001:db8::1"), now);
        assert!(connects.admits(origin("2001:db8::1"), now) && connects.origins.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_the_oldest_go() {
        let began = Instant::now();
        let mut connects = Connects::new(1, began);
        for n in 0..u32::try_from(MOST).unwrap() + 1000 {
            let now = began + Duration::from_micros(u64::from(n) * 600);
            connects.ended(numbered(n), now);
            assert!(connects.origins.len() <= MOST);
        }
        let now = began + Duration::from_secs(31);
        assert!(!connects.admits(numbered(u32::try_from(MOST).unwrap() + 999), now), "the newest");
        assert!(connects.admits(numbered(0), now), "the oldest is forgotten");
    }
}
