//! How often: what is asked by nobody we know keeps a pace by address. Who has a login or a token, or
//! is at the local socket, is not held up here.

use axum::http::Method;
use sojourn_core::audit::Actor;
use sojourn_core::audit::ActorKind;
use sojourn_engine::identity::Client;
use sojourn_engine::rates::Rates;

use crate::answer::Refused;
use crate::guards::credentials::Asking;
use crate::guards::is_unsafe;
use crate::peer::Peer;
use crate::route::Access;

/// What is known of a request before it is decided whether it may pass.
pub(crate) struct Tried<'a> {
    pub(crate) method: &'a Method,
    pub(crate) access: Access,
    pub(crate) asking: &'a Asking,
    /// Whether it had a cookie of ours.
    pub(crate) cookie: bool,
    pub(crate) peer: &'a Peer,
    pub(crate) client: &'a Client,
}

/// Counts a request, and refuses one too many.
pub(crate) fn check(rates: &Rates, tried: &Tried<'_>) -> Result<(), Refused> {
    if !matches!(tried.peer, Peer::Net(_)) {
        return Ok(());
    }
    let address = tried.client.address();
    let actor = |kind| {
        let actor = Actor { ip_address: Some(address), ..Actor::new(kind) };
        actor.with_user_agent(tried.client.user_agent())
    };
    if tried.access == Access::SignIn && is_unsafe(tried.method) {
        // A dead cookie never stands between a person and the way in, so it does not count here.
        return Ok(rates.sign_in(address, &actor(ActorKind::Browser))?);
    }
    match tried.asking {
        Asking::Known(_) | Asking::Ended(_) | Asking::Unavailable => Ok(()),
        // What is open to everybody is open to those with a dead cookie as well.
        _ if tried.access == Access::Public => {
            Ok(rates.request(address, &actor(ActorKind::Browser))?)
        }
        Asking::BadToken => Ok(rates.unknown_token(address, &actor(ActorKind::Token))?),
        Asking::Nobody if tried.cookie => {
            Ok(rates.unknown_token(address, &actor(ActorKind::Browser))?)
        }
        Asking::Nobody => Ok(rates.request(address, &actor(ActorKind::Browser))?),
    }
}
