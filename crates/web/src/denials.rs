//! What somebody known asked for and may not have: each on record, with who and what, but not more of
//! one person in a minute than anybody reads.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use axum::http::Method;
use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::ids::SessionId;
use sojourn_core::time::Mono;
use sojourn_engine::Engine;

use crate::answer::Denied;
use crate::caller::Caller;

/// So many of one person are told one by one in a window; the next one that is told says how many more
/// there were.
const MOST_TOLD: u32 = 20;

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(60);

/// So many people are told apart at a time.
const MOST_PEOPLE: usize = 1024;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) method: &'a Method,
    /// The route's template.
    pub(crate) route: &'static str,
    /// The path, which may name a session.
    pub(crate) path: &'a str,
}

/// Who was denied how much of late.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    of: Mutex<HashMap<String, Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    since: Mono,
    told: u32,
    untold: u64,
}

impl Denials {
    /// It has happened once more.
    pub(crate) fn note(&self, caller: &Caller, wanted: Wanted<'_>, how: Denied, engine: &Engine) {
        engine.metrics().refused("web", how.name());
        let person = caller.name().unwrap_or_default();
        let Some(count) = self.due(person, engine.clock().mono()) else { return };
        tracing::warn!(
            event = Action::AccessRefused.name(), code = how.name(), count, user = person,
            source = %caller.client().address(), method = %wanted.method, route = wanted.route,
            "refused"
        );
        let event = Event::new(engine.clock().wall(), Action::AccessRefused, caller.actor())
            .detail("code", how.name())
            .detail("method", wanted.method.as_str())
            .detail("route", wanted.route)
            .detail("count", count);
        let is_sessions = wanted.route.starts_with("/api/sessions/{id}");
        // Nothing, "api", "sessions", and the id; of an ending of one it is not known whose it is.
        let named = wanted.path.split('/').nth(3).filter(|_| is_sessions);
        let session = named.and_then(|named| named.parse::<SessionId>().ok());
        engine.audit().record_soon(match session {
            Some(session) => event.session(session),
            None => event,
        });
    }

    /// How many there are to be told of, this one included; none when it is not this one's turn.
    fn due(&self, person: &str, now: Mono) -> Option<u64> {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() >= MOST_PEOPLE && !of.contains_key(person) {
            of.retain(|_, window| now.since(window.since) < WINDOW);
            if of.len() >= MOST_PEOPLE {
                // The metric has it.
                return None;
            }
        }
        let fresh = Window { since: now, told: 0, untold: 0 };
        let window = of.entry(person.to_owned()).or_insert(fresh);
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

    #[test]
    fn each_is_told_and_of_a_flood_how_many_there_were() {
        let denials = Denials::default();
        let at = |seconds: u64| Mono(seconds * 1_000_000);
        for _ in 0..MOST_TOLD {
            assert_eq!(denials.due("mia", at(100)), Some(1));
        }
        for _ in 0..50 {
            assert_eq!(denials.due("mia", at(120)), None);
        }
        assert_eq!(denials.due("ben", at(120)), Some(1), "each person alone");
        assert_eq!(denials.due("mia", at(160)), Some(51));
        assert_eq!(denials.due("mia", at(161)), Some(1));
    }

    #[test]
    fn people_are_told_apart_as_long_as_they_are_not_too_many() {
        let denials = Denials::default();
        let at = |seconds: u64| Mono(seconds * 1_000_000);
        for person in 0..MOST_PEOPLE {
            assert_eq!(denials.due(&person.to_string(), at(100)), Some(1));
        }
        assert_eq!(denials.due("one more", at(110)), None);
        assert_eq!(denials.due("7", at(110)), Some(1));
        assert_eq!(denials.due("one more", at(160)), Some(1));
    }
}
