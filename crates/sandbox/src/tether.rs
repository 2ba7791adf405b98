//! What remains of a sandbox's control socket once it has a session: the way to its sidecar, its word
//! that it is over, and the leave to go.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use sojourn_core::wire::runner::Note;
use sojourn_shim::control;
use sojourn_shim::control::Order;
use sojourn_shim::control::Report;
use sojourn_shim::layers::Layers;

use crate::packets::Packets;

/// How long a shim may take to greet a later runner.
const GREET: Duration = Duration::from_secs(5);

/// The runner's end.
#[derive(Debug)]
pub struct Tether(Packets);

/// A shim that was found by a later runner.
#[derive(Debug)]
pub struct Found {
    /// The way to it.
    pub tether: Tether,
    /// Whether its session was over already.
    pub is_over: bool,
    /// The layers of its sandbox, where it holds any.
    pub layers: Option<Layers>,
}

impl Tether {
    pub(crate) fn new(control: Packets) -> Self {
        Self(control)
    }

    /// Meets a shim at the socket where it waits for a later runner.
    ///
    /// # Errors
    /// When it is not there, or says nothing.
    pub async fn meet(connected: OwnedFd) -> io::Result<Found> {
        let control = Packets::new(connected)?;
        let greeting = control.read(|socket| control::recv::<Report>(socket));
        let greeting = tokio::time::timeout(GREET, greeting).await;
        let is_over = |report: &Report| match report {
            Report::Held => Some(false),
            Report::Over => Some(true),
            _ => None,
        };
        match greeting.map_err(|_| io::ErrorKind::TimedOut)?? {
            Some((report, fds)) => match is_over(&report) {
                Some(is_over) => {
                    let layers = Layers::from_received(fds);
                    Ok(Found { tether: Self(control), is_over, layers })
                }
                None => Err(io::ErrorKind::InvalidData.into()),
            },
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// Tells the shim something for the sidecar.
    ///
    /// # Errors
    /// When it is gone.
    pub async fn tell(&self, note: Note) -> io::Result<()> {
        let order = Order::Note { note };
        self.0.write(|socket| control::send(socket, &order, &[])).await
    }

    /// Resolves when the session is over, with `true`; or when no such word will come.
    pub async fn over(&self) -> bool {
        let word = self.0.read(|socket| control::recv::<Report>(socket)).await;
        matches!(word, Ok(Some((Report::Over, _))))
    }

    /// Lets the shim go: nothing that its sandbox left is needed any more.
    pub async fn dismiss(&self) {
        // If it cannot be told, it is gone.
        let _gone = self.0.write(|socket| control::send(socket, &Order::Leave, &[])).await;
    }
}
