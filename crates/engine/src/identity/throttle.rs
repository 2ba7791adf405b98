//! Slows down guessing of passwords and codes, by name and by address. Keys are never throttled.
//!
//! A person who signed in before with this browser, or from this address, is not held up by guesses
//! from elsewhere: for that browser, or that address and name, the failures are counted apart. Names
//! that do not exist are treated like those that do. What is counted is in the store, by keyed hashes,
//! and so outlives the process.

use std::net::IpAddr;
use std::time::Duration;

use sojourn_core::time::Wall;
use sojourn_store::FailureRules;
use sojourn_store::Failures;

/// Failures in a row that cost nothing.
const FREE: u32 = 5;
/// The first wait after those. It doubles with each further failure.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// Failures from one address within [`RULES`]' window.
const PER_ADDRESS: usize = 20;

/// How failures are counted.
pub(super) const RULES: FailureRules = FailureRules {
    wait: penalty,
    memory: Duration::from_secs(3600),
    window: Duration::from_secs(15 * 60),
    disable_at: 100,
};

/// How long a browser or an address stays known for an account after a sign-in.
pub(super) const KNOWN: Duration = Duration::from_secs(30 * 86_400);

/// An address as guesses are counted: one IPv4 address, or the /64 that one subscriber has.
pub(super) fn origin(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// How long whoever these are counted for has to wait; none: they may try now.
pub(super) fn wait(failures: &Failures, now: Wall) -> Option<Duration> {
    // Longer than was ever asked for: the clock was set back, which must not lock anybody out.
    let wait = since(failures.until, now);
    Some(wait).filter(|wait| !wait.is_zero() && *wait <= penalty(failures.count))
}

/// How long an address has to wait from which these came.
pub(super) fn wait_of_origin(failures: &Failures, now: Wall) -> Option<Duration> {
    let mut counting =
        failures.recent.iter().filter(|at| **at <= now && at.after(RULES.window) > now);
    let beyond = counting.clone().count().checked_sub(PER_ADDRESS)?;
    // The one that has to leave before another may come.
    let oldest = counting.nth(beyond)?;
    Some(since(oldest.after(RULES.window), now))
}

/// The wait after this many failures in a row.
fn penalty(failures: u32) -> Duration {
    let Some(beyond) = failures.checked_sub(FREE + 1) else {
        return Duration::ZERO;
    };
    FIRST_WAIT.saturating_mul(2_u32.saturating_pow(beyond)).min(LONGEST_WAIT)
}

fn since(later: Wall, earlier: Wall) -> Duration {
    Duration::from_micros(u64::try_from(later.0.saturating_sub(earlier.0)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Wall = Wall(1_795_345_331_532_000);

    fn at(address: &str) -> IpAddr {
        address.parse().unwrap()
    }

    #[test]
    fn l_39_five_failures_are_free_then_the_wait_doubles_to_an_hour() {
        let waits: Vec<_> = (1..=15).map(|failures| penalty(failures).as_secs()).collect();
        assert_eq!(waits[..8], [0, 0, 0, 0, 0, 30, 60, 120]);
        assert_eq!(waits[11..], [1920, 3600, 3600, 3600]);
        assert_eq!(penalty(u32::MAX), LONGEST_WAIT);
    }

    #[test]
    fn a_wait_is_over_on_the_microsecond_and_nobody_waits_for_a_clock_that_was_set_back() {
        let until = |count, until| Failures { count, until, ..Failures::default() };
        assert_eq!(wait(&until(6, NOON), NOON), None);
        assert_eq!(wait(&until(6, Wall(NOON.0 + 1)), NOON), Some(Duration::from_micros(1)));
        assert_eq!(wait(&until(6, NOON.after(FIRST_WAIT)), NOON), Some(FIRST_WAIT));
        let far = NOON.after(Duration::from_secs(86_400));
        assert_eq!(wait(&until(6, far), NOON), None);
        assert_eq!(wait(&until(1, Wall(NOON.0 + 1)), NOON), None, "five are free");
    }

    #[test]
    fn l_40_an_address_has_twenty_failures_in_a_quarter_of_an_hour() {
        let recent = (0..20).map(|n| NOON.after(Duration::from_secs(n))).collect::<Vec<_>>();
        let of = |recent: &[Wall]| Failures { recent: recent.to_vec(), ..Failures::default() };
        let now = NOON.after(Duration::from_secs(20));
        assert_eq!(wait_of_origin(&of(&recent[..19]), now), None);
        let full = of(&recent);
        assert_eq!(wait_of_origin(&full, now), Some(RULES.window - Duration::from_secs(20)));
        let nearly = Wall(NOON.after(RULES.window).0 - 1);
        assert_eq!(wait_of_origin(&full, nearly), Some(Duration::from_micros(1)));
        assert_eq!(wait_of_origin(&full, NOON.after(RULES.window)), None);
    }

    #[test]
    fn a_subscriber_is_one_address() {
        let one = origin(at("2001:db8:1:2:3:4:5:6"));
        assert_eq!(one, origin(at("2001:db8:1:2::1")));
        assert_ne!(one, origin(at("2001:db8:1:3::1")));
        assert_eq!(origin(at("::ffff:192.0.2.1")), origin(at("192.0.2.1")));
    }
}
