//! One-time links: an admin makes one, and whoever it is for sets a password that no admin sees.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::ADMINS;
use super::proved_lately;
use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::caller::Who;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Fields;
use crate::request::Typed;
use crate::route::Activity;
use crate::route::Route;

/// A link that is good once.
#[derive(Serialize, ToSchema)]
pub(super) struct Link {
    /// What `POST /api/auth/reset` takes.
    token: String,
    /// The page that does so. What follows the `#` is sent to no server.
    url: String,
    #[schema(format = "date-time")]
    expires_at: String,
}

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    vec![Route::post(
        "/api/users/{name}/reset",
        ADMINS,
        Activity::Counts,
        reset,
        Doc::of("resetUser", "Makes a one-time link for a new password; those before are void.")
            .gives::<Link>(200, "It is good for an hour.")
            .refuses(&[
                Code::NotFound,
                Code::Conflict,
                Code::ReauthRequired,
                Code::AuditUnavailable,
            ])
            .refuses(&[Code::Invalid, Code::UnsupportedMediaType]),
    )]
}

/// `POST /api/users/{name}/reset`
async fn reset(
    State(gate): State<Gate>,
    caller: Caller,
    Typed(name): Typed<String>,
    fields: Fields,
) -> Result<Json<Link>, Refused> {
    proved_lately(&gate, &caller)?;
    fields.only(&[])?;
    if matches!(caller.who(), Who::Token(_)) {
        return Err(Refused::Forbidden("tokens change nobody's password"));
    }
    issue(&gate, &caller, &name).await.map(Json)
}

/// Makes a link for the account of this name.
pub(super) async fn issue(gate: &Gate, caller: &Caller, name: &str) -> Result<Link, Refused> {
    let link = gate.engine().accounts().issue_reset(name, caller.actor()).await?;
    let token = link.token.expose().to_owned();
    let url = format!("{}/reset#{token}", gate.origin());
    Ok(Link { token, url, expires_at: link.expires_at.to_rfc3339() })
}
