//! How much later a session may end than was said at its start: decided here, done by the shim.

use std::time::Duration;

use crate::units::LONGEST;
use crate::units::in_words;

/// How a session's time stands when somebody asks for more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Since its first program started.
    pub elapsed: Duration,
    /// Left until the deadline; none where there is no deadline.
    pub remaining: Option<Duration>,
}

/// How far whoever asks may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// As far as the profile lets a session run, counted from its start; none is as long as one
    /// likes.
    Policy(Option<Duration>),
    /// As far as any duration goes.
    Beyond,
}

/// Why there is no more time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoExtension {
    /// There is nothing to move.
    #[error("the session has no deadline, so there is nothing to extend")]
    NoDeadline,
    /// Nothing was asked for.
    #[error("an extension has to be longer than nothing")]
    Nothing,
    /// The profile does not let a session run so long.
    #[error("the profile lets a session run {} in all; {}", in_words(*most), addable(*free))]
    Policy {
        /// What it lets it run.
        most: Duration,
        /// What of that is left, in whole seconds.
        free: Duration,
    },
    /// Nobody's session runs so long.
    #[error("no session runs longer than 100 years")]
    TooLong,
}

fn addable(free: Duration) -> String {
    match free.is_zero() {
        true => "nothing can be added, but by an admin".to_owned(),
        false => format!("at most {} can be added", in_words(free)),
    }
}

/// What is left until the deadline once it is moved later by so much.
///
/// # Errors
/// When it may not be moved so far.
pub fn extended(standing: Standing, by: Duration, reach: Reach) -> Result<Duration, NoExtension> {
    let remaining = standing.remaining.ok_or(NoExtension::NoDeadline)?;
    if by.is_zero() {
        return Err(NoExtension::Nothing);
    }
    let so_far = standing.elapsed.saturating_add(remaining);
    let whole = so_far.saturating_add(by);
    if whole > LONGEST {
        return Err(NoExtension::TooLong);
    }
    match reach {
        Reach::Policy(Some(most)) if whole > most => {
            let free = Duration::from_secs(most.saturating_sub(so_far).as_secs());
            Err(NoExtension::Policy { most, free })
        }
        _ => Ok(remaining.saturating_add(by)),
    }
}

/// The line a person in a terminal reads.
#[must_use]
pub fn notice(by: &str, left: Duration) -> String {
    format!("Session extended by {by}: ends in {}", about(left))
}

/// A time that is left, for people: to the second below two minutes, to the minute below two days,
/// else to the hour.
#[must_use]
pub fn about(left: Duration) -> String {
    let seconds = left.as_secs() + u64::from(left.subsec_millis() >= 500);
    let to = match seconds {
        0..120 => 1,
        120..172_800 => 60,
        _ => 3600,
    };
    in_words(Duration::from_secs((seconds + to / 2) / to * to))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn minutes(n: u64) -> Duration {
        Duration::from_secs(n * 60)
    }

    fn at(elapsed: u64, remaining: u64) -> Standing {
        Standing { elapsed: minutes(elapsed), remaining: Some(minutes(remaining)) }
    }

    #[test]
    fn the_owner_goes_as_far_as_the_policy() {
        let hour = Reach::Policy(Some(minutes(60)));
        // Ten minutes were asked for at the start, of the hour there is.
        assert_eq!(extended(at(4, 6), minutes(50), hour), Ok(minutes(56)));
        let too_far = NoExtension::Policy { most: minutes(60), free: minutes(50) };
        assert_eq!(extended(at(4, 6), minutes(51), hour), Err(too_far));
        assert_eq!(
            too_far.to_string(),
            "the profile lets a session run 1 h in all; at most 50 min can be added"
        );
        let none = NoExtension::Policy { most: minutes(60), free: Duration::ZERO };
        assert_eq!(extended(at(30, 45), minutes(1), hour), Err(none), "an admin went further");
        assert_eq!(extended(at(4, 6), minutes(9999), Reach::Policy(None)), Ok(minutes(10005)));
    }

    #[test]
    fn an_admin_goes_as_far_as_a_duration_does() {
        assert_eq!(extended(at(4, 6), minutes(500), Reach::Beyond), Ok(minutes(506)));
        assert_eq!(extended(at(4, 6), LONGEST, Reach::Beyond), Err(NoExtension::TooLong));
        assert_eq!(extended(at(4, 6), Duration::MAX, Reach::Beyond), Err(NoExtension::TooLong));
        let free = Standing { elapsed: minutes(4), remaining: None };
        assert_eq!(extended(free, minutes(1), Reach::Beyond), Err(NoExtension::NoDeadline));
        assert_eq!(extended(at(4, 6), Duration::ZERO, Reach::Beyond), Err(NoExtension::Nothing));
    }

    #[test]
    fn what_is_left_is_said_in_round_numbers() {
        let after = |millis| about(Duration::from_millis(millis));
        assert_eq!(
            notice("root", Duration::from_millis(7_199_400)),
            "Session extended by root: ends in 2 h"
        );
        assert_eq!(after(89_700), "90 s");
        assert_eq!(after(3_599_900), "1 h");
        assert_eq!(after(5_400_400), "90 min");
        assert_eq!(after(3 * 86_400_000 - 700), "3 d");
        assert_eq!(after(400), "0 ms");
    }
}
