//! Slows down guessing of passwords, by name and by address. Keys are never throttled.
//!
//! A person who signed in from an address before is not held up there by guesses from elsewhere:
//! for that name and address the failures are counted apart. Names that do not exist are treated
//! like those that do. What is kept is bounded; when it is full, what would expire first goes.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use sojourn_core::time::Mono;

/// Failures of one name that cost nothing.
const FREE: u32 = 5;
/// The first wait after those. It doubles with each further failure.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// A name's failures are forgotten so long after its wait is over.
const MEMORY: Duration = Duration::from_secs(3600);
/// Failures from one address within [`WINDOW`].
const PER_ADDRESS: usize = 20;
/// Over which those count.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// How long an address stays known for a name after a sign-in.
const KNOWN: Duration = Duration::from_secs(30 * 86_400);
/// The most entries of each table.
const MOST: usize = 16 * 1024;

/// An address as guesses are counted: one IPv4 address, or the /64 that one subscriber has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Origin([u8; 8]);

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        let mut origin = [0; 8];
        match address.to_canonical() {
            // No /64 in use begins with zeros, so both kinds fit one table.
            IpAddr::V4(v4) => origin[4..].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => origin.copy_from_slice(&v6.octets()[..8]),
        }
        Self(origin)
    }
}

/// Whose failures are counted together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Account {
    /// A name, from everywhere.
    Anywhere(String),
    /// A name, from an address it is known at.
    At(String, Origin),
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    /// No try before this.
    until: Mono,
}

/// What is known of past attempts.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    accounts: HashMap<Account, Failures>,
    origins: HashMap<Origin, VecDeque<Mono>>,
    /// Where names have signed in, and until when that is remembered.
    known: HashMap<(String, Origin), Mono>,
}

impl Throttle {
    /// How long whoever claims `name` has to wait; none: they may try now.
    pub(super) fn wait(&self, name: &str, address: IpAddr, now: Mono) -> Option<Duration> {
        let origin = Origin::from(address);
        let account = self.accounts.get(&self.account(name, origin, now));
        let by_name = account.map_or(Duration::ZERO, |failures| failures.until.since(now));
        let recent = self.origins.get(&origin).filter(|failures| failures.len() >= PER_ADDRESS);
        let by_origin = recent
            .and_then(|failures| failures.front())
            .map_or(Duration::ZERO, |oldest| oldest.after(WINDOW).since(now));
        Some(by_name.max(by_origin)).filter(|wait| !wait.is_zero())
    }

    /// A password was wrong.
    pub(super) fn failed(&mut self, name: &str, address: IpAddr, now: Mono) {
        let origin = Origin::from(address);
        let account = self.account(name, origin, now);
        make_room(&mut self.accounts, now, |failures| failures.until.after(MEMORY));
        let failures = self.accounts.entry(account).or_insert(Failures { count: 0, until: now });
        failures.count = failures.count.saturating_add(1);
        failures.until = now.after(penalty(failures.count));

        make_room(&mut self.origins, now, |recent| {
            recent.back().map_or(Mono(0), |latest| latest.after(WINDOW))
        });
        let recent = self.origins.entry(origin).or_default();
        if recent.len() >= PER_ADDRESS {
            recent.pop_front();
        }
        recent.push_back(now);
    }

    /// A password was right. The address's own failures stand: whoever has an account could
    /// otherwise wash away guesses at others'.
    pub(super) fn succeeded(&mut self, name: &str, address: IpAddr, now: Mono) {
        let origin = Origin::from(address);
        self.accounts.remove(&self.account(name, origin, now));
        make_room(&mut self.known, now, |until| *until);
        self.known.insert((name.to_owned(), origin), now.after(KNOWN));
    }

    fn account(&self, name: &str, origin: Origin, now: Mono) -> Account {
        let place = (name.to_owned(), origin);
        let is_known = self.known.get(&place).is_some_and(|until| *until > now);
        if is_known { Account::At(place.0, origin) } else { Account::Anywhere(place.0) }
    }
}

/// The wait after this many failures in a row.
fn penalty(failures: u32) -> Duration {
    let Some(beyond) = failures.checked_sub(FREE + 1) else {
        return Duration::ZERO;
    };
    FIRST_WAIT.saturating_mul(2_u32.saturating_pow(beyond)).min(LONGEST_WAIT)
}

/// Drops what has expired when a table is full, and if nothing has, what would be next.
fn make_room<K: Clone + Eq + std::hash::Hash, V>(
    table: &mut HashMap<K, V>,
    now: Mono,
    expires: impl Fn(&V) -> Mono,
) {
    if table.len() < MOST {
        return;
    }
    table.retain(|_, value| expires(value) > now);
    if table.len() >= MOST {
        let next = table.iter().min_by_key(|(_, value)| expires(value));
        if let Some(key) = next.map(|(key, _)| key.clone()) {
            table.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Mono = Mono(43_200_000_000);

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    fn seconds(wait: Option<Duration>) -> u64 {
        wait.map_or(0, |wait| wait.as_secs())
    }

    #[test]
    fn five_failures_are_free_then_the_wait_doubles_to_an_hour() {
        let mut throttle = Throttle::default();
        let mut now = NOON;
        let mut waits = Vec::new();
        for n in 0..15 {
            // Each from another address, so that only the name counts.
            throttle.failed("alice", at(&format!("192.0.2.{n}")), now);
            let wait = throttle.wait("alice", at("198.51.100.1"), now);
            waits.push(seconds(wait));
            now = now.after(wait.unwrap_or_default());
            assert_eq!(throttle.wait("alice", at("198.51.100.1"), now), None);
        }
        assert_eq!(waits[..8], [0, 0, 0, 0, 0, 30, 60, 120]);
        assert_eq!(waits[13..], [3600, 3600]);
        assert_eq!(throttle.wait("bob", at("198.51.100.1"), NOON), None);
    }

    #[test]
    fn a_success_forgets_the_failures_of_the_name() {
        let mut throttle = Throttle::default();
        for _ in 0..5 {
            throttle.failed("alice", at("192.0.2.1"), NOON);
        }
        throttle.succeeded("alice", at("192.0.2.2"), NOON);
        throttle.failed("alice", at("192.0.2.3"), NOON);
        assert_eq!(throttle.wait("alice", at("192.0.2.3"), NOON), None, "the first, not the sixth");
    }

    #[test]
    fn guesses_from_elsewhere_do_not_lock_the_owner_out() {
        let mut throttle = Throttle::default();
        throttle.succeeded("alice", at("192.0.2.1"), NOON);
        for n in 0..1000 {
            throttle.failed("alice", at(&format!("198.51.{}.{}", n / 250, n % 250)), NOON);
        }
        assert!(throttle.wait("alice", at("203.0.113.1"), NOON).is_some());
        assert_eq!(throttle.wait("alice", at("192.0.2.1"), NOON), None);
        let much_later = NOON.after(KNOWN);
        throttle.failed("alice", at("198.51.100.1"), much_later);
        assert!(throttle.wait("alice", at("192.0.2.1"), much_later).is_some());
    }

    #[test]
    fn an_address_has_twenty_failures_in_a_quarter_of_an_hour() {
        let mut throttle = Throttle::default();
        for n in 0..20 {
            let now = NOON.after(Duration::from_secs(n));
            assert_eq!(throttle.wait(&format!("user{n}"), at("192.0.2.1"), now), None);
            throttle.failed(&format!("user{n}"), at("192.0.2.1"), now);
        }
        let now = NOON.after(Duration::from_secs(20));
        let wait = throttle.wait("another", at("192.0.2.1"), now);
        assert_eq!(wait, Some(WINDOW - Duration::from_secs(20)));
        assert_eq!(throttle.wait("another", at("192.0.2.2"), now), None);
        assert_eq!(throttle.wait("another", at("192.0.2.1"), NOON.after(WINDOW)), None);
    }

    #[test]
    fn a_subscriber_is_one_address() {
        let one = Origin::from(at("2001:db8:1:2:3:4:5:6"));
        assert_eq!(one, Origin::from(at("2001:db8:1:2::1")));
        assert_ne!(one, Origin::from(at("2001:db8:1:3::1")));
        assert_eq!(Origin::from(at("::ffff:192.0.2.1")), Origin::from(at("192.0.2.1")));
    }

    #[test]
    fn the_tables_are_bounded() {
        let mut throttle = Throttle::default();
        for n in 0..u32::try_from(MOST).unwrap() + 100 {
            let address = IpAddr::from(n.to_be_bytes());
            throttle.failed(&n.to_string(), address, NOON.after(Duration::from_micros(n.into())));
            throttle.succeeded(&format!("known{n}"), address, NOON);
        }
        assert!(throttle.accounts.len() <= MOST);
        assert!(throttle.origins.len() <= MOST);
        assert!(throttle.known.len() <= MOST);
    }
}
