//! The route table, and the router that is made of it.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;

use crate::answer::Refused;
use crate::auth;
use crate::files;
use crate::gate::Gate;
use crate::guards;
use crate::health;
use crate::me;
use crate::openapi;
use crate::recording;
use crate::route::Route;
use crate::sessions;
use crate::users;

/// Every route there is. A part adds its own lines here.
pub(crate) fn all() -> Vec<Route> {
    [
        openapi::routes(),
        health::routes(),
        auth::routes(),
        me::routes(),
        users::routes(),
        sessions::routes(),
        recording::routes(),
        files::routes(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The router of these routes, each behind its guards.
pub(crate) fn router(gate: &Gate, routes: Vec<Route>) -> Router {
    let mut router = Router::new();
    for route in routes {
        let guard = guards::Guard { gate: gate.clone(), rule: route.rule };
        let guarded = route
            .handler
            .route_layer(DefaultBodyLimit::max(route.rule.longest_body))
            .route_layer(middleware::from_fn_with_state(Arc::new(guard), guards::pass));
        router = router.route(route.path, guarded);
    }
    router
        .fallback(|| async { Refused::NotFound("there is no such path".to_owned()) })
        .method_not_allowed_fallback(|| async { Refused::MethodNotAllowed })
        .with_state(gate.clone())
}
