//! `/api/me`: who one is, and what is one's own: logins, keys, the second factor, tokens.

mod keys;
mod login;
mod logins;
mod push;
mod tokens;
mod totp;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sojourn_core::authz::Asker;
use sojourn_core::authz::Role;
use sojourn_core::ids::LoginId;
use sojourn_core::scope::Scope;
use sojourn_core::scope::Scopes;
use sojourn_engine::login::Login;
use utoipa::ToSchema;

use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::Who;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

pub(crate) use login::LoginShown;
pub(crate) use logins::EndedLogins;
pub(crate) use logins::Logins;
pub(crate) use logins::logins_of;
pub(crate) use tokens::MadeToken;
pub(crate) use tokens::NewToken;
pub(crate) use tokens::Token;
pub(crate) use tokens::shown_token;
pub(crate) use tokens::wanted_token;

/// Who asks.
#[derive(Serialize, ToSchema)]
struct Me {
    /// The name of the account; none at the gateway's own socket.
    user: Option<String>,
    /// What it may do: `admin`, `member` or `auditor`.
    role: &'static str,
    /// Whether the password was made by the program and is to be changed.
    must_change: bool,
    /// Whether a code is asked for after the password.
    second_factor: bool,
    /// Goes along with every change, as `X-CSRF-Token`; programs need none.
    csrf_token: Option<String>,
    /// The login, of a person.
    login: Option<LoginShown>,
    /// The scopes, of a token.
    scopes: Option<Vec<&'static str>>,
}

/// The routes of this directory.
pub(crate) fn routes() -> Vec<Route> {
    let own = Route::get(
        "/api/me",
        Access::Scope(Scope::Read),
        Activity::Counts,
        read,
        Doc::of("readMe", "Who one is.").gives::<Me>(200, "This one."),
    );
    let mut all = vec![own];
    all.extend(login::routes());
    all.extend(logins::routes());
    all.extend(keys::routes());
    all.extend(totp::routes());
    all.extend(tokens::routes());
    all.extend(push::routes());
    all
}

/// `GET /api/me`
async fn read(State(gate): State<Gate>, caller: Caller) -> Result<Json<Me>, Refused> {
    let second_factor = match caller.user() {
        Some(user) => gate.engine().identity().second_factor_of(user).await?.is_some(),
        None => false,
    };
    let login = caller.login();
    Ok(Json(Me {
        user: caller.name().map(str::to_owned),
        role: role(caller.asker()).name(),
        must_change: login.is_some_and(|login| login.must_change()),
        second_factor,
        csrf_token: login.map(|login| login.csrf_token()),
        login: login.map(|login| LoginShown::of(&gate, login)),
        scopes: match caller.who() {
            Who::Token(token) => Some(names(token.scopes)),
            Who::Login(_) | Who::Local { .. } => None,
        },
    }))
}

fn role(asker: Asker) -> Role {
    match asker {
        Asker::User(_, role) => role,
        Asker::Local => Role::Admin,
    }
}

fn names(scopes: Scopes) -> Vec<&'static str> {
    scopes.iter().map(Scope::name).collect()
}

/// The id of a login in a path; what is none names none.
pub(crate) fn login_id(typed: &str) -> Result<LoginId, Refused> {
    typed.parse().map_err(|_| no_such_login())
}

pub(crate) fn no_such_login() -> Refused {
    Refused::NotFound("there is no such login".to_owned())
}

/// The login of a person who has just passed the guards for one.
fn login(caller: &Caller) -> Result<&Login, Refused> {
    let login = caller.login().ok_or(Refused::Forbidden(crate::caller::ONLY_A_PERSON))?;
    Ok(login)
}
