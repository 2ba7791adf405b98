//! Lines that one person could fill the log with: each is told, but not more of one kind and person in a
//! minute than anybody reads.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::time::Mono;

use crate::engine::lock;

/// So many are told one by one in a window; the next one that is told says how many more there were.
const MOST_TOLD: u32 = 20;

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(60);

/// So many kinds of so many people are told apart at a time.
const MOST_PEOPLE: usize = 1024;

/// What was told of whom of late.
#[derive(Debug, Default)]
pub(super) struct Few {
    of: Mutex<HashMap<(Action, String), Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Mono,
    told: u32,
    untold: u64,
}

impl Few {
    /// It has happened once more: how many there are to be told of, this one included; none when it is
    /// not this one's turn.
    pub(super) fn due(&self, action: Action, person: &str, now: Mono) -> Option<u64> {
        let key = (action, person.to_owned());
        let mut of = lock(&self.of);
        if of.len() >= MOST_PEOPLE && !of.contains_key(&key) {
            of.retain(|_, window| now.since(window.since) < WINDOW);
            if of.len() >= MOST_PEOPLE {
                return None;
            }
        }
        let fresh = Window { since: now, told: 0, untold: 0 };
        let window = of.entry(key).or_insert(fresh);
        if now.since(window.since) >= WINDOW {
            *window = Window { untold: window.untold, ..fresh };
        }
        if window.told >= MOST_TOLD {
            window.untold += 1;
            return None;
        }
        window.told += 1;
        Some(std::mem::take(&mut window.untold) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Action = Action::AccessRefused;

    #[test]
    fn each_is_told_and_of_a_flood_how_many_there_were() {
        let few = Few::default();
        let at = |seconds: u64| Mono(seconds * 1_000_000);
        for _ in 0..MOST_TOLD {
            assert_eq!(few.due(REFUSED, "mia", at(100)), Some(1));
        }
        for _ in 0..50 {
            assert_eq!(few.due(REFUSED, "mia", at(120)), None);
        }
        assert_eq!(few.due(REFUSED, "ben", at(120)), Some(1), "each person alone");
        assert_eq!(few.due(Action::InterruptSent, "mia", at(120)), Some(1), "each kind alone");
        assert_eq!(few.due(REFUSED, "mia", at(160)), Some(51));
        assert_eq!(few.due(REFUSED, "mia", at(161)), Some(1));
    }

    #[test]
    fn people_are_told_apart_as_long_as_they_are_not_too_many() {
        let few = Few::default();
        let at = |seconds: u64| Mono(seconds * 1_000_000);
        for person in 0..MOST_PEOPLE {
            assert_eq!(few.due(REFUSED, &person.to_string(), at(100)), Some(1));
        }
        assert_eq!(few.due(REFUSED, "one more", at(110)), None);
        assert_eq!(few.due(REFUSED, "7", at(110)), Some(1));
        assert_eq!(few.due(REFUSED, "one more", at(160)), Some(1));
    }
}
