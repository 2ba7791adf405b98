//! `/api/auth`: signing in and out, proving again who one is, and passwords.

mod password;
mod reauth;
mod sign_in;
mod sign_out;

use std::sync::Arc;

use axum::Json;
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header::SET_COOKIE;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use sojourn_engine::identity::Unavailable;
use sojourn_engine::login::Login;
use sojourn_engine::login::SignInError;
use sojourn_engine::secret::Secret;
use utoipa::ToSchema;

use crate::answer::Refused;
use crate::cookie;
use crate::cookie::Carried;
use crate::cookie::Kind;
use crate::gate::Gate;
use crate::me::LoginShown;
use crate::route::Route;

/// The routes of this directory.
pub(crate) fn routes() -> Vec<Route> {
    [sign_in::routes(), sign_out::routes(), reauth::routes(), password::routes()]
        .into_iter()
        .flatten()
        .collect()
}

/// What a page needs once somebody has signed in. The login's token is in the cookie alone.
#[derive(Serialize, ToSchema)]
struct SignedInAnswer {
    /// The name of the account.
    user: String,
    /// What it may do.
    role: &'static str,
    /// Whether its password was made by the program and is to be changed.
    must_change: bool,
    login: LoginShown,
    /// Goes along with every change, as `X-CSRF-Token`.
    csrf_token: String,
}

/// Signed in, or what is asked for next.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum Step {
    SignedIn(Box<SignedInAnswer>),
    Next {
        /// `totp`: a code is asked for.
        step: &'static str,
    },
}

/// The answer to whoever has proved who they are: a new cookie, and what a page needs.
fn signed_in(gate: &Gate, secret: &Secret, login: &Arc<Login>) -> Response {
    let answer = SignedInAnswer {
        user: login.name().to_owned(),
        role: login.role().name(),
        must_change: login.must_change(),
        login: LoginShown::of(gate, login),
        csrf_token: login.csrf_token(),
    };
    let mut response = Json(Step::SignedIn(Box::new(answer))).into_response();
    add_cookie(response.headers_mut(), cookie::set(gate.origin(), Kind::Login, secret.expose()));
    response
}

/// The answer to whoever has to show a code as well.
fn next_step() -> Response {
    Json(Step::Next { step: "totp" }).into_response()
}

fn add_cookie(headers: &mut HeaderMap, cookie: Option<HeaderValue>) {
    if let Some(cookie) = cookie {
        headers.append(SET_COOKIE, cookie);
    }
}

/// The value of one of our cookies, where there is one that can be believed.
fn cookie_of<'a>(gate: &Gate, headers: &'a HeaderMap, kind: Kind) -> Option<&'a str> {
    match cookie::carried(headers, &cookie::name(gate.origin(), kind)) {
        Carried::Once(value) => Some(value),
        Carried::Nothing | Carried::Doubtful => None,
    }
}

/// To whoever gave a wrong name, password or code. Which of them was wrong is not said.
pub(crate) const WRONG: &str = "this is not right; check what you typed and try again";

impl From<Unavailable> for Refused {
    fn from(why: Unavailable) -> Self {
        match why {
            Unavailable::Store => Self::Store,
            Unavailable::Audit => Self::Audit(why.to_string()),
            Unavailable::Busy => Self::Overloaded,
        }
    }
}

impl From<SignInError> for Refused {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Stale => Self::InvalidCredentials(WRONG),
            SignInError::Unavailable(why) => why.into(),
        }
    }
}
