//! The route table, and the router that is made of it.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use tower_http::compression::CompressionLayer;

use crate::answer::Refused;
use crate::attach;
use crate::audit;
use crate::auth;
use crate::files;
use crate::gate::Gate;
use crate::guards;
use crate::health;
use crate::me;
use crate::metrics;
use crate::openapi;
use crate::pages;
use crate::profiles;
use crate::recording;
use crate::route::Route;
use crate::runners;
use crate::screens;
use crate::sessions;
use crate::starting;
use crate::steering;
use crate::users;

/// Every route there is. A part adds its own lines here.
pub(crate) fn all() -> Vec<Route> {
    let mut all = pages::routes();
    all.extend(openapi::routes());
    all.extend(health::routes());
    all.extend(metrics::routes());
    all.extend(auth::routes());
    all.extend(me::routes());
    all.extend(users::routes());
    all.extend(runners::routes());
    all.extend(sessions::routes());
    all.extend(starting::routes());
    all.extend(profiles::routes());
    all.extend(steering::routes());
    all.extend(attach::routes());
    all.extend(screens::routes());
    all.extend(audit::routes());
    all.extend(recording::routes());
    all.extend(files::routes());
    all
}

/// The router of these routes, each behind its guards.
pub(crate) fn router(gate: &Gate, routes: Vec<Route>) -> Router {
    let mut router = Router::new();
    for route in routes {
        let meter = gate.engine().metrics().route(route.path);
        let guard = guards::Guard { gate: gate.clone(), path: route.path, rule: route.rule, meter };
        let guarded = route
            .handler
            .route_layer(DefaultBodyLimit::max(route.rule.longest_body))
            .route_layer(middleware::from_fn_with_state(Arc::new(guard), guards::pass));
        // What a person typed must never share a compressed answer with a secret: files only.
        let guarded = match route.path.starts_with("/api/") {
            true => guarded,
            false => guarded.route_layer(CompressionLayer::new()),
        };
        router = router.route(route.path, guarded);
    }
    router
        .fallback(pages::elsewhere)
        .method_not_allowed_fallback(|| async { Refused::MethodNotAllowed })
        .with_state(gate.clone())
}
