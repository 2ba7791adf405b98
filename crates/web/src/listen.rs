//! The two places where requests come in: a TCP listener, and a socket for the gateway's own machine.
//! Both give them to the same [`Door`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gate::Gate;
use crate::guards::outer::Door;
use crate::peer::Peer;
use crate::table;

/// How long a client may take to send its headers, and to think of its next request.
const HEADERS_WITHIN: Duration = Duration::from_secs(30);

/// How long answers under way have at the end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long it waits when the system has nothing left to accept with.
const BREATH: Duration = Duration::from_millis(50);

/// Answers on the local socket until `over`.
pub async fn serve_local(listener: UnixListener, gate: Gate, over: CancellationToken) {
    let server = Server::new(gate, over);
    while let Some(accepted) = server.next(listener.accept()).await {
        let Ok((stream, _)) = accepted else { continue };
        let peer = Peer::of(&stream);
        server.spawn(stream, peer);
    }
    server.finish().await;
}

/// Answers on a network until `over`.
pub async fn serve(listener: TcpListener, gate: Gate, over: CancellationToken) {
    let server = Server::new(gate, over);
    while let Some(accepted) = server.next(listener.accept()).await {
        let Ok((stream, address)) = accepted else { continue };
        // Small frames of a terminal are not to wait for each other.
        let _slower = stream.set_nodelay(true);
        server.spawn(stream, Peer::Net(address));
    }
    server.finish().await;
}

struct Server {
    door: Arc<Door>,
    over: CancellationToken,
    connections: TaskTracker,
}

impl Server {
    fn new(gate: Gate, over: CancellationToken) -> Self {
        let router = table::router(&gate, table::all());
        let door = Arc::new(Door::new(gate, router));
        Self { door, over, connections: TaskTracker::new() }
    }

    /// The next connection, or none when it is over.
    async fn next<T>(
        &self,
        accepting: impl Future<Output = io::Result<T>>,
    ) -> Option<io::Result<T>> {
        tokio::select! {
            () = self.over.cancelled() => None,
            accepted = accepting => {
                if let Err(error) = &accepted {
                    tracing::warn!(%error, "a connection cannot be accepted");
                    tokio::time::sleep(BREATH).await;
                }
                Some(accepted)
            }
        }
    }

    fn spawn<S>(&self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (door, over) = (self.door.clone(), self.over.clone());
        self.connections.spawn(async move {
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let door = door.clone();
                async move {
                    let answer = door.answer(peer, request.map(Body::new)).await;
                    Ok::<_, std::convert::Infallible>(answer)
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS_WITHIN)
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            tokio::pin!(connection);
            tokio::select! {
                _done = connection.as_mut() => return,
                () = over.cancelled() => connection.as_mut().graceful_shutdown(),
            }
            let _late = tokio::time::timeout(LAST_WORDS, connection).await;
        });
    }

    /// Waits for the answers under way.
    async fn finish(self) {
        self.connections.close();
        let _late = tokio::time::timeout(LAST_WORDS, self.connections.wait()).await;
    }
}
