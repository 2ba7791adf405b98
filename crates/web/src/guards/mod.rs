//! What a request passes before a handler sees it, in this order. The first three need nothing but
//! headers and the configured origin; no state is read for a request that they refuse.
//!
//! 1. [`outer`]: where it comes from, which host it means, how long it may take; the headers of every
//!    answer;
//! 2. the length of the body;
//! 3. [`cross_origin`]: that no other site's page sent it;
//! 4. [`credentials`]: who asks, which refuses nobody;
//! 5. [`access`]: whether they may call this route, and whether our own page sent it;
//! 6. activity, where the route counts as such.

pub(crate) mod access;
pub(crate) mod credentials;
pub(crate) mod cross_origin;
pub(crate) mod outer;

use std::sync::Arc;

use axum::extract::Request;
use axum::extract::State;
use axum::http::Method;
use axum::http::header::CONTENT_LENGTH;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use sojourn_engine::identity::Client;

use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::Who;
use crate::gate::Gate;
use crate::notices::Why;
use crate::peer::Peer;
use crate::route::Activity;
use crate::route::Rule;
use credentials::Credentials;

/// What guards a route.
pub(crate) struct Guard {
    pub(crate) gate: Gate,
    pub(crate) rule: Rule,
}

/// Whether a request with this method may change anything.
pub(crate) fn is_unsafe(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// Lets a request pass to its handler, with its [`Caller`], or answers it.
pub(crate) async fn pass(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    match guard.caller(&parts).await {
        Ok(caller) => {
            if let Some(caller) = caller {
                parts.extensions.insert(caller);
            }
            next.run(Request::from_parts(parts, body)).await
        }
        Err(refused) => refused.into_response(),
    }
}

impl Guard {
    async fn caller(&self, parts: &Parts) -> Result<Option<Caller>, Refused> {
        let Self { gate, rule } = self;
        let (Some(peer), Some(client)) =
            (parts.extensions.get::<Peer>(), parts.extensions.get::<Client>())
        else {
            return Err(Refused::Bug);
        };
        let headers = &parts.headers;
        let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok());
        if length
            .and_then(|length| length.parse().ok())
            .is_some_and(|n: usize| n > rule.longest_body)
        {
            return Err(Refused::TooLarge);
        }
        let credentials = Credentials::read(peer, headers, gate.origin());
        let changes = is_unsafe(&parts.method);
        if (changes || cross_origin::is_upgrade(headers)) && credentials.can_be_lent() {
            cross_origin::check(headers, gate.origin(), credentials.has_cookie())
                .inspect_err(|_| gate.note(Why::CrossOrigin, client))?;
        }
        if credentials.is_doubtful() {
            gate.note(Why::TwoCookies, client);
        }
        let asking = credentials.resolve(gate, client).await;
        let caller = access::admit(gate, rule.access, asking)?;
        let login = caller.as_ref().map(Caller::who);
        if let Some(Who::Login(login)) = login {
            if changes {
                access::check_csrf_token(rule.access, login, headers)
                    .inspect_err(|_| gate.note(Why::CsrfToken, client))?;
            }
            if rule.activity == Activity::Counts {
                gate.logins().touch(login);
            }
        }
        Ok(caller)
    }
}
