//! `-R`: it is listened inside the sandbox, and each connection that is made there is passed on to the
//! client.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use russh::Channel;
use russh::Error;
use russh::server::Handle;
use russh::server::Msg;
use sojourn_core::wire::shim::Endpoint;
use sojourn_core::wire::shim::Greeting;
use sojourn_core::wire::shim::Program;
use sojourn_engine::door::ChannelRequest;
use sojourn_engine::profiles::Forward;
use sojourn_engine::session::Listening;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::Asked;
use super::greeting;
use super::name;
use super::passage::Inside;
use super::passage::Passage;
use crate::connection::Connection;
use crate::gate::Gate;
use crate::gate::GateInput;
use crate::gate::GateSession;
use crate::places::Place;

/// How many places one connection may have listened at.
const MOST: usize = 8;

/// How long a display for a single connection stays when that has come.
const LAST_LOOK: Duration = Duration::from_secs(1);

/// How many channels wait for the next connection of each: the one after it is taken while the door
/// still passes on the first.
const WAITING: usize = 2;

/// How long a client's request may wait until it is listened; a sandbox may have to be made for it.
const PATIENCE: Duration = Duration::from_secs(45);

/// How long a client may take to say whether it wants a connection.
const CONFIRM: Duration = Duration::from_secs(30);

/// Where connections come from, and how the client knows them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Where {
    /// A port, with the address as the client gave it.
    Tcp(String, u32),
    /// A socket.
    Unix(String),
    /// The key agent's socket.
    Agent(String),
    /// A display, and the number it has; 0 as long as it has none.
    Display(Asked, u16),
}

/// What one connection's client has had listened at.
#[derive(Default)]
pub(crate) struct Remotes(HashMap<Where, Listener>);

/// Somewhere that is listened at; no more, when it is dropped.
pub(super) struct Listener {
    stop: CancellationToken,
}

impl Listener {
    /// Whether nothing is taken any more.
    pub(super) fn is_over(&self) -> bool {
        self.stop.is_cancelled()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Remotes {
    /// Has it listened there; gives the port, or why that cannot be.
    pub(crate) async fn add<G: Gate>(
        &mut self,
        connection: &Arc<Connection<G>>,
        place: Where,
    ) -> Result<u32, String> {
        if self.0.len() >= MOST {
            return Err(format!("{MOST} places are listened at already"));
        }
        if self.0.contains_key(&place) {
            return Err("it is listened there already".to_owned());
        }
        let (listener, port) = listen(connection, &place).await?;
        self.0.insert(place.known_as(port), listener);
        Ok(port.into())
    }

    /// Listens there no more. False, when it did not.
    pub(crate) fn remove(&mut self, place: &Where) -> bool {
        self.0.remove(place).is_some()
    }
}

impl Where {
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Tcp(address, port) => format!("{address}:{port}"),
            Self::Unix(path) | Self::Agent(path) => path.clone(),
            Self::Display(_, number) => format!(":{number}"),
        }
    }

    /// With the port that it came to have.
    fn known_as(self, port: u16) -> Self {
        match self {
            Self::Tcp(address, 0) => Self::Tcp(address, port.into()),
            Self::Display(asked, _) => Self::Display(asked, port),
            named => named,
        }
    }

    /// Whether only one connection is passed on.
    const fn is_for_one(&self) -> bool {
        matches!(self, Self::Display(Asked { single: true, .. }, _))
    }

    /// Whether it is listened there for the sake of a program that is about to start.
    const fn is_for_a_program(&self) -> bool {
        matches!(self, Self::Agent(_) | Self::Display(..))
    }

    fn endpoint(&self) -> Option<Endpoint> {
        Some(match self {
            Self::Tcp(address, port) => {
                // As OpenSSH has it, both mean every address.
                let host = if address == "*" { "" } else { address };
                Endpoint::Tcp { host: host.into(), port: u16::try_from(*port).ok()? }
            }
            Self::Unix(path) | Self::Agent(path) => Endpoint::Unix(path.as_str().into()),
            Self::Display(asked, _) => Endpoint::Display(asked.cookie.clone()),
        })
    }

    const fn kind(&self) -> Forward {
        match self {
            Self::Tcp(..) | Self::Unix(_) => Forward::Remote,
            Self::Agent(_) => Forward::Agent,
            Self::Display(..) => Forward::X11,
        }
    }

    /// Offers a connection to the client.
    async fn offer(&self, handle: &Handle, peer: (String, u16)) -> Result<Channel<Msg>, Error> {
        match self {
            Self::Tcp(address, port) => {
                let (from, from_port) = (peer.0, u32::from(peer.1));
                handle.channel_open_forwarded_tcpip(address.as_str(), *port, from, from_port).await
            }
            Self::Unix(path) => handle.channel_open_forwarded_streamlocal(path.as_str()).await,
            Self::Agent(_) => handle.channel_open_agent().await,
            // It came by a socket in a file, which SSH has no words for.
            Self::Display(..) => handle.channel_open_x11("127.0.0.1", 0).await,
        }
    }
}

/// Has it listened, in a session that may have to be made for it.
async fn listen<G: Gate>(
    connection: &Arc<Connection<G>>,
    place: &Where,
) -> Result<(Listener, u16), String> {
    let (found, outcome) = oneshot::channel();
    let (connection, place) = (connection.clone(), place.clone());
    // A session is opened to its end, whoever still waits for it.
    connection.tasks.clone().spawn(async move {
        let listener = match connection.session(&[], None).await {
            Ok(session) => begin(&connection, session, place).await,
            Err(denial) => Err(denial.to_string()),
        };
        // Nobody waits: it is dropped, and so is the listener.
        let _late = found.send(listener);
    });
    match tokio::time::timeout(PATIENCE, outcome).await {
        Ok(Ok(listener)) => listener,
        _ => Err("it took too long".to_owned()),
    }
}

/// Listens in a session, and passes on what comes until the listener is dropped.
pub(super) async fn begin<G: Gate>(
    connection: &Arc<Connection<G>>,
    session: &G::Session,
    place: Where,
) -> Result<(Listener, u16), String> {
    let endpoint = place.endpoint().ok_or("there is no such port")?;
    let Listening { listener, port } =
        session.listen(endpoint).await.map_err(|refusal| refusal.to_string())?;
    let place = place.known_as(port);
    let stop = CancellationToken::new();
    for _ in 0..if place.is_for_one() { 1 } else { WAITING } {
        let taker = Taker {
            connection: connection.clone(),
            session: session.clone(),
            place: place.clone(),
            listener,
            stop: stop.clone(),
        };
        connection.tasks.spawn(taker.run());
    }
    let (session, stopped) = (session.clone(), stop.clone());
    connection.tasks.spawn(async move {
        stopped.cancelled().await;
        session.unlisten(listener).await;
    });
    Ok((Listener { stop }, port))
}

/// Takes one connection after the other.
struct Taker<G: Gate> {
    connection: Arc<Connection<G>>,
    session: G::Session,
    place: Where,
    listener: u16,
    stop: CancellationToken,
}

impl<G: Gate> Taker<G> {
    async fn run(self) {
        loop {
            let taken = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                () = self.connection.gone.cancelled() => {
                    self.stop.cancel();
                    return;
                }
                _ = self.session.cut() => return,
                taken = self.in_turn() => taken,
            };
            let Some((inside, peer, channel)) = taken else {
                tracing::debug!(place = ?self.place, "nothing more is taken there");
                return;
            };
            self.pass_on(inside, peer, channel);
            if self.place.is_for_one() {
                // Whoever made it may read only now what there is to show to the other side.
                let _gone = tokio::time::timeout(LAST_LOOK, self.stop.cancelled()).await;
                self.stop.cancel();
                return;
            }
        }
    }

    /// The next connection. A program's own channel comes before those of what it reaches.
    async fn in_turn(&self) -> Option<(Inside<G>, (String, u16), Place)> {
        if self.place.is_for_a_program() {
            self.connection.begun.cancelled().await;
        }
        self.take().await
    }

    /// The next connection, and a channel's place for it.
    async fn take(&self) -> Option<(Inside<G>, (String, u16), Place)> {
        let channel = self.connection.places.take().await?;
        self.connection.forward_pace.turn().await;
        let request = ChannelRequest::new(Program::Accept(self.listener));
        let (input, output) = self.session.start(request).await.ok()?;
        let mut waiting = Waiting::<G> { input: Some(input), tasks: self.connection.tasks.clone() };
        let mut output = output;
        match greeting::read(&mut output).await {
            Some((Greeting::Open { peer }, early)) => {
                let input = waiting.input.take()?;
                let peer = peer.unwrap_or_else(|| (String::new(), 0));
                Some((Inside { input, output, early }, peer, channel))
            }
            _ => None,
        }
    }

    fn pass_on(&self, inside: Inside<G>, peer: (String, u16), room: Place) {
        let (connection, session) = (self.connection.clone(), self.session.clone());
        let (place, tasks) = (self.place.clone(), connection.tasks.clone());
        tasks.spawn(async move {
            let Some(guest) = connection.guest() else { return };
            let from =
                if peer.0.is_empty() { String::new() } else { format!("{}:{}", peer.0, peer.1) };
            let offer = tokio::time::timeout(CONFIRM, place.offer(&guest.handle, peer));
            let why = match offer.await {
                Ok(Ok(channel)) => {
                    let (kind, target) = (place.kind(), place.shown());
                    let passage = Passage { connection: connection.clone(), kind, target, from };
                    return passage.carry(channel, inside, &session, room).await;
                }
                Ok(Err(_)) => "the client did not take it",
                Err(_) => "the client did not answer",
            };
            inside.input.close().await;
            connection.refused_forward(name(place.kind()), &place.shown(), "client", why);
            room.left_nothing();
        });
    }
}

/// A channel that waits for a connection; it is closed when nobody waits any more.
struct Waiting<G: Gate> {
    input: Option<<G::Session as GateSession>::Input>,
    tasks: tokio_util::task::TaskTracker,
}

impl<G: Gate> Drop for Waiting<G> {
    fn drop(&mut self) {
        if let Some(input) = self.input.take() {
            self.tasks.spawn(async move { input.close().await });
        }
    }
}
