//! One's SSH keys.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use sojourn_engine::identity::UserKey;
use utoipa::ToSchema;
use utoipa::openapi::Required;

use super::login;
use crate::answer::Code;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Fields;
use crate::request::Typed;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// A key that may sign in at the SSH door.
#[derive(Serialize, ToSchema)]
struct Key {
    #[schema(format = "uuid")]
    id: String,
    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    fingerprint: String,
    /// What its owner calls it.
    comment: String,
    #[schema(format = "date-time")]
    added_at: String,
}

/// A page of keys.
#[derive(Serialize, ToSchema)]
struct Keys {
    items: Vec<Key>,
    /// Always none: there are no more than fit.
    next_cursor: Option<String>,
}

/// A key to be added.
#[derive(ToSchema)]
#[expect(dead_code, reason = "for the document; the body is read field by field")]
struct NewKey {
    /// The line of a `.pub` file.
    key: String,
}

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get(
            "/api/me/keys",
            Access::Login,
            Activity::Counts,
            list,
            Doc::of("listMyKeys", "One's SSH keys, the oldest first.").gives::<Keys>(200, "They."),
        ),
        Route::post(
            "/api/me/keys",
            Access::Fresh,
            Activity::Counts,
            add,
            Doc::of("addMyKey", "Adds an SSH key.")
                .takes::<NewKey>(Required::True)
                .gives::<Key>(201, "It is added.")
                .refuses(&[Code::Invalid, Code::Conflict, Code::AuditUnavailable]),
        )
        .creates(),
        Route::delete(
            "/api/me/keys/{id}",
            Access::Fresh,
            Activity::Counts,
            remove,
            Doc::of("removeMyKey", "Takes an SSH key away.")
                .gives_nothing(204, "It is gone.")
                .refuses(&[Code::NotFound, Code::Conflict, Code::AuditUnavailable]),
        ),
    ]
}

/// `GET /api/me/keys`
async fn list(State(gate): State<Gate>, caller: Caller) -> Result<Json<Keys>, Refused> {
    let keys = gate.engine().accounts().keys(login(&caller)?.name()).await?;
    Ok(Json(Keys { items: keys.iter().map(shown).collect(), next_cursor: None }))
}

/// `POST /api/me/keys`
async fn add(
    State(gate): State<Gate>,
    caller: Caller,
    fields: Fields,
) -> Result<(StatusCode, Json<Key>), Refused> {
    fields.only(&["key"])?;
    let text = fields.needed("key")?;
    let name = login(&caller)?.name();
    let key = gate.engine().accounts().add_key(name, text, caller.actor()).await?;
    Ok((StatusCode::CREATED, Json(shown(&key))))
}

/// `DELETE /api/me/keys/{id}`
async fn remove(
    State(gate): State<Gate>,
    caller: Caller,
    Typed(typed): Typed<String>,
) -> Result<StatusCode, Refused> {
    let name = login(&caller)?.name();
    gate.engine().accounts().remove_key(name, &typed, caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn shown(key: &UserKey) -> Key {
    Key {
        id: key.id.to_string(),
        fingerprint: key.fingerprint.clone(),
        comment: key.comment.clone(),
        added_at: key.added_at.to_rfc3339(),
    }
}
