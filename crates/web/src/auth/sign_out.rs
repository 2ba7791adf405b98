//! Signing out: of this browser, now.

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::HeaderName;
use axum::http::HeaderValue;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use sojourn_engine::login::LoginEnd;

use super::add_cookie;
use super::cookie_of;
use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::MaybeCaller;
use crate::cookie;
use crate::cookie::Kind;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// What a browser is to forget. Not its cookies: those of sibling hosts would go with ours.
const FORGET: &str = "\"cache\",\"storage\"";

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    vec![Route::post(
        "/api/auth/logout",
        Access::Public,
        Activity::Passive,
        sign_out,
        Doc::of("signOut", "Ends this login; fine as well when there is none.")
            .gives_nothing(204, "It has ended.")
            .refuses(&[Code::StoreUnavailable]),
    )]
}

/// `POST /api/auth/logout`
async fn sign_out(
    State(gate): State<Gate>,
    MaybeCaller(caller): MaybeCaller,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    match caller.as_ref().and_then(|caller| Some((caller, caller.login()?))) {
        Some((caller, login)) => {
            gate.logins().end(login.id(), LoginEnd::Logout, &caller.actor()).await?;
        }
        // Nobody is told to have signed out while it cannot be seen whether they have.
        None => {
            if let Some(token) = cookie_of(&gate, &headers, Kind::Login)
                && caller.is_none()
            {
                gate.logins().resolve(token).await?;
            }
        }
    }
    Ok(forget(&gate, caller.as_ref()))
}

/// Takes what a browser has of ours away; a program has nothing.
fn forget(gate: &Gate, caller: Option<&Caller>) -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    if caller.is_none_or(|caller| caller.login().is_some()) {
        let headers = response.headers_mut();
        add_cookie(headers, cookie::removal(gate.origin(), Kind::Login));
        let name = HeaderName::from_static("clear-site-data");
        headers.insert(name, HeaderValue::from_static(FORGET));
    }
    response
}
