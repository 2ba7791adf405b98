//! Requests and connections that were refused before anybody was known: counted all, told of now and
//! then, so that a flood fills neither log nor audit.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::ActorKind;
use sojourn_core::audit::Event;
use sojourn_core::time::Mono;
use sojourn_engine::Engine;
use sojourn_engine::identity::Client;

/// At most one line, and one audit event, of a kind in this time.
const EVERY: Duration = Duration::from_secs(10);

/// How many kinds there are.
const KINDS: usize = 4;

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Another site's page sent it.
    CrossOrigin,
    /// It did not prove that our own page sent it.
    CsrfToken,
    /// It carried two login cookies, of which at most one is ours.
    TwoCookies,
    /// There were as many connections as there may be.
    Crowded,
}

impl Why {
    const fn index(self) -> usize {
        match self {
            Self::CrossOrigin => 0,
            Self::CsrfToken => 1,
            Self::TwoCookies => 2,
            Self::Crowded => 3,
        }
    }

    /// A stable word for the audit log and metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::CrossOrigin => "cross_origin",
            Self::CsrfToken => "csrf_token",
            Self::TwoCookies => "two_cookies",
            Self::Crowded => "too_many_connections",
        }
    }

    const fn action(self) -> Action {
        match self {
            Self::CrossOrigin => Action::CrossOriginRefused,
            Self::CsrfToken => Action::CsrfRefused,
            Self::TwoCookies => Action::CookieRefused,
            Self::Crowded => Action::ConnectionRefused,
        }
    }
}

/// What is still to be told.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    untold: Mutex<[Untold; KINDS]>,
}

#[derive(Clone, Debug, Default)]
struct Untold {
    count: u64,
    last: Option<Actor>,
    told_at: Option<Mono>,
}

impl Notices {
    /// It has happened once more.
    pub(crate) fn note(&self, why: Why, client: &Client, engine: &Engine) {
        engine.metrics().refused("web", why.name());
        let mut actor = Actor::new(ActorKind::Browser).with_user_agent(client.user_agent());
        actor.ip_address = Some(client.address());
        let Some((count, last)) = self.due(why, actor, engine.clock().mono()) else { return };
        tracing::warn!(
            event = why.action().name(), code = why.name(), count, source = %client.address(),
            "refused"
        );
        // The last one's address stands for all of them.
        let event = Event::new(engine.clock().wall(), why.action(), last);
        engine.audit().record_soon(event.detail("code", why.name()).detail("count", count));
    }

    fn due(&self, why: Why, actor: Actor, now: Mono) -> Option<(u64, Actor)> {
        let mut untold = self.untold.lock().unwrap_or_else(PoisonError::into_inner);
        let untold = untold.get_mut(why.index())?;
        untold.count += 1;
        untold.last = Some(actor);
        if untold.told_at.is_some_and(|told_at| now.since(told_at) < EVERY) {
            return None;
        }
        untold.told_at = Some(now);
        Some((std::mem::take(&mut untold.count), untold.last.take()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_of_once_in_a_while() {
        let notices = Notices::default();
        let at = |seconds: u64| Mono(seconds * 1_000_000);
        let due = |why, now| {
            notices.due(why, Actor::new(ActorKind::Browser), now).map(|(count, _)| count)
        };
        assert_eq!(due(Why::CrossOrigin, at(100)), Some(1));
        for _ in 0..50 {
            assert_eq!(due(Why::CrossOrigin, at(105)), None);
        }
        assert_eq!(due(Why::CsrfToken, at(105)), Some(1), "each kind by itself");
        assert_eq!(due(Why::CrossOrigin, at(110)), Some(51));
    }
}
