//! Until when one's login is good, and putting that off.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sojourn_engine::login::Deadlines;
use sojourn_engine::login::Login;
use utoipa::ToSchema;

use super::login;
use crate::answer::Refused;
use crate::caller::Caller;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::request::Fields;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// A login, as its own pages see it.
#[derive(Serialize, ToSchema)]
pub(crate) struct LoginShown {
    /// Its public id, which opens nothing.
    #[schema(format = "uuid")]
    id: String,
    /// When it was begun.
    #[schema(format = "date-time")]
    created_at: String,
    /// When its person last proved who they are.
    #[schema(format = "date-time")]
    authenticated_at: String,
    /// How: `password`, `totp`, `recovery`.
    methods: Vec<&'static str>,
    #[serde(flatten)]
    #[schema(inline)]
    until: Until,
}

/// Until when a login is good.
#[derive(Serialize, ToSchema)]
pub(crate) struct Until {
    /// The time by the clock that decides.
    #[schema(format = "date-time")]
    now: String,
    /// When it ends if nothing is done with it.
    #[schema(format = "date-time")]
    idle_expires_at: String,
    /// When it ends in any case.
    #[schema(format = "date-time")]
    lifetime_expires_at: String,
}

impl From<Deadlines> for Until {
    fn from(deadlines: Deadlines) -> Self {
        Self {
            now: deadlines.now.to_rfc3339(),
            idle_expires_at: deadlines.idle_expires_at.to_rfc3339(),
            lifetime_expires_at: deadlines.lifetime_expires_at.to_rfc3339(),
        }
    }
}

impl LoginShown {
    pub(crate) fn of(gate: &Gate, login: &Login) -> Self {
        Self {
            id: login.id().to_string(),
            created_at: login.created_at().to_rfc3339(),
            authenticated_at: login.authenticated_at().to_rfc3339(),
            methods: login.methods().iter().map(|method| method.name()).collect(),
            until: login.deadlines(gate.logins().now()).into(),
        }
    }
}

/// The routes of this file.
pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get(
            "/api/me/login",
            Access::Login,
            Activity::Passive,
            read,
            Doc::of("readLogin", "Until when one's login is good. Asking moves nothing.")
                .gives::<Until>(200, "The deadlines."),
        ),
        Route::post(
            "/api/me/login/extend",
            Access::Login,
            Activity::Counts,
            extend,
            Doc::of(
                "extendLogin",
                "Somebody is there: the idle deadline moves, the other does not.",
            )
            .gives::<Until>(200, "The deadlines.")
            .refuses(&[crate::answer::Code::UnsupportedMediaType]),
        ),
    ]
}

/// `GET /api/me/login`
async fn read(State(gate): State<Gate>, caller: Caller) -> Result<Json<Until>, Refused> {
    Ok(Json(login(&caller)?.deadlines(gate.logins().now()).into()))
}

/// `POST /api/me/login/extend`
async fn extend(
    State(gate): State<Gate>,
    caller: Caller,
    fields: Fields,
) -> Result<Json<Until>, Refused> {
    fields.only(&[])?;
    Ok(Json(gate.logins().extend(login(&caller)?).into()))
}
