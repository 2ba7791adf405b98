//! The API on the gateway's own machine: a Unix socket, and who may speak on it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::DefaultBodyLimit;
use axum::extract::Request;
use axum::extract::connect_info::Connected;
use axum::middleware;
use axum::middleware::Next;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use axum::serve::IncomingStream;
use sojourn_core::audit::Actor;
use sojourn_engine::Engine;
use sojourn_engine::ending::EndedBy;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::answer::Refused;
use crate::files;
use crate::health;
use crate::recording;
use crate::sessions;

/// The longest body.
const MAX_BODY: usize = 64 << 10;
/// The longest wait for an answer to begin.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long answers under way have at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What handlers need.
#[derive(Clone)]
pub struct Local {
    /// The gate.
    pub engine: Engine,
    /// Where recordings are.
    pub recordings: PathBuf,
}

/// Answers on `listener` until `over`.
///
/// # Errors
/// When the socket breaks.
pub async fn serve_local(
    listener: UnixListener,
    local: Local,
    over: CancellationToken,
) -> std::io::Result<()> {
    let service = routes(local).into_make_service_with_connect_info::<Peer>();
    let told = over.clone();
    let serving = axum::serve(listener, service)
        .with_graceful_shutdown(async move { told.cancelled().await })
        .into_future();
    let deadline = async {
        over.cancelled().await;
        tokio::time::sleep(LAST_WORDS).await;
    };
    tokio::select! {
        result = serving => result,
        () = deadline => Ok(()),
    }
}

fn routes(local: Local) -> Router {
    Router::new()
        .route("/api/sessions", get(sessions::list))
        .route("/api/sessions/end-all", post(sessions::end_all))
        .route("/api/sessions/{id}", get(sessions::show).delete(sessions::end))
        .route("/api/sessions/{id}/extend", post(sessions::extend))
        .route("/api/sessions/{id}/recording", get(recording::read))
        .route("/api/sessions/{id}/files", get(files::list))
        .route("/api/sessions/{id}/files.tar", get(files::tar))
        .route("/api/health", get(health::read))
        .fallback(|| async { Refused::NotFound("there is no such path".to_owned()) })
        .method_not_allowed_fallback(|| async { Refused::MethodNotAllowed })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn(in_time))
        .layer(middleware::from_fn(only_trusted))
        .with_state(local)
}

async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Refused::Overloaded.into_response(),
    }
}

async fn only_trusted(
    ConnectInfo(peer): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    match peer {
        Peer::Trusted { .. } => next.run(request).await,
        Peer::Stranger(why) => Refused::Forbidden(why).into_response(),
    }
}

/// Who is at the other end of a connection, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Root, or the gateway's user.
    Trusted {
        /// Its user id.
        uid: u32,
    },
    /// Anybody else, and why that is so.
    Stranger(&'static str),
}

impl Peer {
    /// For the audit log.
    pub(crate) fn actor(self) -> Actor {
        match self {
            Self::Trusted { uid } => Actor::local(uid),
            Self::Stranger(_) => Actor::local(u32::MAX),
        }
    }

    /// For the person whose session is ended or extended.
    pub(crate) fn ended_by(self, why: Option<&str>) -> EndedBy {
        match self {
            Self::Trusted { uid: 0 } => EndedBy::new("root", why),
            _ => EndedBy::new("the operator", why),
        }
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        let Ok(credentials) = stream.io().peer_cred() else {
            return Self::Stranger("the system does not say who you are");
        };
        let me = rustix::process::geteuid().as_raw();
        judge(credentials.uid(), credentials.pid(), me)
    }
}

/// Root and the gateway's own user are trusted, unless they are inside a session: where the gateway
/// is not root, its sandboxes run under its own user id.
fn judge(uid: u32, pid: Option<i32>, me: u32) -> Peer {
    if uid != 0 && uid != me {
        return Peer::Stranger("only root and the gateway's user may ask here");
    }
    // A process of root's cannot be inside: there it would have another id out here.
    if uid != 0 && pid.is_none_or(is_inside) {
        return Peer::Stranger("not from inside a session");
    }
    Peer::Trusted { uid }
}

/// Whether a process is in a pid namespace below ours. Best effort: the process may have ended and
/// its number been given away since it connected.
fn is_inside(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    numbers.is_none_or(|numbers| numbers.split_whitespace().count() != 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_and_the_gateways_user_are_trusted() {
        let own = i32::try_from(std::process::id()).ok();
        assert_eq!(judge(0, own, 990), Peer::Trusted { uid: 0 });
        assert_eq!(judge(990, own, 990), Peer::Trusted { uid: 990 });
        assert!(matches!(judge(1000, own, 990), Peer::Stranger(_)));
        assert!(matches!(judge(990, None, 990), Peer::Stranger(_)), "nobody knows where it is");
        assert!(matches!(judge(1_879_048_192, own, 990), Peer::Stranger(_)), "a prisoner");
    }
}
