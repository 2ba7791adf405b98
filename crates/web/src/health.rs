//! `GET /api/health`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use serde_json::json;
use sojourn_engine::listing::SessionQuery;

use crate::local::Local;

/// How the gateway is; 503 only when the store is gone.
pub(crate) async fn read(State(local): State<Local>) -> Response {
    let health = local.engine.health().await;
    let one = SessionQuery { limit: 1, ..SessionQuery::default() };
    let status = match local.engine.sessions(&one).await {
        Ok(_) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let body = json!({
        "status": if health.healthy { "healthy" } else { "degraded" },
        "version": env!("CARGO_PKG_VERSION"),
        // Runners that dial in are not there yet; the built-in one does not count.
        "runners_connected": 0,
        "active_sessions": health.active_sessions,
        "uptime_seconds": health.uptime.as_secs(),
        "reasons": health.reasons,
    });
    (status, Json(body)).into_response()
}
