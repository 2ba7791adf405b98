//! `GET /api/profiles`: what somebody may start a session in.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use sojourn_core::scope::Scope;
use sojourn_engine::door::Door;
use utoipa::ToSchema;

use crate::caller::Caller;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// A profile, as far as it matters to who starts a session.
#[derive(Serialize, ToSchema)]
struct Profile {
    name: String,
    /// `native`, `docker` or `host`.
    sandbox: String,
    /// Whether a reason must be given.
    require_why: bool,
    /// How long a session lasts that is started here; none: as long as it likes.
    max_runtime_seconds: Option<u64>,
    /// How long nothing may happen in it.
    idle_timeout_seconds: Option<u64>,
    /// How much it may print.
    max_output_bytes: Option<u64>,
}

/// The profiles.
#[derive(Serialize, ToSchema)]
struct Profiles {
    items: Vec<Profile>,
    /// Always none: there are no more than fit.
    next_cursor: Option<String>,
}

/// The routes of this file.
pub(crate) fn routes() -> Vec<Route> {
    vec![Route::get(
        "/api/profiles",
        Access::Scope(Scope::Read),
        Activity::Counts,
        list,
        Doc::of("listProfiles", "The profiles that one may use, by name.")
            .gives::<Profiles>(200, "They."),
    )]
}

/// `GET /api/profiles`
async fn list(State(gate): State<Gate>, caller: Caller) -> Json<Profiles> {
    let usable = gate.engine().profiles_for(&caller.person().who);
    let items = usable.into_iter().map(|(name, policy)| {
        let limits = policy.limits_at(Door::Web);
        Profile {
            name,
            require_why: policy.require_why,
            max_runtime_seconds: limits.max_runtime.map(|time| time.as_secs()),
            idle_timeout_seconds: limits.idle_timeout.map(|time| time.as_secs()),
            max_output_bytes: limits.max_output,
            sandbox: policy.sandbox,
        }
    });
    Json(Profiles { items: items.collect(), next_cursor: None })
}
