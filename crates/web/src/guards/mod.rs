//! What a request passes before a handler sees it, in this order. The first three need nothing but
//! headers and the configured origin; no state is read for a request that they refuse.
//!
//! 1. [`outer`]: where it comes from, which host it means; the headers of every answer;
//! 2. how long it may take, and the length of the body;
//! 3. [`cross_origin`]: that no other site's page sent it;
//! 4. [`credentials`]: who asks, which refuses nobody;
//! 5. [`rates`]: how often nobody in particular asks;
//! 6. [`access`]: whether they may call this route, and whether our own page sent it;
//! 7. that what is sent again is done once, see [`crate::once`];
//! 8. activity, where the route counts as such.

pub(crate) mod access;
pub(crate) mod credentials;
pub(crate) mod cross_origin;
pub(crate) mod outer;
pub(crate) mod rates;

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
use sojourn_engine::metrics::RouteMeter;
use tokio::time::Instant;

use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::Who;
use crate::denials::Wanted;
use crate::gate::Gate;
use crate::notices::Why;
use crate::once;
use crate::peer::Peer;
use crate::route::Activity;
use crate::route::Rule;
use credentials::Credentials;
use rates::Tried;

/// What guards a route.
pub(crate) struct Guard {
    pub(crate) gate: Gate,
    /// The route's template.
    pub(crate) path: &'static str,
    pub(crate) rule: Rule,
    pub(crate) meter: RouteMeter,
}

/// Whether a request with this method may change anything.
pub(crate) fn is_unsafe(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE)
}

/// The header with which a page says that it asks by itself, and no person did anything.
const BY_ITSELF: &str = "x-sojourn-poll";

/// Whether a page asks this to stay up to date. It can only make its login shorter.
fn is_by_itself(parts: &Parts) -> bool {
    !is_unsafe(&parts.method) && parts.headers.contains_key(BY_ITSELF)
}

/// Lets a request pass to its handler, with its [`Caller`], or answers it.
pub(crate) async fn pass(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let began = Instant::now();
    let method = request.method().clone();
    let answered = tokio::time::timeout(guard.rule.patience, guard.answer(request, next)).await;
    let response = answered.unwrap_or_else(|_| guard.given_up(&method));
    guard.meter.answered(method.as_str(), response.status().as_u16(), began.elapsed());
    response
}

impl Guard {
    async fn answer(&self, request: Request, next: Next) -> Response {
        let (mut parts, body) = request.into_parts();
        let (method, uri) = (parts.method.clone(), parts.uri.clone());
        let (caller, response) = match self.caller(&parts).await {
            Ok(caller) => match self.admit(&parts, caller.as_ref()) {
                Ok(()) => {
                    let Rule { creates, longest_body, .. } = self.rule;
                    if let Some(caller) = &caller {
                        parts.extensions.insert(caller.clone());
                    }
                    let request = Request::from_parts(parts, body);
                    let response = match caller.as_ref().filter(|_| creates) {
                        Some(caller) => {
                            once::run(self.gate.engine(), caller, request, longest_body, next).await
                        }
                        None => next.run(request).await,
                    };
                    (caller, response)
                }
                Err(refused) => (caller, refused.into_response()),
            },
            Err(refused) => (None, refused.into_response()),
        };
        if let (Some(caller), Some(how)) = (&caller, response.extensions().get()) {
            let wanted = Wanted { method: &method, route: self.path, path: uri.path() };
            self.gate.note_denied(caller, wanted, *how);
        }
        response
    }

    /// The answer in the stead of a handler that took too long: what it did stops where it was.
    fn given_up(&self, method: &Method) -> Response {
        let patience = self.rule.patience.as_secs();
        tracing::warn!(route = self.path, %method, patience, "a request was not answered in time");
        self.gate.engine().metrics().refused("web", "timed_out");
        Refused::Overloaded.into_response()
    }

    async fn caller(&self, parts: &Parts) -> Result<Option<Caller>, Refused> {
        let Self { gate, rule, .. } = self;
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
        let tried = Tried {
            method: &parts.method,
            access: rule.access,
            asking: &asking,
            cookie: credentials.has_cookie(),
            peer,
            client,
        };
        rates::check(gate.engine().rates(), &tried)?;
        access::known(rule.access, asking)
    }

    /// Lets somebody pass who is known, or nobody where that is enough.
    fn admit(&self, parts: &Parts, caller: Option<&Caller>) -> Result<(), Refused> {
        let Self { gate, rule, .. } = self;
        let Some(caller) = caller else { return Ok(()) };
        access::admit(gate, rule.access, caller)?;
        if let Who::Login(login) = caller.who() {
            if is_unsafe(&parts.method) {
                access::check_csrf_token(rule.access, login, &parts.headers)
                    .inspect_err(|_| gate.note(Why::CsrfToken, caller.client()))?;
            }
            if rule.activity == Activity::Counts && !is_by_itself(parts) {
                gate.logins().touch(login);
            }
        }
        Ok(())
    }
}
