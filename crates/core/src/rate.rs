//! "N a minute", exactly: a window that slides with every admission.
//!
//! Of each key the times of its last N admissions are kept. One more is admitted when the oldest of
//! them has left the window, so there are never more than N in any minute, not even across the edge
//! of one. Who is refused is told when that will be, and trying costs nothing.
//!
//! Time is an argument, and does not run backwards.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::Duration;

use crate::time::Mono;

/// Keys that are kept before it is first looked for idle ones.
const FEW: usize = 64;

/// An address as rates are counted: one of IPv4, or of IPv6 the /64 that one subscriber has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// One address. IPv4 in the guise of IPv6 is IPv4.
    V4([u8; 4]),
    /// All that share their first 64 bits.
    V6([u8; 8]),
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => {
                let [a, b, c, d, e, f, g, h, ..] = v6.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

/// Not now: the window is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many; the next one in {retry_after:?}")]
pub struct Full {
    /// When the oldest admission leaves it.
    pub retry_after: Duration,
}

/// The last admissions of many keys.
#[derive(Clone, Debug)]
pub struct Windows<K> {
    limit: usize,
    period: Duration,
    /// The most keys.
    room: usize,
    keys: HashMap<K, VecDeque<Mono>>,
    /// With so many keys it is looked for idle ones.
    look_at: usize,
    /// When the table is full: no key is idle before this.
    full_until: Mono,
}

impl<K: Hash + Eq> Windows<K> {
    /// At most `limit` in any `period`, for each of at most `room` keys that were busy within one.
    #[must_use]
    pub fn new(limit: usize, period: Duration, room: usize) -> Self {
        let look_at = FEW.min(room);
        Self { limit, period, room, keys: HashMap::new(), look_at, full_until: Mono(0) }
    }

    /// Whether one more would be admitted now. Admits nothing.
    ///
    /// # Errors
    /// When it would not.
    pub fn check(&mut self, key: &K, now: Mono) -> Result<(), Full> {
        match self.keys.get_mut(key) {
            Some(times) => {
                leave(times, self.period, now);
                if times.len() < self.limit {
                    return Ok(());
                }
                let oldest = times.front().copied().unwrap_or(now);
                Err(Full { retry_after: oldest.after(self.period).since(now) })
            }
            // Whoever comes may not be counted, so they wait until somebody has gone.
            None => self.make_room(now),
        }
    }

    /// Admits one now.
    ///
    /// # Errors
    /// When there were as many as there may be; then nothing has changed.
    pub fn admit(&mut self, key: K, now: Mono) -> Result<(), Full> {
        self.check(&key, now)?;
        self.keys.entry(key).or_default().push_back(now);
        Ok(())
    }

    /// Takes back one that was admitted at this time, as if it had never been.
    pub fn take_back(&mut self, key: &K, admitted: Mono) {
        if let Some(times) = self.keys.get_mut(key)
            && let Some(place) = times.iter().rposition(|time| *time == admitted)
        {
            times.remove(place);
        }
    }

    /// How many may be admitted in a period.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Changes how many may be. Those admitted stay counted.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// How many keys are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Forgets idle keys when there are many, so that each look is paid by as many admissions.
    fn make_room(&mut self, now: Mono) -> Result<(), Full> {
        if self.limit == 0 {
            return Err(Full { retry_after: self.period });
        }
        if self.keys.len() < self.look_at {
            return Ok(());
        }
        if now < self.full_until {
            return Err(Full { retry_after: self.full_until.since(now) });
        }
        let period = self.period;
        self.keys.retain(|_, times| {
            leave(times, period, now);
            !times.is_empty()
        });
        self.keys.shrink_to(2 * self.keys.len());
        self.look_at = (2 * self.keys.len()).clamp(FEW.min(self.room), self.room);
        if self.keys.len() < self.room {
            return Ok(());
        }
        let soonest = self.keys.values().filter_map(|times| times.back()).min().copied();
        self.full_until = soonest.unwrap_or(now).after(period);
        Err(Full { retry_after: self.full_until.since(now) })
    }
}

/// Lets go of what is out of the window.
fn leave(times: &mut VecDeque<Mono>, period: Duration, now: Mono) {
    while times.front().is_some_and(|time| time.after(period) <= now) {
        times.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NOON: Mono = Mono(43_200_000_000);

    fn at(seconds: u64) -> Mono {
        NOON.after(Duration::from_secs(seconds))
    }

    fn wait(refused: Result<(), Full>) -> Option<u64> {
        refused.err().map(|full| full.retry_after.as_secs())
    }

    #[test]
    fn five_a_minute_are_five_in_any_minute() {
        let mut windows = Windows::new(5, MINUTE, 100);
        // A fixed window would let five in at its end and five more at the next one's beginning.
        for second in [0, 55, 56, 57, 58] {
            assert_eq!(windows.admit("alice", at(second)), Ok(()));
        }
        assert_eq!(wait(windows.admit("alice", at(59))), Some(1), "until the oldest leaves");
        assert_eq!(wait(windows.admit("bob", at(59))), None);
        assert_eq!(wait(windows.admit("alice", at(60))), None);
        assert_eq!(wait(windows.admit("alice", at(61))), Some(54));
        for _ in 0..1000 {
            assert_eq!(wait(windows.admit("alice", at(62))), Some(53), "a refused try is free");
        }
        assert_eq!(wait(windows.admit("alice", at(115))), None);
    }

    #[test]
    fn what_is_taken_back_was_never_there() {
        let mut windows = Windows::new(1, MINUTE, 100);
        windows.admit("alice", at(0)).unwrap();
        windows.take_back(&"alice", at(0));
        windows.take_back(&"alice", at(0));
        windows.take_back(&"bob", at(0));
        assert_eq!(windows.admit("alice", at(1)), Ok(()));
        assert_eq!(wait(windows.admit("alice", at(2))), Some(59));
    }

    #[test]
    fn none_a_minute_is_none() {
        assert_eq!(wait(Windows::new(0, MINUTE, 100).admit("alice", at(0))), Some(60));
    }

    #[test]
    fn idle_keys_make_room_and_busy_ones_are_not_forgotten() {
        let mut windows = Windows::new(2, MINUTE, 1000);
        for key in 0..1000 {
            assert_eq!(windows.admit(key, at(key / 100)), Ok(()));
        }
        assert_eq!(wait(windows.admit(1000, at(10))), Some(50), "the table is full of busy ones");
        assert_eq!(wait(windows.admit(0, at(10))), None, "who is in it is counted all the same");
        assert_eq!(wait(windows.admit(0, at(10))), Some(50));
        assert_eq!(wait(windows.admit(1000, at(60))), None, "0 to 99 may go, except 0");
        assert_eq!(windows.len(), 1000 - 99 + 1);
        assert_eq!(windows.admit(2000, at(3600)), Ok(()));
        assert_eq!(windows.admit(2001, at(3600)), Ok(()));
        for key in 3000..3200 {
            windows.admit(key, at(3601)).unwrap();
        }
        assert!(windows.len() <= 202, "idle ones went: {}", windows.len());
    }

    #[test]
    fn a_subscriber_is_one_address() {
        let origin = |text: &str| Origin::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(origin("2001:db8:1:2:3:4:5:6"), origin("2001:db8:1:2::1"));
        assert_ne!(origin("2001:db8:1:2::1"), origin("2001:db8:1:3::1"));
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"));
        assert_ne!(origin("::c000:201"), origin("192.0.2.1"), "not that guise");
    }

    /// All admissions there ever were; slow, and plainly right.
    #[derive(Default)]
    struct Model(Vec<(u8, Mono)>);

    impl Model {
        fn admit(&mut self, key: u8, now: Mono, limit: usize) -> Result<(), Full> {
            let mut recent: Vec<Mono> = (self.0.iter())
                .filter(|(whose, time)| *whose == key && now.since(*time) < MINUTE)
                .map(|(_, time)| *time)
                .collect();
            recent.sort_unstable();
            if recent.len() < limit {
                self.0.push((key, now));
                return Ok(());
            }
            // So many have to leave that there is room for one.
            let leaves = recent[recent.len() - limit];
            Err(Full { retry_after: leaves.after(MINUTE).since(now) })
        }

        fn take_back(&mut self, key: u8, admitted: Mono) {
            if let Some(place) = self.0.iter().rposition(|entry| *entry == (key, admitted)) {
                self.0.remove(place);
            }
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Admit(u8),
        TakeBack(u8),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..6_u8).prop_map(Step::Admit),
            1 => (0..6_u8).prop_map(Step::TakeBack),
            // Often to where an edge is, to the microsecond.
            3 => prop_oneof![
                0..20_000_000_u64, Just(30_000_000), Just(60_000_000), Just(59_999_999), Just(1),
            ].prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn windows_do_what_the_plain_model_does(
            limit in 1..5_usize,
            steps in proptest::collection::vec(step(), 1..200),
        ) {
            let mut windows = Windows::new(limit, MINUTE, 100);
            let mut model = Model::default();
            let mut now = NOON;
            for step in steps {
                match step {
                    Step::Admit(key) => {
                        let told = windows.admit(key, now);
                        prop_assert_eq!(told, model.admit(key, now, limit));
                        if let Err(full) = told {
                            let then = now.after(full.retry_after);
                            prop_assert_eq!(windows.clone().admit(key, then), Ok(()));
                            let before = Mono(then.0 - 1);
                            prop_assert!(windows.clone().admit(key, before).is_err());
                        }
                    }
                    Step::TakeBack(key) => {
                        windows.take_back(&key, now);
                        model.take_back(key, now);
                    }
                    Step::Pass(micros) => now = now.after(Duration::from_micros(micros)),
                }
            }
            // However it went: no minute has more than there may be.
            for (key, begin) in &model.0 {
                let within = |entry: &&(u8, Mono)| {
                    entry.0 == *key && entry.1 >= *begin && entry.1.since(*begin) < MINUTE
                };
                prop_assert!(model.0.iter().filter(within).count() <= limit);
            }
        }
    }
}
