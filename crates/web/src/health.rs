//! `GET /api/health`.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde::Serialize;
use utoipa::ToSchema;

use crate::caller::FromClient;
use crate::caller::MaybeCaller;
use crate::forwarded;
use crate::gate::Gate;
use crate::openapi::Doc;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// How the gateway is. To those who are neither on this machine nor known, only the status.
#[derive(Serialize, ToSchema)]
struct Health {
    /// `healthy`, or `degraded`.
    status: &'static str,
    #[serde(flatten)]
    #[schema(inline)]
    more: Option<More>,
}

#[derive(Serialize, ToSchema)]
struct More {
    version: &'static str,
    /// Runners that dialled in; the built-in one does not count.
    runners_connected: usize,
    active_sessions: usize,
    uptime_seconds: u64,
    /// What is not well.
    reasons: Vec<String>,
}

pub(crate) fn routes() -> Vec<Route> {
    vec![Route::get(
        "/api/health",
        Access::Public,
        Activity::Passive,
        read,
        Doc::of("readHealth", "How the gateway is.")
            .gives::<Health>(200, "It works, if not quite as it should.")
            .gives::<Health>(503, "The store is gone, or there is too much to do."),
    )]
}

/// How the gateway is; 503 only when the store is gone.
async fn read(
    State(gate): State<Gate>,
    FromClient(client): FromClient,
    MaybeCaller(caller): MaybeCaller,
    headers: HeaderMap,
) -> Response {
    let health = gate.engine().health().await;
    let status = if health.store_gone { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    // What a proxy on this machine passed on is not from here, though nobody said it is a proxy.
    let is_near = client.address().is_loopback() && !forwarded::is_passed_on(&headers);
    let more = (caller.is_some() || is_near).then_some(More {
        version: env!("CARGO_PKG_VERSION"),
        runners_connected: health.runners_connected,
        active_sessions: health.active_sessions,
        uptime_seconds: health.uptime.as_secs(),
        reasons: health.reasons,
    });
    let status_word = if health.healthy { "healthy" } else { "degraded" };
    (status, Json(Health { status: status_word, more })).into_response()
}
