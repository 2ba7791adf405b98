//! `-A`: the client's key agent, reached through a socket inside the sandbox.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use sojourn_core::wire::Text;
use sojourn_engine::profiles::Forward;
use tokio::sync::OnceCell;

use super::name;
use super::remote;
use super::remote::Listener;
use super::remote::Where;
use crate::connection::Connection;
use crate::gate::Gate;
use crate::gate::GateSession;

/// The environment variable that names the socket.
const VARIABLE: &str = "SSH_AUTH_SOCK";

/// A connection's key agent, if its client offers one.
#[derive(Default)]
pub(crate) struct AgentSocket {
    wanted: AtomicBool,
    /// Made for the first program that is started after it was offered; none when it cannot be.
    socket: OnceCell<Option<(String, Listener)>>,
}

impl AgentSocket {
    /// The client offers it.
    pub(crate) fn offer(&self) {
        self.wanted.store(true, Ordering::Relaxed);
    }

    /// What a program that is started now has in its environment.
    pub(crate) async fn environment<G: Gate>(
        &self,
        connection: &Arc<Connection<G>>,
        session: &G::Session,
    ) -> Option<(Text, Text)> {
        if !self.wanted.load(Ordering::Relaxed) {
            return None;
        }
        let socket = self.socket.get_or_init(|| make(connection, session)).await;
        let (path, _) = socket.as_ref()?;
        Some((VARIABLE.into(), path.as_str().into()))
    }
}

async fn make<G: Gate>(
    connection: &Arc<Connection<G>>,
    session: &G::Session,
) -> Option<(String, Listener)> {
    let id = session.id().to_string();
    let start = id.len().saturating_sub(12);
    let path = format!("/tmp/ssh-{}/agent.1", id.get(start..).unwrap_or(&id));
    match remote::begin(connection, session, Where::Agent(path.clone())).await {
        Ok((listener, _)) => Some((path, listener)),
        Err(why) => {
            connection.refused_forward(name(Forward::Agent), &path, "listen", &why);
            None
        }
    }
}
