//! `GET /metrics`: numbers for Prometheus, for those who may read the audit log; and on a listener of
//! their own, for whoever reaches it.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::Method;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use sojourn_core::authz::General;
use sojourn_core::scope::Scope;
use sojourn_engine::Engine;
use sojourn_engine::metrics;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gate::Gate;
use crate::openapi::Doc;
use crate::route::Access;
use crate::route::Activity;
use crate::route::Route;

/// The path, at both places.
const PATH: &str = "/metrics";
/// Scrapers at the same time; more wait to be accepted.
const SCRAPERS: usize = 16;
/// How long a scraper may take to ask, and to come again.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);
/// How long it waits when the system has nothing left to accept with.
const BREATH: Duration = Duration::from_millis(50);

pub(crate) fn routes() -> Vec<Route> {
    vec![Route::get(
        PATH,
        Access::Role(Scope::Read, General::ReadAudit),
        Activity::Passive,
        read,
        Doc::of("readMetrics", "Numbers for Prometheus.").gives_bytes(
            200,
            "text/plain",
            "The numbers.",
        ),
    )]
}

async fn read(State(gate): State<Gate>) -> Response {
    text(gate.engine()).await
}

async fn text(engine: &Engine) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], engine.metrics_text().await).into_response()
}

/// Answers scrapers on a listener of their own, until `over`.
pub async fn serve_metrics(listener: TcpListener, engine: Engine, over: CancellationToken) {
    let places = Arc::new(Semaphore::new(SCRAPERS));
    let connections = TaskTracker::new();
    let accepting = async {
        // The semaphore is never closed.
        while let Ok(place) = places.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let engine = engine.clone();
                    connections.spawn(async move {
                        let _ended = scrape(TokioIo::new(stream), engine).await;
                        drop(place);
                    });
                }
                Err(error) => unaccepted(&error).await,
            }
        }
    };
    tokio::select! {
        () = over.cancelled() => {}
        () = accepting => {}
    }
    // Nobody misses the last scrape: connections end with the process.
}

async fn unaccepted(error: &io::Error) {
    tracing::warn!(%error, "a scraper cannot be accepted");
    tokio::time::sleep(BREATH).await;
}

async fn scrape(stream: TokioIo<tokio::net::TcpStream>, engine: Engine) -> hyper::Result<()> {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let engine = engine.clone();
        async move { Ok::<_, Infallible>(answer(&request, &engine).await) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WITHIN)
        .serve_connection(stream, service)
        .await
}

async fn answer(request: &hyper::Request<Incoming>, engine: &Engine) -> hyper::Response<Body> {
    match (request.uri().path(), request.method()) {
        (PATH, &Method::GET | &Method::HEAD) => text(engine).await,
        (PATH, _) => StatusCode::METHOD_NOT_ALLOWED.into_response(),
        _ => (StatusCode::NOT_FOUND, "the numbers are at /metrics\n").into_response(),
    }
}
