//! Whether somebody may call a route.

use axum::http::HeaderMap;
use sojourn_core::scope::Scope;
use sojourn_engine::login::Login;
use sojourn_engine::login::LoginEnd;

use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::ONLY_A_PERSON;
use crate::caller::Who;
use crate::gate::Gate;
use crate::guards::credentials::Asking;
use crate::route::Access;

/// The header that proves that our own page sent a request.
pub(crate) const CSRF_HEADER: &str = "x-csrf-token";

/// Who asks, or nobody where nobody has to be known.
pub(crate) fn known(access: Access, asking: Asking) -> Result<Option<Caller>, Refused> {
    match (asking, access) {
        (Asking::Known(caller), _) => Ok(Some(caller)),
        // A dead cookie, or a store that is gone, never stands between a person and the way in.
        (_, Access::Public | Access::SignIn) => Ok(None),
        (Asking::Nobody, _) => Err(Refused::LoginRequired),
        (Asking::Ended(why), _) => Err(ended(why)),
        (Asking::BadToken, _) => Err(Refused::InvalidCredentials("this token is not valid")),
        (Asking::Unavailable, _) => Err(Refused::Store),
    }
}

/// Lets somebody known in.
pub(crate) fn admit(gate: &Gate, access: Access, caller: &Caller) -> Result<(), Refused> {
    match access {
        Access::Public | Access::SignIn => Ok(()),
        Access::Login => person(caller),
        Access::Fresh => gate.fresh(caller).map(|_| ()),
        Access::Scope(scope) => in_scope(caller, scope),
        Access::Role(scope, deed) => {
            in_scope(caller, scope)?;
            gate.admit_in_general(caller, deed)
        }
        Access::Runner => runner(caller),
    }
}

fn person(caller: &Caller) -> Result<(), Refused> {
    if caller.login().is_some() { Ok(()) } else { Err(Refused::Forbidden(ONLY_A_PERSON)) }
}

fn runner(caller: &Caller) -> Result<(), Refused> {
    match caller.who() {
        Who::Token(token) if token.runner.is_some() => Ok(()),
        Who::Login(_) | Who::Token(_) | Who::Local { .. } => {
            Err(Refused::Forbidden("only a runner may come here, by its token"))
        }
    }
}

fn in_scope(caller: &Caller, scope: Scope) -> Result<(), Refused> {
    match caller.who() {
        Who::Token(token) if !token.has(scope) => Err(Refused::Forbidden(match scope {
            Scope::Read => "this token's scopes do not cover this: it takes the scope read",
            Scope::Sessions => "this token's scopes do not cover this: it takes the scope sessions",
            Scope::Admin => "this token's scopes do not cover this: it takes the scope admin",
        })),
        Who::Login(_) | Who::Token(_) | Who::Local { .. } => Ok(()),
    }
}

/// What the holder of an ended login is told.
pub(crate) fn ended(why: LoginEnd) -> Refused {
    let reason = why.name();
    if why.is_expiry() { Refused::Expired { reason } } else { Refused::Revoked { reason } }
}

/// Refuses a request by cookie that does not prove that our own page sent it.
pub(crate) fn check_csrf_token(
    access: Access,
    login: &Login,
    headers: &HeaderMap,
) -> Result<(), Refused> {
    if access == Access::SignIn {
        return Ok(());
    }
    let mut sent = headers.get_all(CSRF_HEADER).iter();
    let is_right = match (sent.next(), sent.next()) {
        (Some(token), None) => token.to_str().is_ok_and(|token| login.is_csrf_token(token)),
        _ => false,
    };
    if is_right { Ok(()) } else { Err(Refused::CsrfToken) }
}
