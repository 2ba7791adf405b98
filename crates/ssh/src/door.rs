//! The door itself: listens, takes connections, and stays with each until it is gone.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use russh::Disconnect;
use russh::SshId;
use sojourn_core::audit::Action;
use sojourn_core::audit::Actor;
use sojourn_core::audit::ActorKind;
use sojourn_core::audit::Event;
use sojourn_core::network::Network;
use tokio::net::TcpListener;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::SetupError;
use crate::config::SshListener;
use crate::connection::Connection;
use crate::connection::GOODBYE;
use crate::connects::Connects;
use crate::gate::Gate;
use crate::handler::SshHandler;
use crate::honeypot::Trap;
use crate::lobby::Lobby;
use crate::lobby::Origin;
use crate::lobby::Ticket;
use crate::proxy;
use crate::sign_in::Rules;
use crate::spool::SpoolRoom;
use crate::turned_away::TurnedAway;
use crate::turned_away::Why;
use crate::unasked;
use crate::wire::Cutter;
use crate::wire::Wire;
use crate::wire::disconnect_in_the_clear;
use crate::wire::part_with;

/// How long the door rests when the machine has no more descriptors or memory for connections.
const REST: Duration = Duration::from_millis(100);

/// How often what was counted, or goes on, is told.
const TELL: Duration = Duration::from_secs(10);

/// How long connections may take to end when the door closes.
const CLOSING: Duration = Duration::from_secs(5);

/// How many that come too often are told so at a time; the others are dropped.
const TOLD_AT_ONCE: usize = 64;

/// What they are told.
const TOO_OFTEN: &str =
    "too many connections from your address did not sign in; try again in a minute";

/// What those are told who take too long.
const TOO_SLOW: &str = "signing in took too long";

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
    /// Load balancers that say whose connections they pass on.
    proxies: Vec<Network>,
    /// Of those, how many may be about to say it.
    announcing: Semaphore,
    connects: Mutex<Connects>,
    telling: Semaphore,
    login_grace: Duration,
    patience: Duration,
    lobby: Mutex<Lobby<(Cutter, SocketAddr)>>,
    turned_away: TurnedAway,
    spools: Arc<SpoolRoom>,
    tasks: TaskTracker,
    /// Cancelled when the door closes.
    closing: CancellationToken,
    /// Through what people act who come in here.
    kind: ActorKind,
}

impl<G: Gate> Door<G> {
    /// Listens, and serves nobody yet.
    ///
    /// # Errors
    /// When the configuration says something that cannot be, or the address is not to be had.
    pub async fn bind(config: &SshListener, gate: G) -> Result<Self, SetupError> {
        let library = config.library_config()?;
        let user_cas = config.user_cas()?;
        if !user_cas.is_empty() {
            unasked::listen();
        }
        let refused = |source| SetupError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let rules = Rules {
            banner: config.banner.clone(),
            max_auth_tries: config.max_auth_tries,
            user_cas,
            trap: config.honeypot.clone().map(|setup| Trap::new(setup, address.to_string())),
        };
        let (kind, connects_per_minute) = match &rules.trap {
            Some(_) => (ActorKind::Honeypot, 0),
            None => (ActorKind::Ssh, config.connects_per_minute),
        };
        let house = House {
            gate,
            library,
            rules: Arc::new(rules),
            proxies: config.proxy_protocol_from.clone(),
            announcing: Semaphore::new(config.lobby.in_all),
            connects: Mutex::new(Connects::new(connects_per_minute, Instant::now())),
            telling: Semaphore::new(TOLD_AT_ONCE),
            login_grace: config.login_grace,
            patience: config.keepalive.patience(),
            lobby: Mutex::new(Lobby::new(config.lobby)),
            turned_away: TurnedAway::new(kind),
            spools: Arc::new(SpoolRoom::new(config.spool.clone())),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            kind,
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
                        house.tasks.spawn(house.clone().receive(socket, peer));
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
    /// Takes a connection, unless its address has to wait.
    async fn receive(self: Arc<Self>, mut socket: TcpStream, peer: SocketAddr) {
        let Some((peer, begun)) = self.whose(&mut socket, peer).await else { return };
        let origin = Origin::of(peer.ip());
        if !self.connects().admits(origin, Instant::now()) {
            self.turned_away.note(Why::Often, peer.ip(), &self.gate);
            return self.tell_off(&socket).await;
        }
        if !self.clone().attend(socket, begun, peer).await {
            self.connects().ended(origin, Instant::now());
        }
    }

    /// Who is really there, and what was read of them already.
    async fn whose(
        &self,
        socket: &mut TcpStream,
        peer: SocketAddr,
    ) -> Option<(SocketAddr, Vec<u8>)> {
        if !self.proxies.iter().any(|proxy| proxy.contains(peer.ip())) {
            return Some((peer, Vec::new()));
        }
        let Ok(_place) = self.announcing.try_acquire() else {
            self.turned_away.note(Why::Crowded, peer.ip(), &self.gate);
            return None;
        };
        let announced = tokio::select! {
            announced = proxy::announced(socket) => announced,
            () = self.closing.cancelled() => return None,
        };
        match announced {
            Ok(announced) => Some((announced.client.unwrap_or(peer), announced.rest)),
            Err(why) => {
                tracing::debug!(source = %peer, %why, "no PROXY protocol header");
                self.turned_away.note(Why::Unannounced, peer.ip(), &self.gate);
                None
            }
        }
    }

    /// Ends a connection whose address came too often, with a line that its client shows.
    async fn tell_off(&self, socket: &TcpStream) {
        let Ok(_place) = self.telling.try_acquire() else { return };
        let mut words = match &self.library.server_id {
            SshId::Standard(id) | SshId::Raw(id) => format!("{id}\r\n").into_bytes(),
        };
        words.extend(disconnect_in_the_clear(Disconnect::TooManyConnections, TOO_OFTEN));
        tokio::select! {
            () = part_with(socket, &words) => {}
            () = self.closing.cancelled() => {}
        }
    }

    /// Stays with a connection until it is gone. Returns whether somebody signed in by it.
    async fn attend(self: Arc<Self>, socket: TcpStream, begun: Vec<u8>, peer: SocketAddr) -> bool {
        let _counted = self.gate.connection();
        let (wire, ends) = Wire::new(socket, begun, self.patience);
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
        let leaving = Leaving { gone: connection.gone.clone(), cutter: cutter.clone() };
        let (signed_in, mut signing_in) = oneshot::channel();
        let handler = SshHandler::new(connection.clone(), self.rules.clone(), signed_in);
        let running = async {
            let session = russh::server::run_stream(self.library.clone(), wire, handler).await?;
            let _set_once = connection.handle.set(session.handle());
            session.await
        };
        tokio::pin!(running);
        let until = Instant::now() + self.login_grace;
        tokio::select! {
            ended = &mut running => {
                self.lobby().leave(ticket);
                self.note_failure(&connection, &cutter, &ended).await;
                log_end(peer, ended);
                return false;
            }
            Ok(()) = &mut signing_in => {
                self.lobby().leave(ticket);
            }
            () = tokio::time::sleep_until(until) => {
                // Whoever was shown out already is not counted twice.
                if self.lobby().leave(ticket).is_some() {
                    self.turned_away.note(Why::Slow, peer.ip(), &self.gate);
                }
                // OpenSSH says nothing, and so does who passes for it.
                if self.rules.trap.is_none() {
                    connection.dismiss(Disconnect::ByApplication, TOO_SLOW).await;
                    let _stayed = tokio::time::timeout(GOODBYE, &mut running).await;
                }
                return false;
            }
            () = self.closing.cancelled() => {
                self.lobby().leave(ticket);
                return false;
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
        true
    }

    /// Tells a peer in the clear what the library leaves unsaid, and puts on record what it never
    /// tells the handler.
    async fn note_failure(
        &self,
        connection: &Connection<G>,
        cutter: &Cutter,
        ended: &Result<(), russh::Error>,
    ) {
        match ended {
            Err(russh::Error::Version) => {
                let version = connection.wire.client.get();
                let words = match version.strip_prefix("SSH-1.") {
                    Some(_) => "Protocol major versions differ.\r\n",
                    None => "Invalid SSH identification string.\r\n",
                };
                cutter.part_with(words.as_bytes()).await;
            }
            // A name or a password that the library cannot read ends the connection.
            Err(russh::Error::SshEncoding(error)) => {
                let actor = Actor { kind: self.kind, user: None, ..connection.actor("") };
                let event = Event::new(self.gate.now(), Action::AuthAttempt, actor)
                    .detail("outcome", "refused")
                    .detail("reason", format!("not readable: {error}"));
                self.gate.record(event.detail("hassh", connection.wire.hassh.get()));
            }
            _ => {}
        }
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

    fn connects(&self) -> MutexGuard<'_, Connects> {
        self.connects.lock().unwrap_or_else(PoisonError::into_inner)
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
