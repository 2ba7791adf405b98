//! Where somebody is signed in, and ending all of that.

use axum::Json;
use axum::extract::State;
use sojourn_engine::login::LoginEnd;

use super::ADMINS;
use super::proved_lately;
use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::gate::Gate;
use crate::me::EndedLogins;
use crate::me::Logins;
use crate::me::logins_of;
use crate::openapi::Doc;
use crate::request::Typed;
use crate::route::Activity;
use crate::route::Route;

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get(
            "/api/users/{name}/logins",
            ADMINS,
            Activity::Counts,
            list,
            Doc::of("listUsersLogins", "Where somebody is signed in.")
                .gives::<Logins>(200, "Their logins.")
                .refuses(&[Code::NotFound]),
        ),
        Route::delete(
            "/api/users/{name}/logins",
            ADMINS,
            Activity::Counts,
            end_all,
            Doc::of("endUsersLogins", "Ends all logins of somebody.")
                .gives::<EndedLogins>(200, "They have ended.")
                .refuses(&[Code::NotFound, Code::ReauthRequired, Code::AuditUnavailable]),
        ),
    ]
}

/// `GET /api/users/{name}/logins`
async fn list(
    State(gate): State<Gate>,
    caller: Caller,
    Typed(name): Typed<String>,
) -> Result<Json<Logins>, Refused> {
    let user = gate.engine().accounts().get(&name).await?;
    let current = caller.login().map(|login| login.id());
    logins_of(&gate, user.id, current).await.map(Json)
}

/// `DELETE /api/users/{name}/logins`
async fn end_all(
    State(gate): State<Gate>,
    caller: Caller,
    Typed(name): Typed<String>,
) -> Result<Json<EndedLogins>, Refused> {
    proved_lately(&gate, &caller)?;
    let user = gate.engine().accounts().get(&name).await?;
    let by = caller.actor();
    let ended = gate.logins().end_all_of(user.id, None, LoginEnd::Revoked, &by).await?;
    Ok(Json(EndedLogins { ended }))
}
