//! The outermost guard: nothing gets past it unseen, neither in nor out.

use std::panic::AssertUnwindSafe;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::Uri;
use axum::http::header::CACHE_CONTROL;
use axum::http::header::HOST;
use axum::http::header::USER_AGENT;
use axum::response::IntoResponse;
use axum::response::Response;
use futures_util::FutureExt;
use sojourn_core::ids::EventId;
use sojourn_engine::identity::Client;
use tower::ServiceExt;
use tracing::Instrument;

use crate::answer::Refused;
use crate::forwarded;
use crate::gate::Gate;
use crate::origin::Origin;
use crate::peer::Peer;

/// The longest that all headers may be together (the HTTP library takes a hundred of them), and the
/// longest that is asked for, in bytes.
const LONGEST_HEADERS: usize = 32 << 10;
const LONGEST_TARGET: usize = 8 << 10;

/// What a page of ours may do: nothing but with what comes from here. Styles stand in the document
/// for the terminal's renderer.
const CONTENT_SECURITY_POLICY: &str = "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; \
     worker-src 'self' blob:; style-src 'self' 'unsafe-inline'; object-src 'none'; \
     base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

/// What every answer carries.
const ALWAYS: [(&str, &str); 5] = [
    ("content-security-policy", CONTENT_SECURITY_POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// Where browsers come by https, they shall do so for the next two years.
const STRICT_TRANSPORT: &str = "max-age=63072000; includeSubDomains";

/// The door: answers requests, wherever they come from.
#[derive(Clone)]
pub(crate) struct Door {
    gate: Gate,
    router: Router,
}

impl Door {
    pub(crate) fn new(gate: Gate, router: Router) -> Self {
        Self { gate, router }
    }

    /// Answers one request.
    pub(crate) async fn answer(&self, peer: Peer, request: Request) -> Response {
        let id = EventId::new().to_string();
        let client = self.client(&peer, request.headers());
        // Neither query nor headers: both can hold secrets.
        let span = tracing::info_span!(
            "request", id, method = %request.method(), path = request.uri().path(),
            source = %client.address(),
        );
        let answered = AssertUnwindSafe(self.inner(peer, client, request).instrument(span));
        let mut response = answered.catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(request = id, "a handler panicked");
            Refused::Bug.into_response()
        });
        finish(self.gate.origin(), &id, response.headers_mut());
        response
    }

    async fn inner(&self, peer: Peer, client: Client, mut request: Request) -> Response {
        let checked =
            check_size(&request).and_then(|()| check_host(&peer, &request, self.gate.origin()));
        if let Err(refused) = checked {
            return refused.into_response();
        }
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(client);
        match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn client(&self, peer: &Peer, headers: &HeaderMap) -> Client {
        let agent = headers.get(USER_AGENT).map_or(&[][..], |value| value.as_bytes());
        let trusted = &self.gate.settings().trusted_proxies;
        let address = forwarded::source(peer.ip(), headers, trusted);
        Client::new(address, &String::from_utf8_lossy(agent))
    }
}

/// Gives an answer what every answer has.
fn finish(origin: &Origin, id: &str, headers: &mut HeaderMap) {
    for (name, value) in ALWAYS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if origin.is_secure() {
        let name = HeaderName::from_static("strict-transport-security");
        headers.insert(name, HeaderValue::from_static(STRICT_TRANSPORT));
    }
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
    // What says nothing about it itself is for this one reader, this one time.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

/// The whole answer to what could not even be read as a request, and the end of its connection.
pub(crate) fn broken(origin: &Origin, refused: Refused) -> Vec<u8> {
    let body = refused.body().to_string();
    let mut headers = HeaderMap::new();
    finish(origin, &EventId::new().to_string(), &mut headers);
    let status = StatusCode::from_u16(refused.code().status()).unwrap_or_default();
    let mut answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         connection: close\r\n",
        body.len(),
    );
    for (name, value) in &headers {
        answer.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    answer.push_str("\r\n");
    answer.push_str(&body);
    answer.into_bytes()
}

/// Refuses what is longer than anybody needs.
fn check_size(request: &Request<Body>) -> Result<(), Refused> {
    let headers = request.headers();
    let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len();
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    let fits =
        headers.iter().map(length).sum::<usize>() <= LONGEST_HEADERS && target <= LONGEST_TARGET;
    if fits { Ok(()) } else { Err(Refused::HeadersTooLarge) }
}

/// Refuses a request for a host that this gateway is not, and whom the local socket does not trust.
fn check_host(peer: &Peer, request: &Request<Body>, ours: &Origin) -> Result<(), Refused> {
    match peer {
        Peer::Net(_) => {}
        Peer::Local { .. } => return Ok(()),
        Peer::Stranger(why) => return Err(Refused::Forbidden(why)),
    }
    let malformed = || Refused::Malformed("there has to be one Host header".to_owned());
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(malformed()) };
    let host = host.to_str().map_err(|_| malformed())?;
    let named = request.uri().authority().is_none_or(|authority| ours.is_host(authority.as_str()));
    let scheme = Uri::scheme_str(request.uri()).is_none_or(|s| matches!(s, "http" | "https"));
    if named && scheme && ours.is_host(host) { Ok(()) } else { Err(Refused::Misdirected) }
}
