//! What somebody known asked for and may not have: each on record, with who and what, but not more of
//! one person in a minute than anybody reads.

use axum::http::Method;
use sojourn_core::audit::Action;
use sojourn_core::audit::Event;
use sojourn_core::ids::SessionId;
use sojourn_engine::Engine;

use crate::answer::Denied;
use crate::caller::Caller;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) method: &'a Method,
    /// The route's template.
    pub(crate) route: &'static str,
    /// The path, which may name a session.
    pub(crate) path: &'a str,
}

/// It has happened once more.
pub(crate) fn note(caller: &Caller, wanted: Wanted<'_>, how: Denied, engine: &Engine) {
    engine.metrics().refused("web", how.name());
    let (action, person) = (Action::AccessRefused, caller.name().unwrap_or_default());
    let Some(count) = engine.audit().due(action, person, engine.clock().mono()) else { return };
    tracing::warn!(
        event = action.name(), code = how.name(), count, user = person,
        source = %caller.client().address(), method = %wanted.method, route = wanted.route,
        "refused"
    );
    let event = Event::new(engine.clock().wall(), action, caller.actor())
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
