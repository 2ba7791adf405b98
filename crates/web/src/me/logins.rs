//! Where one is signed in, and ending that from here.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use sojourn_core::ids::LoginId;
use sojourn_core::ids::UserId;
use sojourn_engine::login::EndError;
use sojourn_engine::login::LoginEnd;
use sojourn_engine::login::LoginView;
use utoipa::ToSchema;

use super::login;
use super::login_id;
use super::no_such_login;
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

/// A login of the list.
#[derive(Serialize, ToSchema)]
struct Listed {
    /// Its public id, which opens nothing.
    #[schema(format = "uuid")]
    id: String,
    #[schema(format = "date-time")]
    created_at: String,
    /// When its person last proved who they are.
    #[schema(format = "date-time")]
    authenticated_at: String,
    #[schema(format = "date-time")]
    last_seen_at: String,
    #[schema(format = "date-time")]
    idle_expires_at: String,
    #[schema(format = "date-time")]
    lifetime_expires_at: String,
    /// From which address it was begun.
    address: String,
    /// What people call the browser.
    device: String,
    /// How its person proved who they are.
    methods: Vec<&'static str>,
    /// Whether it is the one that asks.
    current: bool,
}

/// A page of logins.
#[derive(Serialize, ToSchema)]
pub(crate) struct Logins {
    items: Vec<Listed>,
    /// Always none: there are no more than fit.
    next_cursor: Option<String>,
}

/// What was ended.
#[derive(Serialize, ToSchema)]
pub(crate) struct EndedLogins {
    /// How many.
    pub(crate) ended: usize,
}

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get(
            "/api/me/logins",
            Access::Login,
            Activity::Counts,
            list,
            Doc::of("listMyLogins", "Where one is signed in, the last seen first.")
                .gives::<Logins>(200, "One's logins."),
        ),
        Route::delete(
            "/api/me/logins/{id}",
            Access::Fresh,
            Activity::Counts,
            end,
            Doc::of("endMyLogin", "Ends one of one's own logins.")
                .gives_nothing(204, "It has ended.")
                .refuses(&[Code::NotFound, Code::AuditUnavailable]),
        ),
        Route::post(
            "/api/me/logins/revoke-others",
            Access::Fresh,
            Activity::Counts,
            end_others,
            Doc::of("endMyOtherLogins", "Ends all of one's own logins but this one.")
                .gives::<EndedLogins>(200, "They have ended.")
                .refuses(&[Code::AuditUnavailable, Code::UnsupportedMediaType]),
        ),
    ]
}

/// `GET /api/me/logins`
async fn list(State(gate): State<Gate>, caller: Caller) -> Result<Json<Logins>, Refused> {
    let login = login(&caller)?;
    logins_of(&gate, login.user(), Some(login.id())).await.map(Json)
}

/// `DELETE /api/me/logins/{id}`
async fn end(
    State(gate): State<Gate>,
    caller: Caller,
    Typed(typed): Typed<String>,
) -> Result<StatusCode, Refused> {
    let (own, id) = (login(&caller)?, login_id(&typed)?);
    let theirs = gate.logins().list(own.user()).await?;
    if !theirs.iter().any(|login| login.id == id) {
        return Err(no_such_login());
    }
    gate.logins().end(id, LoginEnd::Revoked, &caller.actor()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/me/logins/revoke-others`
async fn end_others(
    State(gate): State<Gate>,
    caller: Caller,
    fields: Fields,
) -> Result<Json<EndedLogins>, Refused> {
    fields.only(&[])?;
    let own = login(&caller)?;
    let (user, but, by) = (own.user(), Some(own.id()), caller.actor());
    let ended = gate.logins().end_all_of(user, but, LoginEnd::Revoked, &by).await?;
    Ok(Json(EndedLogins { ended }))
}

/// A user's logins; `current` is the one that asks.
pub(crate) async fn logins_of(
    gate: &Gate,
    user: UserId,
    current: Option<LoginId>,
) -> Result<Logins, Refused> {
    let logins = gate.logins().list(user).await?;
    let items = logins.iter().map(|login| listed(login, current)).collect();
    Ok(Logins { items, next_cursor: None })
}

fn listed(login: &LoginView, current: Option<LoginId>) -> Listed {
    Listed {
        id: login.id.to_string(),
        created_at: login.created_at.to_rfc3339(),
        authenticated_at: login.authenticated_at.to_rfc3339(),
        last_seen_at: login.last_seen_at.to_rfc3339(),
        idle_expires_at: login.deadlines.idle_expires_at.to_rfc3339(),
        lifetime_expires_at: login.deadlines.lifetime_expires_at.to_rfc3339(),
        address: login.address.to_string(),
        device: login.device.clone(),
        methods: login.methods.iter().map(|method| method.name()).collect(),
        current: current == Some(login.id),
    }
}

impl From<EndError> for Refused {
    fn from(EndError::Unavailable(why): EndError) -> Self {
        why.into()
    }
}
