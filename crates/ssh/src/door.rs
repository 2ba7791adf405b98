//! The door itself: listens, takes connections, and stays with each until it is gone.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::SetupError;
use crate::config::SshListener;
use crate::connection::Connection;
use crate::gate::Gate;
use crate::handler::SshHandler;
use crate::lobby::Lobby;
use crate::lobby::Origin;
use crate::lobby::Ticket;
use crate::sign_in::Rules;
use crate::spool::SpoolRoom;
use crate::turned_away::TurnedAway;
use crate::turned_away::Why;
use crate::wire::Cutter;
use crate::wire::Wire;

/// How long the door rests when the machine has no more descriptors or memory for connections.
const REST: Duration = Duration::from_millis(100);

/// How often what was counted, or goes on, is told.
const TELL: Duration = Duration::from_secs(10);

/// How long connections may take to end when the door closes.
const CLOSING: Duration = Duration::from_secs(5);

/// An SSH door that listens.
pub struct Door<G: Gate> {
    listener: TcpListener,
    address: SocketAddr,
    house: Arc<House<G>>,
}

/// What all connections of a door share.
struct House<G: Gate> {
    gate: G,
    library: Arc<russh::server::Config>,
    rules: Arc<Rules>,
    login_grace: Duration,
    patience: Duration,
    lobby: Mutex<Lobby<(Cutter, SocketAddr)>>,
    turned_away: TurnedAway,
    spools: Arc<SpoolRoom>,
    tasks: TaskTracker,
    /// Cancelled when the door closes.
    closing: CancellationToken,
}

impl<G: Gate> Door<G> {
    /// Listens, and serves nobody yet.
    ///
    /// # Errors
    /// When the configuration says something that cannot be, or the address is not to be had.
    pub async fn bind(config: &SshListener, gate: G) -> Result<Self, SetupError> {
        let library = config.library_config()?;
        let rules = Rules {
            banner: config.banner.clone(),
            max_auth_tries: config.max_auth_tries,
            user_cas: config.user_cas()?,
        };
        let refused = |source| SetupError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let house = House {
            gate,
            library,
            rules: Arc::new(rules),
            login_grace: config.login_grace,
            patience: config.keepalive.patience(),
            lobby: Mutex::new(Lobby::new(config.lobby)),
            turned_away: TurnedAway::default(),
            spools: Arc::new(SpoolRoom::new(config.spool.clone())),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        };
        Ok(Self { listener, address, house: Arc::new(house) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were turned away before they signed in.
    #[must_use]
    pub fn turned_away(&self, why: Why) -> u64 {
        self.house.turned_away.count(why)
    }

    /// Serves until `stop` is cancelled and the connections have ended, which takes a bounded time.
    /// Sessions are the gate's to end; a connection whose session was ended leaves by itself.
    pub async fn serve(self, stop: CancellationToken) {
        let Self { listener, house, .. } = self;
        let mut tell = tokio::time::interval(TELL);
        let mut told_at = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = tell.tick() => house.turned_away.tell(&house.gate),
                taken = listener.accept() => match taken {
                    Ok((socket, peer)) => {
                        house.tasks.spawn(house.clone().attend(socket, peer));
                    }
                    Err(error) if is_the_peers(&error) => {}
                    // Mostly no descriptors (EMFILE): others' connections will end.
                    Err(error) => {
                        if told_at.is_none_or(|told_at: Instant| told_at.elapsed() > TELL) {
                            tracing::error!(%error, event = "accept", "connections are not taken");
                            told_at = Some(Instant::now());
                        }
                        tokio::time::sleep(REST).await;
                    }
                },
            }
        }
        drop(listener);
        house.closing.cancel();
        house.tasks.close();
        let _stayed = tokio::time::timeout(CLOSING, house.tasks.wait()).await;
    }
}

/// Sees to it that a connection is over for everybody when its task is, however that ends.
struct Leaving {
    gone: CancellationToken,
    cutter: Cutter,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.cutter.cut();
        self.gone.cancel();
    }
}

impl<G: Gate> House<G> {
    /// Stays with a connection until it is gone.
    async fn attend(self: Arc<Self>, socket: TcpStream, peer: SocketAddr) {
        let (wire, ends) = Wire::new(socket, self.patience);
        let cutter = ends.cutter.clone();
        let ticket = self.let_into_lobby(&cutter, peer);
        let connection = Arc::new(Connection::new(
            self.gate.clone(),
            peer,
            ends,
            self.spools.clone(),
            self.tasks.clone(),
            self.closing.clone(),
        ));
        let leaving = Leaving { gone: connection.gone.clone(), cutter };
        let (signed_in, mut signing_in) = oneshot::channel();
        let handler = SshHandler::new(connection.clone(), self.rules.clone(), signed_in);
        let running = async {
            let session = russh::server::run_stream(self.library.clone(), wire, handler).await?;
            session.await
        };
        tokio::pin!(running);
        let until = Instant::now() + self.login_grace;
        tokio::select! {
            ended = &mut running => {
                self.lobby().leave(ticket);
                return log_end(peer, ended);
            }
            Ok(()) = &mut signing_in => {
                self.lobby().leave(ticket);
            }
            () = tokio::time::sleep_until(until) => {
                // Whoever was shown out already is not counted twice.
                if self.lobby().leave(ticket).is_some() {
                    self.turned_away.note(Why::Slow, peer.ip(), &self.gate);
                }
                return;
            }
            () = self.closing.cancelled() => {
                self.lobby().leave(ticket);
                return;
            }
        }
        tokio::select! {
            ended = &mut running => log_end(peer, ended),
            () = self.closing.cancelled() => {
                if !connection.has_session() {
                    connection.part("the gateway is shutting down").await;
                }
                // A session that was ended says so first.
                let _stayed = tokio::time::timeout(CLOSING, running).await;
            }
        }
        drop(leaving);
    }

    fn let_into_lobby(&self, cutter: &Cutter, peer: SocketAddr) -> Ticket {
        let origin = Origin::of(peer.ip());
        let (ticket, evicted) = self.lobby().enter(origin, (cutter.clone(), peer));
        if let Some((cutter, peer)) = evicted {
            cutter.cut();
            self.turned_away.note(Why::Crowded, peer.ip(), &self.gate);
        }
        ticket
    }

    fn lobby(&self) -> MutexGuard<'_, Lobby<(Cutter, SocketAddr)>> {
        self.lobby.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error belongs to the connection that was to be taken, and not to us.
fn is_the_peers(error: &io::Error) -> bool {
    use io::ErrorKind::ConnectionAborted;
    use io::ErrorKind::ConnectionReset;
    matches!(error.kind(), ConnectionAborted | ConnectionReset | io::ErrorKind::Interrupted)
}

fn log_end(peer: SocketAddr, ended: Result<(), russh::Error>) {
    match ended {
        Ok(()) => tracing::debug!(source = %peer, "connection ended"),
        Err(error) => tracing::debug!(source = %peer, %error, "connection broke off"),
    }
}
