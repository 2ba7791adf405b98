//! `Idempotency-Key`: a POST that creates may be sent again, and gets the first one's answer for a
//! day. Only what succeeded is kept; what was refused may be tried again with the same key.

use axum::body::Body;
use axum::body::Bytes;
use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::response::Parts;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use sojourn_engine::Engine;
use sojourn_engine::repeats::LONGEST_ANSWER;
use sojourn_engine::repeats::LONGEST_KEY;
use sojourn_engine::repeats::Repeat;
use sojourn_engine::repeats::Reply;
use tokio::sync::oneshot;

use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::Who;
use crate::openapi::JSON;
use crate::starting;

/// The header.
pub(crate) const HEADER: &str = "Idempotency-Key";
/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Runs a handler, once for each key of a caller.
pub(crate) async fn run(
    engine: &Engine,
    caller: &Caller,
    request: Request,
    longest_body: usize,
    next: Next,
) -> Response {
    match key(request.headers()) {
        Ok(None) => next.run(request).await,
        Ok(Some(key)) => keyed(engine, caller, key, request, longest_body, next)
            .await
            .unwrap_or_else(IntoResponse::into_response),
        Err(refused) => refused.into_response(),
    }
}

fn key(headers: &HeaderMap) -> Result<Option<String>, Refused> {
    let mut keys = headers.get_all(HEADER).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let visible = |key: &&str| key.bytes().all(|byte| byte.is_ascii_graphic());
    let key =
        key.to_str().ok().filter(visible).filter(|key| (1..=LONGEST_KEY).contains(&key.len()));
    match (key, keys.next()) {
        (Some(key), None) => Ok(Some(key.to_owned())),
        _ => Err(Refused::invalid(
            HEADER,
            format_args!("not one key of 1 to {LONGEST_KEY} visible characters"),
        )),
    }
}

async fn keyed(
    engine: &Engine,
    caller: &Caller,
    key: String,
    request: Request,
    longest_body: usize,
    next: Next,
) -> Result<Response, Refused> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, longest_body).await.map_err(|_| Refused::TooLarge)?;
    let (method, uri) = (parts.method.to_string(), parts.uri.to_string());
    let asked = [method.as_bytes(), uri.as_bytes(), &body];
    let request = Request::from_parts(parts, Body::from(body.clone()));
    let (head, heard) = oneshot::channel();
    let work = async move { reply(next.run(request).await, head).await };
    let done = engine.repeats().once(&owner(caller), &key, &asked, work).await;
    match done {
        Ok(Repeat::First(reply)) => {
            let parts = heard.await.map_err(|_| Refused::Bug)?;
            Ok(Response::from_parts(parts, Body::from(reply.body)))
        }
        Ok(Repeat::Again(reply)) => Ok(again(reply)),
        Ok(Repeat::Made(session)) => {
            let mut response = starting::answer(session.id, session.harness).into_response();
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
            Ok(response)
        }
        Ok(Repeat::InFlight) => {
            Err(Refused::Conflict("this is being done; ask again in a moment".to_owned()))
        }
        Ok(Repeat::Mismatch) => {
            Err(Refused::invalid(HEADER, "this key was used for another request"))
        }
        Ok(Repeat::Broken) => Err(Refused::Bug),
        Err(error) if error.is_refusal() => Err(Refused::invalid(HEADER, error)),
        Err(error) => {
            tracing::error!(%error, "the store does not say what became of a request");
            Err(Refused::Store)
        }
    }
}

/// An answer as it is kept; what comes before its body goes to whoever asked first.
async fn reply(response: Response, head: oneshot::Sender<Parts>) -> Reply {
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, LONGEST_ANSWER).await.unwrap_or_else(|error| {
        tracing::error!(%error, "an answer cannot be kept for who asks again");
        parts.status = StatusCode::INTERNAL_SERVER_ERROR;
        Bytes::new()
    });
    let status = parts.status.as_u16();
    // Whoever asked may have gone.
    let _gone = head.send(parts);
    Reply { status, body: body.into() }
}

fn again(reply: Reply) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Bytes::from(reply.body)).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Whose key it is. Each token has keys of its own user: the user is who gets the answer.
fn owner(caller: &Caller) -> String {
    match (caller.user(), caller.who()) {
        (Some(user), _) => user.to_string(),
        (None, Who::Local { uid }) => format!("local:{uid}"),
        (None, _) => "nobody".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_word() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HEADER, HeaderValue::from_str(value).unwrap());
            }
            key(&headers)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["a-1"]), Ok(Some("a-1".to_owned())));
        let long = "k".repeat(LONGEST_KEY + 1);
        for bad in [&[""][..], &["a", "b"], &["two words"], &[&long]] {
            assert!(matches!(of(bad), Err(Refused::Invalid { field: HEADER, .. })), "{bad:?}");
        }
    }
}
