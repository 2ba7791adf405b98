//! The two places where requests come in: a TCP listener, and a socket for the gateway's own machine.
//! Both give them to the same [`Door`].

mod places;
pub(crate) mod tls;
mod wire;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use sojourn_engine::identity::Client;
use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::net::UnixListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::answer::Refused;
use crate::gate::Gate;
use crate::guards::outer;
use crate::guards::outer::Door;
use crate::notices::Why;
use crate::peer::Peer;
use crate::table;
use places::Place;
use places::Places;
use tls::Tls;
use wire::Wire;

/// How long a client may take to send its headers, and to think of its next request.
const HEADERS_WITHIN: Duration = Duration::from_secs(20);

/// How long it may take to agree on keys.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(10);

/// What the library reads ahead of one connection, and so the longest head it can understand. What
/// fits and is still too long is refused by our own guard.
const READ_AHEAD: usize = 64 << 10;

/// How long it waits when the system has nothing left to accept with.
const BREATH: Duration = Duration::from_millis(50);

/// Answers on the local socket until `over`, and until the last answer under way has been given.
pub async fn serve_local(listener: UnixListener, gate: Gate, over: CancellationToken) {
    let server = Server::new(gate, over);
    while let Some(accepted) = server.next(listener.accept()).await {
        let Ok((stream, _)) = accepted else { continue };
        let peer = Peer::of(&stream);
        server.spawn(stream, peer, None);
    }
    server.finish().await;
}

/// Answers on a network until `over`, and until the last answer under way has been given.
pub async fn serve(listener: TcpListener, gate: Gate, tls: Option<Tls>, over: CancellationToken) {
    Server::new(gate, over).serve_network(listener, tls).await;
}

/// Answers with other routes than the program's.
#[cfg(all(test, feature = "bench"))]
pub(crate) async fn serve_routes(
    listener: TcpListener,
    gate: Gate,
    router: axum::Router,
    over: CancellationToken,
) {
    Server::with(gate, router, over).serve_network(listener, None).await;
}

#[derive(Clone)]
struct Server {
    gate: Gate,
    door: Arc<Door>,
    over: CancellationToken,
    connections: TaskTracker,
}

impl Server {
    fn new(gate: Gate, over: CancellationToken) -> Self {
        let router = table::router(&gate, table::all());
        Self::with(gate, router, over)
    }

    fn with(gate: Gate, router: axum::Router, over: CancellationToken) -> Self {
        let door = Arc::new(Door::new(gate.clone(), router));
        Self { gate, door, over, connections: TaskTracker::new() }
    }

    async fn serve_network(self, listener: TcpListener, tls: Option<Tls>) {
        let places = Places::default();
        while let Some(accepted) = self.next(listener.accept()).await {
            let Ok((stream, address)) = accepted else { continue };
            // Small frames of a terminal are not to wait for each other.
            let _slower = stream.set_nodelay(true);
            match self.place(&places, address) {
                Some(place) => match &tls {
                    Some(tls) => self.spawn_tls(tls, stream, address, place),
                    None => self.spawn(stream, Peer::Net(address), Some(place)),
                },
                None => {
                    self.gate.note(Why::Crowded, &Client::new(address.ip(), ""));
                    if tls.is_none() {
                        // As much as fits; who is turned away is not waited for.
                        let words = outer::broken(self.gate.origin(), Refused::Overloaded);
                        let _unread = stream.try_write(&words);
                    }
                }
            }
        }
        self.finish().await;
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

    fn place(&self, places: &Places, address: SocketAddr) -> Option<Place> {
        let settings = self.gate.settings();
        let ip = address.ip().to_canonical();
        let is_proxy = settings.trusted_proxies.iter().any(|network| network.contains(ip));
        let all = settings.max_connections;
        let of_one = if is_proxy { all } else { settings.max_connections_per_address };
        places.take(ip, all, of_one)
    }

    fn spawn_tls(&self, tls: &Tls, stream: TcpStream, address: SocketAddr, place: Place) {
        let (server, acceptor) = (self.clone(), TlsAcceptor::from(tls.config()));
        self.connections.spawn(async move {
            let accepting = tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream));
            let accepted = tokio::select! {
                () = server.over.cancelled() => return,
                accepted = accepting => accepted,
            };
            match accepted {
                Ok(Ok(stream)) => server.serve(stream, Peer::Net(address), Some(place)).await,
                Ok(Err(error)) => tracing::debug!(%error, source = %address.ip(), "no TLS"),
                Err(_) => tracing::debug!(source = %address.ip(), "no TLS in time"),
            }
        });
    }

    fn spawn<S>(&self, stream: S, peer: Peer, place: Option<Place>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let server = self.clone();
        self.connections.spawn(async move { server.serve(stream, peer, place).await });
    }

    async fn serve<S>(&self, stream: S, peer: Peer, place: Option<Place>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let gate = self.gate.clone();
        let own_words = Box::new(move |status| {
            let refused = match status {
                414 | 431 => Refused::HeadersTooLarge,
                _ => Refused::Malformed("this is not a request of HTTP/1.1".to_owned()),
            };
            outer::broken(gate.origin(), refused)
        });
        // What becomes a WebSocket keeps its place, and is waited for.
        let wire = Wire::new(stream, own_words, place, self.connections.token());
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let door = self.door.clone();
            async move { Ok::<_, Infallible>(door.answer(peer, request.map(Body::new)).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADERS_WITHIN)
            .max_buf_size(READ_AHEAD)
            .serve_connection(TokioIo::new(wire), service)
            .with_upgrades();
        tokio::pin!(connection);
        // One of its own: all that wait for the same one take turns at its lock.
        let over = self.over.child_token();
        let broken = tokio::select! {
            done = connection.as_mut() => done,
            () = over.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = broken {
            tracing::debug!(%error, source = %peer.ip(), "a connection broke");
        }
    }

    /// Waits for the answers under way, and for the sockets.
    async fn finish(self) {
        self.connections.close();
        self.connections.wait().await;
    }
}
